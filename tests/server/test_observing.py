"""/metrics, /livez, /readyz, /vexfs/facts and /vexfs/slow-log of the server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from server_kit import API, DEFAULT, Server, run_server

from vexfs_chroma._server._auth import hash_token


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_health(server: Server) -> None:
    assert server.call("GET", "/livez").json == {"live": True}
    assert server.call("GET", "/readyz").json == {"ready": True}


def test_requests_and_operations_are_counted(server: Server, collection: str) -> None:
    pytest.importorskip("prometheus_client")
    before = server.call("GET", "/metrics")
    assert before.headers["content-type"].startswith("text/plain; version=0.0.4")
    for _ in range(3):
        body = {"query_embeddings": [[1, 0, 0]], "n_results": 2}
        assert server.call("POST", collection + "/query", body).status == 200
    assert server.call("POST", collection + "/query", {"query_embeddings": [[1]]}).status == 400
    server.call("GET", "/no/such/page")
    after = server.call("GET", "/metrics")
    for name, more in (
        ('vexfs_http_requests_total{route="query",status="2xx"}', 3),
        ('vexfs_http_requests_total{route="query",status="4xx"}', 1),
        ('vexfs_http_requests_total{route="unmatched",status="4xx"}', 1),
        ('vexfs_operations_total{operation="query",status="ok"}', 3),
        ('vexfs_operations_total{operation="query",status="error"}', 1),
        ("vexfs_query_vectors_total", 3),
    ):
        told = value(after.body.decode(), name) - value(before.body.decode(), name)
        assert told == more, name
    facts = server.call("GET", "/vexfs/facts").json
    assert facts["counters"]["http.query.2xx"] >= 3
    assert facts["database"]["rows"] == 3
    assert facts["processes"][0]["pid"] == server.process.pid


def test_workers_tell_sums(tmp_path: Path) -> None:
    """Every worker counts some of the requests; whichever is asked tells them all."""
    with run_server(tmp_path, "--workers", "2", variables={"VEXFS_SLOW_MS": "0"}) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        server.call("POST", path + "/add", {"ids": ["a"], "embeddings": [[1, 2]]})
        for _ in range(20):
            server.call("GET", path + "/count")
        facts = server.call("GET", "/vexfs/facts").json
        assert len(facts["processes"]) == 2
        assert facts["counters"]["http.count.2xx"] == 20
        assert facts["counters"]["op.count.count"] == 20
        slow = server.call("GET", "/vexfs/slow-log").json
        assert {record["operation"]: record["repeats"] for record in slow} == {
            "add": 1,
            "count": 20,
        }


def test_who_may_look(tmp_path: Path) -> None:
    entries = "".join(
        f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash_token(name)}"\nrole = "read"\n{limit}\n'
        for name, limit in (("all", ""), ("one", 'tenant = "default_tenant"'))
    )
    with run_server(tmp_path, config=entries) as server:
        for path in ("/livez", "/readyz"):
            assert server.call("GET", path).status == 200
        for path in ("/metrics", "/vexfs/facts", "/vexfs/slow-log"):
            assert server.call("GET", path).status == 401
            assert server.call("GET", path, headers={"x-chroma-token": "one"}).status == 403
            assert server.call("GET", path, headers={"x-chroma-token": "all"}).status == 200


def test_slow_requests_tell_no_values(tmp_path: Path) -> None:
    secret = "nobody-may-see-this"
    with run_server(tmp_path, variables={"VEXFS_SLOW_MS": "0"}) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        body = {"ids": [secret], "embeddings": [[1, 2]], "metadatas": [{"a": secret}]}
        server.call("POST", path + "/add", body)
        server.call("POST", path + "/query", {"query_embeddings": [[1, 2]], "where": {"a": secret}})
        found = server.call("GET", "/vexfs/slow-log").json
        assert secret not in json.dumps(found)
        (query,) = [record for record in found if record["operation"] == "query"]
        assert query["where"] == {"a": "str"}
        assert query["plan"]["why"]
        assert server.call("GET", API + "/heartbeat").status == 200
