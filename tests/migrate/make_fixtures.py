"""Makes one fixture: a Chroma directory and what that release of Chroma itself shows of it.

Run by a Python that has the wanted release of chromadb installed, which is not this project's:

    python -m venv /tmp/old && /tmp/old/bin/pip install chromadb==0.5.23 'numpy<2.3'
    /tmp/old/bin/python tests/migrate/make_fixtures.py tests/migrate/fixtures

The fixtures here were made with chromadb 0.4.24 (which needs numpy<2), 0.5.23, 0.6.3, 1.0.20 and
1.5.9.  Each is <version>.tar.xz with the directory and expected.json.  Collections have a low sync
threshold, so that the index files, the log and both together are in use with few records.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

os.environ["ANONYMIZED_TELEMETRY"] = "False"

import chromadb
import numpy as np

VERSION = tuple(int(part) for part in chromadb.__version__.split(".")[:2])
EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]
TEXTS = ["tea is ready", "the train is late", "Zug verspätet", "列车晚点", 'quo"tes\nand\ttabs', ""]


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chroma"
        client = chromadb.PersistentClient(str(path))
        fill_default(client)
        fill_others(client, path)
        expected = describe(path)
        stop(client)
        work = Path(directory) / "copy"
        shutil.copytree(path, work)
        (work / "expected.json").write_text(json.dumps(expected, separators=(",", ":")))
        name = target / f"{chromadb.__version__}.tar.xz"
        with tarfile.open(name, "w:xz", preset=9) as archive:
            for file in sorted(work.rglob("*")):
                archive.add(file, str(file.relative_to(work)), recursive=False, filter=anonymous)
        print(chromadb.__version__, name.stat().st_size, [len(c["ids"]) for c in expected])


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner and the time."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def stop(client: Any) -> None:
    if hasattr(client, "close"):
        client.close()
    else:
        client._system.stop()


def fill_default(client: Any) -> None:
    """Collections of the default database."""
    rng = np.random.default_rng(7)
    settings = {"hnsw:sync_threshold": 20, "hnsw:batch_size": 10}
    l2 = client.create_collection("euclid", metadata={"about": "a, b", "year": 2024, **settings})
    write(l2, rng, rows=50)
    change(l2, rng)
    cosine = client.create_collection("cosine", metadata={"hnsw:space": "cosine", **settings})
    write(cosine, rng, rows=32)
    change(cosine, rng)
    ip = client.create_collection(
        "inner", metadata={"hnsw:space": "ip", "hnsw:M": 8, "hnsw:construction_ef": 40, **settings}
    )
    write(ip, rng, rows=23, dimension=5)
    unsaved = client.create_collection("log-only")  # fewer records than the default threshold
    write(unsaved, rng, rows=14)
    change(unsaved, rng)
    client.create_collection("empty")
    gone = client.create_collection("emptied", metadata=settings)
    write(gone, rng, rows=22)
    gone.delete(ids=[f"id-{i}" for i in range(22)])
    dropped = client.create_collection("dropped", metadata=settings)
    write(dropped, rng, rows=22)
    client.delete_collection("dropped")
    if VERSION >= (1, 0):
        with_configuration(client, rng)


def with_configuration(client: Any, rng: Any) -> None:
    configuration = {
        "hnsw": {
            "space": "cosine",
            "ef_search": 50,
            "ef_construction": 60,
            "max_neighbors": 12,
            "sync_threshold": 20,
            "batch_size": 10,
        }
    }
    collection = client.create_collection("configured", configuration=configuration)
    write(collection, rng, rows=22, dimension=3)
    if VERSION >= (1, 5):
        lists(client.create_collection("lists", embedding_function=None), rng)


def lists(collection: Any, rng: Any) -> None:
    collection.add(
        ids=[f"id-{i}" for i in range(6)],
        embeddings=rng.normal(size=(6, 4)).astype(np.float32),
        metadatas=[
            {
                "strings": ["a", "ü"],
                "numbers": [3, 1, 2],
                "floats": [0.5, i + 0.25],
                "flags": [True],
            }
            for i in range(6)
        ],
    )
    collection.update(ids=["id-1"], metadatas=[{"numbers": [9], "strings": None}])
    collection.update(ids=["id-2"], metadatas=[{"numbers": "no list any more"}])


def fill_others(client: Any, path: Path) -> None:
    """A second database and tenant."""
    from chromadb.config import Settings

    admin = getattr(chromadb, "AdminClient", None)
    if admin is None:
        return
    settings = Settings(is_persistent=True, persist_directory=str(path))
    admin = admin.from_system(client._system) if hasattr(admin, "from_system") else admin(settings)
    admin.create_tenant("tenant-b")
    admin.create_database("database-b", tenant="tenant-b")
    admin.create_database("database-b")
    rng = np.random.default_rng(8)
    for tenant in ("tenant-b", "default_tenant"):
        other = chromadb.PersistentClient(str(path), tenant=tenant, database="database-b")
        collection = other.create_collection("euclid", metadata={"tenant": tenant})
        write(collection, rng, rows=3)


def write(collection: Any, rng: Any, *, rows: int, dimension: int = 4) -> None:
    for first in range(0, rows, 9):
        numbers = range(first, min(first + 9, rows))
        collection.add(
            ids=[f"id-{i}" for i in numbers],
            embeddings=(rng.normal(size=(len(numbers), dimension)) * 3).astype(np.float32).tolist(),
            metadatas=[metadata(i) for i in numbers],
            documents=[TEXTS[i % len(TEXTS)] + (f" {i}" if i % 7 else "") for i in numbers],
        )


def metadata(i: int) -> dict[str, Any]:
    found: dict[str, Any] = {"i": i, "half": i / 2, "text": f"t{i % 5}", "even": i % 2 == 0}
    if i % 4 == 0:
        found["big"] = 2**53 + i
        found["whole"] = float(i)
    if i % 6 == 0:
        found["ключ"] = "значение\n"
    return found


def change(collection: Any, rng: Any) -> None:
    """Updates, deletions and upserts, some of which reach the index and some not."""

    def vectors(rows: int) -> list[list[float]]:
        return rng.normal(size=(rows, 4)).astype(np.float32).tolist()

    collection.delete(ids=["id-0", "id-3", "id-11"])
    collection.update(ids=["id-1"], metadatas=[{"i": -1, "new": "key"}], embeddings=vectors(1))
    collection.update(ids=["id-2"], metadatas=[{"text": "changed"}])
    collection.upsert(
        ids=["id-3", "id-4", "up-1"],
        embeddings=vectors(3),
        documents=["back again", "replaced", "upserted"],
        metadatas=[{"i": 3}, {"i": 4}, {"i": 1000}],
    )
    collection.add(ids=["plain-1", "plain-2"], embeddings=vectors(2))
    collection.add(ids=["id-5"], embeddings=vectors(1), documents=["ignored: it exists"])
    collection.delete(where={"i": 8})
    if VERSION >= (0, 5):
        collection.add(ids=["with-uri"], embeddings=vectors(1), uris=["file:///a/b.png"])
    for i in range(random.Random(len(collection.name)).randrange(5, 12)):
        collection.upsert(ids=[f"late-{i}"], embeddings=vectors(1), documents=[f"late {i}"])


def describe(path: Path) -> list[dict[str, Any]]:
    """Everything that this release shows."""
    found = []
    homes = [("default_tenant", "default_database")]
    if hasattr(chromadb, "AdminClient"):
        homes += [("default_tenant", "database-b"), ("tenant-b", "database-b")]
    for tenant, database in homes:
        options = {"tenant": tenant, "database": database} if len(homes) > 1 else {}
        client = chromadb.PersistentClient(str(path), **options)
        names = [c if isinstance(c, str) else c.name for c in client.list_collections()]
        for name in sorted(names):
            collection = client.get_collection(name, **NO_FUNCTION)
            shown = collection.get(include=include_of())
            embeddings = shown["embeddings"]
            vectors = np.asarray([] if embeddings is None else embeddings, np.float32)
            found.append(
                {
                    "tenant": tenant,
                    "database": database,
                    "name": name,
                    "metadata": collection.metadata,
                    "configuration": plain(getattr(collection, "configuration_json", None)),
                    "ids": shown["ids"],
                    "documents": shown["documents"],
                    "metadatas": shown["metadatas"],
                    "uris": shown.get("uris"),
                    "embeddings": [vector.tobytes().hex() for vector in vectors],
                }
            )
    return found


NO_FUNCTION: dict[str, Any] = {"embedding_function": None} if VERSION >= (1, 0) else {}


def include_of() -> list[str]:
    return EVERYTHING if VERSION >= (0, 5) else EVERYTHING[:3]


def plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
