"""Slow operations: the slowest of each kind in memory, and a log of all of them, if it is wanted.

    VEXFS_SLOW_MS     from so many milliseconds on an operation is slow (100); "off": none is
    VEXFS_SLOW_LOG    a file that gets a line of JSON for each; at 16 MiB it is renamed to FILE.1

What is kept tells the shape of an operation: keys and operators of filters, numbers of rows; never
a value, a document, a vector or an id.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._observe import _cells
from vexfs_chroma._observe._trace import here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Record = dict[str, Any]

MILLISECONDS, LOG = "VEXFS_SLOW_MS", "VEXFS_SLOW_LOG"
DEFAULT_MS = 100.0
KEPT = 32  # different ones of each kind of operation
_LOG_BYTES = 16 << 20
_DEPTH, _WIDTH = 6, 16
_SHARED, _SHARED_BYTES = ".slow.jsonl", 1 << 20  # of each process of a server
_NEVER_NS = 1 << 62


def threshold_ns(environment: Mapping[str, str] = os.environ) -> int:
    """What VEXFS_SLOW_MS says, in nanoseconds."""
    text = environment.get(MILLISECONDS, "").strip().lower()
    if text == "off":
        return _NEVER_NS
    try:
        ms = float(text) if text else DEFAULT_MS
    except ValueError:
        ms = math.nan
    if not 0 <= ms < 1e12:
        raise InvalidArgumentError(f"{MILLISECONDS} must be milliseconds or off, got {text!r}")
    return int(ms * 1e6)


def shape(value: Any, depth: int = _DEPTH) -> Any:
    """A filter without its values: types stand for them."""
    if isinstance(value, dict):
        if depth == 0:
            return "..."
        items = list(value.items())
        found = {str(key)[:100]: shape(part, depth - 1) for key, part in items[:_WIDTH]}
        return found if len(items) <= _WIDTH else found | {"...": len(items) - _WIDTH}
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], dict):
            if depth == 0:
                return "..."
            parts = [shape(part, depth - 1) for part in value[:_WIDTH]]
            return parts if len(value) <= _WIDTH else [*parts, f"... {len(value) - _WIDTH} more"]
        kinds = sorted({type(part).__name__ for part in value})
        return f"{len(value)} x {'|'.join(kinds)}" if value else "0"
    return type(value).__name__


class SlowLog:
    """Those of this process."""

    def __init__(self) -> None:
        self.threshold_ns = threshold_ns()
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Record]] = {}
        self._listeners: list[Callable[[Record], object]] = []
        name = os.environ.get(LOG)
        self._file = Path(name) if name else None
        directory = os.environ.get(_cells.VARIABLE)
        self._shared = Path(directory) / f"{os.getpid()}{_SHARED}" if directory else None

    def note(
        self,
        operation: str,
        ns: int,
        api: Any,
        error: BaseException | None,
        describe: Callable[..., Record],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Keep a slow operation.  Never raises: the operation itself is done."""
        with contextlib.suppress(Exception):
            record = {
                "at": time.time(),
                "pid": os.getpid(),
                "operation": operation,
                "ms": round(ns / 1e6, 3),
                **here.ids(),
                **describe(api, *args, **kwargs),
            }
            if error is not None:
                record["error"] = type(error).__name__
            self.add(record)

    def add(self, record: Record) -> None:
        """Keep a record, tell the listeners, write it to the log."""
        volatile = ("at", "pid", "ms", "plan", "request_id", "trace_id")
        about = {name: value for name, value in record.items() if name not in volatile}
        key = json.dumps(about, sort_keys=True, default=str)
        with self._lock:
            kept = self._kept.setdefault(record["operation"], {})
            before = kept.pop(key, None)
            repeats = 1 if before is None else before["repeats"] + 1
            slowest = record if before is None or record["ms"] >= before["ms"] else before
            kept[key] = slowest | {"repeats": repeats}
            if len(kept) > KEPT:
                del kept[min(kept, key=lambda one: kept[one]["ms"])]
            listeners = list(self._listeners)
            if self._file is not None:
                _append(self._file, record, _LOG_BYTES)
            if self._shared is not None:
                _append(self._shared, record, _SHARED_BYTES)
        for listener in listeners:
            listener(record)

    def slowest(self) -> list[Record]:
        """Different ones, slowest first, each with how often it was slow."""
        with self._lock:
            found = [record for kept in self._kept.values() for record in kept.values()]
        return sorted(found, key=lambda record: -record["ms"])

    def clear(self) -> None:
        """Forget them.  The log stays."""
        with self._lock:
            self._kept.clear()

    def listen(self, listener: Callable[[Record], object]) -> Callable[[], None]:
        """Call `listener` with every slow operation from now on, until the result is called."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop


def slowest_of_all(own: SlowLog) -> list[Record]:
    """The slowest of all processes of a server, or of this one."""
    directory = os.environ.get(_cells.VARIABLE)
    if not directory:
        return own.slowest()
    files = sorted(Path(directory).glob(f"*{_SHARED}*"))
    return slowest_in(files)


def slowest_in(files: Sequence[Path]) -> list[Record]:
    """The slowest in some logs.  Lines that are no records are left out."""
    found = SlowLog()
    found._file = found._shared = None
    for file in files:
        with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                record = _record(line)
                if record is not None:
                    found.add(record)
    return found.slowest()


def _record(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("operation"), str):
        return None
    ms = record.get("ms")
    return record if isinstance(ms, int | float) and math.isfinite(ms) else None


def _append(file: Path, record: Record, most: int) -> None:
    with contextlib.suppress(OSError):  # a full disk must not make an operation fail
        if file.exists() and file.stat().st_size > most:
            file.replace(file.with_name(file.name + ".1"))
        with file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record, default=str) + "\n")
