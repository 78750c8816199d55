"""Makes the golden database of a release: golden/<format>.zip, kept for ever.

    python tests/compat/golden.py NAME [FILL]

Holds a database and expected.json with its records.  FILL says what is in its collection:
"everything" (default), which was all there was at first, or "graph": a graph with duplicates and
upper levels, a text index, a record of the log in several frames, all kinds of metadata.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vexfs_chroma import _engine
from vexfs_chroma._catalog import DEFAULT_DATABASE, DEFAULT_TENANT, Catalog
from vexfs_chroma._config import build_schema

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from vexfs_chroma._catalog import Collection as CatalogEntry

GOLDEN = Path(__file__).parent / "golden"
NAME, METADATA = "golden", {"made": "for ever", "n": 1, "ü": None}
LONG = "All happy families are alike; each unhappy family is unhappy in its own way. " * 40


def fill(collection: _engine.Collection) -> None:
    """Files of all kinds, dead rows in both kinds, and a log with every operation."""
    metadata = [
        {"n": i, "f": i / 4, "s": f"text {i % 5}", "b": i % 2 == 0, "l": ["a", "b"][: 1 + i % 2]}
        for i in range(60)
    ]
    ids = [f"id-{i:03}" for i in range(60)]
    documents = [None if i % 7 == 0 else f"{i} {LONG[: i * 30]}" for i in range(60)]
    uris = [None if i % 3 else f"file:///{i}" for i in range(60)]
    whole = np.arange(60 * 8, dtype=np.float32).reshape(60, 8) % 250
    collection.write("add", ids, whole, documents, metadata, uris)
    collection.flush()
    collection.write("update", ids[:9], whole[:9] + 0.5, None, None, None)
    collection.write("update", ids[20:24], None, ["new text"] * 4, [{"n": None, "ü": 1}] * 4, None)
    collection.delete(ids[30:33], None)
    collection.flush()
    irrational = (np.random.default_rng(1).random((20, 8)) - 0.5).astype(np.float32)
    collection.write("upsert", [f"late-{i}" for i in range(20)], irrational, None, None, None)
    collection.flush()
    collection.write("add", ["in the log"], irrational[:1], ["日本語"], [{"k": 2**40}], ["x:y"])
    collection.write("update", ["late-3", "id-001"], irrational[:2] * 2, None, None, None)
    collection.write("update", ["late-4"], None, ["only in the log"], [{"z": [1.5, 2.5]}], None)
    collection.delete(["id-059", "late-19"], None)


def fill_graph(collection: _engine.Collection) -> None:
    """What `fill` leaves out."""
    rng = np.random.default_rng(2)
    n = 320
    vectors = rng.standard_normal((n, 24)).astype(np.float32)
    vectors[100:110] = vectors[50]  # equal rows
    words = LONG.split()
    documents = [" ".join(rng.choice(words, 30)) for _ in range(n)]
    metadata = [
        {"i": i, "neg": -i, "f": i / 7, "b": i % 3 == 0, "s": f"s{i % 9}", "ls": ["x", f"y{i % 4}"],
         "li": [i, i + 1], "lf": [i / 2], "lb": [True, False]}
        for i in range(n)
    ]  # fmt: skip
    ids = [f"g{i}" for i in range(n)]
    collection.write("add", ids, vectors, documents, metadata, None)
    collection.flush()
    collection.delete(ids[:40], None)
    collection.wait_for_index(60)
    late = rng.standard_normal((20, 24)).astype(np.float32)
    long = [LONG * 40 + str(i) for i in range(20)]  # more than a frame holds, together
    collection.write("upsert", [f"late{i}" for i in range(20)], late, long, None, None)


FILLS = {"everything": fill, "graph": fill_graph}


def fill_catalog(
    catalog: Catalog, make: Callable[[uuid.UUID], None], owner: uuid.UUID
) -> CatalogEntry:
    """Rows in every table; returns the collection that `make` made."""
    catalog.prepare(list, owner)
    catalog.create_tenant("tenant")
    catalog.create_database("database", "tenant")
    for name, tenant, database in (
        ("dropped", DEFAULT_TENANT, DEFAULT_DATABASE),
        ("elsewhere", "tenant", "database"),
    ):
        catalog.create_collection(
            name,
            None,
            build_schema(None, None, None),
            tenant,
            database,
            get_or_create=False,
            make=lambda _: None,
        )
    catalog.delete_collection("dropped", DEFAULT_TENANT, DEFAULT_DATABASE)
    entry, _ = catalog.create_collection(
        NAME,
        METADATA,
        build_schema({"hnsw": {"space": "cosine"}}, None, None),
        DEFAULT_TENANT,
        DEFAULT_DATABASE,
        get_or_create=False,
        make=make,
    )
    return entry


def records_of(collection: _engine.Collection) -> dict[str, list]:
    rows = collection.get(documents=True, metadatas=True, uris=True, vectors=True)
    return {
        id: [rows.vectors[i].tolist(), rows.documents[i], rows.metadatas[i], rows.uris[i]]
        for i, id in enumerate(rows.ids)
    }


def main(name: str, what: str = "everything") -> None:
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        database = _engine.Database(str(path), index_rows=200, index_threads=1)
        catalog = Catalog(str(path))
        entry = fill_catalog(
            catalog, lambda new: database.create_collection(new, "cosine"), database.identity
        )
        catalog.close()
        collection = database.open_collection(entry.id)
        FILLS[what](collection)
        expected = records_of(collection)
        collection.close()
        database.close()
        with zipfile.ZipFile(GOLDEN / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                archive.write(file, Path("database") / file.relative_to(path))
            archive.writestr("expected.json", json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
