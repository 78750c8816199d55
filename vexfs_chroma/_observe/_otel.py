"""Traces by OpenTelemetry: a span for each operation, and in it the stages of queries.

    query things                  db.operation.name, db.collection.name, ...; what was asked, as the
      engine.select                 slow log tells it: shapes and numbers, never a value
      engine.search               times as the engine counted them
      engine.fetch

Names of attributes are those of OpenTelemetry's semantic conventions; ours begin with `vexfs.`.
Errors are told by their class: what they say may quote a value.  The server's spans of requests,
the parents of these, are in _server/_traces.py.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vexfs_chroma._observe import _trace
from vexfs_chroma._version import __version__

try:
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError(
        "traces need OpenTelemetry's packages: pip install 'vexfs-chroma[otel]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, TracerProvider
    from typing_extensions import Self

SYSTEM = "vexfs_chroma"
SCHEMA = "https://opentelemetry.io/schemas/1.29.0"
_PATH = "/v1/traces"
_STAGES = ("select", "search", "fetch")
_WORK = ("walk_distances", "walk_hops", "exact_distances", "read_rows")
_PATIENCE_SECONDS = 2.0
_starting = threading.Lock()


class Tracing:
    """Traces of this process's operations, until `close()`, or the end of a `with` block.

    Attributes:
        provider: The TracerProvider that the spans are made by.
    """

    def __init__(self, provider: TracerProvider, exporter: SpanExporter | None = None) -> None:
        self.provider = provider
        self._exporter = exporter
        """Of a provider that was made here."""

    def close(self) -> None:
        """Make no more spans; send those that wait, if the provider was made here.

        A collector that does not answer is given up after two seconds.
        """
        with _starting:
            mine = isinstance(_trace.tracer, _OperationTracer) and _trace.tracer.tracing is self
            if mine:
                _trace.tracer = None
        if not mine or self._exporter is None:
            return
        giving_up = threading.Timer(_PATIENCE_SECONDS, self._exporter.shutdown)
        giving_up.daemon = True
        giving_up.start()
        self.provider.shutdown()  # type: ignore[attr-defined]
        giving_up.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_tracing(
    endpoint: str | None = None,
    *,
    provider: TracerProvider | None = None,
    service_name: str | None = None,
    sample: float = 1.0,
) -> Tracing:
    """Make an OpenTelemetry span of every operation of this process, on any database of ours.

    Without arguments the spans go to the program's own provider, `trace.get_tracer_provider()`,
    also when that is set later.  HttpClient tells its server the program's span.  Needs the extra
    `otel`; without a call of this nothing is traced, and nothing of OpenTelemetry is imported.

    Args:
        endpoint: A collector that takes OTLP over HTTP, `http://127.0.0.1:4318`: a provider is
            made for it, which sends in the background.  Headers, certificates and timeouts are
            those of the variables OTEL_EXPORTER_OTLP_*.
        provider: A TracerProvider to use instead.
        service_name: With `endpoint`: what `service.name` is; None: OTEL_SERVICE_NAME, or
            "vexfs_chroma".
        sample: With `endpoint`: the share, 0 to 1, of the traces that begin here.  Spans that have
            a parent are sampled as that is.

    Raises:
        ValueError: for an endpoint that is no URL, a share that is none, and where two providers
            are meant; RuntimeError: when tracing was started already; ImportError: without the
            extra.
    """
    if endpoint is not None and provider is not None:
        raise ValueError("give an endpoint or a provider, not both")
    if not 0 <= sample <= 1:
        raise ValueError(f"sample must be a share between 0 and 1, got {sample!r}")
    url = None if endpoint is None else _traces_url(endpoint)
    with _starting:
        if _trace.tracer is not None:
            raise RuntimeError("tracing was started already; close() what start_tracing() gave")
        if url is not None:
            tracing = Tracing(*_provider(url, service_name, sample))
        else:
            tracing = Tracing(provider or trace.get_tracer_provider())
        _trace.tracer = _OperationTracer(tracing)
    return tracing


def _traces_url(endpoint: str) -> str:
    """Where spans are posted: a path is taken as it is, without one it is OTLP's."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the endpoint must be http://HOST:PORT or https://..., got {endpoint!r}")
    return endpoint.rstrip("/") + _PATH if parts.path in ("", "/") else endpoint


