"""AsyncClient: chromadb's asynchronous interface on a local database."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb import AsyncClientAPI, EmbeddingFunction
from chromadb.api.models.AsyncCollection import AsyncCollection as TheirCollection
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import (
    AsyncClient,
    AsyncCollection,
    AsyncLocalClient,
    LocalClient,
    LocalCollection,
)

NOT_CALLS = {
    "get_model",
    "clear_system_cache",
    "from_system",
    "get_chroma_cloud_api_key_from_clients",
}


def test_it_has_chromadbs_methods() -> None:
    for ours, theirs in ((AsyncLocalClient, AsyncClientAPI), (AsyncCollection, TheirCollection)):
        for name, method in inspect.getmembers(theirs, inspect.isfunction):
            if not name.startswith("_") and name not in NOT_CALLS:
                assert hasattr(ours, name), (ours, name)
                expected = inspect.iscoroutinefunction(method)
                assert inspect.iscoroutinefunction(getattr(ours, name)) == expected, name


def test_it_has_chromadbs_properties_with_their_types() -> None:
    found = inspect.getmembers(TheirCollection, lambda member: isinstance(member, property))
    names = [name for name, _ in found if not name.startswith("_")]
    assert {"id", "metadata", "schema", "configuration_json"} <= set(names)
    for name in names:
        ours = inspect.getattr_static(AsyncCollection, name)
        assert isinstance(ours, property), name
        assert ours.fget is not None
        assert ours.fget.__annotations__["return"] != "Any", name


@pytest.mark.parametrize(
    ("ours", "local"), [(AsyncLocalClient, LocalClient), (AsyncCollection, LocalCollection)]
)
def test_it_has_our_methods_with_their_arguments(ours: type, local: type) -> None:
    for name, method in inspect.getmembers(local, inspect.isfunction):
        if name.startswith("_") or name in NOT_CALLS:
            continue
        wrapped = getattr(ours, name)
        arguments = list(inspect.signature(method).parameters.values())
        assert list(inspect.signature(wrapped).parameters.values()) == arguments, name
        if wrapped.__doc__ != method.__doc__ and name != "close":  # what does more says so
            assert f"See {local.__name__}.{name}" in wrapped.__doc__, name


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_everything_once(tmp_path: Path, where: str) -> None:
    async def work() -> None:
        settings = vexfs_chroma.Settings(allow_reset=True, anonymized_telemetry=False)
        path = None if where == "memory" else tmp_path
        async with await AsyncClient(path, settings, threads=3) as client:
            await client.reset()
            notes = await client.create_collection("notes", embedding_function=None)
            await notes.add(
                ids=["a", "b", "c"],
                embeddings=np.eye(3, dtype=np.float32),
                documents=["one", "two", "three"],
            )
            await notes.upsert(ids=["c"], embeddings=[[0, 0, 2]], metadatas=[{"n": 1}])
            await notes.update(ids=["a"], embeddings=[[1, 0, 0]], documents=["first"])
            assert await notes.count() == 3
            assert (await notes.get(ids=["a"]))["documents"] == ["first"]
            found = await notes.query(query_embeddings=[[0, 0, 2]], n_results=1)
            assert found["ids"] == [["c"]]
            assert len((await notes.peek(2))["ids"]) == 2
            fork = await notes.fork("copy")
            assert isinstance(fork, AsyncCollection)
            assert await fork.delete(ids=["a"]) == {"deleted": 1}
            assert (await notes.count(), await fork.count(), await fork.fork_count()) == (3, 2, 1)
            await notes.modify(name="renamed", metadata={"k": 1})
            again = await client.get_collection("renamed", embedding_function=None)
            assert (again.name, again.metadata, again.id) == ("renamed", {"k": 1}, notes.id)
            assert (again.tenant, again.database) == (client.tenant, client.database)
            assert [c.name for c in await client.list_collections()] == ["renamed", "copy"]
            assert await client.count_collections() == 2
            assert (await notes.get_indexing_status()).total_ops == 3
            by_id = await client.get_collection_by_id(notes.id, embedding_function=None)
            assert by_id.name == "renamed"
            same = await client.get_or_create_collection("copy", embedding_function=None)
            assert same.id == fork.id
            assert [b["ids"] async for b in notes.iter_batches(2)] == [["a", "b"], ["c"]]
            assert (await notes.stats())["rows"] == 3  # ours, too
            assert (await client.stats()).rows >= 5
            for call in (
                fork.attach_function("record_counter", "f", "out"),
                fork.get_attached_function("f"),
                fork.detach_function("f"),
            ):
                with pytest.raises(NotImplementedError, match="Attached functions are only"):
                    await call
            await client.delete_collection("copy")
            with pytest.raises(NotFoundError):
                await fork.count()
            with pytest.raises(AttributeError, match="no attribute 'nothing'"):
                notes.nothing  # noqa: B018
            await client.reset()

    asyncio.run(work())


def test_the_event_loop_goes_on() -> None:
    """An embedding function that blocks holds up its own call alone, and not the loop."""
    started, go_on = threading.Event(), threading.Event()

    class Slow(EmbeddingFunction):
        def __init__(self) -> None:
            pass

        def __call__(self, input: Any) -> Any:
            started.set()
            assert go_on.wait(60)
            return [np.ones(2, np.float32) for _ in input]

    async def work() -> None:
        async with await AsyncClient(threads=2) as client:
            slow = await client.get_or_create_collection("slow", embedding_function=Slow())
            adding = asyncio.create_task(slow.add(ids=["a"], documents=["text"]))
            assert await asyncio.to_thread(started.wait, 60)
            assert await slow.count() == 0  # beside it, in the second thread
            go_on.set()
            await adding
            assert await slow.count() == 1
            await client.delete_collection("slow")

    asyncio.run(work())


def test_transactions() -> None:
    """All or none; tasks of their own have no part in it, and what comes late is refused."""

    async def work() -> None:
        async with await AsyncClient() as client:
            first = await client.create_collection("first", embedding_function=None)
            second = await client.create_collection("second", embedding_function=None)
            began, go_on = asyncio.Event(), asyncio.Event()

            async def outside() -> None:
                await began.wait()
                await first.add(ids=["outside"], embeddings=[[1, 2]])
                go_on.set()

            async def later() -> None:
                await ended.wait()
                await first.add(ids=["late"], embeddings=[[1, 2]])

            other, ended = asyncio.create_task(outside()), asyncio.Event()
            with pytest.raises(KeyError):
                async with client.transaction():
                    await first.add(ids=["a"], embeddings=[[1, 2]])
                    began.set()
                    await go_on.wait()
                    task = asyncio.create_task(later())
                    raise KeyError
            await other
            ended.set()
            with pytest.raises(InvalidArgumentError, match="has ended"):
                await task
            assert (await first.get())["ids"] == ["outside"]
            async with client.transaction():
                await asyncio.gather(
                    first.delete(ids=["outside"]), second.add(ids=["b"], embeddings=[[3, 4]])
                )
                assert (await first.count(), await second.count()) == (1, 0)
            assert (await first.count(), await second.count()) == (0, 1)
            for name in ("first", "second"):
                await client.delete_collection(name)

    asyncio.run(work())


def test_many_tasks_write_and_read(tmp_path: Path) -> None:
    async def work() -> None:
        async with await AsyncClient(tmp_path) as client:
            collection = await client.create_collection("tasks", embedding_function=None)

            async def write(n: int) -> None:
                await collection.add(
                    ids=[f"{n}-{i}" for i in range(20)], embeddings=[[n, 1.0]] * 20
                )
                assert len((await collection.get(ids=[f"{n}-0"]))["ids"]) == 1

            await asyncio.gather(*(write(n) for n in range(40)))
            assert await collection.count() == 800

    asyncio.run(work())


def test_closing_waits_and_ends_the_threads(tmp_path: Path) -> None:
    async def work() -> None:
        client = await AsyncClient(tmp_path)
        collection = await client.create_collection("closing", embedding_function=None)
        await collection.add(ids=["a"], embeddings=[[1.0]])
        await client.close()
        with pytest.raises(InternalError, match="closed"):
            await collection.count()

    asyncio.run(work())
    deadline = time.monotonic() + 30
    while any(t.name.startswith("vexfs-async") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        assert client.get_collection("closing", embedding_function=None).count() == 1


def test_mistakes(tmp_path: Path) -> None:
    async def work() -> None:
        for threads in (0, -1, True, "2"):
            with pytest.raises(InvalidArgumentError, match="threads must be an int"):
                await AsyncClient(tmp_path, threads=threads)
        with pytest.raises(TypeError, match="durability"):
            await AsyncClient(durability="full")  # in memory there is none
        async with await AsyncClient(tmp_path, durability="normal") as client:
            assert client.local._server.options.durability == "normal"

    asyncio.run(work())
