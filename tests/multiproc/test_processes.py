"""One directory, several clients: twice in a process, in other processes, in forked children.

What is promised: any of them may write, each sees every acknowledged write of the others on its
next call, and nothing is ever lost or half seen.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

import vexfs_chroma

NAME = "shared"
WAIT = 60


def open_shared(path: Path) -> tuple[Any, Any]:
    client = vexfs_chroma.PersistentClient(path=path)
    return client, client.get_or_create_collection(NAME, embedding_function=None)


def rows(mark: str, numbers: range) -> dict[str, Any]:
    return {
        "ids": [f"{mark}{n}" for n in numbers],
        "embeddings": [[float(n), 1.0, 2.0] for n in numbers],
        "documents": [f"{mark} number {n}" for n in numbers],
        "metadatas": [{"mark": mark, "n": n} for n in numbers],
    }


# ---- two clients in one process ------------------------------------------------------------------


@pytest.mark.parametrize("forget", [False, True], ids=["shared", "forgotten"])
def test_opened_twice(tmp_path: Path, forget: bool) -> None:
    first, a = open_shared(tmp_path)
    if forget:  # chromadb's own tests do this: the second client shares nothing in Python
        vexfs_chroma.api.client.SharedSystemClient.clear_system_cache()
    second, b = open_shared(tmp_path)
    for number in range(20):
        writer, reader = (a, b) if number % 2 else (b, a)
        writer.add(**rows("x", range(number, number + 1)))
        assert reader.count() == number + 1
        assert reader.get(ids=[f"x{number}"])["documents"] == [f"x number {number}"]
    b.delete(ids=["x3"])
    assert a.get(ids=["x3"])["ids"] == []
    if not forget:  # else chromadb's bookkeeping would take this for the close of the second
        first.close()
    assert b.count() == 19
    b.add(**rows("y", range(5)))
    assert b.count() == 24
    second.close()
    third, c = open_shared(tmp_path)
    assert c.count() == 24
    third.close()


@pytest.mark.parametrize("spelling", ["{}/", "{}/.", "{}/../{name}"])
def test_other_spellings_of_a_path(tmp_path: Path, spelling: str) -> None:
    path = tmp_path / "database"
    first, a = open_shared(path)
    second = vexfs_chroma.PersistentClient(path=spelling.format(path, name=path.name))
    a.add(**rows("x", range(3)))
    assert second.get_collection(NAME, embedding_function=None).count() == 3
    first.close()
    second.close()


def test_collections_made_elsewhere(tmp_path: Path) -> None:
    first, _ = open_shared(tmp_path)
    vexfs_chroma.api.client.SharedSystemClient.clear_system_cache()
    second, _ = open_shared(tmp_path)
    first.create_collection("made-by-first", metadata={"a": 1}, embedding_function=None)
    assert second.get_collection("made-by-first", embedding_function=None).metadata == {"a": 1}
    second.delete_collection("made-by-first")
    with pytest.raises(vexfs_chroma.errors.NotFoundError):
        first.get_collection("made-by-first")
    first.close()
    second.close()


# ---- other processes -----------------------------------------------------------------------------


def follow(path: Path, pipe: Any) -> None:
    """Reader: for every number received, says what it sees now."""
    client, collection = open_shared(path)
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        found = collection.get(ids=[f"x{number}"], include=["documents", "metadatas"])
        near = collection.query(query_embeddings=[[float(number), 1, 2]], n_results=1)
        pipe.send((collection.count(), found["documents"], near["ids"], near["distances"]))
    client.close()


def write_many(path: Path, mark: str, batches: int, size: int, pipe: Any) -> None:
    client, collection = open_shared(path)
    pipe.send("ready")
    pipe.recv()
    for number in range(batches):
        collection.add(**rows(mark, range(number * size, (number + 1) * size)))
        pipe.send(number)
    client.close()
    pipe.send(None)


def start(context: BaseContext, target: Callable[..., None], *args: Any) -> tuple[Any, Any]:
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*args, theirs), daemon=True)  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    return process, ours


def receive(pipe: Any) -> Any:
    assert pipe.poll(WAIT), "the other process does not answer"
    return pipe.recv()


def finish(process: Any) -> None:
    process.join(WAIT)
    assert process.exitcode == 0


SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


def test_reader_sees_every_acknowledged_write(tmp_path: Path) -> None:
    client, collection = open_shared(tmp_path)
    process, pipe = start(SPAWN, follow, tmp_path)
    assert receive(pipe) == "ready"
    for number in range(50):
        collection.add(**rows("x", range(number, number + 1)))
        pipe.send(number)
        assert receive(pipe) == (number + 1, [f"x number {number}"], [[f"x{number}"]], [[0.0]])
    collection.delete(ids=["x7"])
    pipe.send(7)
    count, documents, _, distances = receive(pipe)
    assert (count, documents, distances) == (49, [], [[1.0]])
    collection.update(ids=["x8"], documents=["changed"], embeddings=[[8.0, 1.0, 2.0]])
    pipe.send(8)
    assert receive(pipe)[1] == ["changed"]
    pipe.send(None)
    finish(process)
    client.close()


def test_reader_never_sees_part_of_a_batch(tmp_path: Path) -> None:
    size, batches = 50, 30
    client, collection = open_shared(tmp_path)
    process, pipe = start(SPAWN, write_many, tmp_path, "x", batches, size)
    assert receive(pipe) == "ready"
    pipe.send("go")
    acknowledged, done = 0, False
    while not done:
        while pipe.poll(0):
            answer = pipe.recv()
            done = done or answer is None
            acknowledged = acknowledged if answer is None else answer + 1
        count = collection.count()
        assert count % size == 0, "part of a batch is visible"
        assert count >= acknowledged * size, "an acknowledged batch is not visible"
        ids = collection.get(include=[])["ids"]
        assert ids == [f"x{n}" for n in range(len(ids))]
    finish(process)
    assert collection.count() == size * batches
    client.close()


def test_two_writers_take_turns(tmp_path: Path) -> None:
    size, batches = 20, 25
    client, collection = open_shared(tmp_path)
    others = [start(SPAWN, write_many, tmp_path, mark, batches, size) for mark in ("a", "b")]
    for _, pipe in others:
        assert receive(pipe) == "ready"
    for _, pipe in others:
        pipe.send("go")
    for number in range(batches):  # the third writer
        collection.add(**rows("c", range(number * size, (number + 1) * size)))
    for process, pipe in others:
        while receive(pipe) is not None:
            pass
        finish(process)
    assert collection.count() == 3 * size * batches
    for mark in "abc":  # each writer's rows are all there, whole, in the order written
        found = collection.get(where={"mark": mark})
        assert found["ids"] == [f"{mark}{n}" for n in range(size * batches)]
        assert found["documents"] == [f"{mark} number {n}" for n in range(size * batches)]
    client.close()
    client, collection = open_shared(tmp_path)
    assert collection.count() == 3 * size * batches
    client.close()


def test_threads_and_a_process(tmp_path: Path) -> None:
    client, collection = open_shared(tmp_path)
    process, pipe = start(SPAWN, write_many, tmp_path, "x", 20, 20)
    assert receive(pipe) == "ready"
    pipe.send("go")
    failures: list[BaseException] = []

    def work(mark: str) -> None:
        try:
            for number in range(20):
                collection.add(**rows(mark, range(number * 5, number * 5 + 5)))
                assert collection.get(ids=[f"{mark}{number * 5}"])["ids"]
                near = collection.query(query_embeddings=[[float(number), 1, 2]], n_results=3)
                assert near["distances"][0] == sorted(near["distances"][0])
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(f"t{n}-",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not failures
    while receive(pipe) is not None:
        pass
    finish(process)
    assert collection.count() == 20 * 20 + 4 * 20 * 5
    client.close()


# ---- fork ----------------------------------------------------------------------------------------


@pytest.fixture(params=["ephemeral", "persistent"])
def before_fork(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A collection with ten rows that a child will inherit."""
    if request.param == "ephemeral":
        client = vexfs_chroma.EphemeralClient()
        collection = client.get_or_create_collection(
            f"fork-{tmp_path.name}", embedding_function=None
        )
    else:
        client, collection = open_shared(tmp_path)
    collection.add(**rows("x", range(10)))
    yield collection
    client.close()


