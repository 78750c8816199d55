"""What the tests of forks share: collections to fork, what is in them, what is shared on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DIMENSION = 8


def fill(collection: Any, first: int, n: int, *, seed: int = 3) -> None:
    rng = np.random.default_rng(seed + first)
    numbers = range(first, first + n)
    collection.upsert(
        ids=[str(i) for i in numbers],
        embeddings=rng.random((n, DIMENSION), np.float32),
        documents=[f"number {i}" for i in numbers],
        metadatas=[{"i": i} for i in numbers],
    )


def records_of(collection: Any) -> dict[str, Any]:
    found = collection.get(include=["embeddings", "documents", "metadatas"])
    vectors = np.asarray(found["embeddings"], np.float32)
    columns = (found["ids"], vectors, found["documents"], found["metadatas"])
    return {
        id: (vector.tobytes(), document, metadata)
        for id, vector, document, metadata in zip(*columns, strict=True)
    }


def directory_of(path: Path, collection: Any) -> Path:
    return path / "collections" / collection.id.hex


def inodes(directory: Path) -> dict[int, str]:
    return {file.stat().st_ino: file.name for file in directory.iterdir()}


def bytes_on_disk(path: Path) -> int:
    """What all files take, each once however many names it has."""
    taken = {}
    for file in path.rglob("*"):
        if file.is_file():
            stat = file.stat()
            taken[stat.st_ino] = stat.st_blocks * 512
    return sum(taken.values())
