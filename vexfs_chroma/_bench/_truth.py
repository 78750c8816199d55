"""What the right answers are, and how much of them somebody found.

The parent computes, once per data set, the exact distance of the k-th nearest row of every query,
for every filter (numpy, float64).  A row that was found counts when it matches the filter and is
not farther than that: by distance, so that of equally near rows any will do.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vexfs_chroma._bench._data import Filter, Rows

K = 10
TOLERANCE = 1e-6  # libraries compute in float32
UNFILTERED = "query"
RECALL = f", recall@{K}"  # the name of a figure is what was asked for and this
_CHUNK = 100

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$in": lambda value, options: value in options,
    "$nin": lambda value, options: value not in options,
}


def where_matches(where: dict[str, Any] | None, metadata: dict[str, Any]) -> bool:
    """Whether a record with this metadata, which has all keys of `where`, matches it."""
    for key, tests in (where or {}).items():
        if key == "$and":
            matched = all(where_matches(part, metadata) for part in tests)
        elif key == "$or":
            matched = any(where_matches(part, metadata) for part in tests)
        else:
            matched = all(_COMPARE[test](metadata[key], value) for test, value in tests.items())
        if not matched:
            return False
    return True


def mask_of(rows: Rows, filter: Filter) -> NDArray[np.bool_]:
    """Which rows match."""
    text = (filter.where_document or {}).get("$contains", "")
    found = [
        where_matches(filter.where, metadata) and text in document
        for metadata, document in zip(rows.metadatas, rows.documents, strict=True)
    ]
    return np.array(found, dtype=np.bool_)


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of length one, in float64."""
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / lengths


def _farthest(distances: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The k-th smallest of every line, or its largest where there are fewer."""
    k = min(k, distances.shape[1])
    if k == 0:
        return np.full(len(distances), -np.inf)
    return np.partition(distances, k - 1, axis=1)[:, k - 1]


@dataclass(slots=True)
class Truth:
    """The right answers for one data set."""

    rows: Rows
    row_of: dict[str, int]
    masks: dict[str, NDArray[np.bool_]]
    farthest: dict[str, NDArray[np.float64]]

    def recall(self, name: str, answers: Sequence[Sequence[str]], k: int = K) -> float:
        """The share of the `k` nearest, or all if they are fewer, that the first queries found."""
        return float(np.mean([self._one(name, q, ids, k) for q, ids in enumerate(answers)]))

    def _one(self, name: str, query: int, ids: Sequence[str], k: int) -> float:
        mask = self.masks[name]
        wanted = min(k, int(mask.sum()))
        if wanted == 0:
            return 1.0 if not ids else 0.0
        found = np.array(sorted({self.row_of[id] for id in ids[:k]}), dtype=np.int64)
        found = found[mask[found]]
        distances = 1 - unit(self.rows.vectors[found]) @ unit(self.rows.queries[[query]])[0]
        near = distances <= self.farthest[name][query] + TOLERANCE
        return float(near.sum()) / wanted


def compute(rows: Rows, n_queries: int, n_filtered: int, cache: Path | None = None) -> Truth:
    """The truth for the first queries; fills in the shares of the filters.

    The distances are kept in the file `cache`, and taken from there if it exists.
    """
    masks = {UNFILTERED: np.ones(len(rows.ids), dtype=np.bool_)}
    for filter in rows.filters:
        masks[filter.name] = mask_of(rows, filter)
        filter.share = float(masks[filter.name].mean())
    if cache is not None and cache.exists():
        farthest = dict(np.load(cache))
    else:
        farthest = _compute_farthest(rows, masks, n_queries, n_filtered)
        if cache is not None:
            np.savez(cache, **farthest)  # type: ignore[arg-type]
    return Truth(rows, {id: row for row, id in enumerate(rows.ids)}, masks, farthest)


def _compute_farthest(
    rows: Rows, masks: dict[str, NDArray[np.bool_]], n_queries: int, n_filtered: int
) -> dict[str, NDArray[np.float64]]:
    base, queries = unit(rows.vectors), unit(rows.queries[:n_queries])
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in masks}
    for at in range(0, len(queries), _CHUNK):
        distances = 1 - queries[at : at + _CHUNK] @ base.T
        parts[UNFILTERED].append(_farthest(distances, K))
        for filter in rows.filters:
            some = distances[: max(0, n_filtered - at)]
            parts[filter.name].append(_farthest(some[:, masks[filter.name]], K))
    return {name: np.concatenate(part) for name, part in parts.items()}
