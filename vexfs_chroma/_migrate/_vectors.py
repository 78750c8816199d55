"""The vectors of a Chroma collection: its index files, and the log for what they do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vexfs_chroma._migrate import _queue
from vexfs_chroma._migrate._newest import Newest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vexfs_chroma._migrate._hnsw import VectorFiles
    from vexfs_chroma._migrate._queue import Operation
    from vexfs_chroma._migrate._rows import Row
    from vexfs_chroma._migrate._sqlite import SourceFile

_SAME = 1e-5
"""Vectors that were divided by their length and multiplied again differ by so much, relatively."""


class Found(NamedTuple):
    """A vector, or why there is none."""

    vector: NDArray[np.float32] | None
    note: str | None = None


class Vectors:
    """Where the vector of each record is."""

    def __init__(
        self,
        file: SourceFile,
        operations: Sequence[Operation],
        max_seq_id: int,
        rows: Mapping[str, Row],
        rows_max_seq_id: int,
    ) -> None:
        """Remember what is known.

        Args:
            file: The SQLite file.
            operations: The log of the collection.
            max_seq_id: The last operation that is in the index files.
            rows: The records of the metadata segment.
            rows_max_seq_id: The last operation that the metadata segment has.
        """
        self._file = file
        self._operations = operations
        self._max_seq_id = max_seq_id
        self._rows, self._rows_max_seq_id = rows, rows_max_seq_id
        self.files: VectorFiles | None = None
        self._labels: dict[str, int] = {}

    def use_index(
        self, files: VectorFiles | None, labels: dict[str, int], *, all_labels: bool
    ) -> None:
        """Set the index, with the labels of all of its ids or of some, and apply the log to it."""
        self.files, self._labels = files, labels
        self._newest = Newest(
            self._operations,
            self._rows,
            self._rows_max_seq_id,
            labels,
            self._max_seq_id,
            all_labels=all_labels,
        )

    def from_log(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The newest vectors that the log has of these ids."""
        seqs = {id: self._newest.seqs[id] for id in ids if id in self._newest.seqs}
        vectors = _queue.read_vectors(self._file, list(seqs.values())) if seqs else {}
        return {id: vectors[seq] for id, seq in seqs.items() if seq in vectors}

    def find(self, ids: Sequence[str], dimension: int | None) -> list[Found]:
        """The vectors of these records."""
        logged = self.from_log(ids)
        known = [-1 if id in self._newest.gone else self._labels.get(id, -1) for id in ids]
        indexed: list[NDArray[np.float32] | None] = [None] * len(ids)
        if self.files is not None:
            indexed = self.files.vectors(known)
        found = []
        for id, label, stored in zip(ids, known, indexed, strict=True):
            given = logged.get(id)
            if given is not None and dimension and len(given) != dimension:
                given = None
            certain = id not in self._newest.uncertain
            if given is not None and (certain or (stored is not None and same(given, stored))):
                found.append(Found(given))
            elif stored is not None and not (certain and id in self._newest.seqs):
                whole = self.files is None or self.files.has_length(label)
                found.append(Found(stored, None if whole else "length of the vector unknown"))
            else:
                found.append(Found(None, self._why_missing(id, label)))
        return found

    def _why_missing(self, id: str, label: int) -> str:
        if id in self._newest.uncertain:
            return "it is uncertain whether the one in the log is its vector"
        if id in self._newest.seqs:
            return f"its vector in the log (entry {self._newest.seqs[id]}) is damaged"
        if self.files is None:
            return "not in the log, and the index files cannot be read"
        if label < 0:
            return "not in the log, and the index does not list its id"
        return "not in the log, and its place in the index files is missing or empty"


def same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two vectors are the same but for the rounding of a division by their length."""
    if len(a) != len(b):
        return False
    wide = b.astype(np.float64)
    return bool(np.abs(a - wide).max() <= _SAME * np.abs(wide).max())
