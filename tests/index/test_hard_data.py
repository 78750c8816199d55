"""Data that breaks graphs, through whole collections: counts, distances, self-recall, recall.

csrc/tests/t_graph_hard.c does the same with graphs alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from index_kit import SEED, Vectors, make, misses, recall

ROWS = 3000
DIMENSION = 16
M = 16

Random = np.random.Generator


def all_equal(random: Random, n: int) -> Vectors:
    return np.full((n, DIMENSION), random.random(), dtype=np.float32)


def two_far_clusters(random: Random, n: int) -> Vectors:
    middle = np.where(np.arange(n) < n // 2, -50.0, 50.0)[:, None]
    return (middle + random.random((n, DIMENSION))).astype(np.float32)


def near_duplicates_then_outliers(random: Random, n: int) -> Vectors:
    """Groups of more near-duplicates than a node has links, then rows far from everything."""
    groups = -(-n // (M + 1))
    first = 3 * random.standard_normal((groups, DIMENSION))
    rows = np.repeat(first, M + 1, axis=0)[:n] + 1e-4 * random.standard_normal((n, DIMENSION))
    outliers = n - n // 10
    rows[outliers:] = 20 * random.standard_normal((n - outliers, DIMENSION))
    return rows.astype(np.float32)


def ring(_random: Random, n: int) -> Vectors:
    """Row i is (i, i, ...): every row has two neighbours at the same distance."""
    return np.repeat(np.arange(n, dtype=np.float32)[:, None], DIMENSION, axis=1)


def uneven_norms(random: Random, n: int) -> Vectors:
    norms = 10 ** random.uniform(-3, 3, (n, 1))
    rows = random.standard_normal((n, DIMENSION))
    return (norms * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def zeros_among_others(random: Random, n: int) -> Vectors:
    rows = random.standard_normal((n, DIMENSION)).astype(np.float32)
    rows[::3] = 0
    return rows


def only_zeros(_random: Random, n: int) -> Vectors:
    return np.zeros((n, DIMENSION), dtype=np.float32)


def one_large_dimension(random: Random, n: int) -> Vectors:
    rows = random.standard_normal((n, DIMENSION)).astype(np.float32)
    rows[:, 0] *= 100
    return rows


def copies_among_many(random: Random, n: int) -> Vectors:
    """Independent rows, which searches hardly come to, a quarter of them the same."""
    rows = random.standard_normal((n, DIMENSION)).astype(np.float32)
    rows[: n // 4] = rows[0]
    rows[n // 4 : n // 3] = 0
    return rows


def copies_of_few(random: Random, n: int) -> Vectors:
    few = random.standard_normal((100, DIMENSION)).astype(np.float32)
    return few[np.arange(n) * 7919 % 100]


SETS: dict[str, tuple[Callable[[Random, int], Vectors], int]] = {
    "all equal": (all_equal, ROWS),
    "two far clusters": (two_far_clusters, ROWS),
    "near-duplicates, then outliers": (near_duplicates_then_outliers, ROWS),
    "ring": (ring, ROWS),
    "uneven norms": (uneven_norms, ROWS),
    "zeros among others": (zeros_among_others, ROWS),
    "only zeros": (only_zeros, ROWS),
    "one large dimension": (one_large_dimension, ROWS),
    "copies among many": (copies_among_many, 10_000),
    "copies of few": (copies_of_few, 10_000),
}


FLOORS = {1: 0.985, 10: 0.985, 100: 0.97}  # recall at k

# Rows that no graph of so few links comes to.  hnswlib (same parameters, float32) reaches 0.977,
# 0.953 and 0.943 there, and loses 54 rows; codes of 8 bits do not tell rows of one group apart.
LESS = {
    ("near-duplicates, then outliers", "l2"): ({1: 0.985, 10: 0.96, 100: 0.925}, 3),
}


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("name", SETS)
def test_hard_data(name: str, space: str) -> None:
    fill, n = SETS[name]
    random = np.random.default_rng(SEED)
    rows = fill(random, n)
    chosen = random.choice(n, 300, replace=False)
    noise = 0.05 * (rows[chosen].std() + 1e-3) * random.standard_normal((150, DIMENSION))
    queries = np.concatenate([rows[chosen[:150]], rows[chosen[150:]] + noise]).astype(np.float32)
    live = make(space)
    figures, failed = [], []
    floors, most_lost = FLOORS, n // 100 if space == "ip" else 0  # where no row need be its nearest
    if (name, space) in LESS:
        floors, most_lost = LESS[name, space]

    def measure(stage: str) -> None:
        found = {k: recall(live, queries, k, walk=True) for k in FLOORS}
        lost = len(misses(live, walk=True))
        figures.append(f"{stage} {found} {lost} lost")
        if lost > most_lost or any(found[k] < floors[k] for k in floors):
            failed.append(figures[-1])

    live.write("add", [f"r{i}" for i in range(n)], rows)
    live.settle()
    assert live.collection.info().indexed_rows == n
    measure("built")
    live.delete(list(live.vectors)[::2])
    measure("half deleted")
    live.settle()
    measure("made anew")
    live.close()
    print(*figures, sep="\n")
    assert not failed
