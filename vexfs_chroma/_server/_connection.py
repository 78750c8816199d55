"""HTTP/1.1 on one connection.

httptools (llhttp) parses; here is what a server must add to it: the size of the head and of the
body is bounded, every phase has a deadline, requests on one connection are answered in order, and a
response is one write.  The deadlines are looked at by `Connections.sweep` a few times a second, so
that keeping them costs a request nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import httptools

from vexfs_chroma._observe._facts import usable_cpus
from vexfs_chroma._server._errors import HttpError, invalid, unavailable
from vexfs_chroma._server._idle_poll import IdlePoll
from vexfs_chroma._server._request import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from vexfs_chroma._server._app import App

_KEPT = frozenset(
    {
        b"access-control-request-method",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"if-none-match",
        b"origin",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"user-agent",
        b"x-chroma-token",
        b"x-request-id",
    }
)
_ONCE = frozenset({b"authorization", b"host", b"transfer-encoding", b"x-chroma-token"})
_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_NEVER = float("inf")
_GONE = 499  # what observers are told of requests whose client did not wait, as nginx has it
_ONE_WRITE_BYTES = 64 * 1024
_TLS_WRITE_BYTES = 256 * 1024
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:/+=@~-]{1,128}")
_HEAD_TOO_LARGE = HttpError(431, "InvalidArgumentError", "the head of the request is too large")


def _has_body(request: Request) -> bool:
    headers = request.headers
    return b"transfer-encoding" in headers or int(headers.get(b"content-length", 0)) > 0


class Connections:
    """All connections of a process."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.open: set[Connection] = set()
        self.stopping = False
        self.lost: Callable[[], None] = lambda: None
        """Called when a connection is closed, by whichever side."""
        self.date = b""
        seconds = app.config.server.idle_poll_us / 1e6
        has_cpu = (usable_cpus() or 1) > 1  # one for the client, too
        self.poll = IdlePoll(self.loop, seconds) if seconds and has_cpu else None
        self._id_prefix = os.urandom(6).hex()
        self._ids = itertools.count(1)
        self.sweep()

    def request_id(self, given: bytes | None) -> str:
        """The client's, if it may stand in logs and headers as it is, else a new one."""
        if given is not None and _SAFE_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{self._id_prefix}-{next(self._ids):x}"

    def make(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self)

    def sweep(self) -> None:
        """Close what is past its deadline."""
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        now = self.loop.time()
        for connection in [c for c in self.open if c.deadline < now]:
            connection.expire()

    def stop(self) -> None:
        """Close idle connections now, and the others when they have their answer."""
        self.stopping = True
        for connection in list(self.open):
            connection.close_when_idle()

    def abort(self) -> None:
        """Close everything now."""
        for connection in list(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, all: Connections) -> None:
        self._all = all
        self._app = all.app
        self._limits = all.app.config.limits
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        """Requests that came behind the one that is being answered."""
        self._running: Request | None = None
        self._is_paused = False
        self._unsent = 0
        self._has_tls = False
        self._is_deaf = False
        """Nothing more is read, but what came is answered."""
        self._closing = False
        self._is_idle = True
        """No byte of a next request came."""
        self._reset()
        self._head_bytes = self._head_length = 0
        self._has_moved = False
        self._client: str | None = None
        self.deadline = _NEVER

    def _reset(self) -> None:
        self._request: Request | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._is_ambiguous = False
        """A header that may come once has two values; a proxy may have looked at the other one."""
        self._body: bytes | bytearray = b""

    # -- the transport -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else None
        self._has_tls = transport.get_extra_info("sslcontext") is not None
        everybody = self._all.open
        if len(everybody) >= self._limits.connections:
            self._refuse(unavailable("the server has too many connections"))
            return
        everybody.add(self)
        self._app.connections = len(everybody)
        self.deadline = self._all.loop.time() + self._limits.read_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went."""
        self._all.open.discard(self)
        self._app.connections = len(self._all.open)
        self._all.lost()
        self._transport = None
        self._hold_unsent(0)
        if self._request is not None:
            self._app.held.give_back(self._request)
        for request in self._queue:
            self._app.held.give_back(request)
        if self._running is not None:
            self._running.abandoned = True
            if self._app.observers:
                self._app.finished(self._running, Response(_GONE))
        self._queue.clear()
        self._request = None

    def eof_received(self) -> bool:
        """The client has said everything; what it asked is still answered."""
        if self._running is None and not self._queue:
            return False
        self._is_deaf = True
        return True

    def pause_writing(self) -> None:
        """The client reads slowly: until it has, nothing more is read or answered."""
        self._is_paused = True
        if self._transport is not None:
            self._hold_unsent(self._transport.get_write_buffer_size())
            self._transport.pause_reading()
        if self._running is None:
            self._be_idle()

    def resume_writing(self) -> None:
        """It has read most of it."""
        self._is_paused = False
        self._hold_unsent(0)
        if self._running is None:
            self._be_idle()
        # Not now: asyncio's transports cannot be closed in the midst of their writing.
        self._all.loop.call_soon(self._go_on)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._is_idle and self._running is None:
            self._is_idle = False
            self.deadline = self._all.loop.time() + self._limits.read_seconds
        while data and not self._closing and not self._is_deaf:
            self._has_moved = False
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Nothing to upgrade to: what follows is HTTP/1.1.
                self._parser = httptools.HttpRequestParser(self)
                data = data[upgrade.args[0] :]
                if self._request is not None:
                    self._expect_body(self._request)
                continue
            except httptools.HttpParserError:
                self._refuse(HttpError(400, "InvalidArgumentError", "the request is not HTTP/1.1"))
                return
            if not self._has_moved:  # all of it was head, or what is between and after chunks
                self._head_bytes += len(data)
                if self._head_bytes > self._limits.head_bytes:
                    self._refuse(_HEAD_TOO_LARGE)
            return

    def _expect_body(self, request: Request) -> None:
        """Have a new parser read on behind a head that another one has read."""
        length = request.headers.get(b"content-length")
        framing = b"transfer-encoding: chunked"
        if length is not None:
            framing = b"content-length: " + length
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")

    def _hold_unsent(self, n: int) -> None:
        """So many bytes of an answer wait for the client."""
        self._app.held.bytes += n - self._unsent
        self._unsent = n

    # -- the parser --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        if self._request is not None:
            return  # it did already: see _expect_body
        self._reset()
        self._head_bytes = self._head_length = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._url += url
        self._head_length += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; most are of no interest."""
        if self._request is not None:
            return  # behind the body: of no interest, either
        self._head_length += len(name) + len(value) + 4
        name = name.lower()
        if name in _KEPT:
            if self._headers.setdefault(name, value) != value and name in _ONCE:
                self._is_ambiguous = True
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Who asks for what is known now."""
        self._move()
        if self._request is not None or self._closing:  # who was told so sends it again elsewhere
            return
        app, headers = self._app, self._headers
        path, _, query = self._url.decode("latin-1").partition("?")
        if "://" in path and path[:1] != "/":  # absolute form, as proxies get it
            path = "/" + path.partition("://")[2].partition("/")[2]
        request = Request(self._parser.get_method().decode("ascii"), path, query, headers)
        request.started = time.perf_counter()
        if self._all.poll is not None:
            self._all.poll.asked(request.started)
        request.id = self._all.request_id(headers.get(b"x-request-id"))
        request.client = self._client
        request.keep_alive = self._parser.should_keep_alive()
        self._request = request
        error = self._misfit()
        if error is None:
            app.open(request)
        else:
            request.keep_alive = False
            request.refusal = app.failed(request, error)
        if request.refusal is None and b"content-length" in headers:
            try:
                app.held.announce(request, int(headers[b"content-length"]))
            except HttpError as error:
                self._refuse_body(request, error)
        if b"expect" in headers and self._is_free:
            if request.refusal is not None:
                request.keep_alive = False  # the body may or may not come
            elif self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._respond_early(request)

    def _misfit(self) -> HttpError | None:
        """What is wrong with the head, whoever asks for whatever."""
        if self._head_length > self._limits.head_bytes:
            return _HEAD_TOO_LARGE
        if self._is_ambiguous:
            return invalid("a header that may come once came with two values")
        if self._headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            return HttpError(501, "Unimplemented", "bodies may be chunked, not encoded otherwise")
        return None

    def _move(self) -> None:
        """The parser came to something that is not bounded by the size of the head."""
        self._has_moved, self._head_bytes = True, 0

    @property
    def _is_free(self) -> bool:
        """Whether the next answer on the wire is that to the next request."""
        return self._running is None and not self._queue and not self._is_paused

    def _respond_early(self, request: Request) -> None:
        """Answer a request that is refused now, if it is its turn; its body is dropped."""
        if request.refusal is not None and self._is_free:
            self._respond(request, request.refusal)

    def _refuse_body(self, request: Request, error: HttpError) -> None:
        self._app.held.give_back(request)
        self._body = b""
        request.refusal = self._app.failed(request, error)

    def on_chunk_header(self) -> None:
        """The size of a chunk; of the last one, it is 0."""
        self._move()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._move()
        request = self._request
        if request is None or request.refusal is not None:
            return  # refused: read and dropped
        try:
            if not self._app.held.keeps(request, len(body)):
                return
        except HttpError as error:
            self._refuse_body(request, error)
            self._respond_early(request)
            return
        if not self._body:
            self._body = body
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += body  # not a list: parts may be as short as a byte

    def on_message_complete(self) -> None:
        """The request is there."""
        request = self._request
        self._move()
        if request is None:
            return
        if self._parser.should_upgrade() and _has_body(request):
            return  # httptools says so when the head is there
        self._request = None
        request.body = bytes(self._body)
        self._body = b""
        if self._closing:  # who was told so sends it again elsewhere
            self._app.held.give_back(request)
        elif self._is_free:
            self._answer(request)
        else:
            self._wait(request)

    def _wait(self, request: Request) -> None:
        """Answer it when it is its turn, and read nothing more until then."""
        self._queue.append(request)
        if self._transport is not None:
            self._transport.pause_reading()

    # -- answers -----------------------------------------------------------------------------------

    def _answer(self, request: Request) -> None:
        if request.refusal is not None:
            if not request.is_answered:
                self._respond(request, request.refusal)
            elif self._all.stopping:
                self._close()
            else:
                self._be_idle()
            return
        self._running = request
        response = self._app.answer(request, self._all.loop)
        if isinstance(response, Response):
            self._respond(request, response)
            return
        self.deadline = self._all.loop.time() + self._limits.request_seconds
        response.add_done_callback(lambda done: self._later(request, done.result()))

    def _later(self, request: Request, response: Response) -> None:
        if self._transport is None or request.abandoned:
            self._app.held.give_back(request)
            return
        self._respond(request, response)
        self._go_on()

    def _go_on(self) -> None:
        """Answer what came meanwhile; then read on."""
        while self._queue and self._running is None and not self._is_paused:
            if self._transport is None or self._closing:
                return
            self._answer(self._queue.popleft())
        if self._queue or self._is_paused or self._closing or self._transport is None:
            return
        self._transport.resume_reading()

    def _respond(self, request: Request, response: Response) -> None:
        self._running = None
        self._app.held.give_back(request)
        if self._app.observers:
            self._app.finished(request, response)
        if self._closing or self._all.stopping or (self._is_deaf and not self._queue):
            request.keep_alive = False
        self._send(response, request)
        request.is_answered = True
        if not request.keep_alive:
            self._close()
        else:
            self._be_idle()
            if self._app.connections == 1 and self._all.poll is not None:
                self._all.poll.answered()

    def _send(self, response: Response, request: Request) -> None:
        transport = self._transport
        if transport is None:
            return
        body = response.body
        head = [
            _LINES[response.status],
            self._all.date,
            b"content-length: %d\r\n" % len(body),
        ]
        if body:
            head.append(b"content-type: " + response.kind + b"\r\n")
        for name, value in response.headers:
            head.append(f"{name}: {value}\r\n".encode("latin-1"))
        if not request.keep_alive:
            head.append(b"connection: close\r\n")
        head.append(f"x-request-id: {request.id}\r\n".encode("ascii"))
        self._add_cors(request, head)
        head.append(b"\r\n")
        if request.method == "HEAD":
            body = b""
        if len(body) <= _ONE_WRITE_BYTES:
            head.append(body)
            transport.write(b"".join(head))
        else:
            transport.write(b"".join(head))
            # Whatever is written at once goes past what TLS holds back, and is not told of.
            step = _TLS_WRITE_BYTES if self._has_tls else len(body)
            for at in range(0, len(body), step):
                transport.write(body[at : at + step])
            if self._is_paused:
                self._hold_unsent(transport.get_write_buffer_size())

    def _add_cors(self, request: Request, head: list[bytes]) -> None:
        if not self._app.config.cors.allow_origins:
            return
        head.append(b"vary: origin\r\n")
        origin = request.headers.get(b"origin")
        allowed = None if origin is None else self._app.allowed_origin(origin)
        if allowed is not None:
            head.append(f"access-control-allow-origin: {allowed}\r\n".encode("latin-1"))

    def _refuse(self, error: HttpError) -> None:
        """Answer what cannot be read (on), under an id of its own, and close."""
        if self._closing:
            return
        if self._request is not None and self._request.is_answered:
            self._close()  # one answer is enough
            return
        request = Request("", "", "", {})
        request.started = time.perf_counter()
        request.id = self._all.request_id(None)
        request.client = self._client
        request.keep_alive = False
        request.refusal = self._app.failed(request, error)
        if self._is_free:
            self._respond(request, request.refusal)
        else:
            self._is_deaf = True
            self._wait(request)

    # -- the end -----------------------------------------------------------------------------------

    def _be_idle(self) -> None:
        self._is_idle = not self._is_paused
        limits = self._limits
        seconds = limits.idle_seconds if self._is_idle else limits.read_seconds
        self.deadline = self._all.loop.time() + seconds

    def _close(self) -> None:
        self._closing = True
        self.deadline = self._all.loop.time() + self._limits.read_seconds
        if self._transport is not None:
            self._transport.close()

    def close_when_idle(self) -> None:
        """Take no further request."""
        if self._running is None and not self._queue and self._request is None:
            self._close()

    def expire(self) -> None:
        """The deadline is over."""
        running = self._running
        if running is None or self._closing:
            self.abort()
            return
        running.abandoned = True
        running.keep_alive = False
        for request in self._queue:
            self._app.held.give_back(request)
        self._queue.clear()
        held, running.size = running.size, 0  # a thread has the body still: see _later
        seconds = self._limits.request_seconds
        self._respond(
            running,
            self._app.failed(
                running,
                HttpError(
                    503,
                    "InternalError",
                    f"not done after {seconds:g} seconds; a write may still be carried out",
                ),
            ),
        )
        running.size = held

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
