"""A request on its way through the server, and the response to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vexfs_chroma._server._auth import Principal
    from vexfs_chroma._server._routes import Route
    from vexfs_chroma._server._traces import RequestSpan

JSON = b"application/json"


class Request:
    """One request.  Whoever observes finished requests may read all of it."""

    __slots__ = (
        "abandoned",
        "body",
        "client",
        "error",
        "headers",
        "id",
        "is_answered",
        "is_counted",
        "is_stranger",
        "keep_alive",
        "likeness",
        "method",
        "path",
        "payload",
        "principal",
        "query",
        "queued",
        "refusal",
        "route",
        "size",
        "span",
        "started",
        "step",
        "values",
    )

    def __init__(self, method: str, path: str, query: str, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.id = ""
        """X-Request-Id, of the client or made here; the response has it."""
        self.client: str | None = None
        """The address that the connection comes from."""
        self.route: Route | None = None
        """What answers it; None where nothing does."""
        self.values: tuple[str, ...] = ()
        """Of the parameters in the path, in order."""
        self.principal: Principal | None = None
        self.body = b""
        self.size = 0
        """Bytes of the body as sent, as far as they are held; see _held.py."""
        self.is_counted = False
        """All bytes of the body are, also those that are still to come."""
        self.is_stranger = False
        """A password came with it that is not checked yet."""
        self.payload: Any = None
        """The body, decoded: a struct of _bodies.py."""
        self.likeness: tuple[Any, ...] = ()
        """What it has in common with requests that take about as long."""
        self.step: int | None = None
        """The number of the write that is looked at, where the request is a transaction."""
        self.refusal: Response | None = None
        """The answer, when it is known before the body is there."""
        self.error: str | None = None
        """The class of the error that it was answered with."""
        self.span: RequestSpan | None = None
        """Where requests are traced."""
        self.abandoned = False
        """Nobody waits for the answer any more."""
        self.is_answered = False
        """A refused one is, before its body came."""
        self.keep_alive = True
        self.queued = 0
        """time.perf_counter_ns() when it began to wait for a thread."""
        self.started = 0.0
        """time.perf_counter() when its headers were there."""


class Response:
    """Status, body and the headers besides its length."""

    __slots__ = ("body", "headers", "kind", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        kind: bytes = JSON,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status, self.body, self.kind, self.headers = status, body, kind, headers
