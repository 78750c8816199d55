"""A damaged catalog gives right answers or CorruptionError, and is not written."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import uuid
import zlib

import pytest
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.errors import VersionMismatchError

import vexfs_chroma
from vexfs_chroma import CorruptionError, ForeignDatabaseError
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._catalog_file import FILE_NAME
from vexfs_chroma._catalog_tables import checksum
from vexfs_chroma._config import build_schema

HOME = ("default_tenant", "default_database")
SCHEMA = build_schema(None, None, None)
DEFINED = (CorruptionError, VersionMismatchError)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def create(catalog, name, home=HOME):
    return catalog.create_collection(
        name, {"a": name}, SCHEMA, *home, get_or_create=False, make=lambda _: None
    )[0]


@pytest.fixture
def made(tmp_path):
    """The file of a small catalog, and the ids of its collections."""
    catalog = Catalog(str(tmp_path))
    catalog.prepare(list)
    ids = {name: create(catalog, name).id for name in ("one", "two", "three")}
    catalog.create_tenant("tenant")
    catalog.create_database("other", "tenant")
    ids["far"] = create(catalog, "far", ("tenant", "other")).id
    create(catalog, "gone")
    catalog.delete_collection("gone", *HOME)
    catalog.close()
    return tmp_path / FILE_NAME, ids


def open_catalog(file, **options):
    catalog = Catalog(str(file.parent), **options)
    try:
        catalog.prepare(list)
    except BaseException:
        catalog.close()
        raise
    return catalog


def change(file, sql, *values):
    """What no release writes: SQLite's own checks stay satisfied, the checksum does not."""
    with sqlite3.connect(file) as db:
        assert db.execute(sql, values).rowcount == 1
    db.close()


def calls(ids):
    """Every kind of call, reading ones first."""
    return [
        lambda c: c.find_collection("one", *HOME),
        lambda c: c.find_collection("far", "tenant", "other"),
        lambda c: c.find_collection_by_id(ids["two"]),
        lambda c: c.find_collection("none", *HOME),
        lambda c: c.find_collection_by_id(uuid.UUID(int=1)),
        lambda c: c.list_collections(*HOME, None, 0),
        lambda c: c.list_collections(*HOME, 1, 1),
        lambda c: c.count_collections(*HOME),
        lambda c: c.has_tenant("tenant"),
        lambda c: c.has_tenant("nobody"),
        lambda c: c.find_database("other", "tenant"),
        lambda c: c.list_databases("tenant", None, 0),
        lambda c: create(c, "new").name,
        lambda c: c.delete_collection("two", *HOME),
        lambda c: c.create_tenant("another"),
        lambda c: [found.name for found in c.list_collections(*HOME, None, 0)],
    ]


def outcome(catalog, call):
    try:
        return call(catalog)
    except CorruptionError as error:
        return error


def test_every_flipped_bit_is_harmless_or_told(made):
    file, ids = made
    sound = file.read_bytes()
    catalog = open_catalog(file)
    right = [call(catalog) for call in calls(ids)]
    catalog.close()
    # All of the header and of the table definitions, and every 37th byte of the rest, one bit each.
    places = [*range(110), *range(3000, 4096, 5), *range(4096, len(sound), 37)]
    told = 0
    for at in places:
        damaged = bytearray(sound)
        damaged[at] ^= 1 << (at * 5 % 8)
        file.write_bytes(damaged)
        try:
            catalog = open_catalog(file)
        except DEFINED:
            told += 1
            assert file.read_bytes() == damaged, f"byte {at}: written"
            continue
        got = [outcome(catalog, call) for call in calls(ids)]
        for given, expected in zip(got, right, strict=True):
            assert given == expected or isinstance(given, CorruptionError), f"byte {at}"
        errors = [one for one in got if isinstance(one, CorruptionError)]
        assert all(str(file) in str(one) and "backup" in str(one) for one in errors)
        catalog.close()
        if errors:
            told += 1
            assert file.read_bytes() == damaged, f"byte {at}: written"
    assert told > len(places) / 10  # most of the file is free space


DAMAGES = [
    ("UPDATE collections SET name = 'ewo' WHERE name = 'two'", "collections", "'ewo'"),
    (
        "UPDATE collections SET metadata = '{\"a\": \"twp\"}' WHERE name = 'two'",
        "collections",
        "two",
    ),
    ("UPDATE collections SET metadata = '{' WHERE name = 'two'", "collections", "two"),
    ("UPDATE collections SET metadata = NULL WHERE name = 'two'", "collections", "two"),
    ("UPDATE collections SET schema = '{}' WHERE name = 'two'", "collections", "two"),
    ("UPDATE collections SET schema = x'ff' WHERE name = 'two'", "collections", "two"),
    (
        "UPDATE collections SET schema = CAST(x'ff' AS TEXT) WHERE name = 'two'",
        "collections",
        "two",
    ),
    ("UPDATE collections SET schema = 1.5 WHERE name = 'two'", "collections", "two"),
    (
        "UPDATE collections SET name = CAST(x'ff41' AS TEXT) WHERE name = 'two'",
        "collections",
        "xff",
    ),
    ("UPDATE collections SET id = x'01' WHERE name = 'two'", "collections", "id=01"),
    ("UPDATE collections SET position = 77 WHERE name = 'two'", "collections", "position=77"),
    ("UPDATE collections SET crc = crc + 1 WHERE name = 'two'", "collections", "two"),
    ("UPDATE databases SET name = 'othep' WHERE name = 'other'", "databases", "'othep'"),
    ("UPDATE tenants SET name = 'tenanu' WHERE name = 'tenant'", "tenants", "'tenanu'"),
    ("UPDATE dropped SET id = x'0102'", "dropped", "id=0102"),
]


