"""Commands that ask a server: what they say when it does not tell."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from server_kit import running
from typer.testing import CliRunner

from vexfs_chroma._cli._app import app as vexctl
from vexfs_chroma._server._app import App
from vexfs_chroma._server._auth import hash_token
from vexfs_chroma._server._config import load

COMMANDS = (
    "metrics show",
    "metrics watch --count 1 --every 0.1",
    "metrics export",
    "memory stats",
    "cache stats",
    "profile --time 0.1",
    "bottlenecks identify --time 0.1",
    "contention analyze --time 0.1",
    "slow-log analyze",
    "performance report --time 0.1",
)


def said(command: str, url: str) -> tuple[int, str]:
    done = CliRunner().invoke(vexctl, [*command.split(), "--url", url])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.stdout == ""
    return done.exit_code, done.stderr


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The URL of a server that knows two tokens: `all`, and `one`, which is limited."""
    tokens = [
        {"name": "all", "hash": hash_token("all"), "role": "read"},
        {"name": "one", "hash": hash_token("one"), "role": "admin", "tenant": "mine"},
    ]
    with running(App(None, load(given={"auth": {"tokens": tokens}}, environment={}))) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("command", COMMANDS)
def test_tokens_that_do_not_open(
    guarded: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, a wrong one, and one without the right are three different things to do."""
    for token, expected in (
        ("", f"{guarded} wants a token: set VEXFS_TOKEN to one of its [[auth.tokens]]"),
        ("guess", f"{guarded} does not know the token in VEXFS_TOKEN (the token is not valid)"),
        ("one", "the token in VEXFS_TOKEN has no right to /"),
    ):
        monkeypatch.setenv("VEXFS_TOKEN", token)
        code, text = said(command, guarded)
        assert code == 3
        assert text.startswith(f"vexctl: {expected}"), text
    assert "one is limited to a tenant or database" in text


def test_what_cannot_be_a_token_is_not_shown(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("sec\nret", "secr\u00e9t"):
        monkeypatch.setenv("VEXFS_TOKEN", token)
        code, text = said("metrics show", guarded)
        assert code == 3
        assert text == "vexctl: VEXFS_TOKEN is no token: it has characters that cannot be sent\n"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Some other server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b"not here", "answers 404: is it a server of vexfs_chroma?"),
        (200, b"<html>", "tells something else: is it a server of vexfs_chroma?"),
        (200, b"[1]", "tells something else: is it a server of vexfs_chroma?"),
        (200, b'{"counters": {}}', "tells something else: is it a server of vexfs_chroma?"),
        (500, b'{"error": "x", "message": "what it says"}', "answers 500: what it says"),
        (403, b'{"error": "x", "message": "not by that name"}', "refuses (not by that name)"),
        (403, b"no", "refuses to answer"),
    ],
)
def test_other_servers(status: int, body: bytes, expected: str) -> None:
    with answering(status, body) as url:
        code, text = said("memory stats", url)
    assert code == 3
    assert text.startswith(f"vexctl: {url}")
    assert expected in text


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        free = f"http://127.0.0.1:{sock.getsockname()[1]}"
    for command in COMMANDS:
        code, text = said(command, free)
        assert code == 4
        assert text.startswith(f"vexctl: no server answers at {free}: ")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://[::1"]
)
def test_what_is_no_url(url: str) -> None:
    code, text = said("cache stats", url)
    assert code == 2
    assert "--url must be http://HOST:PORT" in text
