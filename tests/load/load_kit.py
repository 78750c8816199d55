"""A small world, and answers to it as a right server gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vexfs_chroma._load import _scenarios
from vexfs_chroma._load._scenarios import Scenario
from vexfs_chroma._load._world import World, distances

ROWS, DIMENSION, K = 500, 16, 5


def small_scenario(**changed: Any) -> Scenario:
    """A mix of everything over few rows."""
    given: dict[str, Any] = {
        "name": "mixed",
        "title": "a small mix",
        "rows": ROWS,
        "dimension": DIMENSION,
        "k": K,
        "mix": dict.fromkeys(set(_scenarios.KINDS) - {_scenarios.OWN}, 1.0),
        "users": 2,
        "documents": True,
    }
    return Scenario(**given | changed)


def make_world(folder: Path, **changed: Any) -> World:
    return World(folder, small_scenario(**changed), seed=1)


class RightStore:
    """A collection in memory that answers by brute force, as a Store does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.own: dict[str, Any] = {}
        self.calls: list[str] = []

    def _query(self, vectors: Any, group: int | None) -> tuple[dict[str, Any], int]:
        world, answer = self.world, {"ids": [], "distances": [], "metadatas": [], "documents": []}
        ids = [f"b{n}" for n in range(world.scenario.rows)] + list(self.own)
        rows = np.concatenate(
            [world.vectors, *(row.vector[None, :] for row in self.own.values())], axis=0
        )
        metadatas = [world.metadata(n) for n in range(world.scenario.rows)]
        metadatas += [row.metadata for row in self.own.values()]
        texts = [world.text(n) for n in range(world.scenario.rows)]
        texts += [row.text for row in self.own.values()]
        may = [n for n in range(len(ids)) if group is None or metadatas[n]["group"] == group]
        for vector in vectors:
            found = distances(rows[may], vector)
            chosen = np.argsort(found, kind="stable")[: world.scenario.k]
            answer["ids"].append([ids[may[n]] for n in chosen])
            answer["distances"].append([float(found[n]) for n in chosen])
            answer["metadatas"].append([metadatas[may[n]] for n in chosen])
            answer["documents"].append([texts[may[n]] for n in chosen])
        return answer, self._now()

    def _now(self) -> int:
        import time

        return time.perf_counter_ns()

    def query(self, numbers: Any, group: int | None) -> tuple[dict[str, Any], int]:
        self.calls.append("query")
        return self._query(self.world.queries[list(numbers)], group)

    def query_own(self, row: Any) -> tuple[dict[str, Any], int]:
        self.calls.append("query_own")
        return self._query([row.vector], None)

    def get(self, ids: Any) -> tuple[dict[str, Any], int]:
        self.calls.append("get")
        there = [id for id in ids if id[0] == "b" or id in self.own]
        vectors = [
            self.world.vectors[int(id[1:])] if id[0] == "b" else self.own[id].vector for id in there
        ]
        metadatas = [
            self.world.metadata(int(id[1:])) if id[0] == "b" else self.own[id].metadata
            for id in there
        ]
        return {"ids": there, "embeddings": vectors, "metadatas": metadatas}, self._now()

    def upsert(self, id: str, row: Any) -> tuple[None, int]:
        self.calls.append("upsert")
        self.own[id] = row
        return None, self._now()

    def delete(self, id: str) -> tuple[None, int]:
        self.calls.append("delete")
        self.own.pop(id, None)
        return None, self._now()
