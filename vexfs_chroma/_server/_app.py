"""From a request to its response: route, permission, limits, handler, and where that runs.

What is known to be short runs at once, on the event loop; handing it to a thread would cost more
than most queries take.  Everything else, all writes among it, runs in a few threads, where the
engine works without the interpreter's lock and writes share their syncs.  How long a request takes
is known from those like it before: same operation, same collection, about the same size.

Nothing waits without bound: requests beyond `waiting` are refused with 429, and bodies beyond
`buffered_bytes` with 503, both with Retry-After.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from vexfs_chroma._observe._history import History
from vexfs_chroma._observe._trace import here
from vexfs_chroma._observe._waits import WaitCounters
from vexfs_chroma._server._auth import ROLES, Authenticator, forbidden
from vexfs_chroma._server._bodies import SearchRecords, decode
from vexfs_chroma._server._errors import (
    HttpError,
    busy,
    error_response,
    invalid,
    new_trace_id,
)
from vexfs_chroma._server._gather import Gatherer, is_gathered
from vexfs_chroma._server._held import Held
from vexfs_chroma._server._hosts import LocalNames
from vexfs_chroma._server._records import collection_id, nearest_together
from vexfs_chroma._server._request import JSON, Request, Response
from vexfs_chroma._server._routes import ADMIN, PAGE_ROUTES, READ, ROUTES, Router

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from vexfs_chroma._api import VexfsAPI
    from vexfs_chroma._server._auth import Principal
    from vexfs_chroma._server._config import ServerConfig
    from vexfs_chroma._server._gather import Gathered
    from vexfs_chroma._server._routes import Resource
    from vexfs_chroma._server._traces import RequestTracer

    Observer = Callable[[Request, Response, float], None]

_INLINE_SECONDS = 0.0005
_INLINE_BYTES = 64 * 1024
_KNOWN_MOST = 8192
_NAME_MOST = 64  # characters of a collection's name or id that tell it from others
_HOMES_MOST = 65536
_TEXTUAL = frozenset({"#document", "$regex", "$not_regex"})  # keys of such filters
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class App:
    """The server, without its sockets."""

    def __init__(self, api: VexfsAPI, config: ServerConfig) -> None:
        self.api = api
        self.config = config
        self.router = Router(ROUTES + PAGE_ROUTES if config.server.page else ROUTES)
        self.auth = Authenticator(config.auth.tokens, config.auth.users)
        is_local = self.auth.is_open and not config.server.allow_open_network
        self._names = LocalNames() if is_local else None
        self.observers: list[Observer] = []
        """Called with every finished request, its response and the seconds that it took.

        Without any, no clock is read.
        """
        self.tracer: RequestTracer | None = None
        """Makes a span of every request."""
        self.waits = WaitCounters()
        self.held = Held(config.limits)
        self.connections = 0
        """That are open."""
        self._gatherer = Gatherer(self._answer_all)
        self._threads = _Threads(config.server.threads, config.limits.waiting)
        self._expected: dict[tuple[Any, ...], float] = {}
        self._homes: dict[UUID, tuple[str, str]] = {}
        self.history = History()
        """Takes no points until it is started."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread or have one."""
        return self._threads.waiting

    def close(self) -> None:
        """Finish what runs in threads, and end them."""
        self._threads.close()
        self.history.close()

    # -- when the headers are there ----------------------------------------------------------------

    def open(self, request: Request) -> None:
        """Find the route; set `refusal` where the body need not be waited for."""
        if self.tracer is not None:
            request.span = self.tracer.begin(request)
        try:
            self._open(request)
        except HttpError as error:
            request.refusal = self.failed(request, error)

    def _open(self, request: Request) -> None:
        if self._names is not None and not self._names.have(request.headers.get(b"host")):
            raise forbidden(
                "nobody signs in here, so the server answers to names of this machine only, such "
                "as localhost; behind a proxy set [server] allow_open_network = true"
            )
        found = self.router.find(_parts(request.path))
        if found is None:
            if request.path.startswith("/api/v1/"):
                raise HttpError(
                    410, "Unimplemented", "The v1 API is deprecated. Please use /v2 apis"
                )
            request.refusal = Response(404, headers=(("chroma-trace-id", _trace_id(request)),))
            return
        resource, request.values = found
        method = "GET" if request.method == "HEAD" else request.method
        route = request.route = resource.methods.get(method)
        if route is None:
            request.refusal = self._no_such_method(request, resource)
            return
        origin = request.headers.get(b"origin")
        if (
            origin is not None
            and method not in _SAFE_METHODS
            and not self._welcome(request, origin)
        ):
            raise forbidden(
                "pages of this origin may not call the server; see [cors] in vexfs.toml"
            )
        if route.role and not self.auth.is_open:
            request.principal = self.auth.quickly(request.headers)
            if request.principal is None:
                request.is_stranger = True
            else:
                self._permit(request, request.principal)
        if route.body is not None:
            kind = request.headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
            if kind != JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
                raise HttpError(
                    415, "ChromaError", "Expected request with `Content-Type: application/json`"
                )
            if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
                raise invalid("compressed request bodies are not supported")

    def _no_such_method(self, request: Request, resource: Resource) -> Response:
        wanted = request.headers.get(b"access-control-request-method")
        if request.method == "OPTIONS" and wanted and self.config.cors.allow_origins:
            headers = (
                ("access-control-allow-methods", "*"),
                ("access-control-allow-headers", "*, authorization"),
                ("access-control-max-age", "600"),
                ("allow", resource.allow),
            )
            return Response(200, headers=headers)
        return Response(
            405, headers=(("chroma-trace-id", _trace_id(request)), ("allow", resource.allow))
        )

    def _welcome(self, request: Request, origin: bytes) -> bool:
        """Whether a page of `origin` may change something here."""
        same = origin.partition(b"://")[2] == request.headers.get(b"host")
        return same or self.allowed_origin(origin) is not None

    def allowed_origin(self, origin: bytes) -> str | None:
        """What to answer to a page of this origin; None: nothing."""
        allowed = self.config.cors.allow_origins
        text = origin.decode("latin-1")
        return "*" if "*" in allowed else text if text in allowed else None

    # -- who may do what ---------------------------------------------------------------------------

    def _permit(self, request: Request, principal: Principal) -> None:
        """Raise HttpError (403) unless the role and the scope have the route."""
        route = request.route
        assert route is not None
        if not principal.may(route.role):
            needed = next(name for name, role in ROLES.items() if role == route.role)
            raise forbidden(
                f"{principal.name} may only {principal.role}; this takes the role {needed}"
            )
        names = route.parameters
        if names[:1] == ("tenant",):
            database = request.values[1] if names[1:2] == ("database",) else None
            self._reach(principal, request.values[0], database)
        elif route.role == ADMIN and principal.is_limited:
            raise forbidden(f"{principal.name} is limited to a tenant or database")

    def check_reach(self, request: Request, tenant: str, database: str) -> None:
        """Raise HttpError (403) unless whoever asks reaches that database."""
        if request.principal is not None:
            self._reach(request.principal, tenant, database)

    def _reach(self, principal: Principal, tenant: str, database: str | None) -> None:
        if not principal.reaches(tenant, database):
            raise forbidden(f"{principal.name} has no access to this tenant or database")

    def check_home(self, request: Request) -> None:
        """Raise HttpError (404) when the collection is not where the path says.

        Chroma goes by the id alone; whoever is limited to a database must not, nor transactions.
        """
        id = collection_id(request)  # its text may be written in many ways, some of them long
        home = self._homes.get(id)
        if home is None:
            home = self.api.home_of(id)
            if home is not None:  # an id never moves, and never comes back
                if len(self._homes) >= _HOMES_MOST:
                    self._homes.clear()
                self._homes[id] = home
        if home != request.values[:2]:
            text = request.values[2]
            raise HttpError(404, "NotFoundError", f"Collection [{text}] does not exist.")

    # -- when the body is there --------------------------------------------------------------------

    def answer(
        self, request: Request, loop: asyncio.AbstractEventLoop
    ) -> Response | asyncio.Future[Response] | Gathered:
        """The response, now or later."""
        route = request.route
        assert route is not None
        try:
            if (
                route.role <= READ
                and route.is_predictable
                and len(request.body) <= _INLINE_BYTES
                and self._is_known(request)
            ):
                if route.decoder is not None:
                    request.payload = decode(route.decoder, request.body)
                request.likeness = _likeness(request)
                # How long a pattern takes, nobody knows beforehand.
                is_textual = _has_pattern(request)
                expected = None if is_textual else self._expected.get(request.likeness)
                if expected is not None and expected <= _INLINE_SECONDS:
                    if self.connections > 1 and is_gathered(request):
                        return self._gatherer.add(request, loop)
                    return self._at_once(request)
            request.queued = time.perf_counter_ns()
            return self._threads.submit(self._work, request, loop)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client gets an answer)
            return self.failed(request, error)

    def _at_once(self, request: Request) -> Response:
        """The response to a short request, which may raise."""
        begun = time.perf_counter()
        response = self._handle(request)
        self._learn(request, time.perf_counter() - begun)
        return response

    def _answer_all(self, requests: Sequence[Request]) -> list[Response]:
        """The responses to short queries that are alike."""
        if len(requests) > 1:
            begun = time.perf_counter()
            here.request_id = requests[0].id
            try:
                bodies = nearest_together(self, requests)
            except Exception:  # noqa: BLE001  (each gets an error of its own, or does without)
                bodies = None
            if bodies is not None:
                self._learn(requests[0], (time.perf_counter() - begun) / len(requests))
                return [Response(200, body) for body in bodies]
        return [self._at_once_or_failed(request) for request in requests]

    def _at_once_or_failed(self, request: Request) -> Response:
        try:
            return self._at_once(request)
        except Exception as error:  # noqa: BLE001
            return self.failed(request, error)

    def _learn(self, request: Request, spent: float) -> None:
        """How long a short request took.

        This clock also runs while another process has the CPU, so one slow request says little;
        those that wait for a disk come in a row.
        """
        spent = min(spent, 2 * _INLINE_SECONDS)
        expected = self._expected.get(request.likeness, spent)
        self._expected[request.likeness] = expected + (spent - expected) * 0.25

    def _is_known(self, request: Request) -> bool:
        """Whether it is settled who sent it."""
        route = request.route
        return request.principal is not None or not route or not route.role or self.auth.is_open

    def _work(self, request: Request) -> Response:
        """The response, in a thread."""
        route = request.route
        assert route is not None
        begun, cpu = time.perf_counter_ns(), time.thread_time_ns()
        response = self._worked(request)
        wall_ns, cpu_ns = time.perf_counter_ns() - begun, time.thread_time_ns() - cpu
        if not route.is_predictable:  # some wait because they are asked to
            return response
        writes = route.role > READ
        self.waits.worked(
            writes=writes, queue_ns=begun - request.queued, wall_ns=wall_ns, cpu_ns=cpu_ns
        )
        if not writes and response.status < 400:
            key, spent = _likeness(request), cpu_ns / 1e9
            expected = self._expected.get(key, spent)
            if len(self._expected) >= _KNOWN_MOST:
                self._expected.clear()
            self._expected[key] = expected + (spent - expected) * 0.25
        return response

    def _worked(self, request: Request) -> Response:
        route = request.route
        assert route is not None
        try:
            if not self._is_known(request):
                request.principal = self.auth.by_password(request.headers)
                self._permit(request, request.principal)
            if route.decoder is not None and request.payload is None:
                request.payload = decode(route.decoder, request.body)
            return self._handle(request)
        except Exception as error:  # noqa: BLE001
            return self.failed(request, error)

    def _handle(self, request: Request) -> Response:
        route = request.route
        assert route is not None
        if request.principal is not None and request.principal.is_limited and route.is_by_id:
            self.check_home(request)
        here.request_id = request.id
        if request.span is None:
            found = route.handler(self, request)
        else:
            with request.span.current():
                found = route.handler(self, request)
        if isinstance(found, Response):
            return found
        return Response(route.status, found, route.kind, route.headers)

    def failed(self, request: Request, error: Exception) -> Response:
        """The response to an error."""
        span = request.span
        trace_id = None if span is None else span.trace_id
        known, body, trace_id = error_response(error, request.id, trace_id, request.step)
        request.error = known.name if isinstance(error, HttpError) else type(error).__name__
        return Response(known.status, body, JSON, (("chroma-trace-id", trace_id), *known.headers))

    def query_values(self, request: Request) -> dict[str, str]:
        """The parameters in the query string."""
        values: dict[str, str] = {}
        for pair in request.query.split("&"):
            name, _, text = pair.partition("=")
            if name in values:
                raise invalid(f"Failed to deserialize query string: duplicate field `{name}`")
            values[name] = _unquoted(text.replace("+", " "))
        return values

    def finished(self, request: Request, response: Response) -> None:
        """Tell the observers.  The one place where everything about a request is known."""
        seconds = time.perf_counter() - request.started
        for observer in self.observers:
            observer(request, response, seconds)


