"""Every route, by the same requests to Chroma's server and to ours: status, error, body, headers.

Texts of errors in a body are the parser's own and are compared by status and name; all others are
compared as they are.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from server_kit import API, DEFAULT, Answer, Server

TENANT = API + "/tenants/default_tenant"
NO_ID = "00000000-0000-0000-0000-000000000000"
F32 = "AACAPwAAAEAAAEBA"  # [1, 2, 3]


def indexed(value_type: str, index: str, config: Any) -> Any:
    """What a schema says of a key with one index."""
    return {value_type: {index: {"enabled": True, "config": config}}}


# {C}: the path of the collection "first"; {ID}: its id.  One sequence, in this order.
CALLS: list[tuple[Any, ...]] = [
    ("GET", API),
    ("GET", API + "/heartbeat"),
    ("HEAD", API + "/heartbeat"),
    ("GET", API + "/heartbeat/"),
    ("GET", API + "/version"),
    ("GET", API + "/healthcheck"),
    ("GET", API + "/auth/identity"),
    ("GET", "/nothing"),
    ("GET", "/api/v1/heartbeat"),
    ("POST", API + "/heartbeat", {}),
    ("OPTIONS", API + "/heartbeat"),
    ("GET", API + "/reset"),
    # tenants
    ("POST", API + "/tenants", {"name": "acme"}),
    ("POST", API + "/tenants", {"name": "acme"}),
    ("POST", API + "/tenants", {}),
    ("POST", API + "/tenants", {"name": 5}),
    ("POST", API + "/tenants", {"name": None}),
    ("POST", API + "/tenants", b"{"),
    ("POST", API + "/tenants", b""),
    ("POST", API + "/tenants", b"\xff{"),
    ("POST", API + "/tenants", b'{"name":"\xff\xfeabc"}'),
    ("POST", API + "/tenants", b'{"name":"a\\ud800bc"}'),
    ("POST", API + "/tenants", b"[" * 5000),
    ("POST", API + "/tenants", b'{"name":"text"}', {"content-type": "text/plain"}),
    ("GET", API + "/tenants/acme"),
    ("GET", API + "/tenants/nobody"),
    ("GET", API + "/tenants/no%20body"),
    ("GET", API + "/tenants/%ff"),
    ("PATCH", API + "/tenants/acme", {"resource_name": "r"}),
    ("PATCH", API + "/tenants/acme", {}),
    ("PUT", API + "/tenants/acme", {}),
    # databases
    ("GET", API + "/tenants/acme/databases"),
    ("POST", API + "/tenants/acme/databases", {"name": "books"}),
    ("POST", API + "/tenants/acme/databases", {"name": "books"}),
    ("POST", API + "/tenants/acme/databases", {"name": "b"}),
    ("POST", API + "/tenants/acme/databases", {"name": "b/b b"}),
    ("POST", API + "/tenants/acme/databases", {"name": "b..b"}),
    ("POST", API + "/tenants/acme/databases", {"name": "1.2.3.4"}),
    ("POST", API + "/tenants/acme/databases", {}),
    ("GET", API + "/tenants/acme/databases?limit=1&offset=0"),
    ("GET", API + "/tenants/acme/databases?limit=0"),
    ("GET", API + "/tenants/acme/databases?limit=-1"),
    ("GET", API + "/tenants/acme/databases?limit=x"),
    ("GET", API + "/tenants/acme/databases/books"),
    ("GET", API + "/tenants/acme/databases/none"),
    ("DELETE", API + "/tenants/acme/databases/none"),
    ("DELETE", API + "/tenants/acme/databases/books"),
    ("GET", DEFAULT),
    # collections
    ("POST", DEFAULT + "/collections", {"name": "first", "metadata": {"a": 1, "b": "x"}}),
    ("POST", DEFAULT + "/collections", {"name": "first"}),
    ("POST", DEFAULT + "/collections", {"name": "first", "get_or_create": True}),
    ("POST", DEFAULT + "/collections", {"name": "second", "get_or_create": "yes"}),
    ("POST", DEFAULT + "/collections", {"name": "s"}),
    ("POST", DEFAULT + "/collections", {"name": "second", "metadata": {}}),
    ("POST", DEFAULT + "/collections", {"name": "second", "metadata": {"a": None}}),
    ("POST", DEFAULT + "/collections", {"name": "second", "metadata": {"a": {"b": 1}}}),
    ("POST", DEFAULT + "/collections", {"name": "second", "metadata": {"#a": 1}}),
    ("POST", DEFAULT + "/collections", {"name": "second", "metadata": "x"}),
    ("POST", DEFAULT + "/collections", {"name": "second", "schema": 5}),
    ("POST", DEFAULT + "/collections", {"name": "second", "schema": {"x": 1}}),
    ("POST", DEFAULT + "/collections", {"name": "second", "configuration": {"hnsw": {"x": 1}}}),
    (
        "POST",
        DEFAULT + "/collections",
        {"name": "second", "configuration": {"hnsw": {"space": "x"}}},
    ),
    (
        "POST",
        DEFAULT + "/collections",
        {"name": "second", "configuration": {"hnsw": {"ef_construction": -1}}},
    ),
    (
        "POST",
        DEFAULT + "/collections",
        {"name": "second", "configuration": {"hnsw": {}, "spann": {"space": "l2"}}},
    ),
    ("POST", DEFAULT + "/collections", {"name": "second", "configuration": {"x": 1}}),
    (
        "POST",
        DEFAULT + "/collections",
        {
            "name": "third",
            "configuration": {
                "hnsw": {"space": "cosine"},
                "embedding_function": {"type": "known", "name": "evil", "config": {"x": 1}},
            },
        },
    ),
    *(
        ("POST", DEFAULT + "/collections", {"name": "second", "configuration": configuration})
        for configuration in (
            {"hnsw": {"space": 5}},
            {"embedding_function": {"type": "known", "name": 5, "config": {}}},
            {"embedding_function": {"type": "known", "name": 2**70, "config": {}}},
        )
    ),
    *(
        (
            "POST",
            DEFAULT + "/collections",
            {
                "name": f"numbers-{number % 97}",
                "configuration": {
                    "embedding_function": {
                        "type": "known",
                        "name": "x",
                        "config": {"a": [{"b": number}]},
                    }
                },
            },
        )
        for number in (2**63, 2**64, -(2**63) - 1)
    ),
    *(
        ("POST", DEFAULT + "/collections", {"name": "second", "schema": schema})
        for schema in (
            {"defaults": {}, "keys": {"k": indexed("int", "int_inverted_index", {"a": 2**70})}},
            {"defaults": {}, "keys": {"k": indexed("string", "string_inverted_index", {"": 1})}},
            {
                "defaults": {},
                "keys": {"k": indexed("sparse_vector", "sparse_vector_index", {"x": 1})},
            },
            {
                "defaults": {},
                "keys": {"k": indexed("sparse_vector", "sparse_vector_index", {"algorithm": "x"})},
            },
            {
                "defaults": {},
                "keys": {"#embedding": indexed("float_list", "vector_index", {"spcae": "l2"})},
            },
            {"defaults": {}, "keys": {}, "source_attached_function_id": "x"},
        )
    ),
    ("POST", TENANT + "/databases/nowhere/collections", {"name": "second"}),
    ("GET", TENANT + "/databases/nowhere/collections"),
    ("GET", DEFAULT + "/collections"),
    ("GET", DEFAULT + "/collections?limit=50&offset=0"),
    ("GET", DEFAULT + "/collections?limit=1&limit=2"),
    ("GET", DEFAULT + "/collections?offset=99999999999"),
    ("DELETE", DEFAULT + "/collections"),
    ("GET", DEFAULT + "/collections/"),
    ("GET", DEFAULT + "/collections/first"),
    ("GET", DEFAULT + "/collections/a%2Fb"),
    ("GET", "{C}"),
    ("GET", DEFAULT + "/collections/by-id/{ID}"),
    ("GET", DEFAULT + "/collections/by-id/no-uuid"),
    ("GET", DEFAULT + "/collections/by-id/" + NO_ID),
    ("GET", API + "/tenants/acme/databases/books/collections/by-id/{ID}"),
    ("GET", DEFAULT + "/collections_count"),
    ("PUT", "{C}", {"new_name": "renamed"}),
    ("PUT", "{C}", {"new_name": "x"}),
    ("PUT", "{C}", {"new_name": 5}),
    ("PUT", "{C}", {"new_name": "third"}),
    ("PUT", "{C}", {"new_metadata": {"z": 1}}),
    ("PUT", "{C}", {"new_metadata": {}}),
    ("PUT", "{C}", {"new_metadata": {"z": None}}),
    ("PUT", "{C}", {"new_configuration": {"hnsw": {"ef_search": 50}}}),
    ("PUT", "{C}", {"new_configuration": {"hnsw": {"ef_search": -5}}}),
    ("PUT", "{C}", {"new_configuration": {"hnsw": {"space": "ip"}}}),
    ("PUT", "{C}", {}),
    ("PUT", DEFAULT + "/collections/no-uuid", {}),
    ("PUT", DEFAULT + "/collections/" + NO_ID, {}),
    ("PATCH", "{C}", {}),
    # add
    (
        "POST",
        "{C}/add",
        {
            "ids": ["a", "b"],
            "embeddings": [[1, 2, 3], [4, 5, 6.5]],
            "documents": ["one", "two"],
            "metadatas": [{"k": 1}, None],
        },
    ),
    ("POST", "{C}/add", {"ids": ["a", "d", "d"], "embeddings": [[0, 0, 0]] * 2 + [[1, 1, 1]]}),
    ("POST", "{C}/get", {"include": ["embeddings", "documents", "metadatas", "uris"]}),
    ("POST", "{C}/add", {"ids": ["c"], "embeddings": [[1, 2]]}),
    ("POST", "{C}/add", {"ids": ["c", "e"], "embeddings": [[1, 2, 3]]}),
    ("POST", "{C}/add", {"ids": ["c"], "embeddings": [[1, 2, 3]], "documents": []}),
    ("POST", "{C}/add", {"ids": [], "embeddings": []}),
    ("POST", "{C}/add", {"ids": ["c"]}),
    ("POST", "{C}/add", {"ids": ["c"], "embeddings": None}),
    ("POST", "{C}/add", {"ids": ["c"], "embeddings": [F32]}),
    ("POST", "{C}/add", {"ids": ["e"], "embeddings": ["!!!"]}),
    ("POST", "{C}/add", {"ids": ["e"], "embeddings": ["AAA="]}),
    ("POST", "{C}/add", {"ids": ["e"], "embeddings": [["x"]]}),
    ("POST", "{C}/add", {"ids": ["e", "f"], "embeddings": [[1, 2, 3], F32]}),
    ("POST", "{C}/add", {"ids": [""], "embeddings": [[1, 2, 3]]}),
    ("POST", "{C}/add", {"ids": ["e"], "embeddings": [[]]}),
    ("POST", "{C}/add", {"ids": ["e", 1], "embeddings": [[1, 2, 3]] * 2}),
    ("POST", "{C}/add", b'{"ids":["e"],"embeddings":[[NaN,1,2]]}'),
    ("POST", "{C}/add", b'{"ids":["e"],"embeddings":[[1e400,1,2]]}'),
    ("POST", "{C}/add", b'{"ids":["e"],"embeddings":[[1e39,1,2]]}'),
    *(
        ("POST", "{C}/" + op, {"ids": ["e"], "embeddings": [[1, 2, 3]], "metadatas": [value]})
        for op in ("add", "update", "upsert")
        for value in (
            {"a": None},
            {"a": [1, 2]},
            {"a": [1, 2.5]},
            {"a": []},
            {"a": [[]]},
            {"a": {"b": 1}},
            {},
            {"#x": 1},
            {"": 1},
            {"a": [1, "x"]},
            {"a": 2**63},
            {"a": True, "b": "\u00e9", "c": 0.1, "d": 1e300},
            5,
        )
    ),
    ("POST", "{C}/get", {"ids": ["e"]}),
    ("POST", DEFAULT + "/collections/no-uuid/add", {"ids": ["a"], "embeddings": [[1]]}),
    ("POST", f"{DEFAULT}/collections/{NO_ID}/add", {"ids": ["a"], "embeddings": [[1]]}),
    ("GET", "{C}/add"),
    # upsert and update
    (
        "POST",
        "{C}/upsert",
        {"ids": ["a", "z"], "embeddings": [[1, 2, 3], [7, 8, 9]], "uris": ["u", None]},
    ),
    ("POST", "{C}/upsert", {"ids": ["y", "y"], "embeddings": [[1, 2, 3], [3, 2, 1]]}),
    ("POST", "{C}/upsert", {"ids": ["a"]}),
    ("POST", "{C}/update", {"ids": ["a", "none"], "embeddings": [[1, 1, 1], None]}),
    ("POST", "{C}/update", {"ids": ["a", "b"], "embeddings": [None, F32]}),
    ("POST", "{C}/update", {"ids": ["a", "a"], "embeddings": [[5, 6, 7], [7, 8, 9]]}),
    ("POST", "{C}/update", {"ids": ["a"], "documents": [None]}),
    ("POST", "{C}/update", {"ids": ["a"], "documents": ["x", "y"]}),
    ("POST", "{C}/update", {"ids": ["a"], "embeddings": [[1, 2]]}),
    ("POST", "{C}/update", {"ids": []}),
    ("POST", "{C}/update", {"ids": ["a"], "embeddings": []}),
    # what is refused because of a later record, or because of one given twice, has done nothing
    (
        "POST",
        "{C}/update",
        {
            "ids": ["a", "b"],
            "embeddings": [[9, 9, 9], None],
            "metadatas": [{"x": 1}, {"$x": 1}],
        },
    ),
    (
        "POST",
        "{C}/upsert",
        {"ids": ["a", "a"], "embeddings": [[9, 9, 9]] * 2, "metadatas": [{"x": 1}, {"$x": 1}]},
    ),
    ("POST", "{C}/update", {"ids": ["a", "a"], "documents": ["x", "y"], "embeddings": [None, [9]]}),
    ("POST", "{C}/upsert", {"ids": ["a", "a", ""], "embeddings": [[9, 9, 9]] * 3}),
    ("POST", "{C}/get", {"include": ["embeddings", "documents", "metadatas", "uris"]}),
    # metadata without a key
    *(
        (
            "POST",
            "{C}/" + op,
            {
                "ids": [op + "0", op + "1", op + "2", "b"],
                "embeddings": [[1, 2, 3]] * 4,
                "metadatas": [{}, {"a": []}, {}, {}],
                "uris": [None, None, "u", None],
            },
        )
        for op in ("add", "upsert", "update")
    ),
    ("POST", "{C}/get", {"include": ["metadatas", "uris"]}),
    # get
    ("POST", "{C}/get", {}),
    ("POST", "{C}/get", {"ids": ["a", "y"], "include": ["embeddings", "uris"]}),
    ("POST", "{C}/get", {"ids": ["a"], "include": []}),
    ("POST", "{C}/get", {"ids": ["a"], "include": ["distances", "documents", "documents"]}),
    ("POST", "{C}/get", {"include": ["x"]}),
    ("POST", "{C}/get", {"include": [1]}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "include": ["uris", None]}),
    ("POST", "{C}/get", {"include": None}),
    ("POST", "{C}/get", {"limit": 0}),
    ("POST", "{C}/get", {"limit": 2, "offset": 1}),
    ("POST", "{C}/get", {"limit": -1}),
    ("POST", "{C}/get", {"limit": 1.5}),
    ("POST", "{C}/get", {"limit": 2**32}),
    ("POST", "{C}/get", {"ids": []}),
    ("POST", "{C}/get", {"ids": "a"}),
    ("POST", "{C}/get", b""),
    ("POST", "{C}/get", b"[]"),
    ("POST", "{C}/get", b"null"),
    ("POST", "{C}/get", b'{"limit":1} x'),
    ("POST", "{C}/get", {"unknown": 1, "limit": 1}),
    ("POST", "{C}/get", {"where": {}}),
    ("POST", "{C}/get", {"where": "x"}),
    ("POST", "{C}/get", {"where": {"k": 1}}),
    ("POST", "{C}/get", {"where": {"k": {"$x": 1}}}),
    ("POST", "{C}/get", {"where": {"k": None}}),
    ("POST", "{C}/get", {"where": {"$and": []}, "limit": 1}),
    ("POST", "{C}/get", {"where_document": {}}),
    ("POST", "{C}/get", {"where_document": {"$contains": "two"}}),
    ("POST", "{C}/get", {"where_document": {"$regex": "t.o"}}),
    ("POST", "{C}/get", {"where_document": {"$regex": "("}}),
    *(
        ("POST", "{C}/get", {field: where, "include": []})
        for text in ("$contains", "$not_contains", "$regex", "$not_regex")
        for field, where in (("where_document", {text: ""}), ("where", {"#document": {text: ""}}))
    ),
    ("POST", "{C}/get", {"where": {"k": {"$in": [1.5, 1]}}}),
    ("POST", "{C}/get", {"where": {"k": {"$nin": [1.5, 1]}}}),
    ("POST", "{C}/get", {"where": {"k": {"$in": [1, 1.5]}}}),
    ("POST", "{C}/get/", {}),
    ("POST", "{C}/get", {}, {"content-type": "application/json; charset=utf-8"}),
    ("POST", "{C}/get", {}, {"content-type": "text/plain"}),
    # query
    ("POST", "{C}/query", {"query_embeddings": [[3, 2, 1.3]], "n_results": 1}),
    (
        "POST",
        "{C}/query",
        {
            "query_embeddings": [[0.1, 0, 0], [3, 2, 1.3]],
            "n_results": 1,
            "include": ["distances", "uris", "embeddings"],
        },
    ),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "n_results": 0}),
    ("POST", "{C}/query", {"query_embeddings": [], "n_results": 2}),
    ("POST", "{C}/query", {"query_embeddings": [], "include": ["uris"]}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "n_results": None, "include": []}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2]]}),
    ("POST", "{C}/query", {"query_embeddings": [F32]}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3], [1, 2]]}),
    ("POST", "{C}/query", {}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "n_results": -1}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "ids": []}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "ids": ["a", "none"]}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "ids": ["a"]}),
    ("POST", "{C}/query", {"query_embeddings": [[1, 2, 3]], "where": {"k": 1}}),
    ("POST", "{C}/query?limit=x", {"query_embeddings": [[1, 2, 3]], "n_results": 0}),
    # count
    ("GET", "{C}/count"),
    ("GET", "{C}/count?read_level=index_only"),
    ("GET", "{C}/count?read_level=x"),
    ("POST", "{C}/count", {}),
    # functions
    ("GET", "{C}/functions/x"),
    # delete
    ("POST", "{C}/delete", {}),
    ("POST", "{C}/delete", {"ids": ["none"]}),
    ("POST", "{C}/delete", {"ids": []}),
    ("POST", "{C}/delete", {"where": {"k": 99}}),
    ("POST", "{C}/delete", {"where": {"k": {"$x": 1}}}),
    ("POST", "{C}/delete", {"ids": ["a"], "limit": 1}),
    ("POST", "{C}/delete", {"where": {"k": {"$gte": 0}}, "limit": 1}),
    ("POST", "{C}/delete", {"ids": ["b", "b"]}),
    ("GET", "{C}/count"),
    # the end of the collection
    ("DELETE", DEFAULT + "/collections/none"),
    ("DELETE", "{C}"),
    ("DELETE", DEFAULT + "/collections/renamed"),
    ("GET", "{C}/count"),
    *(
        ("POST", "{C}/" + op, {"ids": ["a"], "embeddings": [[1]], "query_embeddings": [[1]]})
        for op in ("add", "upsert", "update", "get", "query", "delete")
    ),
    ("POST", API + "/reset"),
    ("GET", DEFAULT + "/collections"),
]
PARSERS = ("Failed to parse", "Failed to deserialize the JSON", "Invalid base64", "Invalid URL")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def told(answer: Answer) -> Any:
    """What of an answer must be the same."""
    content = answer.json
    if isinstance(content, dict) and "nanosecond heartbeat" in content:
        content = list(content)
    if isinstance(content, dict) and "error" in content:
        message = content["message"]
        parser = next((text for text in PARSERS if message.startswith(text)), None)
        content = [content["error"], parser or UUID.sub("UUID", message).partition(" [{")[0]]
    elif content is not None:
        content = json.loads(UUID.sub("UUID", json.dumps(content)))
        if isinstance(content, list):
            content.sort(key=json.dumps)  # Chroma lists collections in no order
    allow = sorted(answer.headers.get("allow", "").split(","))
    has_trace = "chroma-trace-id" in answer.headers
    return answer.status, answer.headers.get("content-type"), allow, has_trace, content


def same(got: Any, expected: Any) -> bool:
    """Equal, with distances added up in another order allowed for."""
    if isinstance(got, float) and isinstance(expected, float):
        return got == pytest.approx(expected, rel=1e-6)
    if isinstance(got, dict) and isinstance(expected, dict):
        return got.keys() == expected.keys() and all(same(got[k], expected[k]) for k in got)
    if isinstance(got, list | tuple) and isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(same, got, expected))
    return type(got) is type(expected) and got == expected


def play(server: Server) -> list[tuple[str, Any]]:
    """Every call, with what was told."""
    ids = {"{ID}": NO_ID}
    seen = []
    for method, path, *rest in CALLS:
        body, headers = [*rest, None, None][:2]
        target = path.replace("{C}", f"{DEFAULT}/collections/{ids['{ID}']}")
        answer = server.call(method, target.replace("{ID}", ids["{ID}"]), body, headers)
        if isinstance(body, dict) and body.get("name") == "first" and answer.status == 200:
            ids["{ID}"] = answer.json["id"]
        shown = body if not isinstance(body, bytes) else body[:60]
        seen.append((f"{method} {path} {shown} {headers or ''}", told(answer)))
    return seen


def test_every_answer_is_chromas(server: Server, chroma: Server) -> None:
    wrong = [
        f"{call}\n  chroma {expected}\n  ours   {got}"
        for (call, got), (_, expected) in zip(play(server), play(chroma), strict=True)
        if not same(got, expected)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_route_of_chroma_is_there(server: Server, chroma: Server) -> None:
    """And none that it has not, besides those that docs/compatibility.md lists."""
    theirs = chroma.call("GET", "/openapi.json").json["paths"]
    for path, methods in theirs.items():
        target = re.sub(r"\{[^}]*\}", NO_ID, path)
        for method in methods:
            answer = server.call(method.upper(), target, {} if method != "get" else None)
            assert answer.status != 405, (method, path)
            assert answer.status != 404 or answer.body, (method, path)


def test_what_chroma_cannot_answer(server: Server, collection: str) -> None:
    """It drops the connection, or says that it is not implemented."""
    made = {"name": "second", "metadata": {"a": [1]}}
    assert server.call("POST", DEFAULT + "/collections", made).error == "InvalidArgumentError"
    assert server.call("PUT", collection, {"new_metadata": {"a": [1]}}).status == 400
    found = server.call("GET", API + "/collections/default_tenant:default_database:things")
    assert found.json["name"] == "things"
    assert server.call("GET", API + "/collections/a:b:c").status == 404
    assert server.call("GET", API + "/collections/abc").status == 400
    status = server.call("GET", collection + "/indexing_status")
    assert status.json == {
        "op_indexing_progress": 1.0,
        "num_unindexed_ops": 0,
        "num_indexed_ops": 3,
        "total_ops": 3,
    }
    for call in ("functions/attach", "attached_functions/x/detach"):
        body = {"name": "n", "function_id": "f", "output_collection": "o"}
        answer = server.call("POST", f"{collection}/{call}", body)
        assert (answer.status, answer.error) == (501, "ChromaError")


def test_pre_flight_checks(server: Server) -> None:
    assert server.call("GET", API + "/pre-flight-checks").json == {
        "max_batch_size": 2**20,
        "supports_base64_encoding": True,
        "vexfs_extensions": 1,
    }


def test_reset_is_off_by_default(tmp_path) -> None:
    from server_kit import run_server

    with run_server(tmp_path) as server:
        answer = server.call("POST", API + "/reset")
    assert (answer.status, answer.json) == (
        403,
        {"error": "ChromaError", "message": "Reset is disabled by config"},
    )