def read_child(collection: Any, pipe: Any) -> None:
    found = collection.get()
    near = collection.query(query_embeddings=[[4.0, 1, 2]], n_results=2)
    pipe.send((collection.count(), found["documents"], near["ids"]))


def test_forked_child_reads(before_fork: Any) -> None:
    process, pipe = start(FORK, read_child, before_fork)
    assert receive(pipe) == (10, [f"x number {n}" for n in range(10)], [["x4", "x3"]])
    finish(process)
    before_fork.add(**rows("y", range(3)))  # the parent goes on
    assert before_fork.count() == 13


def write_child(collection: Any, pipe: Any) -> None:
    for number in range(20):
        collection.add(**rows("child", range(number * 5, number * 5 + 5)))
    pipe.send(collection.count())


def test_forked_child_and_parent_write(tmp_path: Path) -> None:
    client, collection = open_shared(tmp_path)
    collection.add(**rows("x", range(10)))
    process, pipe = start(FORK, write_child, collection)
    for number in range(20):
        collection.add(**rows("parent", range(number * 5, number * 5 + 5)))
    assert receive(pipe) >= 110
    finish(process)
    assert collection.count() == 210
    for mark in ("child", "parent"):
        assert collection.get(where={"mark": mark})["ids"] == [f"{mark}{n}" for n in range(100)]
    client.close()
    client, collection = open_shared(tmp_path)
    assert collection.count() == 210
    client.close()


