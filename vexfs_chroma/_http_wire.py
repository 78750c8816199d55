"""HTTP/1.1 requests over connections that are kept: what our HttpClient has in the place of httpx.

One request is one write and usually one read.  Errors are those of httpx, which programs catch.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import httpx

from vexfs_chroma._observe import _trace

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_READ_BYTES = 256 * 1024
_HEAD_MOST = 256 * 1024
_IDLE_MOST = 64
_NO_BODY = frozenset({204, 304})


class Answer(NamedTuple):
    """A response."""

    status: int
    head: bytes
    """The status line and the headers, as they came."""
    body: bytes

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [
            (name.strip(), value.strip())
            for name, _, value in (line.partition(":") for line in lines)
        ]


class _Connection:
    """One socket."""

    __slots__ = ("sock", "used")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.used = 0.0

    def is_usable(self, keepalive: float | None) -> bool:
        """Whether a request may be sent: nothing came, not even the end, since the last answer."""
        if keepalive is not None and time.monotonic() - self.used > keepalive:
            return False
        try:
            looked = select.poll()  # select() takes no descriptor above 1023
            looked.register(self.sock, select.POLLIN)
            return not looked.poll(0)
        except (OSError, ValueError):
            return False


class Wire:
    """The connections to one server.  Any number of threads may use it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        context: ssl.SSLContext | None,
        keepalive: float | None,
    ) -> None:
        """`url`: what every path is put behind; `keepalive`: the seconds that a connection is
        kept unused.
        """
        parts = urlsplit(url)
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path
        self._context = context if parts.scheme == "https" else None
        self._keepalive = keepalive
        kept = {n: v for n, v in headers.items() if n.lower() not in _OURS}
        lines = [f"host: {parts.netloc}", *(f"{name}: {value}" for name, value in kept.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header must not have line breaks")
        self._head = "".join(line + "\r\n" for line in lines).encode("latin-1")
        self._idle: list[_Connection] = []
        self._pid = os.getpid()

    def request(self, method: str, target: str, body: bytes | None) -> Answer:
        """Send one request and wait for the answer, however long it takes."""
        traced = b"" if _trace.tracer is None else _trace.tracer.headers()
        message = b"%b %b%b HTTP/1.1\r\n%b%b" % (
            method.encode(),
            self._prefix.encode(),
            target.encode("ascii"),
            self._head,
            traced,
        )
        if body is not None:
            message += b"content-length: %d\r\n\r\n%b" % (len(body), body)
        else:
            message += b"\r\n"
        connection = self._take()
        try:
            connection.sock.sendall(message)
            answer, is_kept = _read(connection.sock)
        except OSError as error:
            connection.sock.close()
            raise httpx.ReadError(f"the connection broke: {error}") from error
        except BaseException:
            connection.sock.close()
            raise
        if is_kept and len(self._idle) < _IDLE_MOST:
            connection.used = time.monotonic()
            self._idle.append(connection)
        else:
            connection.sock.close()
        return answer

    def _take(self) -> _Connection:
        if self._pid != os.getpid():  # a forked child: the sockets are its parent's
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_usable(self._keepalive):
                return connection
            connection.sock.close()
        try:
            sock = socket.create_connection((self._host, self._port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return _Connection(sock)

    def close(self) -> None:
        """Close what is not in use."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().sock.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle") and self._pid == os.getpid():
            self.close()


# What every request has by itself, and what would have to be undone in the answer.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


def _read(sock: socket.socket) -> tuple[Answer, bool]:
    """The answer, and whether the connection may be used again."""
    data = b""
    while True:
        data, head_end = _read_head(sock, data)
        status = int(data[9:12])
        if status >= 200 or status == 101:
            break
        data = data[head_end + 4 :]  # 1xx: the answer is still to come
    head = data[:head_end]
    rest = data[head_end + 4 :]
    lower = head.lower()
    is_kept = lower[:8] == b"http/1.1" and b"\r\nconnection: close" not in lower
    length = _value(lower, b"\r\ncontent-length:")
    if status in _NO_BODY:
        body = b""
    elif length is not None:
        body = _read_exactly(sock, rest, int(length))
    elif b"chunked" in (_value(lower, b"\r\ntransfer-encoding:") or b""):
        body = _read_chunks(sock, rest)
    else:
        body, is_kept = _read_all(sock, rest), False
    return Answer(status, head, body), is_kept


def _read_head(sock: socket.socket, data: bytes) -> tuple[bytes, int]:
    while True:
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            if data[:5] != b"HTTP/" or not data[9:12].isdigit():
                raise httpx.RemoteProtocolError("the server does not speak HTTP/1.1")
            return data, end
        if len(data) > _HEAD_MOST:
            raise httpx.RemoteProtocolError("the head of the answer has no end")
        data += _receive(sock)


def _receive(sock: socket.socket) -> bytes:
    chunk = sock.recv(_READ_BYTES)
    if not chunk:
        raise httpx.RemoteProtocolError("the server closed the connection within an answer")
    return chunk


def _value(lower: bytes, name: bytes) -> bytes | None:
    at = lower.find(name)
    if at < 0:
        return None
    end = lower.find(b"\r\n", at + 2)
    return lower[at + len(name) : end if end >= 0 else len(lower)].strip()


def _read_exactly(sock: socket.socket, rest: bytes, n: int) -> bytes:
    if len(rest) >= n:
        return rest[:n]
    parts, have = [rest], len(rest)
    while have < n:
        chunk = _receive(sock)
        parts.append(chunk)
        have += len(chunk)
    return b"".join(parts)[:n]


def _read_chunks(sock: socket.socket, rest: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        while (end := rest.find(b"\r\n")) < 0:
            rest += _receive(sock)
        try:
            size = int(rest[:end].partition(b";")[0], 16)
        except ValueError as error:
            raise httpx.RemoteProtocolError("a chunk of the answer has no length") from error
        while len(rest) < end + 2 + size + 2:
            rest += _receive(sock)
        if not size:
            return b"".join(parts)
        parts.append(rest[end + 2 : end + 2 + size])
        rest = rest[end + 2 + size + 2 :]


def _read_all(sock: socket.socket, rest: bytes) -> bytes:
    parts = [rest]
    while chunk := sock.recv(_READ_BYTES):
        parts.append(chunk)
    return b"".join(parts)
