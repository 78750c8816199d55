"""The application without a database: hooks, deadlines, workers that die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from server_kit import (
    API,
    DEFAULT,
    Server,
    free_port,
    is_alive,
    run_server,
    running,
    stop,
    workers_of,
)

from vexfs_chroma._server._app import App, _likeness, _Threads
from vexfs_chroma._server._auth import new_token
from vexfs_chroma._server._config import load
from vexfs_chroma._server._request import Request, Response
from vexfs_chroma._server._routes import ROUTES, Route, Router
from vexfs_chroma._server._run import listen


def call(port: int, path: str) -> Any:
    server = Server("127.0.0.1", port, subprocess.Popen(["true"]))
    server.process.wait()
    return server.call("GET", path)


def test_a_request_that_takes_too_long() -> None:
    app = App(None, load(given={"limits": {"request_seconds": 0.2}}, environment={}))  # type: ignore[arg-type]
    go = threading.Event()

    def slow(app: App, request: Request) -> bytes:
        go.wait(20)
        return b"{}"

    app.router.add(Route("GET", "/slow", "slow", slow, 0, ""))
    app.router.add(Route("GET", "/quick", "quick", lambda app, request: b"{}", 0, ""))
    with running(app) as port:
        answer = call(port, "/slow")
        assert (answer.status, answer.error) == (503, "InternalError")
        assert "not done after 0.2 seconds" in answer.json["message"]
        assert call(port, "/quick").status == 200
        go.set()


def test_the_default_database_may_be_deleted(tmp_path: Path) -> None:
    """The server starts again, and the others are there."""
    databases = f"{API}/tenants/default_tenant/databases"
    other = f"{databases}/other"
    with run_server(tmp_path) as server:
        assert server.call("POST", databases, {"name": "other"}).status < 300
        assert server.call("POST", f"{other}/collections", {"name": "docs"}).status < 300
        assert server.call("DELETE", DEFAULT).status < 300
    with run_server(tmp_path) as server:
        assert [c["name"] for c in server.call("GET", f"{other}/collections").json] == ["docs"]
        assert server.call("GET", f"{DEFAULT}/collections").json == []
        made = server.call("POST", databases, {"name": "default_database"})
        assert made.status < 300


def test_observers() -> None:
    app = App(None, load(environment={}))  # type: ignore[arg-type]
    seen: list[tuple[str | None, int, float, int]] = []

    def observe(request: Request, response: Response, seconds: float) -> None:
        name = request.route.name if request.route else None
        seen.append((name, response.status, seconds, len(response.body)))

    def failing(app: App, request: Request) -> bytes:
        raise RuntimeError("a secret of the server")

    app.observers.append(observe)
    app.router.add(Route("GET", "/fails", "fails", failing, 0, ""))
    with running(app) as port:
        answer = call(port, "/fails")
        assert answer.status == 500
        assert "secret" not in answer.body.decode()
        call(port, API + "/version")
        call(port, "/nothing")
    assert [(name, status) for name, status, *_ in seen] == [
        ("fails", 500),
        ("version", 200),
        (None, 404),
    ]
    assert all(seconds > 0 for _, _, seconds, _ in seen)


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (b"this is not HTTP\r\n\r\n", 400, "InvalidArgumentError"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 2000, 431, "InvalidArgumentError"),
        (b"", 503, "InternalError"),
    ],
)
def test_what_is_refused_unread_has_an_id(sent: bytes, status: int, error: str) -> None:
    """And observers, that is log and counters, are told of it."""
    connections = 1 if status == 503 else 8
    limits = {"head_bytes": 1024, "connections": connections}
    app = App(None, load(given={"limits": limits}, environment={}))  # type: ignore[arg-type]
    seen: list[tuple[str, int, str | None, str | None]] = []
    app.observers.append(
        lambda request, response, _: seen.append(
            (request.id, response.status, request.error, request.client)
        )
    )
    with running(app) as port, contextlib.ExitStack() as opened:
        if status == 503:  # the one that there may be
            first = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            first.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert first.recv(4096).startswith(b"HTTP/1.1 200")
            seen.clear()
        sock = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        sock.sendall(sent)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := sock.recv(65536):
                answer += chunk
    head = answer.partition(b"\r\n\r\n")[0].decode()
    assert head.startswith(f"HTTP/1.1 {status} ")
    (id,) = re.findall(r"^x-request-id: (\S+)\r?$", head, re.MULTILINE)
    assert "connection: close" in head
    assert seen == [(id, status, error, "127.0.0.1")]


def test_the_router_knows_every_route() -> None:
    router = Router(ROUTES)
    for route in ROUTES:
        path = re.sub(r"\{(\w+)\}", r"the-\1", route.template)
        found = router.find(path.split("/"))
        assert found is not None
        resource, values = found
        assert resource.methods[route.method].handler is route.handler
        assert len(values) == len(route.parameters)
    for path in ("", "/", "/api", "/api/v2/tenants/", "/api/v2/tenants//databases", "//" * 50):
        assert router.find(path.split("/")) is None


@pytest.mark.multiproc
def test_workers(tmp_path: Path) -> None:
    """Every worker sees what another wrote; one that is killed is replaced; all end with it."""
    with run_server(tmp_path, "--workers", "2") as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
        path = f"{DEFAULT}/collections/{made.json['id']}"
        for i in range(30):
            body = {"ids": [str(i)], "embeddings": [[i, 1]]}
            assert server.call("POST", path + "/add", body).status == 201
            assert server.call("GET", path + "/count").json == i + 1
        children = workers_of(server)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        end = time.monotonic() + 60
        while len(workers_of(server)) < 2 or children[0] in workers_of(server):
            assert time.monotonic() < end
            time.sleep(0.1)
        for _ in range(20):
            assert server.call("GET", path + "/count", timeout=60).json == 30
        children = workers_of(server)
        server.process.kill()  # not even the parent can tell them
        server.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_killed_server_leaves_nothing_for_long(tmp_path: Path) -> None:
    """Neither processes nor, once another one starts, the files of its counters."""
    place = tmp_path / "temporary"
    place.mkdir()
    variables = {"TMPDIR": str(place)}

    def there() -> set[Path]:
        return set(place.glob("vexfs-metrics-*"))

    with run_server(tmp_path, "--workers", "2", variables=variables) as server:
        (left,) = there()
        workers = workers_of(server)
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 60
        while any(is_alive(str(pid)) for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert there() == {left}
    (tmp_path / "other").mkdir()
    with (
        run_server(tmp_path, "--workers", "2", variables=variables),
        run_server(tmp_path / "other", "--workers", "2", variables=variables) as other,
    ):
        assert left not in there()
        assert len(there()) == 2  # that of a server which lives stays
        assert other.call("GET", "/metrics").status == 200
    assert there() == set()


def test_two_servers_do_not_share_a_port() -> None:
    with listen(load(given={"server": {"port": 0, "workers": 2}}, environment={})) as first:
        taken = first.getsockname()[1]
        for workers in (1, 2):
            given = {"server": {"port": taken, "workers": workers}}
            with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1 port"):
                listen(load(given=given, environment={}))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_is_told_the_url(tmp_path: Path, workers: str) -> None:
    """The server serves, whoever started it and does not read what it says."""
    reading, writing = os.pipe()
    os.close(reading)
    port = free_port()
    command = [sys.executable, "-m", "vexfs_chroma._cli", "serve", "--port", str(port)]
    with os.fdopen(writing, "wb") as output, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--path", str(tmp_path / "data"), "--workers", workers],
            cwd=tmp_path,
            stdout=output,
            stderr=log,
        )
    server = Server("127.0.0.1", port, process)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                assert server.call("GET", API + "/heartbeat").status == 200
                break
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        code = stop(process)
    assert code == 0
    assert "Broken pipe" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_database_that_is_read_only(tmp_path: Path, workers: str) -> None:
    """Reads are answered; a write is refused, which is no fault of the server's."""
    with run_server(tmp_path) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
        path = f"{DEFAULT}/collections/{made.json['id']}"
        rows = {"ids": ["a"], "embeddings": [[1, 2]]}
        assert server.call("POST", path + "/add", rows).status == 201
    with run_server(tmp_path, "--workers", workers, variables={"VEXFS_READ_ONLY": "1"}) as server:
        assert server.call("POST", path + "/get", {}).json["ids"] == ["a"]
        assert server.call("GET", "/readyz").status == 200
        for method, target, body in (
            ("POST", path + "/add", rows),
            ("POST", path + "/update", rows),
            ("POST", path + "/delete", {"ids": ["a"]}),
            ("POST", path + "/fork", {"new_name": "forked"}),
            ("PUT", path, {"new_name": "renamed"}),
            ("DELETE", DEFAULT + "/collections/things", None),
            ("POST", DEFAULT + "/collections", {"name": "others"}),
            ("POST", API + "/tenants", {"name": "acme"}),
            ("POST", API + "/tenants/default_tenant/databases", {"name": "books"}),
        ):
            answer = server.call(method, target, body)
            assert (answer.status, answer.error) == (403, "InternalError"), target
            assert "read-only" in answer.json["message"]
        same = {"name": "things", "get_or_create": True}
        assert server.call("POST", DEFAULT + "/collections", same).json["id"] == made.json["id"]
    assert " ERROR " not in (tmp_path / "server.log").read_text()


