"""Who may do what: every route with no token, a wrong one, another's, and too small a role."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_kit import API, DEFAULT, Server, run_server

from vexfs_chroma._server._auth import hash_password, hash_token
from vexfs_chroma._server._routes import ADMIN, READ, ROUTES, WRITE, Route

TOKENS = {
    "root": ("admin", "*", ["*"]),
    "writer": ("write", "*", ["*"]),
    "reader": ("read", "*", ["*"]),
    "theirs": ("admin", "other_tenant", ["*"]),
    "elsewhere": ("admin", "default_tenant", ["other_database"]),
    "here": ("write", "default_tenant", ["default_database"]),
}
ROLES = {"read": READ, "write": WRITE, "admin": ADMIN}
BODIES: dict[str, Any] = {
    "create_tenant": {"name": "made_tenant"},
    "update_tenant": {"resource_name": "x"},
    "create_database": {"name": "made_database"},
    "create_collection": {"name": "made"},
    "update_collection": {"new_name": "changed"},
    "add": {"ids": ["new"], "embeddings": [[1, 2]]},
    "upsert": {"ids": ["a"], "embeddings": [[9, 9]]},
    "update": {"ids": ["a"], "embeddings": [[9, 9]]},
    "delete": {"ids": ["a"]},
    "get": {},
    "query": {"query_embeddings": [[1, 2]]},
    "search": {"searches": [{}]},
    "fork_collection": {"new_name": "forked"},
    "tuning": {"queries": 1},
    "attach_function": {"name": "n", "function_id": "f", "output_collection": "o"},
    "detach_function": {},
    "count_matching": {},
    "distinct": {"key": "n"},
    "facets": {"keys": ["n"]},
    "min_max": {"key": "n"},
    "metadata_keys": {},
    "get_ordered": {},
    "query_exactly": {"query_embeddings": [[1, 2]]},
    "explain": {"query_embeddings": [[1, 2]]},
    "recall_check": {"n": 1},
    "reindex": {"space": "ip"},
    "build_index": {},
    "transaction": {"steps": []},
}


def token(name: str) -> str:
    return f"the-token-of-{name}"


CONFIG = "[server]\nallow_reset = true\n" + "".join(
    f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash_token(token(name))}"\nrole = "{role}"\n'
    f'tenant = "{tenant}"\ndatabases = {databases}\n'
    for name, (role, tenant, databases) in TOKENS.items()
)
CONFIG += f'[[auth.users]]\nname = "ann"\nrole = "read"\nhash = "{hash_password("s3cret:é")}"\n'


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("guarded"), config=CONFIG) as server:
        root = {"x-chroma-token": token("root")}
        server.call("POST", API + "/tenants", {"name": "other_tenant"}, root)
        for tenant, database in (
            ("default_tenant", "other_database"),
            ("other_tenant", "default_database"),
        ):
            path = f"{API}/tenants/{tenant}/databases"
            assert server.call("POST", path, {"name": database}, root).status == 200
            made = server.call("POST", f"{path}/{database}/collections", {"name": "mine"}, root)
            assert made.status == 200
        yield server


def contents(server: Server) -> Any:
    """Everything that is in the server."""
    root = {"x-chroma-token": token("root")}

    def get(path: str) -> Any:
        return server.call("GET", path, None, root).json

    everything = []
    for tenant in ("default_tenant", "other_tenant", "made_tenant"):
        everything.append(server.call("GET", f"{API}/tenants/{tenant}", None, root).status)
        for database in get(f"{API}/tenants/{tenant}/databases"):
            path = f"{API}/tenants/{tenant}/databases/{database['name']}/collections"
            for found in get(path):
                body = {"include": ["embeddings", "metadatas", "documents"]}
                rows = server.call("POST", f"{path}/{found['id']}/get", body, root)
                everything.append((tenant, database["name"], found, rows.json))
    return everything


@pytest.fixture
def things(guarded: Server) -> Iterator[str]:
    """The id of a collection in the default database."""
    root = {"x-chroma-token": token("root")}
    body = {"name": "things", "get_or_create": True}
    made = guarded.call("POST", DEFAULT + "/collections", body, root).json
    path = f"{DEFAULT}/collections/{made['id']}"
    rows = {"ids": ["a", "secret"], "embeddings": [[1, 2], [3, 4]], "documents": ["x", "hidden"]}
    assert guarded.call("POST", path + "/upsert", rows, root).status == 200
    return made["id"]


GUARDED = [route for route in ROUTES if route.role]


def target(
    route: Route, id: str, tenant: str = "default_tenant", database: str = "default_database"
):
    values = {
        "tenant": tenant,
        "database": database,
        "collection_id": id,
        "name": "things",
        "crn": f"{tenant}:{database}:things",
        "function": "x",
    }
    return route.template.format(**values), BODIES.get(route.name)


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
def test_nothing_without_the_right_token(guarded: Server, things: str, route: Route) -> None:
    before = contents(guarded)
    path, body = target(route, things)
    wrong: list[dict[str, str]] = [
        {},
        {"x-chroma-token": "guessed"},
        {"x-chroma-token": ""},
        {"x-chroma-token": token("root")[:-1]},
        {"authorization": "Bearer guessed"},
        {"authorization": "Bearer"},
        {"authorization": "Digest x"},
        {"authorization": "Basic " + base64.b64encode(b"ann:guessed").decode()},
        {"authorization": "Basic " + base64.b64encode(b"bob:s3cret").decode()},
        {"authorization": "Basic not base64"},
    ]
    for headers in wrong:
        answer = guarded.call(route.method, path, body, headers)
        assert (answer.status, answer.error) == (401, "AuthorizationError"), headers
        assert "www-authenticate" in answer.headers
        assert b"hidden" not in answer.body
    assert contents(guarded) == before


@pytest.mark.parametrize("who", ["theirs", "elsewhere"])
@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
def test_nothing_of_another_tenant(guarded: Server, things: str, route: Route, who: str) -> None:
    """Neither by its own path, nor by the id under a path that the caller does reach."""
    before = contents(guarded)
    headers = {"x-chroma-token": token(who)}
    path, body = target(route, things)
    answer = guarded.call(route.method, path, body, headers)
    if route.name not in (
        "identity",
        "get_tenant",
        "update_tenant",
        "list_databases",
        "list_tenants",
    ):
        assert (answer.status, answer.error) == (403, "AuthError"), answer
    assert b"hidden" not in answer.body
    if route.is_by_id:
        own = {"theirs": ("other_tenant", "default_database")}
        tenant, database = own.get(who, ("default_tenant", "other_database"))
        path, body = target(route, things, tenant, database)
        answer = guarded.call(route.method, path, body, headers)
        assert (answer.status, answer.error) == (404, "NotFoundError"), answer
    assert contents(guarded) == before


@pytest.mark.parametrize("who", ["reader", "writer"])
@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
def test_no_more_than_the_role(guarded: Server, things: str, route: Route, who: str) -> None:
    if ROLES[TOKENS[who][0]] >= route.role:
        return
    before = contents(guarded)
    path, body = target(route, things)
    answer = guarded.call(route.method, path, body, {"authorization": f"Bearer {token(who)}"})
    assert (answer.status, answer.error) == (403, "AuthError")
    assert contents(guarded) == before


def test_what_is_allowed(guarded: Server, things: str) -> None:
    path = f"{DEFAULT}/collections/{things}"
    for headers in (
        {"x-chroma-token": token("reader")},
        {"x-chroma-token": "Bearer " + token("reader")},
        {"authorization": "bearer " + token("reader")},
        {"authorization": "Basic " + base64.b64encode("ann:s3cret:é".encode()).decode()},
    ):
        for _ in range(2):  # a password that was right is remembered
            found = guarded.call("POST", path + "/get", {"ids": ["a"]}, headers)
            assert found.json["ids"] == ["a"]
    here = {"x-chroma-token": token("here")}
    assert guarded.call("POST", path + "/upsert", BODIES["upsert"], here).status == 200
    assert guarded.call("GET", path + "/count", None, here).json == 2
    made = guarded.call("POST", DEFAULT + "/collections", {"name": "temporary"}, here)
    assert made.status == 200
    assert guarded.call("DELETE", DEFAULT + "/collections/temporary", None, here).status == 200
    names = guarded.call("GET", API + "/tenants/default_tenant/databases", None, here).json
    assert [database["name"] for database in names] == ["default_database"]
    who = guarded.call("GET", API + "/auth/identity", None, here).json
    assert who == {
        "user_id": "here",
        "tenant": "default_tenant",
        "databases": ["default_database"],
    }


def test_what_needs_no_token(guarded: Server) -> None:
    for route in ROUTES:
        if not route.role:
            assert guarded.call(route.method, route.template).status < 400


def test_only_the_hash_is_kept() -> None:
    hash = hash_token("secret")
    assert hash.startswith("sha256:")
    assert "secret" not in hash
    assert hash_password("secret") != hash_password("secret")


def test_an_open_server_stays_on_this_machine(tmp_path: Path) -> None:
    server = run_server(tmp_path, "--host", "0.0.0.0")
    with pytest.raises(AssertionError, match="reachable from other machines"), server:
        pass


def test_an_open_server_answers_to_names_of_this_machine(server: Server, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    evil = {"host": f"evil.example:{port}", "origin": f"http://evil.example:{port}"}
    for path in (DEFAULT + "/collections", "/", "/api/v2/heartbeat", "/nowhere"):
        assert server.call("GET", path, None, evil).status == 403
    answer = server.call("POST", DEFAULT + "/collections", {"name": "things"}, evil)
    assert answer.status == 403
    assert "localhost" in answer.json["message"]
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
    ):
        assert server.call("GET", "/api/v2/heartbeat", None, {"host": host}).status == 403
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:80", "127.1.2.3", "[::1]:5", "a.localhost"):
        assert server.call("GET", "/api/v2/heartbeat", None, {"host": host}).status == 200
    assert server.raw(b"GET /api/v2/heartbeat HTTP/1.0\r\n\r\n")[:15] == b"HTTP/1.1 200 OK"
    with run_server(tmp_path, "--open-network") as behind_a_proxy:
        assert behind_a_proxy.call("GET", DEFAULT + "/collections", None, evil).status == 200


def test_pages_of_other_origins(server: Server, collection: str, tmp_path: Path) -> None:
    body = {"ids": ["x"], "embeddings": [[1, 2, 3]]}
    foreign = {"origin": "http://evil.example"}
    assert server.call("POST", collection + "/add", body, foreign).status == 403
    assert server.call("GET", collection + "/count", None, foreign).json == 3
    same = {"origin": server.url, "host": server.url[7:]}
    assert server.call("POST", collection + "/add", body, same).status == 201
    asked = {**foreign, "access-control-request-method": "POST"}
    assert server.call("OPTIONS", collection + "/add", None, asked).status == 405
    config = '[cors]\nallow_origins = ["http://good.example"]\n'
    with run_server(tmp_path, config=config) as open_one:
        good = {"origin": "http://good.example"}
        answer = open_one.call("POST", DEFAULT + "/collections", {"name": "things"}, good)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "http://good.example"
        assert answer.headers["vary"] == "origin"
        asked = {**good, "access-control-request-method": "POST"}
        answer = open_one.call("OPTIONS", DEFAULT + "/collections", None, asked)
        assert answer.status == 200
        assert answer.headers["access-control-allow-methods"] == "*"
        answer = open_one.call("POST", DEFAULT + "/collections", {"name": "more"}, foreign)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
