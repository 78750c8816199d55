"""What the server logs: one line for each event, to standard error, as text or as JSON.

    2026-01-31T12:00:00.123Z INFO request pid=7 request_id=1f-1 method=POST route=query status=200
    {"time":"2026-01-31T12:00:00.123Z","level":"info","event":"request","pid":7,"request_id":...}

Requests are logged by `[log] access`: none, those that failed or were slow, or all, of which a
share is enough.  No line has a token, a header, a query string, a document, a vector or an id of a
record.  Of errors that nobody expected a line has the class and the places in the code; what they
say, which may quote what was sent, at the level debug only.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import random
import re
import select
import traceback
from typing import TYPE_CHECKING, Any

import orjson

from vexfs_chroma._observe._observer import observer

if TYPE_CHECKING:
    from vexfs_chroma._server._config import LogSection
    from vexfs_chroma._server._request import Request, Response
    from vexfs_chroma._server._routes import Route

    Entry = dict[str, Any]

logger = logging.getLogger("vexfs_chroma.server")

_TEXT_MOST = 200  # characters of a value that a client chose
_PLAIN = re.compile(r"[\w.:/@+-]+", re.ASCII)
_FRAMES_MOST = 20
_PATIENCE_MS = 1000


def event(level: int, name: str, message: str = "", **fields: Any) -> None:
    """Log an event: a name for machines, a sentence for people, and values."""
    logger.log(level, "%s", message, extra={"event": name, "fields": fields})


def set_up(config: LogSection) -> None:
    """Send what this process logs to standard error, from now on."""
    level = logging.getLevelName(config.level.upper())
    handler = _StandardError()
    handler.setFormatter(_Json() if config.format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # other libraries: what is wrong, no more
    logging.getLogger("vexfs_chroma").setLevel(level)
    logging.captureWarnings(capture=True)


class _StandardError(logging.Handler):
    """A line is one write, so that lines of several processes do not mix.

    What cannot be written is lost, and never keeps a request from its answer.  A pipe that nobody
    reads is full at some time: one line waits a second for a reader that is only slow, those after
    it not at all.  How many were lost is the first thing that a reader who comes back is told.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0
        self._output = select.poll()
        self._output.register(2, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, if that takes no time."""
        with contextlib.suppress(Exception):
            if not self._output.poll(0 if self._lost else _PATIENCE_MS):
                self._lost += 1
                return
            if self._lost:
                fields, self._lost = {"count": self._lost}, 0
                about = {"event": "lines_lost", "fields": fields, "levelno": logging.WARNING}
                self._write(logging.makeLogRecord({**about, "levelname": "WARNING"}))
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        data = memoryview((self.format(record) + "\n").encode("utf-8", "replace"))
        while data:
            data = data[os.write(2, data) :]


class _Formatter(logging.Formatter):
    """What both formats have in common: the fields."""

    def entry(self, record: logging.LogRecord) -> Entry:
        """The fields of an event, in order."""
        at = dt.datetime.fromtimestamp(record.created, dt.timezone.utc)
        found: Entry = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
            "pid": record.process,
        }
        message = record.getMessage()
        if message:
            found["message"] = message
        if not hasattr(record, "event"):
            found["logger"] = record.name
        found.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            found.update(_described(record.exc_info[1]))
        return found


def _described(error: BaseException) -> Entry:
    """An error without what it says, which may be a value of somebody's."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MOST:]
    found: Entry = {
        "error": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if error.__cause__ is not None:
        found["cause"] = type(error.__cause__).__name__
    if logger.isEnabledFor(logging.DEBUG):
        found["detail"] = str(error)
    return found


class _Json(_Formatter):
    """An object for each event."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = self.entry(record)
        try:
            return orjson.dumps(entry, default=str).decode("utf-8")
        except TypeError:  # names of files that are no UTF-8
            return json.dumps(entry, default=str)


class _Text(_Formatter):
    """Time, level and event, then NAME=VALUE; a value with other than plain characters is JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = self.entry(record)
        parts = [entry.pop("time"), entry.pop("level").upper(), entry.pop("event")]
        parts += [f"{name}={_shown(value)}" for name, value in entry.items()]
        return " ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value)
    if type(value) in (int, float):
        return repr(value)
    return json.dumps(value, default=str)


class AccessLog:
    """An observer of the App that logs requests."""

    def __init__(self, config: LogSection) -> None:
        self._share = config.sample if config.access == "all" else 0.0
        self._parameters: dict[str, tuple[str, ...]] = {}
        self._random = random.Random()  # noqa: S311  (which requests are logged is no secret)

    def observe(self, request: Request, response: Response, seconds: float) -> None:
        """Log a request that was answered, if it is to be logged."""
        slow = seconds * 1e9 >= observer().slow.threshold_ns
        if response.status < 400 and not slow and self._random.random() >= self._share:
            return
        level = logging.INFO
        if response.status >= 400 or slow:
            level = logging.WARNING if response.status < 500 else logging.ERROR
        if not logger.isEnabledFor(level):
            return
        route = request.route
        fields: Entry = {"request_id": request.id, "method": request.method}
        if request.span is not None:
            fields["trace_id"] = request.span.trace_id
        if route is None:
            fields |= {"route": "unmatched", "path": request.path[:_TEXT_MOST]}
        else:
            fields |= {"route": route.name} | self._names(route, request.values)
        fields |= {
            "status": response.status,
            "ms": round(seconds * 1000, 3),
            "received": len(request.body),
            "sent": len(response.body),
            "client": request.client,
        }
        if request.principal is not None:
            fields["principal"] = request.principal.name
        if request.error is not None:
            fields["error"] = request.error
        if slow:
            fields["slow"] = True
        event(level, "request", **fields)

    def _names(self, route: Route, values: tuple[str, ...]) -> Entry:
        """Tenant, database and collection, as far as the path has them."""
        names = self._parameters.get(route.template)
        if names is None:
            names = self._parameters[route.template] = tuple(
                {"collection_id": "collection", "name": "collection", "crn": "collection"}.get(
                    name, name
                )
                for name in route.parameters
            )
        pairs = zip(names, values, strict=True)
        return {name: value[:_TEXT_MOST] for name, value in pairs}
