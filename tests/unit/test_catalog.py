"""The catalog: crash safety, processes, damaged and foreign files."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import uuid

import pytest
from chromadb.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    VersionMismatchError,
)

from vexfs_chroma._catalog import Catalog
from vexfs_chroma._catalog_file import FILE_NAME
from vexfs_chroma._config import build_schema
from vexfs_chroma._errors import (
    CorruptionError,
    DatabaseLockedError,
    ReadOnlyError,
    StorageFullError,
    StoragePermissionError,
)

HOME = ("default_tenant", "default_database")
SCHEMA = build_schema(None, None, None)


class Engine:
    """The part of the engine that the catalog works with: which directories exist."""

    def __init__(self):
        self.held: dict[uuid.UUID, int] = {}  # id -> number of records

    def make(self, id):
        self.held[id] = 0

    def drop(self, id):
        if self.held.pop(id, None) is None:
            raise NotFoundError("gone")

    def list(self):
        return sorted(self.held)

    def is_empty(self, id):
        return self.held[id] == 0


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def opened(tmp_path, engine):
    """opened(...) -> a catalog in tmp_path, prepared."""
    catalogs = []

    def open_catalog(path=tmp_path, **options):
        catalog = Catalog(str(path) if path else None, **options)
        catalogs.append(catalog)
        catalog.prepare(engine.list)
        return catalog

    yield open_catalog
    for catalog in catalogs:
        catalog.close()


def create(catalog, engine, name="one", **options):
    options = {"get_or_create": False, "make": engine.make, **options}
    return catalog.create_collection(name, {"a": 1}, SCHEMA, *HOME, **options)


def reconcile(catalog, engine):
    catalog.reconcile(engine.list, engine.drop, engine.is_empty)


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_collections(opened, engine, where):
    catalog = opened() if where == "disk" else opened(None)
    made, created = create(catalog, engine)
    assert created
    assert made.metadata == {"a": 1}
    assert made.schema == SCHEMA
    assert catalog.find_collection("one", *HOME) == made
    assert catalog.find_collection_by_id(made.id) == made
    assert catalog.find_collection("one", "default_tenant", "other") is None
    assert create(catalog, engine, get_or_create=True) == (made, False)
    with pytest.raises(InternalError, match=r"^Collection \[one\] already exists$"):
        create(catalog, engine)
    with pytest.raises(InvalidArgumentError, match=r"^Database \[nope\] does not exist$"):
        catalog.create_collection(
            "one", None, SCHEMA, HOME[0], "nope", get_or_create=False, make=engine.make
        )
    assert catalog.delete_collection("one", *HOME).ids == [made.id]
    with pytest.raises(NotFoundError, match=r"^Collection \[one\] does not exist$"):
        catalog.delete_collection("one", *HOME)


def test_lists_are_in_order_of_creation_and_paged(opened, engine):
    catalog = opened()
    for i in range(5):
        create(catalog, engine, f"c-{9 - i}")
    names = [c.name for c in catalog.list_collections(*HOME, None, 0)]
    assert names == ["c-9", "c-8", "c-7", "c-6", "c-5"]
    assert [c.name for c in catalog.list_collections(*HOME, 2, 1)] == ["c-8", "c-7"]
    assert catalog.list_collections(*HOME, 0, 0) == []
    assert catalog.count_collections(*HOME) == 5
    for name in ("zz", "aa"):
        catalog.create_database(name, "t")
    assert [d.name for d in catalog.list_databases("t", None, 0)] == ["aa", "zz"]
    assert [d.name for d in catalog.list_databases("t", 5, 1)] == ["zz"]


def test_tenants_and_databases(opened, engine):
    catalog = opened()
    assert catalog.has_tenant("default_tenant")
    assert catalog.find_database("default_database", "default_tenant").id == uuid.UUID(int=0)
    catalog.create_tenant("t")
    with pytest.raises(InternalError, match=r"^Tenant \[t\] already exists$"):
        catalog.create_tenant("t")
    catalog.create_database("d", "t")
    with pytest.raises(InternalError, match=r"^Database \[d\] already exists$"):
        catalog.create_database("d", "t")
    made, _ = catalog.create_collection(
        "one", None, SCHEMA, "t", "d", get_or_create=False, make=engine.make
    )
    assert catalog.delete_database("d", "t").ids == [made.id]
    assert catalog.find_collection_by_id(made.id) is None
    with pytest.raises(NotFoundError, match=r"^Database \[d\] not found$"):
        catalog.delete_database("d", "t")


def test_update_is_all_or_nothing(opened, engine):
    catalog = opened()
    create(catalog, engine, "taken")
    made, _ = create(catalog, engine)
    with pytest.raises(InternalError, match="UNIQUE constraint failed"):
        catalog.update_collection(
            made.id, name="taken", change_metadata=True, metadata=None, change_schema=None
        )
    assert catalog.find_collection_by_id(made.id) == made
    catalog.update_collection(
        made.id,
        name="two",
        change_metadata=True,
        metadata={"b": 2.0},
        change_schema=lambda schema: {**schema, "x": 1},
    )
    changed = catalog.find_collection("two", *HOME)
    assert (changed.metadata, changed.schema["x"]) == ({"b": 2.0}, 1)
    with pytest.raises(NotFoundError, match=r"does not exist$"):
        catalog.update_collection(
            uuid.uuid4(), name=None, change_metadata=False, metadata=None, change_schema=None
        )


def test_other_connections_see_changes_at_once(opened, engine):
    mine, other = opened(), opened()
    made, _ = create(mine, engine)
    assert other.find_collection("one", *HOME) == made
    other.delete_collection("one", *HOME)
    assert mine.find_collection("one", *HOME) is None


def test_a_crash_while_creating_leaves_nothing(opened, engine):
    catalog = opened()

    def crash_after_making(id):
        engine.make(id)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(catalog, engine, make=crash_after_making)
    assert catalog.find_collection("one", *HOME) is None
    assert len(engine.held) == 1
    reconcile(catalog, engine)
    assert not engine.held


def test_a_crash_while_deleting_is_finished_later(opened, engine):
    catalog = opened()
    made, _ = create(catalog, engine)
    kept, _ = create(catalog, engine, "two")
    engine.held[made.id] = 1000
    catalog.delete_collection("one", *HOME)  # and no drop
    reconcile(catalog, engine)
    assert engine.list() == [kept.id]
    reconcile(catalog, engine)
    assert engine.list() == [kept.id]


def test_a_deletion_that_could_not_be_done_is_taken_back(opened, engine):
    catalog = opened()
    made = [create(catalog, engine, name)[0] for name in ("one", "two", "three")]
    removed = catalog.delete_collection("three", *HOME)
    later, _ = create(catalog, engine, "later")  # has its position now
    catalog.put_back(removed, removed.ids, engine.list)
    reconcile(catalog, engine)
    assert catalog.find_collection("three", *HOME) == made[2]
    assert len(engine.list()) == 4
    catalog.create_tenant("t")
    removed = catalog.reset()
    engine.drop(removed.ids[0])
    catalog.put_back(removed, removed.ids[1:], engine.list)
    reconcile(catalog, engine)
    assert {c.name for c in catalog.list_all_collections()} == {"two", "three", "later"}
    assert engine.list() == sorted([made[1].id, made[2].id, later.id])
    assert catalog.has_tenant("t")


def test_a_whole_database_comes_back(opened, engine):
    catalog = opened()
    catalog.create_database("d", "t")
    made, _ = catalog.create_collection(
        "one", None, SCHEMA, "t", "d", get_or_create=False, make=engine.make
    )
    removed = catalog.delete_database("d", "t")
    catalog.put_back(removed, removed.ids, engine.list)
    assert catalog.find_collection("one", "t", "d") == made


def test_what_was_dropped_or_made_anew_does_not_come_back(opened, engine):
    catalog = opened()
    made, _ = create(catalog, engine)
    removed = catalog.delete_collection("one", *HOME)
    anew, _ = create(catalog, engine)
    catalog.put_back(removed, removed.ids, engine.list)
    assert catalog.find_collection("one", *HOME) == anew
    reconcile(catalog, engine)
    assert engine.list() == [anew.id]
    catalog.put_back(removed, removed.ids, engine.list)
    assert catalog.find_collection_by_id(made.id) is None


def test_a_deletion_that_ends_meanwhile_keeps_nobody_from_opening(opened, engine):
    """Another process removes directories between our look at them and our removal."""
    catalog = opened()
    made, _ = create(catalog, engine)
    catalog.delete_collection("one", *HOME)
    seen = [made.id, uuid.uuid4()]  # noted as deleted, and not noted any more
    engine.held.clear()

    def is_empty(id):
        raise NotFoundError("gone")

    catalog.reconcile(lambda: seen, engine.drop, is_empty)
    reconcile(catalog, engine)


def test_reset_forgets_everything_and_notes_what_to_drop(opened, engine):
    catalog = opened()
    made, _ = create(catalog, engine)
    engine.held[made.id] = 5
    catalog.create_tenant("t")
    assert catalog.reset().ids == [made.id]
    assert not catalog.has_tenant("t")
    assert catalog.find_database("default_database", "default_tenant") is not None
    reconcile(catalog, engine)
    assert not engine.held


def test_records_without_an_entry_are_never_removed(opened, engine, caplog):
    catalog = opened()
    stranger = uuid.uuid4()
    engine.held[stranger] = 1
    with caplog.at_level(logging.WARNING):
        reconcile(catalog, engine)
    assert engine.list() == [stranger]
    assert str(stranger) in caplog.text


def test_an_entry_without_a_directory_is_kept(opened, engine, caplog):
    catalog = opened()
    made, _ = create(catalog, engine)
    engine.held.clear()
    with caplog.at_level(logging.WARNING):
        reconcile(catalog, engine)
    assert catalog.find_collection_by_id(made.id) == made
    assert "has a catalog entry but no directory" in caplog.text


def test_reconciling_waits_for_a_collection_that_is_being_created(opened, engine):
    creator, opener = opened(), opened()
    making, go_on = threading.Event(), threading.Event()

    def make_slowly(id):
        engine.make(id)
        making.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=create, args=(creator, engine), kwargs={"make": make_slowly})
    thread.start()
    assert making.wait(10)
    other = threading.Thread(target=reconcile, args=(opener, engine))
    other.start()
    other.join(0.2)
    assert other.is_alive()
    go_on.set()
    thread.join(10)
    other.join(10)
    assert len(engine.held) == 1
    assert opener.count_collections(*HOME) == 1


def test_opening_waits_for_nobody_when_there_is_nothing_to_finish(tmp_path, opened, engine):
    create(opened(), engine)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reconcile(opened(busy_timeout=0), engine)
    other.close()


def test_a_new_catalog_beside_collections_is_refused(tmp_path, opened, engine):
    catalog = opened()
    made, _ = create(catalog, engine)
    catalog.close()
    (tmp_path / FILE_NAME).unlink()
    for _ in range(2):
        with pytest.raises(CorruptionError, match=r"holds 1 collection\(s\); restore"):
            opened()
    assert engine.list() == [made.id]


def test_a_damaged_catalog_is_one_clear_error(tmp_path, opened):
    opened().close()
    (tmp_path / FILE_NAME).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(CorruptionError, match=r"Restore catalog\.sqlite3 from a backup"):
        opened()


def test_a_file_of_something_else_is_refused(tmp_path, opened):
    (tmp_path / FILE_NAME).write_bytes(b"hello " * 1000)
    with pytest.raises(CorruptionError, match="damaged"):
        opened()
    (tmp_path / FILE_NAME).unlink()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(CorruptionError, match="is not a catalog of vexfs_chroma"):
        opened()


def test_a_later_format_is_refused(tmp_path, opened):
    opened().close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(VersionMismatchError, match="upgrade vexfs_chroma"):
        opened()
    with pytest.raises(VersionMismatchError, match="upgrade vexfs_chroma"):
        opened(read_only=True)


def test_read_only(tmp_path, opened, engine):
    catalog = opened()
    made, _ = create(catalog, engine)
    reader = opened(read_only=True)
    assert reader.find_collection("one", *HOME) == made
    with pytest.raises(ReadOnlyError, match="opened read-only"):
        reader.create_tenant("ttt")
    create(catalog, engine, "two")
    assert reader.count_collections(*HOME) == 2


def test_read_only_does_not_make_a_catalog(tmp_path, opened):
    with pytest.raises(StoragePermissionError):
        opened(read_only=True)
    assert not (tmp_path / FILE_NAME).exists()


def test_read_only_after_an_interrupted_change(tmp_path, opened, engine, monkeypatch):
    """It is undone in a copy; by who may write, in the file."""
    create(opened(), engine)
    at = tmp_path / "copy"
    at.mkdir()
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("PRAGMA cache_size = 1")
    other.execute("BEGIN IMMEDIATE")
    for number in range(2000):  # more than fits into memory: the file is changed already
        other.execute("INSERT INTO tenants VALUES (?, 0)", (f"{number:0200}",))
    for name in (FILE_NAME, f"{FILE_NAME}-journal"):
        (at / name).write_bytes((tmp_path / name).read_bytes())
    other.execute("ROLLBACK")
    other.close()
    before = (at / FILE_NAME).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfile", lambda _, to: (to.touch(), (at / FILE_NAME).touch()))
        with pytest.raises(DatabaseLockedError):  # somebody undoes it just now, it seems
            opened(at, read_only=True)
    reader = opened(at, read_only=True)
    assert reader.count_collections(*HOME) == 1
    assert reader.count_collections(*HOME) == 1
    assert (at / FILE_NAME).read_bytes() == before
    create(opened(at), engine, name="another")
    assert reader.count_collections(*HOME) == 2
    assert opened(at, read_only=True).count_collections(*HOME) == 2


def test_a_busy_catalog_is_waited_for_and_then_an_error(tmp_path, opened):
    catalog = opened(busy_timeout=0.1)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseLockedError, match="raise busy_timeout"):
        catalog.create_tenant("ttt")
    assert not catalog.has_tenant("ttt")  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    catalog.create_tenant("ttt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("database is locked", DatabaseLockedError),
        ("attempt to write a readonly database", CorruptionError),
        ("database or disk is full", StorageFullError),
        ("unable to open database file", StoragePermissionError),
        ("database disk image is malformed", CorruptionError),
        ("file is not a database", CorruptionError),
        ("disk I/O error", InternalError),
    ],
)
def test_errors_of_sqlite(opened, text, expected):
    error = opened()._file.error(sqlite3.OperationalError(text))
    assert type(error) is expected
    assert FILE_NAME in str(error)


def test_a_file_that_may_not_be_written(opened, monkeypatch):
    catalog = opened()
    monkeypatch.setattr("vexfs_chroma._catalog_file.os.access", lambda path, mode: False)
    error = catalog._file.error(sqlite3.OperationalError("attempt to write a readonly database"))
    assert type(error) is ReadOnlyError
    assert catalog._file.damage is None


def test_closed(opened):
    catalog = opened()
    catalog.close()
    catalog.close()
    with pytest.raises(InternalError, match="closed"):
        catalog.has_tenant("t")


def test_threads_share_a_catalog(opened, engine):
    catalog = opened()
    errors = []

    def work(n):
        try:
            for i in range(10):
                create(catalog, engine, f"name-{n}-{i}")
                assert catalog.find_collection(f"name-{n}-{i}", *HOME) is not None
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert catalog.count_collections(*HOME) == 40


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_forked_child_has_its_own_connection(opened, engine, where):
    catalog = opened() if where == "disk" else opened(None)
    create(catalog, engine)
    with catalog._file._session.lock:  # a lock that nobody in the child could release
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                catalog.create_tenant("child")
                code = 0 if catalog.count_collections(*HOME) == 1 else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert catalog.has_tenant("child") == (where == "disk")
    create(catalog, engine, "two")


def test_descriptors_that_are_used_up_are_no_matter_of_permission(opened):
    resource = pytest.importorskip("resource")
    catalog = opened()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                descriptors.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(InternalError, match=r"too many open files; raise .*ulimit -n"):
            catalog.create_tenant("ttt")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    catalog.create_tenant("ttt")
