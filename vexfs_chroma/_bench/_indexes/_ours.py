"""vexfs_chroma's engine, by the thinnest layer of Python there is over it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma import _engine
from vexfs_chroma._bench._indexes._base import Index, Matrix, Setup, size_of
from vexfs_chroma._engine._searcher import Searcher

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 10_000
ROW_RATE = 18.5e9  # bytes per second of scattered rows: what the fraction of the limit refers to


class Vexfs(Index):
    """A collection on disk: files and log are written and synced while building, as for users."""

    distribution = "vexfs-chroma"
    note = (
        "engine collection on disk, durable, automatic codes; a query is one call by cffi "
        "(Searcher), which returns ids and distances"
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._path = setup.path("database")
        self._database = _engine.Database(self._path, index_rows=1, index_threads=1)
        id = uuid.uuid4()
        self._database.create_collection(id, setup.space)
        self._collection = self._database.open_collection(id)
        self._searcher = Searcher(self._collection).__enter__()
        self._ef = setup.ef_construction
        self.set_knob(self._ef)

    def build(self, vectors: Matrix) -> None:
        """Add all rows in batches, and wait until the graph has them."""
        for at in range(0, len(vectors), BATCH):
            part = vectors[at : at + BATCH]
            ids = [str(row) for row in range(at, at + len(part))]
            self._collection.write("add", ids, part, None, None, None)
        self._collection.wait_for_index()

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._ef = value
        self._collection.set_index(
            max_neighbors=self.setup.m, ef_construction=self.setup.ef_construction, ef_search=value
        )

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._searcher.nearest(query, k)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """The ids are the numbers."""
        return [int(id) for id in answer[0]]

    def extra(self, queries: Matrix, k: int) -> dict[str, float]:
        """The engine's own clock, what it read, and that relative to what memory can deliver."""
        plans = [self._collection.explain(query, k) for query in np.split(queries, len(queries))]
        micros = [plan.select_us + plan.search_us + plan.fetch_us for plan in plans]
        distances = sum(plan.walk_distances for plan in plans) / len(plans)
        code = {"sq8": 1, "f16": 2}.get(plans[0].quantization or "", 4)
        limit = distances * code * self.setup.dimension / ROW_RATE * 1e6
        mean = float(np.mean(micros))
        return {
            "engine us": mean,
            "engine p95 us": float(np.percentile(micros, 95)),
            "engine p99 us": float(np.percentile(micros, 99)),
            "distances": distances,
            "hops": sum(plan.walk_hops for plan in plans) / len(plans),
            "fraction of the limit": limit / mean if mean else 0.0,
        }

    def bytes(self) -> int | None:
        """All files, vectors and log included."""
        self._collection.flush()
        return size_of(self._path)

    def close(self) -> None:
        """Close the database."""
        self._searcher.__exit__()
        self._database.close()
