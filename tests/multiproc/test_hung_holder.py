"""A process hangs (SIGSTOP) while it has the lease: the others name it, and go on when it does."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vexfs_chroma
from vexfs_chroma import DatabaseLockedError, _engine

WAIT = 60
SPAWN = multiprocessing.get_context("spawn")

pytestmark = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="the system does not tell who has a lock"
)


def rows(first: int, n: int) -> dict[str, Any]:
    return {
        "ids": [f"w{number}" for number in range(first, first + n)],
        "embeddings": [[float(number), 1.0] for number in range(first, first + n)],
    }


def write_for_ever(path: Path, what: str, pipe: Any) -> None:
    """Adds batches of ten, or makes collections; tells each that was acknowledged."""
    client = vexfs_chroma.PersistentClient(path)
    collection = client.get_or_create_collection("shared", embedding_function=None)
    number = 0
    while not pipe.poll(0):
        if what == "add":
            collection.add(**rows(10 * number, 10))
        else:
            client.create_collection(f"made-{number}", embedding_function=None)
        number += 1
        pipe.send(number)
    client.close()
    pipe.send(None)
    pipe.recv()  # not gone before that was read


class Writer:
    """A process that writes all the time, and can be stopped while it has a lock on a file."""

    def __init__(self, path: Path, what: str) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=write_for_ever, args=(path, what, theirs), daemon=True)
        self.process.start()
        theirs.close()
        assert self.pipe.poll(WAIT)
        self.acknowledged = self.pipe.recv()

    def stop_holding(self, file: Path) -> None:
        """SIGSTOP at a moment when it has the lock; nothing else may have it."""
        assert self.process.pid is not None
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            os.kill(self.process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
            self.receive()
            if _engine.lock_holder(str(file)).startswith(f"process {self.process.pid} ("):
                return
            os.kill(self.process.pid, signal.SIGCONT)
            time.sleep(0.001)
        pytest.fail("the writer was never met with the lock")

    def receive(self) -> None:
        while self.pipe.poll(0):
            self.acknowledged = self.pipe.recv()

    def go_on(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def finish(self) -> None:
        before = self.acknowledged
        while self.acknowledged == before:  # it does go on
            assert self.pipe.poll(WAIT)
            self.receive()
        self.pipe.send("stop")
        while self.pipe.poll(WAIT) and (number := self.pipe.recv()) is not None:
            self.acknowledged = number
        self.pipe.send("read")
        self.process.join(WAIT)
        assert self.process.exitcode == 0

    def close(self) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    client = vexfs_chroma.PersistentClient(tmp_path, busy_timeout=0.2)
    yield client
    client.close()


@pytest.fixture
def adding(client: Any, tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path, "add")
    yield writer
    writer.close()


@pytest.fixture
def creating(client: Any, tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path, "create")
    yield writer
    writer.close()


def named(writer: Writer) -> str:
    name = Path(f"/proc/{writer.process.pid}/comm").read_text().strip()
    return re.escape(f"the database is locked: process {writer.process.pid} ({name}) ")


def test_writers_name_the_holder(client: Any, adding: Writer, tmp_path: Path) -> None:
    collection = client.get_collection("shared", embedding_function=None)
    adding.stop_holding(tmp_path / "LOCK")
    waited_us = _engine.stats()["lease_wait_us"]
    for write in (
        lambda: collection.add(ids=["mine"], embeddings=[[0.0, 0.0]]),
        lambda: collection.delete(ids=["w0"]),
        lambda: client.create_collection("another", embedding_function=None),
        client.vacuum,
    ):
        with pytest.raises(DatabaseLockedError, match=named(adding) + "has not given it free"):
            write()
    assert _engine.stats()["lease_wait_us"] - waited_us >= 2 * 200_000  # of add and delete
    with pytest.raises(vexfs_chroma.errors.InternalError):  # as code for Chroma catches it
        collection.add(ids=["mine"], embeddings=[[0.0, 0.0]])
    seen = collection.count()  # reading goes on
    assert seen >= 10 * adding.acknowledged
    assert [found.name for found in client.list_collections()] == ["shared"]

    adding.go_on()
    adding.finish()
    collection.add(ids=["mine"], embeddings=[[0.0, 0.0]])
    client.create_collection("another", embedding_function=None)
    expected = [f"w{number}" for number in range(10 * adding.acknowledged)]
    assert collection.get(include=[])["ids"] == [*expected, "mine"]


def test_the_catalog_names_the_holder(client: Any, creating: Writer, tmp_path: Path) -> None:
    creating.stop_holding(tmp_path / "catalog.sqlite3")
    with pytest.raises(DatabaseLockedError, match=named(creating) + "has not given .*catalog"):
        client.create_collection("another", embedding_function=None)
    creating.go_on()
    creating.finish()
    client.create_collection("another", embedding_function=None)
    names = {found.name for found in client.list_collections()}
    assert names == {"shared", "another", *(f"made-{n}" for n in range(creating.acknowledged))}


def test_opening_beside_a_hung_writer(client: Any, adding: Writer, tmp_path: Path) -> None:
    adding.stop_holding(tmp_path / "LOCK")
    client.close()  # else the next one shares its engine
    with vexfs_chroma.PersistentClient(tmp_path, busy_timeout=0.2) as opened:
        collection = opened.get_collection("shared", embedding_function=None)
        assert collection.count() >= 10 * adding.acknowledged
    adding.go_on()
    adding.finish()


def test_nobody_has_the_lock(client: Any, tmp_path: Path) -> None:
    client.create_collection("shared", embedding_function=None)
    assert _engine.lock_holder(str(tmp_path / "LOCK")) == "another process"
    assert _engine.lock_holder(str(tmp_path / "none")) == "another process"
