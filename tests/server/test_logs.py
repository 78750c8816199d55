"""What the server logs: requests, errors, start and stop; and ids of requests."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import http.client
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from server_kit import API, DEFAULT, Server, run_server

from vexfs_chroma._server import _config, _log
from vexfs_chroma._server._app import App
from vexfs_chroma._server._auth import hash_token
from vexfs_chroma._server._connection import Connections
from vexfs_chroma._server._request import Request, Response

SECRET = "nobody-may-see-this"
NOTHING_IS_SLOW = {"VEXFS_SLOW_MS": "off"}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "server.log").read_text().splitlines()]


def requests_of(path: Path) -> list[dict[str, Any]]:
    return [line for line in lines_of(path) if line["event"] == "request"]


def filled(server: Server) -> str:
    made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
    path = f"{DEFAULT}/collections/{made['id']}"
    body = {
        "ids": [SECRET],
        "embeddings": [[1.25, 2]],
        "documents": [SECRET],
        "metadatas": [{"a": SECRET}],
    }
    assert server.call("POST", path + "/add", body).status == 201
    return path


def test_one_line_of_json_for_each_event(tmp_path: Path) -> None:
    token = hash_token(SECRET)
    entry = f'[[auth.tokens]]\nname = "ann"\nhash = "{token}"\nrole = "admin"\n'
    config = entry + '[log]\nformat = "json"\naccess = "all"\n'
    with run_server(tmp_path, "--workers", "2", config=config, variables=NOTHING_IS_SLOW) as server:
        server.headers = {"x-chroma-token": SECRET}
        path = filled(server)
        body = {"query_embeddings": [[1.25, 2]], "where": {"a": SECRET}}
        server.call("POST", path + "/query", body, {"x-request-id": "mine-1"})
        server.call("POST", path + "/query?secret=" + SECRET, {"query_embeddings": [[1]]})
        server.call("GET", "/no/such/page", headers={"x-chroma-token": "wrong"})
        server.call("GET", path + "/count", headers={"x-chroma-token": "wrong" + SECRET})
    found = lines_of(tmp_path)
    assert SECRET not in (tmp_path / "server.log").read_text()
    assert token not in (tmp_path / "server.log").read_text()
    for line in found:
        at = dt.datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
        assert at.tzinfo is not None
        assert {"level", "event", "pid"} <= set(line)
    events = [line["event"] for line in found]
    assert (events.count("started"), events.count("stopped")) == (2, 2)
    (query,) = [line for line in found if line.get("request_id") == "mine-1"]
    assert query["ms"] > 0
    expected = {
        "level": "info",
        "event": "request",
        "method": "POST",
        "route": "query",
        "status": 200,
        "tenant": "default_tenant",
        "database": "default_database",
        "collection": path.rpartition("/")[2],
        "principal": "ann",
        "client": "127.0.0.1",
        "received": len(json.dumps(body)),
    }
    assert query | expected == query
    refused = [line for line in requests_of(tmp_path) if line["status"] >= 400]
    assert [(line["route"], line["status"], line.get("error")) for line in refused] == [
        ("query", 400, "InvalidArgumentError"),
        ("unmatched", 404, None),
        ("count", 401, "AuthorizationError"),
    ]
    assert refused[1]["path"] == "/no/such/page"
    assert {line["level"] for line in refused} == {"warning"}


def test_requests_are_not_logged_unless_that_is_wanted(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        filled(server)
        server.call("GET", "/no/such/page")
    text = (tmp_path / "server.log").read_text()
    assert " request " not in text
    first, second = text.splitlines()[:2]
    assert re.fullmatch(r"\S+Z INFO opening pid=\d+ path=\S+", first)
    assert re.fullmatch(r"\S+Z INFO started pid=\d+ version=\S+ url=http://127\S+", second)


def test_only_problems(tmp_path: Path) -> None:
    config = '[log]\nformat = "json"\naccess = "problems"\n'
    with run_server(tmp_path, config=config, variables=NOTHING_IS_SLOW) as server:
        path = filled(server)
        server.call("GET", path + "/count")
        server.call("POST", path + "/query", {"query_embeddings": [[1]]})
    assert [(line["route"], line["status"]) for line in requests_of(tmp_path)] == [("query", 400)]


def test_slow_requests_are_problems(tmp_path: Path) -> None:
    variables = {"VEXFS_LOG_FORMAT": "json", "VEXFS_LOG_ACCESS": "problems", "VEXFS_SLOW_MS": "0"}
    with run_server(tmp_path, variables=variables) as server:
        server.call("GET", API + "/heartbeat", headers={"x-request-id": "abc"})
        path = filled(server)
        server.call("GET", path + "/count", headers={"x-request-id": "counted"})
        slow = server.call("GET", "/vexfs/slow-log").json
    first = requests_of(tmp_path)[0]
    assert (first["request_id"], first["slow"], first["level"]) == ("abc", True, "warning")
    assert {one["operation"]: one["request_id"] for one in slow}["count"] == "counted"


def test_the_level(tmp_path: Path) -> None:
    variables = {"VEXFS_LOG_LEVEL": "warning", "VEXFS_LOG_ACCESS": "all"}
    with run_server(tmp_path, variables=variables | NOTHING_IS_SLOW) as server:
        server.call("GET", API + "/heartbeat")
        server.call("GET", "/no/such/page")
    text = (tmp_path / "server.log").read_text()
    assert [line.split()[1:3] for line in text.splitlines()] == [["WARNING", "request"]]


def test_ids_of_requests(server: Server) -> None:
    def id_of(given: str | None) -> str:
        headers = {} if given is None else {"x-request-id": given}
        return server.call("GET", API + "/heartbeat", headers=headers).headers["x-request-id"]

    assert id_of("a.b-c_1:2/3=4@5~6+7") == "a.b-c_1:2/3=4@5~6+7"
    made = [id_of(given) for given in (None, None, "", "a b", "a\tb", "x" * 129, "ü", 'a"b', "{}")]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", id) for id in made)
    refused = server.call("GET", "/no/such/page", headers={"x-request-id": "here"})
    assert refused.headers["x-request-id"] == "here"
    answers = server.raw(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-request-id: one\r\n\r\n" * 2)
    assert answers.count(b"x-request-id: one\r\n") == 2


def test_whoever_does_not_wait_is_told() -> None:
    """A client that goes while its request is worked on: 499, once."""
    told: list[int] = []

    async def go() -> None:
        app = App(None, _config.ServerConfig())  # type: ignore[arg-type]
        app.observers.append(lambda _, response, __: told.append(response.status))
        app.answer = lambda _, loop: loop.create_future()  # type: ignore[method-assign]
        connection = Connections(app).make()
        connection.connection_made(asyncio.Transport({"peername": ("127.0.0.1", 1)}))
        connection.data_received(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert told == []
        connection.connection_lost(None)
        app.close()

    asyncio.run(go())
    assert told == [499]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_an_event(tmp_path: Path) -> None:
    variables = {"VEXFS_LOG_FORMAT": "json"}
    with run_server(tmp_path, "--workers", "2", variables=variables) as server:
        pids = [line["pid"] for line in lines_of(tmp_path) if line["event"] == "started"]
        os.kill(pids[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while sum(line["event"] == "started" for line in lines_of(tmp_path)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.call("GET", "/livez").status == 200
    (ended,) = [line for line in lines_of(tmp_path) if line["event"] == "worker_ended"]
    assert (ended["worker"], ended["code"], ended["level"]) == (pids[0], -9, "error")


# -- formats ---------------------------------------------------------------------------------------


def record(level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    found = logging.LogRecord("other.library", level, "file.py", 1, "it %s", ("is so",), None)
    found.__dict__.update(extra)
    return found


def test_a_line_stays_a_line() -> None:
    values = {
        "path": "/a b\n2026 INFO forged=1",
        "name": "plain-1",
        "n": 3,
        "quote": '"',
        "no": None,
    }
    line = _log._Text().format(record(event="thing", fields=values))
    assert "\n" not in line
    assert line.endswith(
        r'message="it is so" path="/a b\n2026 INFO forged=1" name=plain-1 n=3 quote="\"" no=null'
    )
    found = json.loads(_log._Json().format(record(event="thing", fields=values)))
    assert found | values == found
    found = json.loads(_log._Json().format(record(fields={"path": "\udcff"})))
    assert (found["event"], found["logger"], found["path"]) == (
        "message",
        "other.library",
        "\udcff",
    )


def test_an_error_that_nobody_expected_is_told_without_what_it_says() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error
    except ValueError:
        failed = record(logging.ERROR, exc_info=sys.exc_info())
    logger = logging.getLogger("vexfs_chroma.server")
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        line = _log._Json().format(failed)
        assert SECRET not in line
        found = json.loads(line)
        assert (found["error"], found["cause"]) == ("ValueError", "KeyError")
        assert "test_logs.py" in found["frames"][-1]
        logger.setLevel(logging.DEBUG)
        assert json.loads(_log._Json().format(failed))["detail"] == SECRET
    finally:
        logger.setLevel(before)


def test_a_share_of_the_requests(caplog: pytest.LogCaptureFixture) -> None:
    log = _log.AccessLog(_config.LogSection(access="all", sample=0.25))
    log._random.seed(11)
    with caplog.at_level(logging.INFO, "vexfs_chroma.server"):
        for _ in range(1000):
            log.observe(Request("GET", "/", "", {}), Response(200), 0.0)
        some = len(caplog.records)
        for _ in range(50):
            log.observe(Request("GET", "/", "", {}), Response(503), 0.0)
    assert 200 < some < 300
    assert len(caplog.records) == some + 50
    assert {r.levelname for r in caplog.records[some:]} == {"ERROR"}


def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """Requests are answered although the pipe is full; later the reader is told what it missed."""
    command = [sys.executable, "-m", "vexfs_chroma._cli", "serve", "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VEXFS_")}
    process = subprocess.Popen(
        [*command, "--path", str(tmp_path / "data")],
        cwd=tmp_path,
        env={**environment, "VEXFS_LOG_ACCESS": "all", "VEXFS_LOG_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.search(rb"at http://([0-9.]+):(\d+)", process.stdout.readline())
        assert found
        connection = http.client.HTTPConnection(found[1].decode(), int(found[2]), timeout=60)
        with contextlib.closing(connection):
            with contextlib.suppress(OSError, AttributeError):  # a page, which may be 64 KiB
                fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
            for _ in range(1500):  # a line has about 250 bytes
                connection.request("GET", "/nothing/" + "x" * 100)
                assert connection.getresponse().read() == b""
            logged: list[dict[str, Any]] = []
            while not any(line["event"] == "lines_lost" for line in logged):
                assert len(logged) < 5000
                connection.request("GET", API + "/heartbeat")
                connection.getresponse().read()
                logged.append(json.loads(process.stderr.readline()))
        (lost,) = [line for line in logged if line["event"] == "lines_lost"]
        assert lost["level"] == "warning"
        process.terminate()
        rest = process.stderr.read().splitlines()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    logged += map(json.loads, rest)
    nothing = [line for line in logged if line.get("route") == "unmatched"]
    more = sum(line["count"] for line in logged if line["event"] == "lines_lost")
    assert 0 < lost["count"] <= more
    assert len(nothing) + more >= 1500
    assert logged[-1]["event"] == "stopped"