def test_forked_child_writes(before_fork: Any, request: pytest.FixtureRequest) -> None:
    """In memory, the child has a copy of its own; on disk, both have the same."""
    process, pipe = start(FORK, write_child, before_fork)
    assert receive(pipe) == 110
    finish(process)
    alone = request.node.callspec.params["before_fork"] == "ephemeral"
    assert before_fork.count() == (10 if alone else 110)


def fork_during_writes(collection: Any, pipe: Any) -> None:
    pipe.send(collection.count())


def test_fork_while_threads_write(tmp_path: Path) -> None:
    """A child forked while another thread is inside a write finds no lock held for ever."""
    client, collection = open_shared(tmp_path)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            collection.add(**rows("x", range(number, number + 50)))
            number += 50

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            before = collection.count()
            process, pipe = start(FORK, fork_during_writes, collection)
            assert receive(pipe) >= before
            finish(process)
    finally:
        stop.set()
        thread.join(WAIT)
    client.close()


# ---- merging files -------------------------------------------------------------------------------


def write_and_vacuum(path: Path, mark: str, batches: int) -> None:
    client, collection = open_shared(path)
    for number in range(batches):
        collection.add(**rows(mark, range(number * 10, number * 10 + 10)))
        if number % 4 == 3:
            collection.delete(ids=[f"{mark}{number * 10 + n}" for n in range(5)])
            client.vacuum()
    client.close()


def test_processes_that_merge_files_under_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEXFS_MEMTABLE_ROWS", "25")
    client, collection = open_shared(tmp_path)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write_and_vacuum, args=(tmp_path, mark, 24)) for mark in "pq"
    ]
    for process in processes:
        process.start()
    write_and_vacuum(tmp_path, "r", 24)
    for process in processes:
        process.join(WAIT)
        assert process.exitcode == 0
    expected = {
        f"{mark}{n}" for mark in "pqr" for n in range(240) if n // 10 % 4 != 3 or n % 10 >= 5
    }
    found = collection.get(include=["documents", "embeddings"])
    assert set(found["ids"]) == expected
    assert len(found["ids"]) == len(expected)
    for one, document, vector in zip(
        found["ids"], found["documents"], found["embeddings"], strict=True
    ):
        assert document == f"{one[0]} number {one[1:]}"
        assert vector[0] == float(one[1:])
    client.vacuum()
    assert len(list((tmp_path / "collections").rglob("vec-*"))) == 1
    client.close()
