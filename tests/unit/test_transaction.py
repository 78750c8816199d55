"""client.transaction(): several writes, of which all happen or none does."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError, NotFoundError

import vexfs_chroma

SEED = 20261130


@pytest.fixture(params=["memory", "disk"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        client: Any = vexfs_chroma.EphemeralClient()
    else:
        client = vexfs_chroma.PersistentClient(tmp_path / "database")
    yield client
    for collection in client.list_collections():
        client.delete_collection(collection.name)
    client.close()


def made(client: Any, *names: str) -> list[Any]:
    return [client.create_collection(name, embedding_function=None) for name in names]


def held(collection: Any) -> dict[str, Any]:
    got = collection.get(include=["embeddings", "documents", "metadatas"])
    rows = zip(got["embeddings"], got["documents"], got["metadatas"], strict=True)
    return {
        id: (vector.tolist(), document, metadata)
        for id, (vector, document, metadata) in zip(got["ids"], rows, strict=True)
    }


def test_all_of_it(client: Any, tmp_path: Path) -> None:
    first, second = made(client, "first", "second")
    second.add(ids=["old"], embeddings=[[1, 1]], metadatas=[{"of": "a"}])
    vectors = np.array([[1, 2], [3, 4]], dtype=np.float32)
    with client.transaction():
        second.delete(where={"of": "a"})
        first.add(ids=["a", "b"], embeddings=vectors, documents=["x", "y"])
        vectors[:] = 0  # which is the caller's
        second.add(ids=["old"], embeddings=[[5, 6]], metadatas=[{"of": "b"}])
        first.update(ids=["b"], metadatas=[{"n": 1}])
        first.delete(ids=["a"])
        assert (first.count(), list(held(second))) == (0, ["old"])
        assert held(second)["old"][2] == {"of": "a"}
    assert held(first) == {"b": ([3, 4], "y", {"n": 1})}
    assert held(second) == {"old": ([5, 6], None, {"of": "b"})}
    assert not (tmp_path / "database" / "transaction").exists()


@pytest.mark.parametrize("wrong", ["raised", "dimension", "nan", "filter", "gone"])
def test_or_nothing(client: Any, wrong: str) -> None:
    first, second, third = made(client, "first", "second", "third")
    for collection in (first, second):
        collection.add(ids=["a"], embeddings=[[1, 2]], documents=["before"])
    before = held(first), held(second)
    raises: Any = {"raised": KeyError, "gone": NotFoundError}.get(wrong, Exception)

    def write() -> None:
        with client.transaction():
            first.upsert(ids=["a", "b"], embeddings=[[9, 9], [8, 8]], documents=["after", None])
            second.delete(ids=["a"])
            second.add(ids=["a"], embeddings=[[7, 7]])
            if wrong == "raised":
                raise KeyError
            if wrong == "dimension":
                second.add(ids=["c"], embeddings=[[1, 2, 3]])
            elif wrong == "nan":
                second.add(ids=["c"], embeddings=[[1, float("nan")]])
            elif wrong == "filter":
                second.delete(where_document={"$contains": "before"})
            else:
                third.add(ids=["c"], embeddings=[[1, 2]])
                client.delete_collection("third")

    with pytest.raises(raises):
        write()
    assert (held(first), held(second)) == before
    first.add(ids=["d"], embeddings=[[3, 3]])  # and writing goes on
    assert first.count() == 2


def test_they_do_not_nest(client: Any) -> None:
    (first,) = made(client, "first")
    with client.transaction():
        first.add(ids=["a"], embeddings=[[1, 2]])
        with pytest.raises(InvalidArgumentError, match="do not nest"), client.transaction():
            pass
    assert first.count() == 1


def test_other_threads_have_no_part_in_it(client: Any) -> None:
    (first,) = made(client, "first")
    with pytest.raises(KeyError), client.transaction():
        first.add(ids=["a"], embeddings=[[1, 2]])
        thread = threading.Thread(target=first.add, args=(["b"], [[3.0, 4.0]]))
        thread.start()
        thread.join()
        raise KeyError
    assert list(held(first)) == ["b"]


def test_what_would_fail_anyway_is_told_at_once(client: Any) -> None:
    """The same as outside of a transaction, and the others are carried out."""
    first, second = made(client, "first", "second")
    first.add(ids=["a"], embeddings=[[1, 2]])
    wrong: list[dict[str, Any]] = [
        {"ids": ["b"], "embeddings": [[1, 2, 3]]},
        {"ids": ["b"], "embeddings": [[1, float("inf")]]},
        {"ids": ["b" * 70_000], "embeddings": [[1, 2]]},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidArgumentError) as outside:
            first.add(**arguments)
        with client.transaction():
            second.upsert(ids=["a"], embeddings=[[1, 2]])
            with pytest.raises(InvalidArgumentError) as inside:
                first.add(**arguments)
            with pytest.raises(InvalidArgumentError, match="dimension of 2, got 3"):
                second.add(ids=["b"], embeddings=[[1, 2, 3]])
        assert str(inside.value) == str(outside.value)
    assert (list(held(first)), list(held(second))) == (["a"], ["a"])


def test_what_comes_late_is_refused(client: Any) -> None:
    """A task that was begun in the block has its context: it must not write what was undone."""
    (first,) = made(client, "first")
    contexts = []
    with pytest.raises(KeyError), client.transaction():
        contexts.append(contextvars.copy_context())
        raise KeyError
    with client.transaction():
        contexts.append(contextvars.copy_context())
    for context in contexts:
        for write in (lambda: first.add(["b"], [[1.0, 2.0]]), lambda: first.delete(["b"])):
            with pytest.raises(InvalidArgumentError, match="has ended"):
                context.run(write)
        assert context.run(first.count) == 0

    def again() -> None:
        with client.transaction():
            first.upsert(ids=["c"], embeddings=[[1, 2]])

    contexts[0].run(again)
    assert list(held(first)) == ["c"]


def test_records_that_expire(client: Any) -> None:
    first = client.create_collection(
        "first", embedding_function=None, metadata={"vexfs:ttl": "until"}
    )
    first.add(ids=["old", "a"], embeddings=[[1, 1], [2, 2]], metadatas=[{"until": 1}, {"k": 1}])
    with client.transaction():
        first.upsert(ids=["old"], embeddings=[[3, 3]])
        first.delete(ids=["a"])
    assert held(first) == {"old": ([3, 3], None, None)}


def test_random_transactions_against_a_model(client: Any) -> None:
    choose = random.Random(SEED)
    collections = made(client, "one", "two", "three")
    model: list[dict[str, Any]] = [{} for _ in collections]

    def step(collection: Any, rows: dict[str, Any]) -> None:
        ids = choose.sample([f"r{n}" for n in range(8)], choose.randint(1, 3))
        op = choose.choice(["add", "update", "upsert", "delete"])
        if op == "delete":
            collection.delete(ids=ids)
            for id in ids:
                rows.pop(id, None)
            return
        vectors = [[float(choose.randint(0, 9)), 1.0] for _ in ids]
        documents = [choose.choice([None, f"d{choose.randint(0, 9)}"]) for _ in ids]
        metadatas = [
            choose.choice([None, {choose.choice("pq"): choose.randint(0, 9)}]) for _ in ids
        ]
        getattr(collection, op)(
            ids=ids, embeddings=vectors, documents=documents, metadatas=metadatas
        )
        for id, vector, document, metadata in zip(ids, vectors, documents, metadatas, strict=True):
            there = rows.get(id)
            if (there is None and op == "update") or (there is not None and op == "add"):
                continue
            old = there or ([], None, None)
            merged = {**(old[2] or {}), **(metadata or {})} or None
            rows[id] = (vector, document if document is not None else old[1], merged)

    for turn in range(120):
        trial = [dict(rows) for rows in model]
        fails = choose.random() < 0.2
        try:
            with client.transaction():
                for _ in range(choose.randint(0, 8)):
                    at = choose.randrange(len(collections))
                    step(collections[at], trial[at])
                if fails:
                    raise KeyError
            model = trial
        except KeyError:
            assert fails
        assert [held(collection) for collection in collections] == model, (SEED, turn)


def test_in_tasks(tmp_path: Path) -> None:
    async def run() -> None:
        with vexfs_chroma.PersistentClient(tmp_path) as client:
            (first,) = made(client, "first")

            async def one(n: int) -> None:
                with client.transaction():
                    first.add(ids=[f"a{n}"], embeddings=[[1, 2]])
                    await asyncio.sleep(0)
                    assert first.count() == 0 or n > 0
                    first.add(ids=[f"b{n}"], embeddings=[[1, 2]])

            await asyncio.gather(*(one(n) for n in range(4)))
            assert first.count() == 8

    asyncio.run(run())
