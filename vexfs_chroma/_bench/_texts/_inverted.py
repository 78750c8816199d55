"""Libraries of sparse vectors alone."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vexfs_chroma._bench._texts._base import SPARSE, Asked, Given, TextIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._sparse import Sparse


class Vsag(TextIndex):
    """vsag's inverted index, SINDI."""

    distribution = "pyvsag"
    note = "sindi, float32, nothing pruned, indices numbered from 0; in memory, disk: saved"
    modes: ClassVar[Sequence[str]] = (SPARSE,)

    def __init__(self, folder: str, given: Given) -> None:
        super().__init__(folder, given)
        module = importlib.import_module("pyvsag")
        module.set_logger_off()
        self._stored = given.sparse or []
        known = {index for indices, _ in self._stored for index in indices}
        self._numbers = {index: number for number, index in enumerate(sorted(known))}
        longest = max((len(indices) for indices, _ in self._stored), default=1)
        parameters = {
            "dtype": "sparse",
            "metric_type": "ip",
            "dim": max(longest, 1),
            "index_param": {"term_id_limit": len(known) + 1, "use_reorder": False},
        }
        self._index = module.Index("sindi", json.dumps(parameters))

    def add(self) -> None:
        """One call."""
        lengths = [len(indices) for indices, _ in self._stored]
        self._index.build(
            np.cumsum([0, *lengths], dtype=np.uint32),
            np.array([self._numbers[i] for indices, _ in self._stored for i in indices], np.uint32),
            np.array([value for _, values in self._stored for value in values], np.float32),
            np.arange(len(lengths), dtype=np.int64),
        )

    def prepare(self, asked: Asked) -> Any:
        """Arrays, of the indices that there are."""
        sparse: Sparse = asked.sparse or ([], [])
        known = [
            (self._numbers[i], value)
            for i, value in zip(*sparse, strict=True)
            if i in self._numbers
        ]
        numbers, values = zip(*known, strict=True) if known else ((), ())
        return (
            np.array([0, len(known)], np.uint32),
            np.array(numbers, np.uint32),
            np.array(values, np.float32),
        )

    def search(self, mode: str, query: Any, limit: int) -> Any:
        """As many candidates as results: nothing is pruned."""
        if not len(query[1]):
            return [[]], [[]]
        wanted = {"n_candidate": limit, "query_prune_ratio": 0.0, "term_prune_ratio": 0.0}
        return self._index.knn_search(*query, limit, json.dumps({"sindi": wanted}))

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers.  Where fewer are found than asked for, it answers any bytes."""
        (ids,), (distances,) = answer
        pairs = zip(ids, distances, strict=True)
        return [int(row) for row, d in pairs if d < 1 and 0 <= row < len(self._stored)]

    def bytes(self) -> int | None:
        """Of the saved index."""
        self._index.save(str(self.folder / "index"))
        return super().bytes()