def _provider(
    url: str, service_name: str | None, sample: float
) -> tuple[TracerProvider, SpanExporter]:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider as OwnProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise ImportError(
            "sending traces needs OpenTelemetry's SDK and OTLP exporter: "
            "pip install 'vexfs-chroma[otel]'"
        ) from error
    resource = Resource.create({"service.version": __version__, "process.pid": os.getpid()})
    if service_name is not None:
        resource = resource.merge(Resource({"service.name": service_name}))
    elif str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SYSTEM}))
    sampler = ParentBased(TraceIdRatioBased(sample))
    provider = OwnProvider(resource=resource, sampler=sampler, shutdown_on_exit=True)
    exporter = OTLPSpanExporter(endpoint=url)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


class _OperationTracer:
    """Makes the spans; `_trace.tracer` when tracing is on."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracing = tracing
        self._tracer = trace.get_tracer(
            SYSTEM, __version__, tracer_provider=tracing.provider, schema_url=SCHEMA
        )
        self._propagator = TraceContextTextMapPropagator()

    def run(
        self,
        operation: str,
        describe: Callable[..., dict[str, Any]],
        method: Callable[..., Any],
        api: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call `method(api, *args, **kwargs)` in a span."""
        with self._tracer.start_as_current_span(
            operation,
            kind=SpanKind.INTERNAL,  # the database is in this process
            attributes={"db.system.name": SYSTEM, "db.operation.name": operation},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            _trace.here.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
            try:
                return method(api, *args, **kwargs)
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                if span.is_recording():
                    _describe(span, operation, describe, api, args, kwargs)

    def stages(self, plan: Any) -> None:
        """Spans of the stages of a query that the engine has just answered.

        The engine counts how long each stage took, not when it began: the spans lie one after the
        other, and the last one ends now, when the answer was decoded.
        """
        operation = trace.get_current_span()
        if not operation.is_recording():
            return
        operation.set_attribute("vexfs.plan", plan.read().why)
        raw = plan.raw
        times = [1000 * getattr(raw, f"{stage}_us") for stage in _STAGES]
        at = time.time_ns() - sum(times)
        for stage, ns in zip(_STAGES, times, strict=True):
            span = self._tracer.start_span(f"engine.{stage}", start_time=at)
            if stage == "search":
                span.set_attributes({f"vexfs.{name}": getattr(raw, name) for name in _WORK})
            at += ns
            span.end(at)

    def headers(self) -> bytes:
        """What tells a server the span that its own belong to, as lines of a head."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return "".join(f"{name}: {value}\r\n" for name, value in carrier.items()).encode("ascii")


def _describe(
    span: Span,
    operation: str,
    describe: Callable[..., dict[str, Any]],
    api: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """What the operation was about, as the slow log tells it.  Never raises."""
    try:
        found = describe(api, *args, **kwargs)
    except Exception:  # noqa: BLE001  (arguments that the operation refused, too)
        return
    found.pop("plan", None)  # the stages have it
    name = found.pop("collection", None)
    if name is not None:
        span.update_name(f"{operation} {name}")
        span.set_attribute("db.collection.name", name)
    if "database" in found:
        namespace = f"{found.pop('tenant')}|{found.pop('database')}"
        span.set_attribute("db.namespace", namespace)
    size = found.get("rows", found.get("vectors", 0))
    if size > 1:
        span.set_attribute("db.operation.batch.size", size)
    for key, value in found.items():
        if value is not None:
            plain = isinstance(value, bool | int | float | str)
            span.set_attribute(f"vexfs.{key}", value if plain else json.dumps(value, default=str))
