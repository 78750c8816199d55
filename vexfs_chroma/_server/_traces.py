"""A span for every request, by OpenTelemetry: the parent of the spans of its operations.

    POST /api/v2/tenants/{tenant}/databases/{database}/collections/{collection_id}/query

The header `traceparent` (W3C Trace Context) makes it a part of the caller's trace.  Names are those
of the semantic conventions for HTTP servers; no header, query string or body is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vexfs_chroma._observe._otel import SCHEMA, SYSTEM, Tracing
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span

    from vexfs_chroma._server._request import Request, Response

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_PROPAGATED = ("traceparent", "tracestate")
_TEXT_MOST = 200  # characters of what a client chose


class RequestSpan:
    """The span of a request."""

    __slots__ = ("span", "trace_id")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def current(self) -> AbstractContextManager[Any]:
        """Make it the parent of spans that are begun in the block; the block does not end it."""
        return trace.use_span(
            self.span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )


class RequestTracer:
    """Begins and ends the spans of a server's requests."""

    def __init__(self, tracing: Tracing, *, tls: bool) -> None:
        self._tracer = trace.get_tracer(
            f"{SYSTEM}.server", __version__, tracer_provider=tracing.provider, schema_url=SCHEMA
        )
        self._scheme = "https" if tls else "http"
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, request: Request) -> RequestSpan:
        """The span of a request whose headers are there."""
        headers = request.headers
        carrier = {
            name: headers[name.encode("ascii")].decode("latin-1")
            for name in _PROPAGATED
            if name.encode("ascii") in headers
        }
        method = request.method if request.method in _METHODS else "_OTHER"
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.path": request.path[:_TEXT_MOST],
            "url.scheme": self._scheme,
            "network.protocol.version": "1.1",
            "vexfs.request_id": request.id,
        }
        if method == "_OTHER":
            attributes["http.request.method_original"] = request.method
        if request.client is not None:
            attributes["client.address"] = request.client
        agent = headers.get(b"user-agent")
        if agent is not None:
            attributes["user_agent.original"] = agent[:_TEXT_MOST].decode("latin-1")
        span = self._tracer.start_span(
            "HTTP" if method == "_OTHER" else method,
            context=self._propagator.extract(carrier) if carrier else None,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=time.time_ns() - int((time.perf_counter() - request.started) * 1e9),
        )
        return RequestSpan(span)

    def end(self, request: Request, response: Response, seconds: float) -> None:
        """An observer of the App: the request was answered."""
        if request.span is None or not request.span.span.is_recording():
            return
        span = request.span.span
        if request.route is not None:
            span.update_name(f"{request.method} {request.route.template}")
            span.set_attribute("http.route", request.route.template)
        span.set_attributes(
            {
                "http.response.status_code": response.status,
                "http.request.body.size": len(request.body),
                "http.response.body.size": len(response.body),
            }
        )
        if request.principal is not None:
            span.set_attribute("enduser.id", request.principal.name)
        if response.status >= 500:
            span.set_attribute("error.type", request.error or str(response.status))
            span.set_status(Status(StatusCode.ERROR))
        span.end()