def _trace_id(request: Request) -> str:
    return new_trace_id() if request.span is None else request.span.trace_id


def _parts(path: str) -> list[str]:
    if not path.isascii():
        raise invalid("Invalid URL: what is not ASCII must be percent-encoded")
    parts = path.split("/")
    return [_unquoted(part) for part in parts] if "%" in path else parts


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise invalid("Invalid URL: Invalid UTF-8") from error


def _has_pattern(request: Request) -> bool:
    """Whether a filter looks into documents, wherever it is: where, where_document, searches."""
    payload = request.payload
    if isinstance(payload, SearchRecords):
        body = request.body  # a name may be written in escapes, too
        return b"#document" in body or b"regex" in body or b"\\u" in body
    if getattr(payload, "where_document", None) is not None:
        return True
    clauses = [getattr(payload, "where", None)]
    while clauses:
        clause = clauses.pop()
        if isinstance(clause, dict):
            if not _TEXTUAL.isdisjoint(clause):
                return True
            clauses.extend(clause.values())
        elif isinstance(clause, list):
            clauses.extend(clause)
    return False


def _likeness(request: Request) -> tuple[Any, ...]:
    """What requests have in common that take about as long."""
    payload = request.payload
    is_filtered = getattr(payload, "where", None) is not None
    most = getattr(payload, "n_results", None) or getattr(payload, "limit", None) or 0
    return (
        request.route.name if request.route else None,
        "".join(request.values[2:3])[:_NAME_MOST],
        len(request.body).bit_length(),
        is_filtered,
        most.bit_length(),
        len(getattr(payload, "include", ())),
    )


class _Threads:
    """A fixed number of threads, and a queue of bounded length before them."""

    def __init__(self, n: int, most: int) -> None:
        self.waiting = 0
        self._most = most
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"vexfs-server-{i}", daemon=True)
            for i in range(n)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        work: Callable[[Request], Response],
        request: Request,
        loop: asyncio.AbstractEventLoop,
    ) -> asyncio.Future[Response]:
        """Have it done.  Raises HttpError (429) when too many wait."""
        if self.waiting >= self._most:
            raise busy("the server has more requests than it can work on; try again")
        self.waiting += 1
        future: asyncio.Future[Response] = loop.create_future()
        self._queue.put((work, request, loop, future))
        return future

    def _run(self) -> None:
        while True:
            task = self._queue.get()
            if task is None:
                return
            work, request, loop, future = task
            response = Response(503) if request.abandoned else work(request)
            with contextlib.suppress(RuntimeError):  # cut off: the loop is closed, nobody waits
                loop.call_soon_threadsafe(self._done, future, response)

    def _done(self, future: asyncio.Future[Response], response: Response) -> None:
        self.waiting -= 1
        if not future.done():
            future.set_result(response)

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