@pytest.mark.parametrize(("sql", "table", "row"), DAMAGES)
def test_a_damaged_row_is_named_and_hides_no_other(made, sql, table, row):
    file, ids = made
    change(file, sql)
    before = file.read_bytes()
    catalog = open_catalog(file)
    assert catalog.find_collection("one", *HOME).id == ids["one"]
    assert catalog.find_collection_by_id(ids["three"]).metadata == {"a": "three"}
    expected = rf"is damaged: table {table}, row \(.*{row}.*checksum is wrong.*from a backup"
    for call in (
        lambda: catalog.list_collections(*HOME, None, 0),
        lambda: catalog.count_collections(*HOME),
        lambda: catalog.find_collection("none", *HOME),
        lambda: create(catalog, "new"),
        lambda: catalog.delete_collection("one", *HOME),
        lambda: catalog.reset(),
    ):
        with pytest.raises(CorruptionError, match=expected):
            call()
    catalog.reconcile(list, pytest.fail, pytest.fail)
    if table == "collections":
        with pytest.raises(CorruptionError, match=expected):
            catalog.find_collection("two", *HOME)
    catalog.close()
    assert file.read_bytes() == before


def test_damage_that_comes_while_the_catalog_is_open(made):
    file, ids = made
    catalog = open_catalog(file)
    change(file, "UPDATE collections SET metadata = '{}' WHERE name = 'two'")
    assert catalog.find_collection("one", *HOME).id == ids["one"]
    with pytest.raises(CorruptionError, match="'two'"):
        catalog.list_collections(*HOME, None, 0)
    with pytest.raises(CorruptionError, match="'two'"):
        catalog.create_tenant("another")
    assert catalog.find_collection("three", *HOME).id == ids["three"]
    catalog.close()


def test_a_removed_row_or_index_entry_is_noticed(made):
    """Structure, which no checksum of a row covers."""
    file, ids = made
    with sqlite3.connect(file) as db:
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_collections_2'"
        ).fetchone()
    db.close()
    data = bytearray(file.read_bytes())
    at = (page - 1) * 4096 + 3  # the number of entries on the page
    data[at : at + 2] = (int.from_bytes(data[at : at + 2], "big") - 1).to_bytes(2, "big")
    file.write_bytes(data)
    catalog = open_catalog(file)
    assert [catalog.find_collection(name, *HOME).id for name in ("one", "two", "three")] == [
        ids[name] for name in ("one", "two", "three")
    ]
    with pytest.raises(CorruptionError, match="its structure"):
        catalog.find_collection("none", *HOME)
    with pytest.raises(CorruptionError, match="its structure"):
        create(catalog, "one")
    catalog.close()


def test_the_checksum_is_as_documented():
    row = b"T" + (7).to_bytes(8, "little") + b"dropped"
    assert checksum(("dropped",)) == zlib.crc32(row)
    row += b"I" + (-2).to_bytes(8, "little", signed=True) + b"N" + b"B" + b"\1" + bytes(7) + b"x"
    assert checksum(("dropped", -2, None, b"x")) == zlib.crc32(row)


def test_a_client_goes_on_with_what_is_intact(tmp_path):
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        for name in ("good", "bad"):
            collection = client.create_collection(name, embedding_function=None)
            collection.add(ids=["a"], embeddings=[[1, 2]])
    change(tmp_path / FILE_NAME, "UPDATE collections SET schema = '{}' WHERE name = 'bad'")
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        good = client.get_collection("good", embedding_function=None)
        good.add(ids=["b"], embeddings=[[3, 4]])  # the catalog is damaged, the collection is not
        assert good.get()["ids"] == ["a", "b"]
        for call in (
            client.list_collections,
            client.count_collections,
            lambda: client.get_collection("bad", embedding_function=None),
            lambda: client.get_or_create_collection("bad", embedding_function=None),
            lambda: client.delete_collection("good"),
        ):
            with pytest.raises(CorruptionError, match="name='bad'"):
                call()
    SharedSystemClient.clear_system_cache()


def test_the_catalog_of_another_database_is_refused(tmp_path):
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        client = vexfs_chroma.PersistentClient(str(path))
        client.create_collection(path.name).add(ids=["x"], embeddings=[[1, 2]])
        client.close()
    shutil.copy(paths[1] / FILE_NAME, paths[0] / FILE_NAME)
    before = {p: p.read_bytes() for p in paths[0].rglob("*") if p.is_file()}
    uuids = [str(uuid.UUID(bytes=(path / "VEXFS").read_bytes()[16:32])) for path in paths]
    for read_only in (False, True):
        with pytest.raises(ForeignDatabaseError, match="another database") as caught:
            vexfs_chroma.PersistentClient(str(paths[0]), read_only=read_only)
        assert all(id in str(caught.value) for id in uuids)
    assert {p: p.read_bytes() for p in paths[0].rglob("*") if p.is_file()} == before
