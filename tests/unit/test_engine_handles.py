"""Handles of the engine: closed once, from any thread, in any process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from chromadb.errors import InternalError

from vexfs_chroma import _engine
from vexfs_chroma._engine._handle import Handle, close_with


def write_one(collection: _engine.Collection) -> None:
    collection.write("upsert", ["a"], np.ones((1, 2), np.float32), None, [{"k": 1}], None)


def test_closed_handles_raise(database: _engine.Database) -> None:
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    first, second = database.open_collection(name), database.open_collection(name)
    first.close()
    first.close()
    with pytest.raises(InternalError, match="the collection is closed"):
        first.count()
    assert second.count() == 0
    database.close()
    database.close()
    with pytest.raises(InternalError, match="the collection is closed"):
        second.count()
    with pytest.raises(InternalError, match="the database is closed"):
        database.list_collections()


def test_handles_close_when_nobody_holds_them(tmp_path: Path) -> None:
    before = _engine.stats()["open_files"]
    database = _engine.Database(str(tmp_path / "database"))
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    collection.cycle = collection  # type: ignore[attr-defined]
    write_one(collection)
    del database
    assert collection.count() == 1  # a collection keeps its database open
    del collection
    gc.collect()
    assert _engine.stats()["open_files"] == before


def test_close_waits_for_running_calls_and_refuses_later_ones(tmp_path: Path) -> None:
    database = _engine.Database(str(tmp_path / "database"), durability="off")
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    outcomes: list[str] = []

    def work(number: int) -> None:
        try:
            for i in range(10**9):
                collection.write(
                    "upsert", [f"{number}-{i % 50}"], np.ones((1, 8)), None, None, None
                )
                collection.query(np.ones((1, 8), np.float32), 5, vectors=True)
        except InternalError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    database.close()
    for thread in threads:
        thread.join(30)
    assert outcomes == ["the collection is closed; open it again to use it"] * 6


def test_close_from_inside_a_call_is_done_by_the_call() -> None:
    released: list[str] = []
    parent = Handle("parent", "p", released.append)
    child = Handle("child", "c", released.append, parent)
    with child as pointer, child:
        assert pointer == "c"
        parent.close()
        assert released == []
        with pytest.raises(InternalError, match="child is closed"):
            child.__enter__()
    assert released == ["c", "p"]
    parent.close()
    assert released == ["c", "p"]


def test_close_waits_for_other_threads_and_closes_children_first() -> None:
    released: list[str] = []
    parent = Handle("parent", "p", released.append)
    child = Handle("child", "c", released.append, parent)
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with child:
            inside.set()
            leave.wait(10)

    caller = threading.Thread(target=call)
    caller.start()
    inside.wait(10)
    closers = [threading.Thread(target=handle.close) for handle in (parent, child, parent)]
    for closer in closers:
        closer.start()
    time.sleep(0.05)
    assert released == []
    assert all(closer.is_alive() for closer in closers)
    leave.set()
    for thread in (caller, *closers):
        thread.join(10)
    assert released == ["c", "p"]


def test_a_finaliser_inside_a_call_closes_elsewhere() -> None:
    threads: list[int] = []
    released = threading.Event()

    def release(_pointer: object) -> None:
        threads.append(threading.get_ident())
        released.set()

    class Owner:
        pass

    def make_garbage() -> None:
        owner = Owner()
        owner.cycle = owner
        close_with(owner, Handle("garbage", "g", release))

    with Handle("other", "o", lambda _: None):
        make_garbage()
        gc.collect()
        assert released.wait(10)
    assert threads != [threading.get_ident()]
    make_garbage()
    gc.collect()
    assert threads[1:] == [threading.get_ident()]


def test_close_reports_what_the_engine_reports() -> None:
    def fail(_pointer: object) -> None:
        raise InternalError("the disk is gone")

    handle = Handle("handle", "h", fail)
    with pytest.raises(InternalError, match="the disk is gone"):
        handle.close()
    handle.close()


def test_many_threads_on_one_collection(collection: _engine.Collection) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(30):
                collection.write(
                    "add", [f"{number}-{i}"], np.full((1, 4), i), ["d"], [{"n": i}], None
                )
                rows = collection.query(np.zeros((2, 4)), 3, metadatas=True)
                assert len(rows.ids) == sum(rows.counts)
                collection.count(filter=[_engine.F_GE, "n", i])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert collection.count() == 240


# ---- processes --------------------------------------------------------------------------------


def test_a_forked_child_goes_on_with_its_handles(database: _engine.Database) -> None:
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    write_one(collection)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            collection.query(np.ones((1, 2)), 1)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                try:
                    signal.alarm(20)
                    assert collection.get(metadatas=True).metadatas == [{"k": 1}]
                    write_one(collection)
                    collection.close()
                    database.close()
                    os._exit(0)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert collection.count() == 1


def test_an_open_database_is_closed_at_exit(tmp_path: Path) -> None:
    program = """
import sys, uuid, numpy
from vexfs_chroma import _engine
database = _engine.Database(sys.argv[1], durability="off")
database.create_collection(uuid.UUID(int=1), "l2")
collection = database.open_collection(uuid.UUID(int=1))
collection.write("add", ["a"], numpy.ones((1, 2)), None, None, None)
"""
    path = str(tmp_path / "database")
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60)
    database = _engine.Database(path, create=False)
    assert database.open_collection(uuid.UUID(int=1)).get().ids == ["a"]
    database.close()
