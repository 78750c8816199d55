"""Readers on media that they cannot write: a read-only mount of a directory that others write, as
containers have it, and a directory that belongs to another user.

The mount needs the right to mount, the other user the right to become one; else they are skipped.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vexfs_chroma
from vexfs_chroma import ReadOnlyError

WAIT = 60
NOBODY = 65534
SPAWN = multiprocessing.get_context("spawn")

needs_mounts = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0
    if Path("/usr/bin/unshare").exists()
    else True,
    reason="may not mount",
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="may not become another user")


def rows(numbers: range) -> dict[str, Any]:
    return {
        "ids": [f"x{n}" for n in numbers],
        "embeddings": [[float(n), 1.0] for n in numbers],
        "documents": [f"number {n}" for n in numbers],
    }


def get_collection(client: Any, name: str = "shared") -> Any:
    return client.get_collection(name, embedding_function=None)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[Any, Any, Path]]:
    """A database that this process writes: client, collection, directory."""
    directory = tmp_path / "database"
    client = vexfs_chroma.PersistentClient(directory)
    collection = client.create_collection("shared", embedding_function=None)
    collection.add(**rows(range(10)))
    yield client, collection, directory
    client.close()


@pytest.fixture
def mounted(written: tuple[Any, Any, Path], tmp_path: Path) -> Iterator[Path]:
    """The same directory, mounted a second time, read-only."""
    place = tmp_path / "read-only"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(written[2]), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def locks_of(pid: int) -> list[str]:
    """flock() locks that a process has; SQLite's short read locks are of another kind."""
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if f" {pid} " in line and "FLOCK" in line]


class Reader:
    """A process of its own that reads `path`, and says what it finds."""

    def __init__(self, path: Path, user: int | None = None, **options: Any) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(path, user, options, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, what: str) -> Any:
        self.pipe.send(what)
        assert self.pipe.poll(WAIT), "the reader does not answer"
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.close()
        self.process.join(WAIT)
        self.process.kill()


def serve(path: Path, user: int | None, options: dict[str, Any], pipe: Any) -> None:
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    client = vexfs_chroma.PersistentClient(path, **options)
    answers: dict[str, Callable[[], Any]] = {
        "ids": lambda: get_collection(client).get(include=[])["ids"],
        "nearest": lambda: get_collection(client).query(query_embeddings=[[3, 1]], n_results=1)[
            "documents"
        ],
        "names": lambda: sorted(found.name for found in client.list_collections()),
        "add": lambda: get_collection(client).add(ids=["mine"], embeddings=[[0, 0]]),
        "create": lambda: client.create_collection("mine", embedding_function=None),
        "delete": lambda: client.delete_collection("shared"),
        "locks": lambda: locks_of(os.getpid()),
    }
    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(answers[what]())
        except Exception as error:
            pipe.send(error)


@pytest.fixture(params=[{"read_only": True}, {}], ids=["asked for", "found out"])
def reader(mounted: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    reader = Reader(mounted, **request.param)
    yield reader
    reader.close()


def check_reads(reader: Reader) -> None:
    assert reader.ask("ids") == [f"x{n}" for n in range(10)]
    assert reader.ask("nearest") == [["number 3"]]
    assert reader.ask("names") == ["shared"]
    for write in ("add", "create", "delete"):
        assert isinstance(reader.ask(write), ReadOnlyError), write
    assert reader.ask("locks") == []


@needs_mounts
def test_reads_and_refuses_to_write(reader: Reader) -> None:
    check_reads(reader)


@needs_mounts
def test_sees_what_others_commit(written: tuple[Any, Any, Path], reader: Reader) -> None:
    client, collection, _ = written
    assert len(reader.ask("ids")) == 10
    for n in range(10, 30):
        collection.add(**rows(range(n, n + 1)))
        assert reader.ask("ids") == [f"x{k}" for k in range(n + 1)]
    client.vacuum()  # other files, and no log any more
    assert len(reader.ask("ids")) == 30
    collection.delete(ids=["x0"])
    assert reader.ask("ids") == [f"x{k}" for k in range(1, 30)]
    client.create_collection("second", embedding_function=None)
    assert reader.ask("names") == ["second", "shared"]
    client.delete_collection("second")
    assert reader.ask("names") == ["shared"]


@needs_mounts
def test_waits_for_nobody(written: tuple[Any, Any, Path], mounted: Path, tmp_path: Path) -> None:
    """Not even for a writer that hangs with the lease: here, one that has its lock file."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(written[2] / "LOCK")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    os.kill(holder.pid, signal.SIGSTOP)
    reader = Reader(mounted, read_only=True, busy_timeout=0)
    check_reads(reader)
    reader.close()
    holder.kill()
    holder.wait()
    holder.stdout.close()


HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(600)
"""


# ---- another user's directory --------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that others may enter; those above tmp_path are for one user alone."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "database"


@needs_root
@pytest.mark.parametrize("options", [{"read_only": True}, {}], ids=["asked for", "found out"])
def test_a_directory_of_another_user(public: Path, options: dict[str, Any]) -> None:
    client = vexfs_chroma.PersistentClient(public)
    collection = client.create_collection("shared", embedding_function=None)
    collection.add(**rows(range(10)))
    reader = Reader(public, user=NOBODY, **options)
    check_reads(reader)
    collection.add(**rows(range(10, 20)))
    assert len(reader.ask("ids")) == 20
    reader.close()
    client.close()
