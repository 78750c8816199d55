"""The server's HTTP with nothing behind it, and sockets to send it whatever one likes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

from server_kit import running

from vexfs_chroma._server._app import App
from vexfs_chroma._server._config import load
from vexfs_chroma._server._request import Request
from vexfs_chroma._server._routes import Route

HEAD = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD % path.encode() + lines + b"content-length: %d\r\n\r\n" % len(body) + body


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def received(sock: socket.socket, timeout: float = 10, silence: float = 1) -> bytes:
    """Whatever comes until the connection is closed or idle."""
    sock.settimeout(timeout)
    found = []
    with contextlib.suppress(OSError):
        while chunk := sock.recv(1 << 20):
            found.append(chunk)
            sock.settimeout(silence)
    return b"".join(found)


class Bench:
    """An application with two routes that write: one waits for `go`, both note what they got."""

    def __init__(self, **limits: float) -> None:
        self.app = App(None, load(given={"limits": limits}, environment={}))  # type: ignore[arg-type]
        self.go = threading.Event()
        self.done: list[bytes] = []
        for name, handler in (("slow", self._slow), ("note", self._note)):
            self.app.router.add(Route("POST", f"/{name}", name, handler, 2, ""))

    def _slow(self, app: App, request: Request) -> bytes:
        self.go.wait(20)
        return self._note(app, request)

    def _note(self, app: App, request: Request) -> bytes:
        self.done.append(request.body)
        return b"{}"

    @contextlib.contextmanager
    def connected(self, context: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
        """`context`: that of the server, for TLS; the socket is without, as yet."""
        with running(self.app, context) as port:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                    yield sock
            finally:
                self.go.set()
