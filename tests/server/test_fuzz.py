"""Bodies that nobody should send: the answer is a 4xx that the document knows, and nothing breaks.

The seed is printed by pytest with the failing case, and each case depends on it alone.
"""

from __future__ import annotations

import http.client
import json
import random
import uuid
from typing import Any

import pytest
from server_kit import API, DEFAULT, Server
from test_auth import BODIES

import vexfs_chroma
from vexfs_chroma._api_pages import read_order
from vexfs_chroma._server import _openapi
from vexfs_chroma._server._routes import ROUTES, Route


def page_token() -> str:
    """The token of a second page, by the key n."""
    with vexfs_chroma.EphemeralClient() as client:
        made = client.create_collection("pages", embedding_function=None)
        made.add(ids=["a", "b"], embeddings=[[1], [2]], metadatas=[{"n": 1}, {"n": 2.5}])
        token = made.get(order_by="n", descending=True, limit=1)["next"]
        client.delete_collection("pages")
    return str(token)


WITH_BODY = [route for route in ROUTES if route.body is not None]
F32 = "AACAPwAAAEAAAEBA"
SOME_ID = str(uuid.UUID(int=1))
"""Stands for the collection's in a body."""
VALID: dict[str, Any] = {
    **BODIES,
    "add": {
        "ids": ["x", "y"],
        "embeddings": [[1, 2, 3], [4, 5, 6]],
        "documents": ["d", None],
        "uris": [None, "u"],
        "metadatas": [{"a": 1, "b": [1.5, 2.5], "c": "x", "d": True}, None],
    },
    "upsert": {"ids": ["x", "y"], "embeddings": [F32, F32], "metadatas": [None, {"n": 2}]},
    "update": {"ids": ["x", "y"], "embeddings": [None, F32], "metadatas": [{"a": None}, None]},
    "delete": {"ids": ["zz"], "where": {"a": {"$gt": 7}}, "limit": 3},
    "get": {
        "ids": ["x"],
        "where": {"$and": [{"a": {"$in": [1, 2]}}, {"b": {"$contains": 1.5}}]},
        "where_document": {"$or": [{"$regex": "d+"}, {"$not_contains": "x"}]},
        "limit": 5,
        "offset": 1,
        "include": ["embeddings", "documents"],
    },
    "query": {
        "query_embeddings": [[1, 2, 3]],
        "n_results": 3,
        "where": {"a": 1},
        "include": ["distances", "metadatas"],
    },
    "search": {
        "searches": [
            {
                "filter": {"a": 1},
                "rank": {"$knn": {"query": [1.0, 2.0, 3.0], "limit": 5}},
                "limit": {"limit": 3, "offset": 0},
                "select": {"keys": ["#document", "#score"]},
                "group_by": {},
            }
        ]
    },
    "create_collection": {
        "name": "made",
        "metadata": {"a": 1},
        "configuration": {"hnsw": {"space": "l2", "ef_search": 10}},
        "schema": None,
        "get_or_create": True,
    },
    "count_matching": {"where": {"n": {"$exists": True}}, "where_document": {"$icontains": "O"}},
    "distinct": {"key": "n", "where": {"n": {"$gte": 1}}, "limit": 5},
    "facets": {"keys": ["n", "m"], "where_document": {"$contains": "o"}, "limit": 5},
    "min_max": {"key": "n", "where": {"n": {"$in": [1, 2]}}},
    "metadata_keys": {"where": {"$or": [{"n": 1}, {"n": {"$ne": 2}}]}},
    "get_ordered": {
        "ids": ["a", "b"],
        "where": {"n": {"$lt": 9}},
        "limit": 1,
        "offset": 0,
        "include": ["embeddings"],
        "order_by": "n",
        "descending": True,
        "after": page_token(),
    },
    "query_exactly": {"query_embeddings": [[1, 2, 3]], "n_results": 3, "exact": True},
    "explain": {"query_embeddings": [[1, 2, 3]], "n_results": 3, "where": {"n": 1}},
    "recall_check": {"n": 2, "k": 3, "seed": 4},
    "tuning": {"queries": 2, "k": 3, "ef": [0, 10], "seed": 4},
    "reindex": {"space": "cosine", "max_neighbors": 8, "ef_construction": 50},
    "build_index": {"flush": False},
    "transaction": {
        "steps": [
            {"collection_id": SOME_ID, "operation": operation, "body": body}
            for operation, body in (
                ("delete", {"where": {"n": {"$gt": 7}}, "limit": 3}),
                ("add", {"ids": ["x"], "embeddings": [[1, 2, 3]], "metadatas": [{"a": 1}]}),
                ("update", {"ids": ["x"], "embeddings": [None], "documents": ["d"]}),
            )
        ]
    },
    "update_collection": {
        "new_metadata": {"a": None, "b": 1},
        "new_configuration": {"hnsw": {"ef_search": 20}},
    },
}
STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**31,
    2**32,
    2**63,
    2**64,
    -(2**70),
    1e39,
    1e308,
    "",
    "x",
    "\u0000",
    "\U0001f600" * 100,
    "x" * 5000,
    [],
    [[]],
    [None],
    [[[1]]],
    {},
    {"": ""},
    {"a": {}},
    {"$and": []},
    {"$and": [{}]},
    {"$or": 5},
    {"$x": 1},
    {"#type": "sparse_vector", "indices": [1, 1], "values": [1]},
    {"indices": [3, 1], "values": [1.0, float("1e30")]},
    {"indices": [], "values": []},
    {"__class__": "os.system", "__reduce__": ["x"]},
    "../../etc/passwd",
    "${jndi:ldap://x}",
]
RAW = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"01",
    b"0x1",
    b"'x'",
    b"\xff\xfe",
    b'"\xc3"',
    b'"\\ud800"',
    b'"\\u0000"',
    b"[" * 3000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"$and":[' * 100 + b'{"a":1}' + b"]}" * 100,
    b"9" * 400,
    b"0." + b"1" * 4000,
    b"/* */ 1",
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside."""
    found = [path]
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        found += places(child, (*path, key))
    return found


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with something else at one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def cases(route: Route, rng: random.Random, n: int) -> list[bytes]:
    valid = VALID[route.name]
    text = json.dumps(valid).encode()
    made = [text, b"", b"null", b"[]", b'"x"', text + b"x", text + text, b"\xef\xbb\xbf" + text]
    made += [text[:i] for i in rng.sample(range(len(text)), min(20, len(text)))]
    spots = places(valid)
    for _ in range(n):
        path = rng.choice(spots)
        marked = json.dumps(changed(valid, path, "@@"))
        new = json.dumps(rng.choice(STRANGE)).encode() if rng.random() < 0.6 else rng.choice(RAW)
        made.append(marked.encode().replace(b'"@@"', new))
    for _ in range(n // 3):
        broken = bytearray(text)
        for _ in range(rng.randrange(1, 4)):
            if broken:
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        made.append(bytes(broken))
    return made


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
def test_strange_bodies(server: Server, collection: str, route: Route, seed: int) -> None:
    fuzz(server, collection, route, seed, 80)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
def test_many_strange_bodies(server: Server, collection: str, route: Route, seed: int) -> None:
    fuzz(server, collection, route, seed, 500)


def fuzz(server: Server, collection: str, route: Route, seed: int, n: int) -> None:
    rng = random.Random(f"{route.name} {seed}")
    known = {route.status, *_openapi.statuses(route)} - {500}
    path = route.template.format(
        tenant="default_tenant",
        database="default_database",
        collection_id=collection.rpartition("/")[2],
        function="x",
    )
    begun = server.memory()
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    for case in cases(route, rng, n):
        body = case.replace(SOME_ID.encode(), collection.rpartition("/")[2].encode())
        connection.request(route.method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        assert response.status in known, (seed, response.status, text, body)
        if response.status >= 400:
            error = json.loads(text)
            assert set(error) - {"step"} == {"error", "message"}, (seed, body)
            assert "Traceback" not in error["message"]
        if route.name == "update_tenant" and response.status == 200:
            continue
    connection.close()
    assert server.memory() - begun < 100 * 2**20
    assert server.call("GET", API + "/heartbeat").status == 200
    assert server.call("GET", DEFAULT + "/collections").status == 200


@pytest.mark.parametrize("seed", [1])
def test_places_in_an_order_that_nobody_gave(server: Server, collection: str, seed: int) -> None:
    """What the token of a page has for the engine, changed: refused, or some place in the order."""
    rng = random.Random(seed)
    order = read_order(None, False, VALID["get_ordered"]["after"])
    path = collection + "/vexfs/get"
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    statuses = set()
    for _ in range(300):
        place = bytearray(order.after or b"")
        for _ in range(rng.randrange(1, 4)):
            at, how = rng.randrange(len(place) + 1), rng.randrange(3)
            place[at : at + how % 2] = rng.randbytes(rng.randrange(1, 4)) if how < 2 else b""
        order.after = bytes(place[: rng.choice([len(place), rng.randrange(len(place) + 1)])])
        body = json.dumps({"after": order.token(), "limit": 2})
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        assert response.status in (200, 400), (seed, response.status, text, body)
        statuses.add(response.status)
        order = read_order(None, False, VALID["get_ordered"]["after"])
    connection.close()
    assert statuses == {200, 400}


NINES = b"9" * 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", b'{"name": "made", "metadata": {"a": %b}}'),
        ("", b'{"name": "made", "configuration": {"hnsw": {"ef_search": %b}}}'),
        ("", b'{"name": "made", "configuration": {"hnsw": {"resize_factor": %b}}}'),
        ("", b'{"name": "made", "configuration": {"spann": {"write_nprobe": %b}}}'),
        ("", b'{"name": "made", "configuration": {"embedding_function": {"type": %b}}}'),
        ("", b'{"name": "made", "schema": {"defaults": %b, "keys": {}}}'),
        ("/{}/add", b'{"ids": ["x"], "embeddings": [[1, 2, 3]], "metadatas": [{"a": %b}]}'),
        ("/{}/add", b'{"ids": ["x"], "embeddings": [[1, 2, 3]], "metadatas": [{"a": [%b]}]}'),
        ("/{}/add", b'{"ids": ["x"], "embeddings": [[1, 2, %b]]}'),
        ("/{}/update", b'{"ids": ["a"], "metadatas": [{"a": %b}]}'),
        ("/{}/get", b'{"where": {"a": %b}}'),
        ("/{}/get", b'{"where": {"a": {"$in": [%b]}}}'),
        ("/{}/get", b'{"limit": %b}'),
        ("/{}/query", b'{"query_embeddings": [[1, 2, %b]]}'),
        ("/{}/query", b'{"query_embeddings": [[1, 2, 3]], "n_results": %b}'),
        ("/{}/search", b'{"searches": [{"limit": {"limit": %b}}]}'),
    ],
)
def test_integers_of_hundreds_of_digits(
    server: Server, collection: str, path: str, body: bytes
) -> None:
    target = DEFAULT + "/collections" + path.format(collection.rpartition("/")[2])
    answer = server.call("POST", target, body % NINES)
    assert answer.status in (400, 422, 501), answer


def test_configuration_of_embedding_functions_is_data(server: Server) -> None:
    """It is kept and given back, whatever it names; nothing is imported, let alone run."""
    for function in (
        {"type": "known", "name": "os.system", "config": {"command": "touch /tmp/never"}},
        {"type": "known", "name": "chromadb.utils.embedding_functions", "config": {}},
        {"type": "known", "name": "default", "config": {"model": "../../../x"}},
    ):
        body = {
            "name": "configured",
            "get_or_create": False,
            "configuration": {"embedding_function": function},
        }
        made = server.call("POST", DEFAULT + "/collections", body)
        assert made.json["configuration_json"]["embedding_function"] == function
        path = f"{DEFAULT}/collections/{made.json['id']}"
        rows = {"ids": ["a"], "embeddings": [[1, 2]], "documents": ["x"]}
        assert server.call("POST", path + "/add", rows).status == 201
        assert server.call("POST", path + "/query", {"query_embeddings": [[1, 2]]}).status == 200
        assert server.call("DELETE", DEFAULT + "/collections/configured").status == 200
