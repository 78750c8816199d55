"""What our collections can do beyond Chroma's, over HTTP: the same as in process.

Random calls, by seed, on a collection of a server and on one in memory with the same records; and
what a client is told by a server that has none of this.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import chromadb
import jsonschema
import numpy as np
import pytest
from chromadb import EmbeddingFunction
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.errors import ChromaError, NotFoundError
from server_kit import DEFAULT, Server, run_server
from test_fuzz import VALID

import vexfs_chroma
from vexfs_chroma import LocalCollection, NotOfferedError, RemoteClient, RemoteCollection
from vexfs_chroma._filters import has_ours, read_where
from vexfs_chroma._server._auth import hash_token
from vexfs_chroma._server._routes import ROUTES, Route

SEEDS = [int(seed) for seed in os.environ.get("VEXFS_REMOTE_SEEDS", "1 2 3").split()]
DIMENSION = 6
KEYS = ["n", "colour", "tags", "mixed", "when", "ключ"]
WORDS = ["red", "Blue", "grün", "", "x" * 50, "красный", "\U0001f600"]


@contextlib.contextmanager
def remote(server: Server, **arguments: Any) -> Iterator[RemoteClient]:
    with vexfs_chroma.HttpClient(host=server.host, port=server.port, **arguments) as client:
        yield client


def value(rng: random.Random) -> Any:
    return rng.choice(
        [
            rng.randrange(-3, 4),
            rng.choice([-0.5, 1.0, 2.0, 2.5, 1e300, float(2**53)]),
            rng.random() < 0.5,
            rng.choice(WORDS),
            [rng.randrange(3) for _ in range(rng.randrange(1, 4))],
            [rng.choice(WORDS) for _ in range(rng.randrange(1, 3))],
        ]
    )


def records(rng: random.Random, n: int) -> dict[str, Any]:
    metadatas = []
    for i in range(n):
        about = {key: value(rng) for key in rng.sample(KEYS, rng.randrange(len(KEYS)))}
        about["when"] = datetime(2026, 1 + i % 12, 1, tzinfo=timezone.utc)
        metadatas.append(about)
    generator = np.random.default_rng(rng.randrange(2**32))
    return {
        "ids": [f"id {i} {rng.choice(WORDS)}" for i in range(n)],
        "embeddings": generator.standard_normal((n, DIMENSION), dtype=np.float32),
        "documents": [f"Text {i} {rng.choice(WORDS)}" for i in range(n)],
        "metadatas": metadatas,
    }


def where(rng: random.Random, depth: int = 2) -> Any:
    if depth and rng.random() < 0.3:
        op = rng.choice(["$and", "$or"])
        return {op: [where(rng, depth - 1) for _ in range(rng.randrange(2, 4))]}
    key = rng.choice(KEYS)
    return rng.choice(
        [
            {key: {"$exists": rng.random() < 0.5}},
            {key: {"$in": [1, 2]}},
            {key: rng.choice([1, 2.5, True, "red"])},
            {key: {"$ne": "red"}},
            {key: {"$gte": rng.choice([-1, 1.5, "m"])}},
            {key: {"$istarts_with": "B"}},
            {key: {"$contains": 1}},
            {"when": {"$lt": datetime(2026, 6, 1, tzinfo=timezone.utc)}},
            {key: {"$bad": 1}},
            {"#document": {"$icontains": "TEXT 1"}},
        ]
    )


def where_document(rng: random.Random) -> Any:
    return rng.choice(
        [None, {"$contains": "ext 1"}, {"$icontains": "TEXT 2"}, {"$not_contains": "7"}, {"$x": ""}]
    )


def plain(found: Any) -> Any:
    """A result with the type of every value, and float32 as such: JSON has their shortest form."""
    if isinstance(found, np.ndarray):
        return found.astype(np.float32).tolist()
    if isinstance(found, dict):
        arrays = {
            key: np.asarray(inner)
            for key, inner in found.items()
            if key == "distances" and inner is not None
        }
        return {key: plain(inner) for key, inner in {**found, **arrays}.items()}
    if isinstance(found, list | tuple):
        return [type(found).__name__, *map(plain, found)]
    return type(found).__name__, found


def attempt(call: Callable[[], Any]) -> Any:
    try:
        return plain(call())
    except Exception as error:
        return type(error), str(error)


def one_call(rng: random.Random) -> tuple[str, Callable[[Any], Any]]:
    """A call by its text, and how to make it."""
    filters = {
        "where": where(rng) if rng.random() < 0.6 else None,
        "where_document": where_document(rng),
    }
    key, most = rng.choice([*KEYS, "nowhere"]), rng.choice([None, 0, 1, 3, 100])
    keys = rng.sample(KEYS, 2)
    order = {
        "order_by": rng.choice([*KEYS, "#insertion", "#bad"]),
        "descending": rng.random() < 0.5,
        "limit": rng.randrange(1, 9),
        "offset": rng.choice([None, 0, 2]),
        "include": rng.choice([["metadatas"], ["documents", "embeddings", "uris"], []]),
    }
    vector = np.random.default_rng(rng.randrange(2**32)).standard_normal(DIMENSION)
    k = rng.randrange(1, 6)
    n, space = rng.randrange(9), rng.choice(["l2", "ip", "cosine", "l1"])
    query = {"query_embeddings": vector, "n_results": k, "exact": True}

    def walk(collection: Any) -> list[Any]:
        pages, after = [], None
        while True:
            page = collection.get(**order, **filters, after=after)
            pages.append(page)
            after = page["next"]
            if after is None:
                return pages

    def batches(collection: Any) -> list[Any]:
        return list(collection.iter_batches(7, **filters))

    def plan(collection: Any) -> list[Any]:
        told = collection.explain(**query, **filters)
        return [told.strategy, told.reason, told.queries, told.rows, told.read_rows, told.ef]

    def reindexed(collection: Any) -> Any:
        collection.reindex(space=space, max_neighbors=8)
        return collection.configuration["hnsw"]["space"]

    calls: dict[str, Callable[[Any], Any]] = {
        f"count({filters})": lambda c: c.count(**filters),
        f"distinct({key!r}, {filters}, {most})": lambda c: c.distinct(key, **filters, limit=most),
        f"facets({keys}, {filters}, {most})": lambda c: c.facets(keys, **filters, limit=most),
        f"min_max({key!r}, {filters})": lambda c: c.min_max(key, **filters),
        f"keys({filters})": lambda c: c.keys(**filters),
        f"pages({order}, {filters})": walk,
        f"iter_batches({filters})": batches,
        f"query(exact, {k}, {filters})": lambda c: c.query(**query, **filters),
        f"query({k}, {filters})": lambda c: c.query(query_embeddings=vector, **filters),
        f"get({filters})": lambda c: c.get(**filters),
        f"explain({k}, {filters})": plan,
        f"recall_check({n}, {k})": lambda c: c.recall_check(n, k, seed=3),
        f"reindex({space!r})": reindexed,
        "delete()": lambda c: c.delete(where={"n": {"$exists": True}}, limit=1),
        "stats": lambda c: [c.stats()[name] for name in ("rows", "dimension", "space")],
        "wait": lambda c: c.wait_for_index(10),
        "unload": lambda c: c.unload(),
    }
    text = rng.choice(list(calls))
    return text, calls[text]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_as_in_process(server: Server, seed: int) -> None:
    rng = random.Random(seed)
    rows = records(rng, 40)
    with remote(server) as client, vexfs_chroma.EphemeralClient() as local:
        name = f"of-seed-{seed}"
        there = client.create_collection(name, embedding_function=None)
        here = local.create_collection(name, embedding_function=None)
        try:
            for collection in (there, here):
                collection.add(**rows)
            assert plain(there.get(include=["embeddings", "metadatas", "documents"])) == plain(
                here.get(include=["embeddings", "metadatas", "documents"])
            )
            for i in range(120):
                text, call = one_call(rng)
                told, expected = attempt(lambda: call(there)), attempt(lambda: call(here))  # noqa: B023
                assert told == expected, (seed, i, text)
        finally:
            local.delete_collection(name)


def test_classes(server: Server) -> None:
    with remote(server) as client:
        assert type(client) is RemoteClient
        assert isinstance(client, chromadb.api.client.Client)
        made = client.create_collection("abc", embedding_function=None)
        for found in (
            made,
            client.get_collection("abc"),
            client.get_collection_by_id(made.id),
            client.get_or_create_collection("abc"),
            made.fork("forked"),
            *client.list_collections(),
        ):
            assert type(found) is RemoteCollection
            assert isinstance(found, LocalCollection)
            assert isinstance(found, chromadb.Collection)
        assert repr(made) == "Collection(name=abc)"


def test_functions_are_not_offered(server: Server) -> None:
    with remote(server) as client:
        made = client.create_collection("abc", embedding_function=None)
        for call in (
            lambda: made.attach_function("record_counter", "f", "out"),
            lambda: made.detach_function("f"),
        ):
            with pytest.raises(NotOfferedError, match="attached functions are not supported by th"):
                call()
        with pytest.raises(NotFoundError, match="Attached function not found"):
            made.get_attached_function("f")
        client.delete_collection("abc")


def test_a_collection_that_is_gone(server: Server) -> None:
    with remote(server) as client:
        made = client.create_collection("abc", embedding_function=None)
        made.add(ids=["a"], embeddings=[[1, 2]])
        client.delete_collection("abc")
        for call in CALLS.values():
            with pytest.raises(NotFoundError, match="does not exist"):
                call(made)


CALLS: dict[str, Callable[[Any], Any]] = {
    "count(where=...)": lambda c: c.count(where={"n": 1}),
    "distinct()": lambda c: c.distinct("n"),
    "facets()": lambda c: c.facets("n"),
    "min_max()": lambda c: c.min_max("n"),
    "keys()": lambda c: c.keys(),
    "get(order_by=...)": lambda c: c.get(order_by="n"),
    "query(exact=True)": lambda c: c.query(query_embeddings=[[1, 2]], exact=True),
    "explain()": lambda c: c.explain(query_embeddings=[[1, 2]]),
    "recall_check()": lambda c: c.recall_check(1),
    "stats()": lambda c: c.stats(),
    "memory()": lambda c: c.memory(),
    "reindex()": lambda c: c.reindex(space="ip"),
    "wait_for_index()": lambda c: c.wait_for_index(1),
    "expire()": lambda c: c.expire(),
    "unload()": lambda c: c.unload(),
}


@pytest.mark.parametrize("proxy", [False, True])
def test_what_chromas_server_does_not_offer(
    chroma: Server, monkeypatch: pytest.MonkeyPatch, proxy: bool
) -> None:
    if proxy:  # then httpx does the work
        monkeypatch.setenv("HTTP_PROXY", chroma.url)
        monkeypatch.setenv("NO_PROXY", "")
    with remote(chroma) as client:
        made = client.create_collection("abc", embedding_function=None)
        made.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"n": 1}], documents=["x"])
        for what, call in CALLS.items():
            with pytest.raises(NotOfferedError) as caught:
                call(made)
            assert str(caught.value) == (
                "this server is Chroma's (or an older release of vexfs_chroma): "
                f"it does not offer {what}"
            )
            assert isinstance(caught.value, ChromaError | NotImplementedError)
        for filters in (
            {"where": {"n": {"$exists": True}}},
            {"where": {"$and": [{"n": 1}, {"n": {"$starts_with": "x"}}]}},
            {"where_document": {"$icontains": "X"}},
        ):
            for call in (made.get, made.delete, lambda made=made, **f: made.query([[1, 2]], **f)):
                with pytest.raises(NotOfferedError, match="does not offer conditions beyond"):
                    call(**filters)
        with pytest.raises(NotOfferedError, match="does not offer records that expire"):
            made.add(ids=["t"], embeddings=[[1, 2]], ttl=5)
        # What is Chroma's works, and its errors are its own.
        assert made.count() == len(list(made.iter_batches())) == 1
        assert made.query(query_embeddings=[[1, 2]])["ids"] == [["a"]]
        assert made.get(where={"n": {"$gt": 0}})["ids"] == ["a"]
        with pytest.raises(ValueError, match="Expected operand value to be an int or a float"):
            made.get(where={"n": {"$gt": "text"}})
        client.delete_collection("abc")
        with pytest.raises(NotFoundError):
            made.count()


def test_which_filters_are_ours() -> None:
    when = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for where_clause, expected in (
        ({"a": 1}, False),
        ({"a": when}, False),  # a text for Chroma, too
        ({"$and": [{"a": {"$eq": when}}, {"b": {"$in": [1]}}]}, False),
        ({"$or": [{"a": 1}, {"$and": [{"b": 1}, {"c": {"$exists": False}}]}]}, True),
        ({"a": {"$gt": "text"}}, True),
        ({"a": {"$gt": 1}}, False),
    ):
        assert has_ours(*read_where(where_clause, lambda _: True)) is expected, where_clause


def test_text_ranges_go_by_what_a_key_has(server: Server) -> None:
    with remote(server) as client:
        made = client.create_collection("abc", embedding_function=None)
        assert made.get(where={"new": {"$gt": "a"}})["ids"] == []
        made.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], metadatas=[{"s": "x"}, {"n": 1}])
        assert made.get(where={"s": {"$gt": "a"}})["ids"] == ["a"]
        with pytest.raises(ValueError, match="Expected operand value to be an int or a float"):
            made.get(where={"n": {"$gt": "a"}})


# -- a graph ---------------------------------------------------------------------------------------


def test_a_graph_from_afar(tmp_path: Path) -> None:
    rows = 1500
    vectors = np.random.default_rng(5).standard_normal((rows, 8), dtype=np.float32)
    with (
        run_server(tmp_path, variables={"VEXFS_INDEX_ROWS": "1000"}) as server,
        remote(server) as client,
    ):
        made = client.create_collection("abc", embedding_function=None)
        made.add(ids=[str(i) for i in range(rows)], embeddings=vectors)
        made.wait_for_index(60)
        assert made.get_indexing_status().op_indexing_progress == 1.0
        assert made.stats()["index"]["unindexed_rows"] == 0
        assert made.explain(query_embeddings=vectors[:2], n_results=3).strategy == "graph"
        report = made.recall_check(20, 5)
        assert (report.queries, report.expected, report.answered_by) == (20, 100, "graph")
        assert report.found_themselves == 20
        assert made.memory().links > 0

        made.reindex(space="cosine", max_neighbors=12)
        assert made.configuration["hnsw"]["space"] == "cosine"
        assert made.configuration["hnsw"]["max_neighbors"] == 12
        found = made.query(query_embeddings=vectors[:1] * 7, n_results=1)
        assert found["ids"] == [["0"]]
        assert found["distances"][0][0] < 1e-5
        made.wait_for_index()
        plan = made.explain(query_embeddings=vectors[:1], n_results=3)
        assert plan.strategy == "graph"
        assert client.get_collection("abc").configuration["hnsw"]["space"] == "cosine"


class Lengths(EmbeddingFunction[Any]):
    """Two numbers."""

    def __init__(self) -> None:
        pass

    def __call__(self, input: Any) -> Any:
        return [np.array([len(text), 1], np.float32) for text in input]


def test_reembedding_beside_the_server(tmp_path: Path) -> None:
    with run_server(tmp_path) as server, remote(server) as client:
        made = client.create_collection("abc", embedding_function=None)
        made.add(ids=["a", "b"], embeddings=[[1, 2, 3], [4, 5, 6]], documents=["one", "three"])
        with pytest.raises(NotOfferedError, match="open its directory with PersistentClient"):
            made.reembed(Lengths())
        with vexfs_chroma.PersistentClient(tmp_path / "data") as local:
            assert local.get_collection("abc", embedding_function=None).reembed(Lengths()) == 2
        found = made.get(include=["embeddings", "documents"])
        np.testing.assert_array_equal(found["embeddings"], [[3, 1], [5, 1]])
        assert found["documents"] == ["one", "three"]
        made.add(ids=["c"], embeddings=[[7, 1]])
        assert made.query(query_embeddings=[[7, 1]], n_results=1)["ids"] == [["c"]]


def test_records_that_expire(server: Server) -> None:
    with remote(server) as client:
        about = {"vexfs:ttl": "until"}
        made = client.create_collection("abc", embedding_function=None, metadata=about)
        made.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"until": 1}])
        made.add(ids=["b"], embeddings=[[1, 2]], ttl=1000)
        assert made.get()["ids"] == ["b"]
        assert made.count(where={"until": {"$gt": 0}}) == made.count() == 1
        assert (made.expire(), made.expire()) == (1, 0)


def test_waiting_has_an_end() -> None:
    """Against a server that never gets done."""

    class Never:
        def __init__(self) -> None:
            self.asked: list[Any] = []

        def ask_extension(self, what: str, method: str, path: str, body: Any) -> Any:
            self.asked.append(body)
            return {"done": False}

    from vexfs_chroma._remote import RemoteDatabase

    api = Never()
    database = RemoteDatabase(api, "t", "d")  # type: ignore[arg-type]
    with pytest.raises(TimeoutError, match=r"after 0\.1 seconds"):
        database.wait_for_index(uuid.uuid4(), 0.1)
    assert api.asked[0] == {"flush": True}
    assert all(body == {"flush": False} for body in api.asked[1:])


# -- limits ----------------------------------------------------------------------------------------

LIMITS = (
    "[limits]\nresults = 20\nkeys = 3\nrecall_queries = 4\nfilter_depth = 3\nregex_chars = 10\n"
)


def test_limits(tmp_path: Path) -> None:
    deep = {"$and": [{"$or": [{"$and": [{"$or": [{"n": 1}, {"n": 2}]}, {"n": 1}]}, {"n": 1}]}]}
    with run_server(tmp_path, config=LIMITS) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "abc"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        rows = {
            "ids": [str(i) for i in range(30)],
            "embeddings": [[i, 1] for i in range(30)],
            "metadatas": [{"n": i, "m": i % 20} for i in range(30)],
        }
        assert server.call("POST", path + "/add", rows).status == 201
        for name, body, text in (
            ("distinct", {"key": "n"}, "there are more than 20 values of a key"),
            ("distinct", {"key": "n", "limit": 21}, "21 values for each of 1 keys"),
            ("facets", {"keys": ["m", "k"]}, "there are more than 10 values of a key"),
            ("facets", {"keys": ["m", "k"], "limit": 11}, "11 values for each of 2 keys"),
            ("facets", {"keys": ["1", "2", "3", "4"]}, "4 metadata keys, more than"),
            ("recall_check", {"n": 5}, "5 records to search for, more than"),
            ("recall_check", {"n": 4, "k": 6}, "4 queries for 6 results each"),
            ("explain", {"query_embeddings": [[1, 2]], "n_results": 21}, "1 queries for 21"),
            ("query", {"query_embeddings": [[1, 2]], "n_results": 21}, "1 queries for 21"),
            ("count", {"where": deep}, "nested deeper than 3"),
            ("get", {"where": deep}, "nested deeper than 3"),
            ("keys", {"where_document": {"$regex": "x" * 11}}, "11 characters"),
        ):
            answer = server.call("POST", f"{path}/vexfs/{name}", body)
            assert (answer.status, answer.error) == (400, "InvalidArgumentError"), (name, answer)
            assert text in answer.json["message"]
        for name, body, found in (
            ("distinct", {"key": "m"}, {"values": list(range(20))}),
            ("distinct", {"key": "n", "limit": 2}, {"values": [0, 1]}),
            ("facets", {"keys": ["k", "k", "k", "k"]}, {"facets": {"k": []}}),
        ):
            answer = server.call("POST", f"{path}/vexfs/{name}", body)
            assert (answer.status, answer.json) == (200, found)
        assert server.call("POST", path + "/vexfs/recall_check", {"n": 4, "k": 5}).status == 200


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("count", b"{", 400),
        ("count", {"where": {}}, 400),
        ("count", {"where": {"n": {"$bad": 1}}}, 400),
        ("distinct", {}, 422),
        ("distinct", {"key": 1}, 422),
        ("distinct", {"key": "n", "limit": -1}, 422),
        ("distinct", {"key": "#document"}, 400),
        ("facets", {"keys": "n"}, 422),
        ("facets", {"keys": ["n", "$n"]}, 400),
        ("min_max", {"key": "#id"}, 400),
        ("min_max", {"key": None}, 422),
        ("get", {"order_by": "#bad"}, 400),
        ("get", {"order_by": ""}, 400),
        ("get", {"after": "AAAA"}, 400),
        ("get", {"descending": 1}, 422),
        ("explain", {"query_embeddings": []}, 400),
        ("explain", {"query_embeddings": [[1, 2]], "exact": 1}, 422),
        ("query", {"query_embeddings": [[1, 2]]}, 400),
        ("recall_check", {"n": 0}, 400),
        ("recall_check", {"k": True}, 422),
        ("recall_check", {"seed": -1}, 400),
        ("reindex", {"space": "l1"}, 400),
        ("reindex", {"max_neighbors": 1}, 400),
        ("reindex", {"ef_construction": 1.5}, 422),
        ("build_index", {"flush": "yes"}, 422),
    ],
)
def test_bodies_that_mean_nothing(
    server: Server, collection: str, name: str, body: Any, status: int
) -> None:
    answer = server.call("POST", f"{collection}/vexfs/{name}", body)
    assert answer.status == status, answer
    assert set(answer.json) == {"error", "message"}


EXTENSIONS = [route for route in ROUTES if "/vexfs/" in route.template and route.is_by_id]


@pytest.mark.parametrize("route", EXTENSIONS, ids=lambda route: route.name)
def test_answers_are_as_documented(server: Server, collection: str, route: Route) -> None:
    document = server.call("GET", "/openapi.json").json
    operation = document["paths"][route.template][route.method.lower()]
    path = f"{collection}/vexfs/{route.template.rpartition('/')[2]}"
    body = VALID.get(route.name)
    answer = server.call(route.method, path, body)
    assert answer.status == route.status == 200, answer
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json, {**schema, "components": document["components"]})
    if route.body is not None:  # what is sent is documented, too
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(body, {**schema, "components": document["components"]})


# -- rights: every route is in test_auth.py --------------------------------------------------------


def test_memory_tells_of_the_process_to_nobody_who_is_limited(tmp_path: Path) -> None:
    config = "".join(
        f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash_token(name)}"\nrole = "read"\n{scope}'
        for name, scope in (("whole", ""), ("part", 'tenant = "default_tenant"\n'))
    )
    config += f'[[auth.tokens]]\nname = "root"\nhash = "{hash_token("root")}"\nrole = "admin"\n'
    with run_server(tmp_path, config=config) as server:
        with remote(server, headers={"X-Chroma-Token": "root"}) as client:
            client.create_collection("abc", embedding_function=None)
        with remote(server, headers={"X-Chroma-Token": "whole"}) as client:
            assert client.get_collection("abc").memory().total > 0
        with remote(server, headers={"X-Chroma-Token": "part"}) as client:
            limited = client.get_collection("abc")
            assert limited.stats()["rows"] == 0
            with pytest.raises(ChromaError, match="limited to a tenant"):
                limited.memory()
            with pytest.raises(ChromaError, match="may only read"):
                limited.reindex(space="ip")


# -- connections -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = (
        f'[[auth.tokens]]\nname = "part"\nhash = "{hash_token("part")}"\nrole = "read"\n'
        'tenant = "default_tenant"\n'
    )
    with run_server(tmp_path_factory.mktemp("guarded"), config=config) as server:
        yield server


@pytest.mark.parametrize("wrong", ["token", "none", "name", "tenant", "port", "verify", "header"])
def test_a_client_that_is_not_made_leaves_nothing(guarded: Server, wrong: str) -> None:
    """No connection is left to the garbage collector, and no System to chromadb's cache."""
    arguments: dict[str, Any] = {"port": guarded.port, "headers": {"X-Chroma-Token": "part"}}
    arguments |= {
        "token": {"headers": {"X-Chroma-Token": "guessed"}},
        "none": {"headers": None},
        "name": {"database": "missing"},
        "tenant": {"tenant": "other"},
        "port": {"port": 1},
        "verify": {
            "ssl": True,
            "settings": chromadb.Settings(chroma_server_ssl_verify="/nowhere/none.pem"),
        },
        "header": {"headers": {"X-Chroma-Token": "a\r\nb: c"}},
    }[wrong]
    known = dict(SharedSystemClient._identifier_to_system)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(Exception) as caught:
            vexfs_chroma.HttpClient(host=guarded.host, **arguments)
        caught.value.__traceback__ = None
        del caught
        gc.collect()
    assert not [str(one.message) for one in told if issubclass(one.category, ResourceWarning)]
    assert known == SharedSystemClient._identifier_to_system


def test_a_client_has_one_system(guarded: Server) -> None:
    """Shared with the admin client within it, and with no other client of the same settings."""
    settings = chromadb.Settings()
    arguments = {"port": guarded.port, "headers": {"X-Chroma-Token": "part"}, "settings": settings}
    known = dict(SharedSystemClient._identifier_to_system)
    with (
        vexfs_chroma.HttpClient(host=guarded.host, **arguments) as client,
        vexfs_chroma.HttpClient(host=guarded.host, **arguments) as other,
    ):
        assert client._system is client._admin_client._system  # type: ignore[attr-defined]
        assert client._system is not other._system
        assert len(SharedSystemClient._identifier_to_system) == len(known) + 2
    assert known == SharedSystemClient._identifier_to_system
    assert settings == chromadb.Settings()
