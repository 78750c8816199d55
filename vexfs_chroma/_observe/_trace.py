"""Where operations meet traces, without OpenTelemetry itself, which most programs do not have.

_otel.py puts a tracer here when tracing is started; until then an operation costs the look whether
there is one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class OperationTracer(Protocol):
    """What makes spans of operations."""

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

    def stages(self, plan: Any) -> None:
        """Spans of the stages of a query that the engine has just answered."""

    def headers(self) -> bytes:
        """What tells a server the span that its own belong to, as lines of a head."""


tracer: OperationTracer | None = None


class _Here(threading.local):
    """What the operations of this thread are done for."""

    request_id: str | None = None
    trace_id: str | None = None

    def ids(self) -> dict[str, str]:
        """Those that are known."""
        known = {"request_id": self.request_id, "trace_id": self.trace_id}
        return {name: value for name, value in known.items() if value is not None}


here = _Here()
