"""How good rankings are, and how sure that is: nDCG, reciprocal rank, recall; bootstrap intervals.

Relevance is yes or no.  Every query counts alike.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Sequence

    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_CHUNK = 500  # resamples that are drawn at once


def ndcg(found: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k` found.

    A relevant one at place i (from 1) gains 1 / log2(1 + i); the best possible order has 1.
    Raises ValueError when nothing is relevant.
    """
    _check(relevant)
    gain = sum(1 / math.log2(i + 2) for i, one in enumerate(found[:k]) if one in relevant)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(k, len(relevant))))


def reciprocal_rank(found: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """1 / the place of the first relevant one; 0 when it is not among the first `k`.

    Raises ValueError when nothing is relevant.
    """
    _check(relevant)
    return next((1 / (i + 1) for i, one in enumerate(found[:k]) if one in relevant), 0.0)


def recall(found: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """The share of the relevant ones that are among the first `k`.

    Raises ValueError when nothing is relevant.
    """
    _check(relevant)
    return sum(one in relevant for one in found[:k]) / len(relevant)


def _check(relevant: Collection[Hashable]) -> None:
    if not relevant:
        raise ValueError("a query needs a relevant record")


@dataclass(slots=True, frozen=True)
class Interval:
    """A mean and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float


def bootstrap(values: ArrayLike, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The mean of some values, by the percentile bootstrap: 2.5 % to 97.5 % of resampled means.

    Args:
        values: One for each query, (n,).
        seed: Of the resampling; the same gives the same.
        resamples: How often n values are drawn out of the n, with replacement.

    Raises:
        ValueError: When there are no values.
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not given.size:
        raise ValueError("a bootstrap needs a list of values")
    low, high = np.percentile(_resampled_means(given, seed, resamples), (2.5, 97.5))
    return Interval(float(given.mean()), float(low), float(high))


def paired_bootstrap(
    ours: ArrayLike, theirs: ArrayLike, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The mean of ours - theirs, of the same queries in the same order; see `bootstrap`.

    Queries are drawn, with what both made of them: how hard a query is does not count.  Raises
    ValueError when the lengths differ.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"values of the same queries are compared, not {a.shape} with {b.shape}")
    return bootstrap(a - b, seed, resamples)


def _resampled_means(values: NDArray[np.float64], seed: int, n: int) -> NDArray[np.float64]:
    """Means of what is drawn, (n,)."""
    drawn = _drawn(len(values), seed, n)
    parts = (drawn[at : at + _CHUNK].astype(np.float64) for at in range(0, n, _CHUNK))
    return np.concatenate([part @ values for part in parts]) / len(values)


@functools.lru_cache(maxsize=2)
def _drawn(size: int, seed: int, n: int) -> NDArray[np.uint16]:
    """How often each of `size` values is drawn, which is multinomial: (n, size).

    Kept, since many figures are of the same queries.
    """
    random, even = np.random.default_rng(seed), np.full(size, 1 / size)
    made = np.empty((n, size), dtype=np.uint16)
    for at in range(0, n, _CHUNK):
        made[at : at + _CHUNK] = random.multinomial(size, even, min(_CHUNK, n - at))
    return made
