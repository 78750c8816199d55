"""The fixtures of make_fixtures.py, unpacked, and what Chroma itself showed of them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

import vexfs_chroma

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name.removesuffix(".tar.xz") for path in FIXTURES.glob("*.tar.xz"))
EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]


def unpack(version: str, into: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The directory, and the collections that it should hold."""
    directory = into / f"chroma-{version}"
    with tarfile.open(FIXTURES / f"{version}.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    expected = directory / "expected.json"
    found = json.loads(expected.read_text())
    expected.unlink()
    return directory, found


def segment(directory: Path, collection: str, scope: str = "VECTOR") -> Path:
    """The directory of a collection's index (of the default database)."""
    import sqlite3

    sql = (
        "SELECT s.id FROM segments s JOIN collections c ON s.collection = c.id "
        "WHERE c.name = ? AND s.scope = ? AND c.database_id LIKE '00000000-%'"
    )
    with sqlite3.connect(directory / "chroma.sqlite3") as connection:
        (id,) = connection.execute(sql, (collection, scope)).fetchone()
    connection.close()
    return directory / str(id)


def snapshot(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def records(path: Path, tenant: str, database: str, name: str) -> tuple[Any, dict[str, Any]]:
    """A collection of a vexfs database, and its records by id."""
    client = vexfs_chroma.PersistentClient(path, tenant=tenant, database=database)
    with client:
        collection = client.get_collection(name, embedding_function=None)
        shown = collection.get(include=EVERYTHING)
        rows = zip(
            shown["ids"], shown["embeddings"], shown["documents"], shown["metadatas"],
            shown["uris"], strict=True,
        )  # fmt: skip
        return collection, {
            id: (np.asarray(vector, np.float32), document, metadata, uri)
            for id, vector, document, metadata, uri in rows
        }


def same_vector(found: Any, expected: str, *, cosine: bool) -> bool:
    """Whether a vector is what Chroma shows; with cosine, what it shows is rounded."""
    shown = np.frombuffer(bytes.fromhex(expected), np.float32)
    if cosine:
        return bool(np.allclose(found, shown, rtol=1e-6, atol=1e-7))
    return found.tobytes() == shown.tobytes()