def test_an_id_that_is_written_in_many_ways() -> None:
    """What is known of collections and of requests does not grow with the texts of their ids."""

    class Api:
        def home_of(self, id: UUID) -> tuple[str, str]:
            return ("default_tenant", "default_database")

        def _count(self, id: UUID) -> int:
            return 3

    token, hash = new_token()
    given = {"name": "reader", "hash": hash, "tenant": "default_tenant"}
    app = App(Api(), load(given={"auth": {"tokens": [given]}}, environment={}))  # type: ignore[arg-type]
    id = str(uuid4())
    with running(app) as port:
        server = Server("127.0.0.1", port, subprocess.Popen(["true"]))
        server.process.wait()
        for dashes in range(20):
            path = f"{DEFAULT}/collections/{'-' * (dashes * 1000)}{id}/count"
            answer = server.call("GET", path, headers={"x-chroma-token": token})
            assert (answer.status, answer.json) == (200, 3)
    assert len(app._homes) == 1
    assert max(len(str(key)) for key in app._expected) < 200


def test_a_request_that_ends_when_the_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut off: what runs is done, what waits is dropped, and nothing is said."""
    said: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    threads, loop, go = _Threads(1, 10), asyncio.new_event_loop(), threading.Event()
    done: list[str] = []

    def work(request: Request) -> Response:
        go.wait(20)
        done.append(request.id)
        return Response(200)

    requests = [Request("POST", "/", "", {}) for _ in range(3)]
    for number, request in enumerate(requests):
        request.id = str(number)
        threads.submit(work, request, loop)
    while threads._queue.qsize() > 2:  # the first one is not in its thread yet
        time.sleep(0.01)
    for request in requests:
        request.abandoned = True
    loop.close()
    go.set()
    threads.close()
    assert (done, said) == (["0"], [])


@pytest.mark.parametrize(
    ("operation", "short", "pattern"),
    [
        (
            "get",
            {"where": {"n": {"$eq": 1_000_000_000_000}}},
            {"where": {"#document": {"$regex": "a+b"}}},
        ),
        (
            "get",
            {"where": {"text": {"$eq": "$regex, where a value says so"}}},
            {"where": {"$or": [{"n": 1}, {"$and": [{"n": 2}, {"text": {"$regex": "a+b"}}]}]}},
        ),
        (
            "search",
            {"searches": [{"filter": {"n": {"$gt": 10**12}}}]},
            {"searches": [{"filter": {"#document": {"$regex": "a"}}}]},
        ),
    ],
)
def test_patterns_are_looked_for_in_threads(
    operation: str, short: dict[str, Any], pattern: dict[str, Any]
) -> None:
    """Requests like them were short; how long a pattern takes, nobody knows beforehand."""
    threads: list[str] = []

    class Api:
        def get_rows(self, *_: Any) -> Any:
            threads.append(threading.current_thread().name)
            return SimpleNamespace(ids=[], vectors=None, documents=None, uris=None, metadatas=None)

        def _search(self, *_: Any, **__: Any) -> dict[str, Any]:
            threads.append(threading.current_thread().name)
            return {"ids": []}

    app = App(Api(), load(environment={}))  # type: ignore[arg-type]
    path = f"{DEFAULT}/collections/{uuid4()}/{operation}"
    with running(app) as port:
        server = Server("127.0.0.1", port, subprocess.Popen(["true"]))
        server.process.wait()
        for _ in range(20):
            assert server.call("POST", path, short).status == 200
            if not threads[-1].startswith("vexfs-server"):
                break
        assert not threads[-1].startswith("vexfs-server")
        assert server.call("POST", path, pattern).status == 200
    assert threads[-1].startswith("vexfs-server")


def test_one_slow_request_sends_none_of_those_like_it_to_a_thread() -> None:
    """The clock runs on while another process has the CPU; many in a row do."""
    request = Request("POST", "/", "", {})
    request.route = next(route for route in ROUTES if route.name == "get")
    request.payload = SimpleNamespace(where=None)
    seconds = [0.0]
    app = App(SimpleNamespace(), load(environment={}))  # type: ignore[arg-type]
    app._handle = lambda _: time.sleep(seconds[0]) or Response(200)  # type: ignore[method-assign,func-returns-value]
    app._expected[_likeness(request)] = 0.0
    loop = asyncio.new_event_loop()
    request.route = request.route._replace(decoder=None)

    def is_answered_at_once() -> bool:
        return isinstance(app.answer(request, loop), Response)

    seconds[0] = 0.05
    assert is_answered_at_once()
    seconds[0] = 0.0
    assert is_answered_at_once()
    seconds[0] = 0.05
    assert not all(is_answered_at_once() for _ in range(5))
    app.close()
    loop.close()
