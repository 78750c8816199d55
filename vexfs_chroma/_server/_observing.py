"""What the server tells about itself: /metrics, /livez, /readyz, and JSON for vexctl.

    GET /metrics          Prometheus text; needs prometheus-client (of the extra `server`)
    GET /livez            200: the process answers
    GET /readyz           200: the database answers, too; else 503
    GET /vexfs/facts      counters, processes, sizes, memory
    GET /vexfs/slow-log   the slowest operations of all processes
    GET /vexfs/history    operations over the last minutes

Of several worker processes whichever answers tells the sums: they count in files of a directory
that is made for the server and removed with it, or by the next server when it was killed.  With
tokens, all but those of health need one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from vexfs_chroma._observe import _cells, _facts, _observer, _slow
from vexfs_chroma._observe._http import HttpCounters
from vexfs_chroma._server._auth import forbidden
from vexfs_chroma._server._errors import HttpError, invalid, unavailable
from vexfs_chroma._server._log import AccessLog
from vexfs_chroma._server._recall_samples import RecallSampler
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vexfs_chroma._observe._otel import Tracing
    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._request import Request

_PREFIX, _LOCK = "vexfs-metrics-", "lock"
METRICS_KIND = b"text/plain; version=0.0.4; charset=utf-8"


def metrics(app: App, request: Request) -> bytes:
    """GET /metrics."""
    _check_whole(request)
    try:
        from vexfs_chroma._observe._prometheus import metrics_text
    except ImportError as error:
        raise HttpError(
            501, "ChromaError", "metrics need prometheus-client: pip install prometheus-client"
        ) from error
    return metrics_text(app.api)


def livez(app: App, request: Request) -> bytes:
    """GET /livez."""
    return b'{"live":true}'


def readyz(app: App, request: Request) -> bytes:
    """GET /readyz."""
    try:
        app.api.list_databases(limit=1)
    except Exception as error:
        raise unavailable(f"the database does not answer: {error}") from error
    return b'{"ready":true}'


def facts(app: App, request: Request) -> bytes:
    """GET /vexfs/facts."""
    _check_whole(request)
    waiting = max(0, app.waiting - app.config.server.threads)  # the others have a thread
    return orjson.dumps(_facts.facts(app.api) | {"waiting": waiting, "pid": os.getpid()})


def slow_log(app: App, request: Request) -> bytes:
    """GET /vexfs/slow-log."""
    _check_whole(request)
    return orjson.dumps(_slow.slowest_of_all(_observer.observer().slow), default=str)


def history(app: App, request: Request) -> bytes:
    """GET /vexfs/history: the points later than `after`, and the last minute as a whole."""
    _check_whole(request)
    text = app.query_values(request).get("after", "0") if request.query else "0"
    try:
        after = float(text)
    except ValueError as error:
        raise invalid(f"after must be seconds since 1970, got {text!r}") from error
    return orjson.dumps(
        {
            "format": 1,
            "at": time.time(),
            "version": __version__,
            "pid": os.getpid(),
            "step_seconds": app.history.step_seconds,
            "recent": app.history.recent(),
            "points": app.history.points(after),
        }
    )


def _check_whole(request: Request) -> None:
    """These tell about all tenants: not for those who are limited to one."""
    if request.principal is not None and request.principal.is_limited:
        raise forbidden(f"{request.principal.name} is limited to a tenant or database")


def watch(app: App) -> None:
    """Count the requests of a server, log them where that is wanted, and keep a history."""
    app.history.start()
    app.observers.append(HttpCounters(route.name for route in app.router.routes).observe)
    if app.config.log.access != "off":
        app.observers.append(AccessLog(app.config.log).observe)


def sample_recall(app: App) -> RecallSampler | None:
    """Answer some queries of a server again, exactly, until what is returned is closed."""
    if not app.config.server.recall_samples:
        return None
    sampler = RecallSampler(app)
    app.observers.append(sampler.observe)
    return sampler


def trace(app: App) -> Tracing | None:
    """Trace the requests of a server, where that is wanted, until what is returned is closed.

    Raises ImportError without the extra `otel`.
    """
    config = app.config.otel
    if config.endpoint is None:
        return None
    from vexfs_chroma._observe._otel import start_tracing
    from vexfs_chroma._server._traces import RequestTracer

    tracing = start_tracing(config.endpoint, service_name=config.service_name, sample=config.sample)
    app.tracer = RequestTracer(tracing, tls=app.config.tls.certificate is not None)
    app.observers.append(app.tracer.end)
    return tracing


@contextlib.contextmanager
def shared_counters() -> Iterator[None]:
    """A directory for what the processes of a server count, unless there is one already."""
    if os.environ.get(_cells.VARIABLE):
        yield
        return
    _remove_what_was_left()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory, _locked(Path(directory)):
        os.environ[_cells.VARIABLE] = directory
        try:
            yield
        finally:
            del os.environ[_cells.VARIABLE]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """A file that is locked for as long as this process lives."""
    making = directory / "locking"
    with making.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        making.rename(directory / _LOCK)  # under this name it was never free
        yield


def _remove_what_was_left() -> None:
    """Directories of servers that were killed: their lock is free."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.lstat().st_uid == os.getuid():
                with (directory / _LOCK).open("r+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(directory)
