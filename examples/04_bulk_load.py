"""Load many vectors from a .npy file, wait for the graph, open the database again, read all of it.

The file is mapped, not read: it may be larger than memory.  It is generated if it does not exist.

    python examples/04_bulk_load.py                      100,000 vectors of 128 dimensions
    python examples/04_bulk_load.py --vectors mine.npy   your own: float32, one row per vector
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shared import arguments, console, start_over, timed

import vexfs_chroma as chromadb

DIMENSIONS = 128
BATCH = 10_000  # one call is one atomic batch and one sync of the disk: large ones are fast
PAGE = 20_000
SMALL_BATCH = 50


def generate(file: Path, rows: int) -> None:
    """Vectors in clusters, as embeddings are; the same ones every time."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(100, DIMENSIONS))
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (rows, DIMENSIONS)
    vectors = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    for i in range(0, rows, BATCH):
        part = vectors[i : i + BATCH]
        chosen = centers[random.integers(len(centers), size=len(part))]
        part[:] = chosen + 0.3 * random.normal(size=part.shape)


def load(collection: chromadb.Collection, vectors: np.ndarray, batch: int) -> None:
    for i in range(0, len(vectors), batch):
        part = vectors[i : i + batch]
        rows = range(i, i + len(part))
        collection.add(
            ids=[f"row-{row}" for row in rows],
            embeddings=part,
            metadatas=[{"row": row} for row in rows],
        )


def compare_durability(folder: Path, vectors: np.ndarray) -> None:
    """Small batches show what an acknowledged write costs:

    full    it is on the disk: survives a power cut (the default)
    normal  the operating system has it: survives a killed process, on disk within 50 ms
    off     nothing is ever synced: for loads that can be repeated
    """
    console.print(f"[bold]{len(vectors):,} of them in batches of {SMALL_BATCH}")
    for durability in ("full", "normal", "off"):
        path = folder / durability
        start_over(path)
        with chromadb.PersistentClient(path=path, durability=durability) as client:
            collection = client.create_collection("vectors", embedding_function=None)
            with timed(f'durability="{durability}"', len(vectors)):
                load(collection, vectors, SMALL_BATCH)


def main() -> None:
    parser = arguments(__doc__, "build/bulk_load")
    parser.add_argument("--vectors", type=Path, help="default: vectors.npy in the folder")
    options = parser.parse_args()
    file = options.vectors or options.path / "vectors.npy"
    if not file.exists():
        rows = options.limit or 100_000
        with timed(f"generate {file.name}", rows):
            generate(file, rows)
    vectors = np.load(file, mmap_mode="r")[: options.limit]

    console.print(f"[bold]{len(vectors):,} vectors in batches of {BATCH:,}")
    database = options.path / "database"
    start_over(database)
    with chromadb.PersistentClient(path=database) as client:
        collection = client.create_collection("vectors", embedding_function=None)
        with timed("load", len(vectors)), console.status("Loading"):
            load(collection, vectors, BATCH)
        # Queries work meanwhile: what the graph does not have yet is read.
        with timed("wait for the graph"), console.status("Building"):
            collection.wait_for_index()

    with timed("open again"):
        client = chromadb.PersistentClient(path=database)
        collection = client.get_collection("vectors", embedding_function=None)
    with client:
        rows = collection.count()
        with timed(f"read in pages of {PAGE:,}", rows):
            for offset in range(0, rows, PAGE):  # in order of insertion
                page = collection.get(limit=PAGE, offset=offset, include=["embeddings"])
                assert page["ids"][0] == f"row-{offset}"
                assert np.array_equal(page["embeddings"], vectors[offset : offset + PAGE])
        with timed("load the graph"):  # the first query does, in the background
            collection.wait_for_index()
        with timed("the nearest 5 of a vector"):
            found = collection.query(query_embeddings=[vectors[-1]], n_results=5)
        console.print("  nearest to the last row:", ", ".join(found["ids"][0]))
        for exact in (False, True):  # collections below 10,000 records have no graph
            plan = collection.explain(query_embeddings=[vectors[-1]], n_results=5, exact=exact)
            console.print(f"[dim]{plan}")

    compare_durability(options.path, vectors[:5_000])


if __name__ == "__main__":
    main()
