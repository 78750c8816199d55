"""What a process holds of requests and answers: who is counted how, and who is refused for it."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_kit import CHUNKED, HEAD, Bench, post, received, statuses

from vexfs_chroma._server._app import App
from vexfs_chroma._server._auth import Authenticator, Credential, hash_password
from vexfs_chroma._server._request import Request
from vexfs_chroma._server._routes import Route

GET = b"GET /api/v2/version HTTP/1.1\r\nhost: localhost\r\n"


def basic(password: str) -> bytes:
    return b"authorization: Basic " + base64.b64encode(f"ann:{password}".encode())


@pytest.fixture
def bench() -> Bench:
    """One that knows Ann, and holds little."""
    bench = Bench(body_bytes=20_000, buffered_bytes=50_000)
    bench.app.auth = Authenticator([], [Credential("ann", hash_password("right"), "write")])
    return bench


@contextlib.contextmanager
def rude(one: socket.socket, sent: list[bytes]) -> Iterator[list[socket.socket]]:
    """A connection for each of these, beside `one`."""
    with contextlib.ExitStack() as stack:
        opened = []
        for data in sent:
            opened.append(stack.enter_context(socket.create_connection(one.getpeername(), 10)))
            opened[-1].sendall(data)
        yield opened


def asked(sock: socket.socket, body: bytes) -> list[int]:
    sock.sendall(post("/note", body, basic("right")))
    return statuses(received(sock, silence=0.2))


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"content-length: 20000\r\n\r\n",
        GET + CHUNKED + b"4000\r\n" + b"x" * 0x4000,
        post("/note", b"x" * 20_000, basic("wrong"))[:-20_000],
    ],
    ids=["no body is taken", "in chunks", "of a stranger"],
)
def test_what_holds_nothing(bench: Bench, request_: bytes) -> None:
    """However much is announced."""
    with bench.connected() as sock:
        assert asked(sock, b"1") == [200]
        with rude(sock, [request_] * 10):
            time.sleep(0.3)
            assert bench.app.held.bytes == 0
            assert asked(sock, b"2" * 20_000) == [200]


def test_strangers_have_a_share_for_themselves(bench: Bench) -> None:
    with bench.connected() as sock:
        assert asked(sock, b"1") == [200]
        with rude(sock, [post("/note", b"x" * 20_000, basic("wrong"))[:-5_000]] * 5) as others:
            assert statuses(received(others[-1])) == [503]
            assert 0 < bench.app.held.of_strangers <= 20_000
            assert asked(sock, b"2" * 20_000) == [200]
        deadline = time.monotonic() + 10
        while bench.app.held.bytes and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (bench.app.held.bytes, bench.app.held.of_strangers) == (0, 0)


def test_a_stranger_with_the_right_password(bench: Bench) -> None:
    """Its body is there when the password was checked."""
    with bench.connected() as sock:
        assert asked(sock, b"x" * 20_000) == [200]
    assert bench.done == [b"x" * 20_000]


def test_answers_that_nobody_reads() -> None:
    """They are held, too; with too many of them others are told to wait."""
    bench = Bench(body_bytes=20_000, buffered_bytes=10_000_000)

    def large(app: App, request: Request) -> bytes:
        return b"x" * 20_000_000

    bench.app.router.add(Route("POST", "/large", "large", large, 2, ""))
    with bench.connected() as sock:
        with rude(sock, [post("/large", b"1")]):
            deadline = time.monotonic() + 10
            while bench.app.held.bytes < 10_000_000 and time.monotonic() < deadline:
                time.sleep(0.01)
            sock.sendall(post("/note", b"2"))
            assert statuses(received(sock, silence=0.2)) == [503]
        while bench.app.held.bytes and time.monotonic() < deadline:
            time.sleep(0.01)
        assert bench.app.held.bytes == 0
        sock.sendall(post("/note", b"3"))
        assert statuses(received(sock, silence=0.2)) == [200]
    assert bench.done == [b"3"]


def test_an_answer_that_nobody_reads_over_tls(tmp_path: Path) -> None:
    """The first one, too, of which TLS tells nobody while it is a single write."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key -out cert"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert"))
    bench = Bench()

    def large(app: App, request: Request) -> bytes:
        return b"x" * 20_000_000

    bench.app.router.add(Route("POST", "/large", "large", large, 2, ""))
    with bench.connected(context) as sock:
        with trusting.wrap_socket(sock, server_hostname="localhost") as secret:
            secret.sendall(post("/large", b"1"))
            deadline = time.monotonic() + 10
            while bench.app.held.bytes < 10_000_000 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert bench.app.held.bytes >= 10_000_000
            assert len(received(secret)) > 20_000_000
        assert bench.app.held.bytes == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([b"x-chroma-token: a", b"x-chroma-token: b"], 400),
        ([b"x-chroma-token: a", b"x-chroma-token: a"], 200),
        ([b"host: 127.0.0.1"], 400),
        ([b"accept: a", b"accept: b"], 200),
    ],
)
def test_a_header_with_two_values(headers: list[bytes], status: int) -> None:
    """Who looks at the first one, and who at the last, must not differ."""
    with Bench().connected() as sock:
        sock.sendall(post("/note", b"1", *headers))
        assert statuses(received(sock, silence=0.2)) == [status]


def test_bodies_that_are_encoded() -> None:
    bench = Bench()
    with bench.connected() as sock:
        coding = b"transfer-encoding: gzip, chunked\r\n\r\n"
        sock.sendall(HEAD % b"/note" + coding + b"2\r\n{}\r\n0\r\n\r\n")
        assert statuses(received(sock, silence=0.2)) == [501]
    assert bench.done == []


def test_no_path() -> None:
    with Bench().connected() as sock:
        sock.sendall(b"GET * HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert statuses(received(sock, silence=0.2)) == [404]
