"""Records that expire: nobody sees one from its time on, whoever asks in whatever way."""

from __future__ import annotations

import multiprocessing
import random
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import ChromaError, InternalError, InvalidArgumentError
from chromadb.execution.expression import Knn, Search

import vexfs_chroma
from vexfs_chroma import _expiry

KEY = "expires_at"
EXPIRING = {"vexfs:ttl": KEY}


class Clock:
    """The time, which tests set."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_expiry, "now", clock)
    return clock


@pytest.fixture
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_expiry.ExpiringCollection, "_sweep_sometimes", lambda self: None)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with vexfs_chroma.PersistentClient(tmp_path / "database") as made:
        yield made


def vector(i: int) -> list[float]:
    return [float(i), 1.0]


def put(collection: Any, ids: str, times: list[float | None], op: str = "add") -> None:
    getattr(collection, op)(
        ids=list(ids),
        embeddings=[vector(ord(id)) for id in ids],
        documents=[f"text {id}" for id in ids],
        metadatas=[
            {"n": ord(id)} | ({} if t is None else {KEY: t})
            for id, t in zip(ids, times, strict=True)
        ],
    )


@pytest.mark.usefixtures("no_sweeps")
def test_every_way_of_reading_leaves_out_what_has_expired(client: Any, clock: Clock) -> None:
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    put(collection, "abcd", [clock.time + 10, clock.time + 20.5, None, clock.time + 30])

    def seen() -> dict[str, Any]:
        near = collection.query(query_embeddings=[vector(0)], n_results=9)
        search = Search().rank(Knn(vector(0), limit=9)).limit(9)
        return {
            "count": collection.count(),
            "counted": collection.count(where={"n": {"$gt": 0}}),
            "get": collection.get()["ids"],
            "by id": collection.get(ids=["a", "b", "c", "d"])["ids"],
            "where": collection.get(where={"n": {"$gte": 97}})["ids"],
            "text": collection.get(where_document={"$contains": "text"})["ids"],
            "ordered": collection.get(order_by="n", limit=9)["ids"],
            "peek": collection.peek()["ids"],
            "query": sorted(near["ids"][0]),
            "search": sorted(collection.search(search)["ids"][0]),
            "distinct": [chr(n) for n in collection.distinct("n")],
            "batches": [id for batch in collection.iter_batches(2) for id in batch["ids"]],
        }

    for later, living in ((0, "abcd"), (10, "bcd"), (10.5, "cd"), (9.5, "c")):
        clock.time += later
        everything = seen()
        assert everything.pop("count") == everything.pop("counted") == len(living)
        assert everything == {way: list(living) for way in everything}, (
            f"after {later} more seconds"
        )
    assert collection.stats()["rows"] == 4
    assert collection.expire() == 3
    assert collection.expire() == 0
    assert collection.stats()["rows"] == 1


@pytest.mark.usefixtures("no_sweeps")
def test_writes_meet_expired_records_as_none(client: Any, clock: Clock) -> None:
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    put(collection, "abc", [clock.time + 1] * 3)
    clock.time += 1
    put(collection, "a", [None])  # would be left alone if it were there
    collection.update(ids=["b"], metadatas=[{"n": 0, KEY: clock.time + 100}])  # would come back
    collection.upsert(ids=["c"], embeddings=[[5.0, 5.0]])
    assert collection.get(include=["documents", "metadatas"])["ids"] == ["a", "c"]
    assert collection.get(ids=["c"])["documents"] == [None]  # nothing of the old one
    put(collection, "d", [clock.time + 1])
    clock.time += 1
    assert collection.delete(where={"n": {"$gt": 0}})["deleted"] == 1  # a


def test_a_moved_time_counts(client: Any, clock: Clock) -> None:
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    put(collection, "ab", [clock.time + 1] * 2)
    collection.update(ids=["a"], metadatas=[{KEY: clock.time + 5}])
    collection.update(ids=["b"], metadatas=[{KEY: None}])
    clock.time += 2
    assert collection.get()["ids"] == ["a", "b"]
    clock.time += 3
    assert collection.get()["ids"] == ["b"]


def test_ttl_of_a_call_and_of_the_collection(client: Any, clock: Clock) -> None:
    metadata = EXPIRING | {"vexfs:ttl_seconds": 50}
    collection = client.create_collection("records", metadata=metadata, embedding_function=None)
    collection.add(ids="a", embeddings=[1.0, 2.0], ttl=np.float32(7))
    collection.add(ids=["b"], embeddings=[[1.0, 2.0]], metadatas={"x": 1}, ttl=timedelta(minutes=1))
    collection.add(ids=["c", "d"], embeddings=[[1.0, 2.0]] * 2, metadatas=[{KEY: 5e9}, None])
    times = [m[KEY] - clock.time for m in collection.get()["metadatas"]]
    assert times == [7, 60, 5e9 - clock.time, 50]
    collection.update(ids="a", metadatas={"x": 2})  # leaves the time alone
    clock.time += 6
    collection.upsert(ids="a", embeddings=[1.0, 2.0])  # begins a new life
    clock.time += 46
    assert collection.get()["ids"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "ttl", [0, 10**400, -1, float("nan"), float("inf"), True, "1", timedelta(0)]
)
def test_a_ttl_is_a_time_to_come(client: Any, ttl: Any) -> None:
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    with pytest.raises(InvalidArgumentError, match="ttl must be"):
        collection.add(ids="a", embeddings=[1.0], ttl=ttl)
    assert collection.count() == 0


def test_what_is_no_time_is_refused(client: Any) -> None:
    plain = client.create_collection("plain", embedding_function=None)
    with pytest.raises(InvalidArgumentError, match="do not expire; create it with metadata="):
        plain.add(ids="a", embeddings=[1.0], ttl=5)
    plain.add(ids="a", embeddings=[1.0], metadatas={KEY: "tomorrow"})
    with pytest.raises(InvalidArgumentError, match="that are no numbers"):
        plain.modify(metadata=EXPIRING)
    hidden = {"vexfs:ttl": "chroma:document"}
    for wrong in ({"vexfs:ttl": ""}, {"vexfs:ttl": 5}, {"vexfs:ttl_seconds": 5}, hidden):
        with pytest.raises(InvalidArgumentError, match="vexfs:ttl must be the name"):
            client.create_collection("wrong", metadata=wrong)
    with pytest.raises(InvalidArgumentError, match="vexfs:ttl_seconds must be a number above 0"):
        client.create_collection("wrong", metadata=EXPIRING | {"vexfs:ttl_seconds": 0})
    expiring = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    for value in ("2030-01-01", True, [1, 2], datetime(2030, 1, 1, tzinfo=timezone.utc)):
        with pytest.raises(InvalidArgumentError, match="must be a number of seconds"):
            expiring.add(ids="a", embeddings=[1.0], metadatas={KEY: value})
    assert expiring.count() == 0


def test_modify_turns_it_on_and_off(client: Any, clock: Clock) -> None:
    collection = client.create_collection("records", embedding_function=None)
    put(collection, "ab", [clock.time - 1, None])
    assert collection.count() == 2
    assert collection.expire() == 0
    collection.modify(metadata={"about": "no expiry"})
    assert collection.count() == 2
    collection.modify(metadata=EXPIRING)
    assert collection.get()["ids"] == ["b"]


@pytest.mark.usefixtures("no_sweeps")
def test_forks_and_reopened_collections_expire(tmp_path: Path, clock: Clock) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
        put(collection, "ab", [clock.time + 1, None])
        collection.fork("fork")
    clock.time += 1
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True) as client:
        assert client.get_collection("records").count() == 1
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        for name in ("records", "fork"):
            assert client.get_collection(name).get()["ids"] == ["b"]
        client.vacuum()
        assert client.get_collection("records").stats()["rows"] == 1


def test_the_background_deletes_what_expired(
    client: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Semaphore(0)
    sweep = _expiry.ExpiringCollection._sweep
    monkeypatch.setattr(
        _expiry.ExpiringCollection, "_sweep", lambda self: (sweep(self), done.release())
    )
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    put(collection, "ab", [clock.time + 1, None])
    assert done.acquire(timeout=60)  # the first write looks, too
    clock.time += 1
    monkeypatch.setattr(_expiry, "SWEEP_SECONDS", 0.0)
    client._server._collections[collection.id].engine._next_sweep = 0.0
    assert collection.count() == 1
    assert done.acquire(timeout=60)
    assert collection.stats()["rows"] == 1


def test_scores_of_words_do_not_count_what_has_expired(client: Any, clock: Clock) -> None:
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    put(collection, "ab", [None, None])
    texts = ["tea tea tea", "coffee pot"]
    collection.update(ids=["a", "b"], embeddings=[vector(0)] * 2, documents=texts)
    search = Search().rank(vexfs_chroma.Bm25("tea coffee")).select("#score").limit(9)
    before = collection.search(search)
    n = 50
    collection.add(
        ids=[f"x{i}" for i in range(n)],
        embeddings=[vector(i) for i in range(n)],
        documents=["tea pot time with milk and honey"] * n,
        ttl=5,
    )
    assert collection.search(search)["scores"] != before["scores"]
    clock.time += 5
    after = collection.search(search)
    assert (after["ids"], after["scores"]) == (before["ids"], before["scores"])


def test_what_is_imported_keeps_its_times(tmp_path: Path, clock: Clock) -> None:
    metadata = EXPIRING | {"vexfs:ttl_seconds": 2}
    with vexfs_chroma.PersistentClient(tmp_path / "from") as client:
        collection = client.create_collection("records", metadata=metadata, embedding_function=None)
        put(collection, "ab", [None, clock.time + 9])
        collection.update(ids=["a"], metadatas=[{KEY: None}])  # stays
        expected = collection.get()
    vexfs_chroma.export_jsonl(tmp_path / "from", tmp_path / "lines")
    vexfs_chroma.import_files(tmp_path / "lines", tmp_path / "to")
    with vexfs_chroma.PersistentClient(tmp_path / "to") as client:
        assert client.get_collection("records").get() == expected
        clock.time += 9
        assert client.get_collection("records").get()["ids"] == ["a"]


def test_mistakes_beside_a_ttl_are_told_as_without_one(client: Any) -> None:
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    for wrong in (
        {"ids": None}, {"ids": 5}, {"ids": ("a",)}, {"ids": iter(["a"])},
        {"ids": ["a"], "metadatas": []}, {"ids": ["a"], "metadatas": [1]},
    ):  # fmt: skip
        with pytest.raises(Exception) as plain:
            collection.add(embeddings=[[1.0]], **wrong)
        with pytest.raises(type(plain.value)) as with_ttl:
            collection.add(embeddings=[[1.0]], ttl=5, **wrong)
        assert str(with_ttl.value) == str(plain.value)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"vexfs:tll": "at"}, "has no key 'vexfs:tll': is 'vexfs:ttl' meant"),
        ({"vexfs:ttl": "at", "vexfs:ttl_second": 5}, "is 'vexfs:ttl_seconds' meant"),
        ({"vexfs:Nested": True}, "is 'vexfs:nested' meant"),
        (
            {"vexfs:qqqqqqqqqqqqqqq": 1},
            "vexfs:ttl, vexfs:ttl_seconds, vexfs:nested, vexfs:empty_lists are those of vexfs",
        ),
        ({"vexfs:nested": "no"}, "vexfs:nested must be True or False, got 'no'"),
        ({"vexfs:nested": 1}, "vexfs:nested must be True or False, got 1"),
    ],
)
def test_what_is_mistyped_in_our_keys_is_told(client: Any, metadata: Any, text: str) -> None:
    made = client.create_collection("records", embedding_function=None)
    for call in (client.create_collection, client.get_or_create_collection):
        with pytest.raises(InvalidArgumentError, match=re.escape(text)):
            call("wrong", metadata=metadata)
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        made.modify(metadata=metadata)
    assert [collection.name for collection in client.list_collections()] == ["records"]


def _count_in_child(path: str, time: float) -> tuple[int, int]:
    _expiry.now = lambda: time
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.get_collection("records")
        return collection.count(), len(collection.get(where={"n": {"$gt": 0}})["ids"])


def test_processes_see_what_others_wrote(tmp_path: Path, clock: Clock) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
        put(collection, "abc", [clock.time + 1, clock.time + 3, None])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_count_in_child, (str(tmp_path), clock.time + 1)) == (2, 2)
            put(collection, "d", [clock.time + 2])
            assert pool.apply(_count_in_child, (str(tmp_path), clock.time + 2)) == (2, 2)


def told(ask: Callable[[], Any]) -> Any:
    """What a call gives, or how it fails."""
    try:
        return ask()
    except ChromaError as error:
        return type(error), str(error)


@pytest.mark.usefixtures("no_sweeps")
def test_ids_that_a_query_names_and_that_have_expired(client: Any, clock: Clock) -> None:
    """As those that were never there: an error without a filter, nothing with one."""
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    put(collection, "abc", [None, clock.time + 1, None])
    clock.time += 1
    plain = client.create_collection("plain", embedding_function=None)
    put(plain, "ac", [None, None])
    for ids in ("a", "ca", "aa", "b", "ab", "x", "ax", ""):
        for more in (
            {},
            {"where": {"n": {"$gt": 0}}},
            {"where_document": {"$contains": "text"}},
            {"query_embeddings": [[1.0, 2.0, 3.0]]},  # the error of the dimension comes first
        ):
            asked: dict[str, Any] = {"query_embeddings": [vector(0)], "ids": list(ids), **more}
            one, other = (
                told(partial(of.query, include=["documents"], **asked))
                for of in (collection, plain)
            )
            assert one == other, (ids, more)
    with pytest.raises(InternalError, match="Error finding id"):
        collection.query(query_embeddings=[vector(0)], ids=["b"])
    with pytest.raises(InternalError, match="Error finding id"):
        collection.explain(query_embeddings=[vector(0)], ids=["a", "b"])


@pytest.mark.parametrize("seed", range(8))
def test_random_writes_agree_with_a_model(client: Any, clock: Clock, seed: int) -> None:
    """A dict of id -> (time or None), without what has expired, after every step.

    What queries that name ids give is compared with a collection that has the living alone.
    """
    rng = random.Random(seed)
    collection = client.create_collection("records", metadata=EXPIRING, embedding_function=None)
    plain = client.create_collection("plain", embedding_function=None)
    for one in (collection, plain):  # both have a dimension from the beginning
        put(one, "z", [None])
        one.delete(ids=["z"])
    model: dict[str, float | None] = {}
    for _ in range(60):
        clock.time += rng.choice([0, 0, 0.25, 1, 4])
        model = {id: t for id, t in model.items() if t is None or t > clock.time}
        ids = "".join(rng.sample("abcdefghij", rng.randint(1, 4)))
        times = [rng.choice([None, clock.time + rng.randint(-2, 8)]) for _ in ids]
        match rng.choice(["add", "upsert", "update", "delete", "where", "expire"]):
            case "delete":
                collection.delete(ids=list(ids))
                model = {id: t for id, t in model.items() if id not in ids}
            case "where":
                limit = rng.randint(97, 106)
                doomed = {id for id in model if ord(id) < limit}
                got = collection.delete(where={"n": {"$lt": limit}})
                assert got["deleted"] == len(doomed)
                model = {id: t for id, t in model.items() if id not in doomed}
            case "expire":
                collection.expire()
            case op:
                put(collection, ids, times, op)
                for id, time in zip(ids, times, strict=True):
                    if op == "update" and (id not in model or time is None):
                        continue  # None is no change
                    if op == "upsert" and id in model and time is None:
                        continue
                    if op != "add" or id not in model:
                        model[id] = time
        living = sorted(id for id, t in model.items() if t is None or t > clock.time)
        assert sorted(collection.get()["ids"]) == living, f"seed {seed}"
        assert collection.count() == len(living), f"seed {seed}"
        found = collection.query(query_embeddings=np.array([vector(0)]), n_results=20)
        assert found["ids"][0] == living, f"seed {seed}"  # nearer to 0, the earlier its letter
        plain.delete(ids=list("abcdefghij"))
        if living:
            put(plain, "".join(living), [None] * len(living), "upsert")
        named = rng.sample("abcdefghijx", rng.randint(1, 3))
        for more in ({}, {"where": {"n": {"$gte": 0}}}):
            asked = {
                "query_embeddings": [vector(0)],
                "ids": named,
                "include": ["documents"],
                **more,
            }
            assert told(partial(collection.query, **asked)) == told(
                partial(plain.query, **asked)
            ), f"seed {seed}: {named}"
