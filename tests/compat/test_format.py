"""docs/format.md against the engine: a reader made from the page must see what the engine wrote,
and databases of every released format must open.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import struct
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vexfs_chroma import _engine
from vexfs_chroma._catalog import Catalog

from . import golden
from .primitives import Corrupt, LaterRelease, crc, id_hash
from .reader import check_head, read_catalog, read_collection, read_graphs, read_superblock

Fill = Callable[[_engine.Collection], None]
OWNER = uuid.UUID(int=5)
ARCHIVES = sorted(golden.GOLDEN.glob("*.zip"))


def test_checksums_and_hashes() -> None:
    assert crc(b"123456789") == 0xE3069283
    assert crc(b"6789", crc(b"12345")) == 0xE3069283
    assert id_hash(b"") == 0xEFD01F60BA992926


def compare(path: Path, collection: uuid.UUID, expected: dict[str, list]) -> None:
    found = read_collection(path, collection.bytes)
    assert [record.id for record in found.values()] == list(expected)
    for record in found.values():
        vector, document, metadata, uri = expected[record.id]
        np.testing.assert_array_equal(record.vector, np.array(vector, np.float32))
        assert (record.document, record.uri) == (document, uri)
        assert record.metadata == metadata


def make_database(path: Path, fill: Fill) -> tuple[uuid.UUID, dict[str, list]]:
    name = uuid.uuid4()
    database = _engine.Database(str(path))
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    fill(collection)
    expected = golden.records_of(collection)
    collection.close()
    database.close()
    return name, expected


def nothing(collection: _engine.Collection) -> None:
    pass


def only_log(collection: _engine.Collection) -> None:
    vectors = np.random.default_rng(3).random((400, 1000), np.float32)  # a record of two frames
    collection.write("add", [str(i) for i in range(400)], vectors, None, None, None)
    collection.delete([str(i) for i in range(0, 400, 3)], None)


def many_documents(collection: _engine.Collection) -> None:
    words = [word.strip(".,;") for word in golden.LONG.split()]
    rng = random.Random(7)
    n = 3000  # over 1 MiB of documents: small blocks with a dictionary
    documents = [" ".join(rng.choices(words, k=80)) + str(i) for i in range(n)]
    documents[17] = "a long one " * 3000
    vectors = np.random.default_rng(4).random((n, 3), np.float32)
    collection.write("add", [f"{i:x}" for i in range(n)], vectors, documents, None, None)
    collection.flush()


def several_flushes(collection: _engine.Collection) -> None:
    rng = random.Random(8)
    for step in range(12):
        ids = [str(i) for i in rng.sample(range(200), 40)]
        vectors = np.array([[rng.random(), step] for _ in ids], np.float32)
        collection.write("upsert", ids, vectors, None, [{"step": step}] * 40, None)
        collection.delete([str(rng.randrange(200)) for _ in range(3)], None)
        if step % 3 == 1:
            collection.flush()


def test_the_reader_reads_graphs(tmp_path: Path) -> None:
    name = uuid.uuid4()
    path = tmp_path / "database"
    database = _engine.Database(str(path), index_rows=200)
    database.create_collection(name, "cosine")
    collection = database.open_collection(name)
    golden.fill_graph(collection)
    expected = golden.records_of(collection)
    collection.close()
    database.close()
    compare(path, name, expected)
    check_head(path, name.bytes)
    (graph,) = read_graphs(path, name.bytes)
    assert graph.linked + graph.duplicates >= len(expected) - 20
    assert graph.duplicates >= 9
    assert max(len(lists) for lists in graph.links.values()) > 1
    assert all(lists[0] for lists in graph.links.values())


def test_the_golden_databases_hold_every_kind_of_file_and_section() -> None:
    kinds, sections = set(), set()
    for archive in ARCHIVES:
        with zipfile.ZipFile(archive) as files:
            for file in files.namelist():
                kinds.add(Path(file).name.split("-")[0])
                data = files.read(file)
                if data[:8] == b"VXSG\r\n\x1a\n":
                    table, n = struct.unpack_from("<QI", data, len(data) - 64)
                    sections |= {
                        struct.unpack_from("<I", data, at)[0]
                        for at in range(table, table + 48 * n, 48)
                    }
    assert kinds >= {"VEXFS", "manifest", "wal", "vec", "pay", "del", "gra", "head"}
    assert kinds >= {"catalog.sqlite3", "LOCK", "MAINT"}
    assert sections == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 32, 33, 34}


@pytest.mark.parametrize("fill", [nothing, only_log, golden.fill, many_documents, several_flushes])
def test_the_reader_sees_what_the_engine_wrote(tmp_path: Path, fill: Fill) -> None:
    collection, expected = make_database(tmp_path / "database", fill)
    compare(tmp_path / "database", collection, expected)


def test_the_reader_finds_damage(tmp_path: Path) -> None:
    """The page is as strict as the engine: a flipped bit in a file is found."""
    path = tmp_path / "database"
    collection, expected = make_database(path, golden.fill)
    directory = path / "collections" / collection.hex
    files = [path / "VEXFS", *directory.glob("[mdpv]*-*")]
    rng = random.Random(9)
    for file in files:
        data = file.read_bytes()
        for _ in range(5):
            at = rng.randrange(len(data))
            file.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
            with pytest.raises((Corrupt, LaterRelease)):
                read_collection(path, collection.bytes)
        file.write_bytes(data)
    compare(path, collection, expected)


def test_the_reader_sees_forks(tmp_path: Path) -> None:
    first, second, third = (uuid.uuid4() for _ in range(3))
    database = _engine.Database(str(tmp_path))
    database.create_collection(first, "l2")
    collection = database.open_collection(first)
    several_flushes(collection)
    collection.write("upsert", ["a", "7"], np.ones((2, 2), np.float32), None, None, None)
    collection.fork(second)
    collection.delete(["a"], None)
    fork = database.open_collection(second)
    fork.write("upsert", ["b"], np.zeros((1, 2), np.float32), None, None, None)
    fork.fork(third)
    fork.flush()
    fork.write("upsert", ["c"], np.zeros((1, 2), np.float32), None, None, None)
    expected = {}
    for name in (first, second, third):
        with contextlib.closing(database.open_collection(name)) as opened:
            expected[name] = golden.records_of(opened)
    fork.close()
    collection.close()
    database.close()
    for name, records in expected.items():
        compare(tmp_path, name, records)
    assert ("a" in expected[first], "a" in expected[third]) == (False, True)


def test_the_reader_sees_what_the_catalog_wrote(tmp_path: Path) -> None:
    with contextlib.closing(Catalog(str(tmp_path))) as catalog:
        entry = golden.fill_catalog(catalog, lambda _: None, OWNER)
        catalog.update_collection(
            entry.id, name="renamed", change_metadata=False, metadata=None, change_schema=None
        )
    found = read_catalog(tmp_path, OWNER.bytes)
    assert [key[2] for key in found] == ["elsewhere", "renamed"]
    assert found[entry.tenant, entry.database, "renamed"] == (
        entry.id,
        golden.METADATA,
        entry.schema,
    )
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as db:
        db.execute("UPDATE collections SET schema = '{}' WHERE name = 'renamed'")
    db.close()
    with pytest.raises(Corrupt, match="rows of collections"):
        read_catalog(tmp_path, OWNER.bytes)


def test_there_is_a_golden_database() -> None:
    assert ARCHIVES


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.stem)
def test_released_formats_open(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    path = tmp_path / "database"
    owner = read_superblock(path)
    catalog = read_catalog(path, owner)
    assert [key[2] for key in catalog] == ["elsewhere", golden.NAME]
    collection_uuid, metadata, schema = catalog["default_tenant", "default_database", golden.NAME]
    assert metadata == golden.METADATA
    with contextlib.closing(Catalog(str(path), read_only=True)) as opened:
        opened.prepare(list, uuid.UUID(bytes=owner))
        entry = opened.find_collection_by_id(collection_uuid)
        assert (entry.name, entry.metadata, entry.schema) == (golden.NAME, metadata, schema)
        assert opened.find_collection("elsewhere", "tenant", "database") is not None
    compare(path, collection_uuid, expected)
    check_head(path, collection_uuid.bytes)
    read_graphs(path, collection_uuid.bytes)
    pristine = tmp_path / "pristine"
    shutil.copytree(path, pristine)
    for read_only in (True, False):
        database = _engine.Database(str(path), create=False, read_only=read_only)
        collection = database.open_collection(collection_uuid)
        assert golden.records_of(collection) == expected
        first = next(iter(expected))
        near = collection.query(np.array([expected[first][0]], np.float32), 1)
        assert near.distances[0] <= 1e-6
        if not read_only:  # and can be written on
            collection.delete([first], None)
            collection.flush()
        collection.close()
        database.close()
        if read_only:
            left = {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file()}
            assert left == {p.name: p.read_bytes() for p in pristine.rglob("*") if p.is_file()}
    del expected[first]
    compare(path, collection_uuid, expected)
