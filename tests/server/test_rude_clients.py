"""Clients that read nothing, drip, or send what nobody asks for: bounds hold, answers are in order.

What is sent to `app` is HTTP alone; there is no database behind it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from bench_kit import CHUNKED, HEAD, Bench, post, received, statuses
from server_kit import API, DEFAULT, Server, run_server

from vexfs_chroma._server._app import App
from vexfs_chroma._server._request import Request
from vexfs_chroma._server._routes import Route


def test_a_head_that_drips() -> None:
    """read_seconds is for all of a head, not for each piece of it."""
    with Bench(read_seconds=0.5).connected() as sock:
        sock.sendall(b"GET /api/v2/version HTTP/1.1\r\n")
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < 10:
                sock.sendall(b"x: y\r\n")
                time.sleep(0.1)
        assert time.monotonic() - begun < 8


def test_answers_that_nobody_reads(tmp_path: Path) -> None:
    """Requests behind them wait; when the client reads at last, all are answered."""
    with run_server(tmp_path) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
        path = f"{DEFAULT}/collections/{made.json['id']}"
        body = {"ids": ["a"], "embeddings": [[1]], "documents": ["x" * 250_000]}
        assert server.call("POST", path + "/add", body).status == 201
        one = post(path + "/get", b'{"ids": ["a"]}')
        server.raw(one * 3)
        before = server.memory()
        with socket.create_connection((server.host, server.port), timeout=10) as sock:
            for _ in range(4):
                sock.sendall(one * 100)
                time.sleep(0.5)
            grown = server.memory() - before
            answers = received(sock, silence=5)
        assert statuses(answers) == [200] * 400
        assert grown < 40 * 2**20


def test_a_trailer_without_end() -> None:
    """What comes behind the last chunk is bounded as the head is."""
    bench = Bench()
    with bench.connected() as sock:
        sock.sendall(HEAD % b"/note" + CHUNKED + b"2\r\n{}\r\n0\r\nx: ")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 5_000_000:
                sent += sock.send(b"y" * 10_000)
                time.sleep(0.001)
        assert sent < 5_000_000 or statuses(received(sock)) == [431]
    assert bench.done == []


def test_a_short_trailer_is_dropped() -> None:
    bench = Bench()
    with bench.connected() as sock:
        trailer = b"0\r\nx-request-id: a\r\nx-chroma-token: b\r\n\r\n"
        sock.sendall((HEAD % b"/note" + CHUNKED + b"2\r\n{}\r\n" + trailer) * 2)
        assert statuses(received(sock)) == [200, 200]
    assert bench.done == [b"{}", b"{}"]


def test_a_body_in_tiny_chunks(tmp_path: Path) -> None:
    """It takes about as much memory as it has bytes."""
    with run_server(tmp_path) as server:
        before = server.memory()
        with socket.create_connection((server.host, server.port), timeout=60) as sock:
            sock.sendall(HEAD % (API + "/tenants").encode() + CHUNKED)
            for _ in range(32):
                sock.sendall(b"2\r\n  \r\n" * 2**16)
            time.sleep(0.5)
            assert server.memory() - before < 40 * 2**20
            sock.sendall(b'e\r\n{"name":"abc"}\r\n0\r\n\r\n')
            assert statuses(received(sock)) == [200]


def test_what_waited_behind_a_request_that_took_too_long() -> None:
    """Its bytes are not counted for ever."""
    bench = Bench(request_seconds=0.2)
    with bench.connected() as sock:
        sock.sendall(post("/slow", b"a" * 100) + post("/note", b"b" * 100))
        assert statuses(received(sock)) == [503]
        assert bench.app.held.bytes == 100  # a thread has the first one still
        bench.go.set()
        deadline = time.monotonic() + 10
        while bench.app.held.bytes and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bench.app.held.bytes == 0
    assert bench.done == [b"a" * 100]


def test_rubbish_behind_a_request() -> None:
    """The request is answered first."""
    bench = Bench()
    with bench.connected() as sock:
        sock.sendall(post("/slow", b"1") + post("/note", b"2") + b"rubbish\r\n\r\n")
        time.sleep(0.2)
        bench.go.set()
        assert statuses(received(sock)) == [200, 200, 400]
    assert bench.done == [b"1", b"2"]


def test_rubbish_behind_the_last_request() -> None:
    bench = Bench()
    with bench.connected() as sock:
        sock.sendall(post("/slow", b"1", b"connection: close") + b"rubbish\r\n\r\n")
        time.sleep(0.2)
        bench.go.set()
        assert statuses(received(sock)) == [200]
    assert bench.done == [b"1"]


def test_rubbish_within_a_request_that_was_refused() -> None:
    """It has its answer: there is no second one, which would be taken for that to the next."""
    with Bench().connected() as sock:
        sock.sendall(HEAD % b"/nothing" + CHUNKED + b"2\r\n{}\r\nzz\r\n")
        assert statuses(received(sock)) == [404]


def test_upgrades_one_behind_the_other(server: Server) -> None:
    upgrade = b"connection: upgrade\r\nupgrade: x\r\n\r\n"
    one = b"GET /api/v2/version HTTP/1.1\r\nhost: localhost\r\n" + upgrade
    assert statuses(server.raw(one * 2000)) == [200] * 2000


def test_stopping_while_a_refused_body_comes(tmp_path: Path) -> None:
    """Nothing is waited for once the rest of it is there."""
    with run_server(tmp_path) as server:
        with socket.create_connection((server.host, server.port), timeout=10) as sock:
            sock.sendall(post("/nothing", b"x" * 10)[:-10])
            assert statuses(sock.recv(65536)) == [404]
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with contextlib.suppress(OSError):
                sock.sendall(b"x" * 10)
            begun = time.monotonic()
            assert server.process.wait(60) == 0
        assert time.monotonic() - begun < 15


def test_a_client_that_has_said_everything() -> None:
    """What it asked is answered, all of it."""
    bench = Bench()
    with bench.connected() as sock:
        sock.sendall(post("/slow", b"1") + post("/note", b"2"))
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        bench.go.set()
        assert statuses(received(sock)) == [200, 200]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_handshake_that_does_not_begin(tmp_path: Path, workers: str) -> None:
    """It may take read_seconds, too."""
    made = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out server.pem -subj /CN=localhost"
    subprocess.run(["openssl", *made.split()], cwd=tmp_path, check=True, capture_output=True)
    config = '[tls]\ncertificate = "server.pem"\nkey = "key.pem"\n[limits]\nread_seconds = 1.0\n'
    with (
        run_server(tmp_path, "--workers", workers, config=config) as server,
        socket.create_connection((server.host, server.port), timeout=30) as sock,
    ):
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""
        assert time.monotonic() - begun < 20


def test_an_answer_that_waited_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    """It is written when the one before it was read at last."""
    bench = Bench()

    def large(app: App, request: Request) -> bytes:
        return b"x" * 20_000_000

    bench.app.router.add(Route("POST", "/large", "large", large, 2, ""))
    with bench.connected() as sock:
        sock.sendall(post("/large", b"") + post("/nothing", b"", b"connection: close"))
        time.sleep(0.5)
        assert statuses(received(sock)) == [200, 404]
    assert [record.getMessage() for record in caplog.records] == []


UPGRADE = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk")


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("path", ["/note", "/nothing"])
def test_an_upgrade_with_a_body(path: str, *, pieces: bool) -> None:
    """As Java's client asks for HTTP/2: it is the body of that request, not another request."""
    body, lines = post("/note", b"smuggled"), b"".join(line + b"\r\n" for line in UPGRADE)
    chunked = HEAD % path.encode() + lines + CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    sent = (post(path, body, *UPGRADE) + chunked + post(path, b"", *UPGRADE)) * 2
    bench = Bench()
    with bench.connected() as sock:
        for at in range(0, len(sent), 1 if pieces else len(sent)):
            sock.sendall(sent[at : at + (1 if pieces else len(sent))])
        answers = statuses(received(sock))
        assert bench.app.held.bytes == 0
    assert answers == ([200] if path == "/note" else [404]) * 6
    assert bench.done == ([body, body, b""] * 2 if path == "/note" else [])


def test_requests_behind_an_answer_that_closes() -> None:
    """Whoever counts requests is not told of what has no answer."""
    bench = Bench()
    told: list[int] = []
    bench.app.observers.append(lambda request, response, _: told.append(response.status))
    with bench.connected() as sock:
        refused = HEAD % b"/nothing" + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n{}"
        sock.sendall(refused + post("/nothing", b"{}") * 2 + post("/note", b"{}"))
        assert statuses(received(sock)) == [404]
    assert told == [404]
    assert bench.done == []
