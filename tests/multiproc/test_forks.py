"""Clients across fork(): pools, servers that open and then fork, forks amid calls of threads."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

import vexfs_chroma

WAIT = 60
CHILDREN = 3


def open_shared(path: Path) -> tuple[Any, Any]:
    client = vexfs_chroma.PersistentClient(path)
    return client, client.get_or_create_collection("shared", embedding_function=None)


def rows(mark: str, numbers: range) -> dict[str, Any]:
    return {
        "ids": [f"{mark}{n}" for n in numbers],
        "embeddings": [[float(n), 1.0, 2.0] for n in numbers],
        "metadatas": [{"mark": mark, "n": n} for n in numbers],
    }


def check_marks(collection: Any, marks: list[str], each: int) -> None:
    """Every writer's rows are there, once, in the order written, and nothing else."""
    for mark in marks:
        found = collection.get(where={"mark": mark}, include=["embeddings"])
        assert found["ids"] == [f"{mark}{n}" for n in range(each)]
        assert [vector[0] for vector in found["embeddings"]] == [float(n) for n in range(each)]
    assert collection.count() == len(marks) * each


def run_all(context: BaseContext, target: Callable[..., None], arguments: list[tuple]) -> None:
    """Each in a process of its own, all at once."""
    processes = [
        context.Process(target=target, args=args)  # type: ignore[attr-defined]
        for args in arguments
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * len(processes), "a child failed, or hangs"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    client, collection = open_shared(tmp_path)
    yield client, collection
    client.close()


# ---- every way to start a process ----------------------------------------------------------------


def open_and_write(path: Path, mark: str) -> None:
    client, collection = open_shared(path)
    for n in range(10):
        collection.add(**rows(mark, range(5 * n, 5 * n + 5)))
    client.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_open_by_themselves(method: str, tmp_path: Path, shared: tuple[Any, Any]) -> None:
    _, collection = shared
    marks = [f"c{n}-" for n in range(CHILDREN)]
    run_all(
        multiprocessing.get_context(method), open_and_write, [(tmp_path, mark) for mark in marks]
    )
    check_marks(collection, marks, 50)
    collection.add(**rows("parent-", range(50)))
    check_marks(collection, [*marks, "parent-"], 50)


def add_one(path: Path, number: int) -> int:
    client, collection = open_shared(path)
    collection.add(**rows("x", range(number, number + 1)))
    count = collection.count()
    client.close()
    return count


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes(method: str, tmp_path: Path, shared: tuple[Any, Any]) -> None:
    _, collection = shared
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        counts = list(pool.map(add_one, [tmp_path] * 30, range(30)))
    assert len(counts) == 30
    assert max(counts) == collection.count() == 30


def test_a_pool_of_threads(shared: tuple[Any, Any]) -> None:
    _, collection = shared

    def work(number: int) -> list[str]:
        collection.add(**rows(f"t{number}-", range(20)))
        near = collection.query(query_embeddings=[[3.0, 1.0, 2.0]], where={"mark": f"t{number}-"})
        return near["ids"][0][:1]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        nearest = list(pool.map(work, range(40)))
    assert nearest == [[f"t{number}-3"] for number in range(40)]
    check_marks(collection, [f"t{number}-" for number in range(40)], 20)


# ---- a server that opens, then forks its workers -------------------------------------------------

FORK = multiprocessing.get_context("fork")


def serve(client: Any, collection: Any, mark: str, closes: bool) -> None:
    """A worker with the client that its master has opened."""
    for n in range(20):
        collection.add(**rows(mark, range(5 * n, 5 * n + 5)))
        near = collection.query(query_embeddings=[[5.0 * n, 1.0, 2.0]], where={"mark": mark})
        assert near["ids"][0][0] == f"{mark}{5 * n}"
    own = client.get_or_create_collection(f"own-of-{mark}x", embedding_function=None)
    own.add(**rows(mark, range(3)))
    if closes:
        client.close()


@pytest.mark.parametrize("closes", [False, True], ids=["killed-by-exit", "closed"])
def test_preloaded(shared: tuple[Any, Any], tmp_path: Path, closes: bool) -> None:
    client, collection = shared
    collection.add(**rows("before-", range(100)))  # so the master has its log open, and a worker
    marks = [f"w{n}-" for n in range(CHILDREN)]
    thread = threading.Thread(
        target=lambda: [
            collection.add(**rows("master-", range(5 * n, 5 * n + 5))) for n in range(20)
        ]
    )
    thread.start()
    run_all(FORK, serve, [(client, collection, mark, closes) for mark in marks])
    thread.join(WAIT)
    check_marks(collection, ["before-", "master-", *marks], 100)
    collection.upsert(**rows("master-", range(100)))  # the master goes on, whoever closed
    for mark in marks:
        own = client.get_collection(f"own-of-{mark}x", embedding_function=None)
        assert own.get(include=[])["ids"] == [f"{mark}{n}" for n in range(3)]
    client.close()
    client, collection = open_shared(tmp_path)
    check_marks(collection, ["before-", "master-", *marks], 100)
    client.close()


def have_children(client: Any, collection: Any, mark: str, depth: int) -> None:
    collection.add(**rows(mark, range(10)))
    if depth > 0:
        run_all(FORK, have_children, [(client, collection, f"{mark}{n}-", depth - 1) for n in "ab"])
    collection.upsert(**rows(mark, range(10)))


def test_children_of_children(shared: tuple[Any, Any]) -> None:
    client, collection = shared
    have_children(client, collection, "r-", 2)
    marks = ["r-", *(f"r-{a}-" for a in "ab"), *(f"r-{a}-{b}-" for a in "ab" for b in "ab")]
    check_marks(collection, marks, 10)


def test_a_child_that_ends_like_a_program(tmp_path: Path) -> None:
    """It runs the exit handlers of what it inherited, which close databases; the parent goes on."""
    program = f"""
        import os, sys
        import vexfs_chroma
        client = vexfs_chroma.PersistentClient({str(tmp_path)!r})
        collection = client.get_or_create_collection("shared", embedding_function=None)
        def add(name):
            collection.add(ids=[name], embeddings=[[1.0, 2.0]])
        add("before")
        child = os.fork()
        if child == 0:
            add("child")
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        for n in range(3):
            add(f"after-{{n}}")
        print(collection.get(include=[])["ids"])
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    expected = ["before", "child", "after-0", "after-1", "after-2"]
    assert (done.stdout.strip(), done.returncode) == (str(expected), 0), done.stderr
    client, collection = open_shared(tmp_path)
    assert collection.get(include=[])["ids"] == expected
    client.close()


# ---- forks amid other threads' calls -------------------------------------------------------------


def use_everything(client: Any, collection: Any, name: str) -> None:
    """What takes any lock of ours: the catalog, opening, writing, reading, closing."""
    assert collection.count() >= 0
    own = client.get_or_create_collection(name, embedding_function=None)
    own.add(ids=["a"], embeddings=[[1.0, 2.0]])
    client.get_collection(name, embedding_function=None)
    client.list_collections()
    client.delete_collection(name)


def write_catalog(client: Any, inside: threading.Event, go_on: threading.Event) -> None:
    with client._server._catalog._file.writing():
        inside.set()
        go_on.wait(0.5)


def open_collections(client: Any, inside: threading.Event, go_on: threading.Event) -> None:
    with client._server._opening:
        inside.set()
        go_on.wait(WAIT)


@pytest.mark.parametrize("hold", [write_catalog, open_collections])
def test_fork_while_a_thread_has_a_lock(shared: tuple[Any, Any], hold: Callable[..., None]) -> None:
    client, collection = shared
    inside, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(client, inside, go_on))
    thread.start()
    assert inside.wait(WAIT)
    try:
        run_all(FORK, use_everything, [(client, collection, "child")])
    finally:
        go_on.set()
        thread.join(WAIT)
    use_everything(client, collection, "parent")


def test_forks_while_threads_do_everything(shared: tuple[Any, Any], tmp_path: Path) -> None:
    client, collection = shared
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                use_everything(client, collection, f"thread-{number}")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(25):
            run_all(FORK, use_everything, [(client, collection, f"child-{number}")])
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT)
    assert not failures
    assert [found.name for found in client.list_collections()] == ["shared"]
    assert [path.name for path in (tmp_path / "collections").iterdir()] == [collection.id.hex]
