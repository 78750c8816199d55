"""A request on its way through the server, and the response to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vexfs_chroma._server._auth import Principal
    from vexfs_chroma._server._routes import Route

JSON = b"application/json"


class Request:
    """One request.  Whoever observes finished requests may read all of it."""

    __slots__ = (
        "abandoned",
        "body",
        "headers",
        "is_answered",
        "keep_alive",
        "method",
        "path",
        "payload",
        "principal",
        "query",
        "refusal",
        "route",
        "size",
        "started",
        "values",
    )

    def __init__(self, method: str, path: str, query: str, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.route: Route | None = None
        """What answers it; None where nothing does."""
        self.values: tuple[str, ...] = ()
        """Of the parameters in the path, in order."""
        self.principal: Principal | None = None
        self.body = b""
        self.size = 0
        """Bytes of the body as sent."""
        self.payload: Any = None
        """The body, decoded: a struct of _bodies.py."""
        self.refusal: Response | None = None
        """The answer, when it is known before the body is there."""
        self.abandoned = False
        """Nobody waits for the answer any more."""
        self.is_answered = False
        """A refused one is, before its body came."""
        self.keep_alive = True
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
