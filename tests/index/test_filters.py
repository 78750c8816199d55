"""Filters of every selectivity, related to the query in every way, on collections with a graph.

Whichever way a search goes (reading what matches, walking, walking and then reading after all), it
returns min(k, matches) rows that match, nearest first, and at least 97 % of what exact search does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from index_kit import (
    NEVER,
    SEED,
    Live,
    Vectors,
    check_answers,
    clusters,
    distances,
    make,
    split,
)

from vexfs_chroma import _engine

ROWS = 24_000
DIMENSION = 32
QUERIES = 8
ANCHORS = 3
K = 10
SHARES = [0, 1 / ROWS, 0.0001, 0.001, 0.01, 0.04, 0.12, 0.5, 0.99, 1]
RELATIONS = ["random", "positive", "negative"]


@dataclass
class World:
    """Rows with ranks: a random one, and one by the distance to each anchor, near the queries."""

    live: Live
    ids: list[str]
    rows: Vectors
    ranks: dict[str, Any]
    queries: list[Vectors]  # by anchor

    def filter(self, relation: str, anchor: int, matches: int) -> tuple[_engine.Filter, Any]:
        """Of so many rows of the first ROWS, and which."""
        key = "random" if relation == "random" else f"anchor{anchor}"
        rank = self.ranks[key]
        if relation == "negative":
            return [_engine.F_GE, key, ROWS - matches], rank >= ROWS - matches
        return [_engine.F_LT, key, matches], rank < matches


def fill(space: str) -> World:
    random = np.random.default_rng(SEED)
    rows = clusters(ROWS, DIMENSION)
    anchors = rows[random.choice(ROWS, ANCHORS, replace=False)]
    noise = 0.2 * random.standard_normal((ANCHORS, QUERIES, DIMENSION))
    ranks = {"random": random.permutation(ROWS)}
    for i, anchor in enumerate(anchors):
        near = distances(space, rows, anchor[None])[0][0]
        ranks[f"anchor{i}"] = np.argsort(np.argsort(near, kind="stable"))
    live = make(space, index_rows=2000, memtable_rows=ROWS)
    columns = {key: rank.tolist() for key, rank in ranks.items()}
    metadatas = [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    ids = [f"r{i}" for i in range(ROWS)]
    half = ROWS // 2
    live.write("add", ids[:half], rows[:half], metadatas[:half])
    live.settle()
    live.build_from(NEVER)
    live.write("add", ids[half:], rows[half:], metadatas[half:])
    queries = [(a + n).astype(np.float32) for a, n in zip(anchors, noise, strict=True)]
    return World(live, ids, rows, ranks, queries)


def complete(world: World) -> None:
    world.live.build_from(2000)
    world.live.settle()


def check_matrix(world: World, alive: Any, **how: Any) -> None:
    failed = []
    for share in SHARES:
        for relation in RELATIONS:
            hits = []
            for anchor, queries in enumerate(world.queries):
                chosen, matches = world.filter(relation, anchor, round(share * ROWS))
                matches = matches & alive
                ids = [world.ids[i] for i in np.flatnonzero(matches)]
                found = world.live.collection.query(queries, K, filter=chosen, **how)
                hits.append(
                    check_answers(world.live.space, found, queries, ids, world.rows[matches], K)
                )
            if np.mean(hits) < 0.97:
                failed.append((share, relation, float(np.mean(hits))))
    assert failed == []


@pytest.fixture(params=["l2", "cosine", "ip"])
def world(request: pytest.FixtureRequest) -> Any:
    world = fill(request.param)
    yield world
    world.live.close()


@pytest.mark.parametrize("forced", [False, True])
def test_matrix(world: World, forced: bool) -> None:
    how = {"walk": True} if forced else {}
    alive = np.ones(ROWS, dtype=bool)
    assert world.live.collection.info().indexed_rows == ROWS // 2
    check_matrix(world, alive, **how)
    complete(world)
    assert world.live.collection.info().indexed_rows == ROWS
    check_matrix(world, alive, **how)


def test_deleting_by_filter(world: World) -> None:
    """What a filter deletes is in no result, whether the graph has noticed or not."""
    live, forced = world.live, {"walk": True}
    complete(world)
    alive = np.ones(ROWS, dtype=bool)
    # the nearest of one anchor, the farthest of another, a few, most of what is left
    for relation, anchor, matches in [
        ("positive", 0, 300),
        ("negative", 1, ROWS // 4),
        ("random", 0, 1000),
        ("positive", 2, ROWS // 50),
        ("random", 0, ROWS * 3 // 4),
    ]:
        chosen, dead = world.filter(relation, anchor, matches)
        assert live.collection.delete(None, chosen) == int((dead & alive).sum())
        alive &= ~dead
        assert live.collection.count() == int(alive.sum())
        assert live.collection.count(None, chosen) == 0
        found = live.collection.query(world.queries[anchor], K, filter=chosen)
        assert found.counts == [0] * QUERIES
        check_matrix(world, alive, **forced)
    live.settle()
    check_matrix(world, alive)
    check_matrix(world, alive, **forced)


def test_metadata_changes_what_is_found(world: World) -> None:
    """A row that is given a metadata key is found by it at once, and no longer by its old value."""
    complete(world)
    live, queries = world.live, world.queries[0]
    nearest = live.collection.query(queries, K, exact=True)
    moved = sorted(set(nearest.ids))
    live.collection.write("update", moved, None, None, [{"random": ROWS + 7}] * len(moved), None)
    found = live.collection.query(queries, K, filter=[_engine.F_EQ, "random", ROWS + 7])
    assert split(found) == split(nearest)
    others = live.collection.query(queries, K, filter=[_engine.F_LT, "random", ROWS])
    assert not set(others.ids) & set(moved)
    assert others.counts == [K] * QUERIES
