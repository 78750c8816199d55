"""What the tests of backups share: databases to back up, and what is in one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

import vexfs_chroma

Content = dict[str, dict[str, tuple[list[float], str | None, dict[str, Any] | None]]]


def fill(path: Path) -> Content:
    """A database with files, dead rows, logs and several tenants."""
    client = vexfs_chroma.PersistentClient(path)
    rng = np.random.default_rng(3)
    for name, n in (("large", 2000), ("small", 10), ("empty", 0)):
        collection = client.create_collection(name, metadata={"n": n}, embedding_function=None)
        if n:
            collection.add(
                ids=[str(i) for i in range(n)],
                embeddings=rng.random((n, 16), np.float32),
                documents=[f"number {i} of {name}" for i in range(n)],
                metadatas=[{"i": i} for i in range(n)],
            )
    large = client.get_collection("large", embedding_function=None)
    client.vacuum()
    large.delete(ids=[str(i) for i in range(0, 400, 2)])
    large.update(ids=["1"], metadatas=[{"i": -1}])
    client.close()
    return content_of(path)


def content_of(path: Path, *, read_only: bool = True) -> Content:
    """All records of all collections of the default database."""
    client = vexfs_chroma.PersistentClient(path, read_only=read_only)
    try:
        return {found.name: records_of(found) for found in client.list_collections()}
    finally:
        client.close()


def records_of(collection: Any) -> dict[str, Any]:
    found = collection.get(include=["embeddings", "documents", "metadatas"])
    columns = (found[name] for name in ("ids", "embeddings", "documents", "metadatas"))
    return {
        id: (np.asarray(vector).tolist(), document, metadata)
        for id, vector, document, metadata in zip(*columns, strict=True)
    }


def bytes_of(path: Path) -> dict[str, str]:
    """A digest of every file, but for those that openings make."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in {"LOCK", "MAINT", "head"}
    }
