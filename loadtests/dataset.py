"""The data of the load test: seeded clusters, and the database that holds them.

    python loadtests/dataset.py      build the database unless one of these parameters is there

Environment: VEXFS_LOAD_ROWS, VEXFS_LOAD_DIMENSION, VEXFS_LOAD_SEED, VEXFS_LOAD_PATH.

Base rows never change, so that brute force over one array says what a search must find.  Rows that
users write are *volatile*: they lie FAR away in the first coordinate, never among the nearest of a
base query, and are removed when the next run prepares.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = int(os.environ.get("VEXFS_LOAD_ROWS", "20000"))
DIMENSION = int(os.environ.get("VEXFS_LOAD_DIMENSION", "128"))
SEED = int(os.environ.get("VEXFS_LOAD_SEED", "1"))
PATH = Path(os.environ.get("VEXFS_LOAD_PATH", "build/load/database"))

COLLECTION = "load"
GROUPS = 20  # a filter on one group leaves a twentieth of the rows
FAR = 1000.0
BATCH = 1000

Vectors = NDArray[np.float32]


def clustered(rows: int, generator: np.random.Generator) -> Vectors:
    """Gaussian clusters around a hundred centres, as embeddings of related texts lie."""
    centres = np.random.default_rng(SEED).normal(size=(100, DIMENSION))
    chosen = centres[generator.integers(0, len(centres), rows)]
    return (chosen + generator.normal(scale=0.5, size=(rows, DIMENSION))).astype(np.float32)


class Base:
    """The rows that never change, and what a search over them must find."""

    def __init__(self) -> None:
        self.vectors = clustered(ROWS, np.random.default_rng(SEED + 1))
        self.groups = np.arange(ROWS) % GROUPS

    def batch(self, start: int) -> dict[str, Any]:
        numbers = range(start, min(start + BATCH, ROWS))
        return {
            "ids": [f"base{n}" for n in numbers],
            "embeddings": self.vectors[numbers.start : numbers.stop],
            "documents": [f"document {n} of group {n % GROUPS}" for n in numbers],
            "metadatas": [{"group": n % GROUPS, "kind": "base"} for n in numbers],
        }

    def distances(self, query: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        difference = self.vectors[rows].astype(np.float64) - query
        return np.einsum("ij,ij->i", difference, difference)

    def nearest(self, query: Vectors, k: int, group: int | None) -> NDArray[np.float64]:
        """The k smallest distances, by brute force."""
        rows = np.arange(ROWS) if group is None else np.flatnonzero(self.groups == group)
        rough = ((self.vectors[rows] - query) ** 2).sum(axis=1)
        candidates = rows[np.argpartition(rough, min(2 * k, len(rows) - 1))[: 2 * k]]
        return np.sort(self.distances(query, candidates))[:k]


def prepare() -> None:
    import vexfs_chroma

    wanted = {"rows": ROWS, "dimension": DIMENSION, "seed": SEED}
    with vexfs_chroma.PersistentClient(path=PATH) as client:
        if COLLECTION in [c.name for c in client.list_collections()]:
            collection = client.get_collection(COLLECTION, embedding_function=None)
            collection.delete(where={"kind": "volatile"})
            if collection.metadata == wanted and collection.count() == ROWS:
                print(f"using the {ROWS:,} rows in {PATH}")
                return
            client.delete_collection(COLLECTION)
        collection = client.create_collection(COLLECTION, metadata=wanted, embedding_function=None)
        base, started = Base(), time.perf_counter()
        for start in range(0, ROWS, BATCH):
            collection.add(**base.batch(start))
        seconds = time.perf_counter() - started
        print(f"stored {ROWS:,} x {DIMENSION} in {PATH}: {ROWS / seconds:,.0f} rows/s")


if __name__ == "__main__":
    prepare()
