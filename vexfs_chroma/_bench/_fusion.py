"""Reciprocal rank fusion of ranked lists in numpy, and the search for its best weights.

The sums are those of `Rrf` in single precision, operation by operation, so the order is the
engine's, ties included.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vexfs_chroma._bench._known_items import Item

Ranking = list[int]
"""Numbers of rows, best first."""

KS = (10, 30, 60, 100)
_HEAVIEST = 3


@dataclass(slots=True, frozen=True)
class Weights:
    """The parameters of a fusion; a weight of zero leaves a part out."""

    k: int
    weights: tuple[int, ...]

    def __str__(self) -> str:
        return f"k {self.k}, weights {':'.join(map(str, self.weights))}"


def fuse(rankings: Sequence[Ranking], weights: Weights, depth: int) -> Ranking:
    """All rows that a part with a weight found, best first; equal ones by their number.

    A row that a part did not find has the rank `depth` there.
    """
    used = [rows for rows, weight in zip(rankings, weights.weights, strict=True) if weight]
    rows, ranks = _ranks(used, depth)
    scores = _scores(ranks, weights.k, [weight for weight in weights.weights if weight])
    return [int(row) for row in rows[np.argsort(scores, kind="stable")]]


def _ranks(
    rankings: Sequence[Ranking], depth: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ascending rows, (n,), and the rank of each in each list, (n, lists)."""
    rows = np.unique(np.concatenate([np.asarray(found, dtype=np.int64) for found in rankings]))
    ranks = np.full((len(rows), len(rankings)), depth, dtype=np.float32)
    for column, found in enumerate(rankings):
        ranks[np.searchsorted(rows, found), column] = np.arange(len(found))
    return rows, ranks


def _scores(ranks: NDArray[np.float32], k: int, weights: Sequence[float]) -> NDArray[np.float32]:
    """Of `Rrf`, lower is better: (...) for ranks (..., lists)."""
    total = np.zeros(ranks.shape[:-1], dtype=np.float32)
    for column, weight in enumerate(weights):
        total += np.float32(weight) / (np.float32(k) + ranks[..., column])
    return -total


def all_weights(parts: int) -> Iterator[Weights]:
    """What is tried: at least two of the parts, weights up to 3 without a common factor."""
    for weights in itertools.product(range(_HEAVIEST + 1), repeat=parts):
        if sum(weight > 0 for weight in weights) > 1 and math.gcd(*weights) == 1:
            yield from (Weights(k, weights) for k in KS)


def tune(
    rankings: Sequence[Sequence[Ranking]], items: Sequence[Item], k: int, depth: int
) -> tuple[Weights, float]:
    """The weights of the highest mean nDCG@k, and this nDCG; of equal ones the first.

    Args:
        rankings: For each part, the rankings of all queries.
        items: The queries.
        k: How many rows of a fused ranking count.
        depth: The rank of what a part did not find.
    """
    best: tuple[Weights, float] | None = None
    table = _table(rankings, items, depth)
    for weights in all_weights(len(rankings)):
        mean = table.mean_ndcg(weights, k)
        if best is None or mean > best[1]:
            best = weights, mean
    if best is None:
        raise ValueError("there is nothing to fuse")
    return best


@dataclass(slots=True)
class _Table:
    """The candidates of all queries side by side, padded to the longest."""

    ranks: NDArray[np.float32]  # (queries, candidates, parts)
    found: NDArray[np.bool_]  # the same: whether the part found it
    relevant: NDArray[np.bool_]  # (queries, candidates)
    answers: NDArray[np.int64]  # (queries,): how many rows are relevant at all

    def mean_ndcg(self, weights: Weights, k: int) -> float:
        """Of the first k of the fused rankings."""
        used = [i for i, weight in enumerate(weights.weights) if weight]
        scores = _scores(self.ranks[..., used], weights.k, [weights.weights[i] for i in used])
        scores[~self.found[..., used].any(axis=-1)] = np.inf
        first = np.argsort(scores, axis=1, kind="stable")[:, :k]
        hits = np.take_along_axis(self.relevant, first, axis=1)
        gains = 1 / np.log2(np.arange(2, k + 2))
        ideal = np.cumsum(gains)[np.minimum(self.answers, k) - 1]
        return float(np.mean(hits @ gains[: hits.shape[1]] / ideal))


def _table(rankings: Sequence[Sequence[Ranking]], items: Sequence[Item], depth: int) -> _Table:
    per_query = [_ranks(lists, depth) for lists in zip(*rankings, strict=True)]
    shape = (len(items), max(len(rows) for rows, _ in per_query), len(rankings))
    table = _Table(
        np.full(shape, depth, dtype=np.float32),
        np.zeros(shape, dtype=np.bool_),
        np.zeros(shape[:2], dtype=np.bool_),
        np.array([len(item.relevant) for item in items]),
    )
    for i, (rows, ranks) in enumerate(per_query):
        table.ranks[i, : len(rows)] = ranks
        table.found[i, : len(rows)] = ranks < depth
        table.relevant[i, : len(rows)] = [int(row) in items[i].relevant for row in rows]
    return table
