"""Counts operations: how many, how long, how they failed, what queries did.

An operation costs a microsecond more for it.  There is one observer for each process; a process
that was forked starts at zero.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _buckets, _engine
from vexfs_chroma._observe import _cells, _trace
from vexfs_chroma._observe._slow import SlowLog, threshold_ns

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS = ("add", "update", "upsert", "delete", "get", "count", "query", "search", "transaction")
BITS = 2
"""Of the buckets of times: four to each power of two."""
FIRST_NS, LAST_NS = 1 << 12, 1 << 36  # 4 us and less, 69 s and more
FIRST_BUCKET = _buckets.bucket_of(FIRST_NS, BITS)
BUCKETS = _buckets.bucket_of(LAST_NS, BITS) - FIRST_BUCKET + 1
# What is told has a cell of its own: a difference of two falls when one is read between both.
_PLAIN = ("count", "errors", "slow", "ns", "ok")
_OF_QUERIES = ("vectors", "walk_distances", "walk_hops", "exact_distances", "read_rows")
_ENGINE_EVERY_NS = 1_000_000_000

F = TypeVar("F", bound="Callable[..., Any]")


def bucket_name(operation: str, number: int) -> str:
    """The cell of a bucket of times."""
    return f"op.{operation}.bucket.{number}"


def bucket_end_ns(number: int) -> int:
    """The longest time of a bucket of the cells; the last one has all that are longer, too."""
    return _buckets.bucket_end(number + FIRST_BUCKET, BITS)


def _names() -> list[str]:
    names = []
    for operation in OPERATIONS:
        names += [f"op.{operation}.{what}" for what in _PLAIN]
        names += [bucket_name(operation, number) for number in range(BUCKETS)]
    names += [f"query.{what}" for what in _OF_QUERIES]
    names += [f"query.{stage}_us" for stage in ("select", "search", "fetch")]
    names += ["plan.graph", "plan.exact"]
    return names + [f"engine.{name}" for name in _engine.stats()]


_NAMES = _names()  # with the import, so that the first operation need not wait for it
_AT = {name: number for number, name in enumerate(_NAMES)}


class Observer:
    """The counters of this process."""

    def __init__(self, directory: Path | None) -> None:
        self._lock = threading.Lock()
        self.cells = _cells.Cells(_NAMES, directory)
        self.slow = SlowLog()
        self._first = {operation: _AT[f"op.{operation}.count"] for operation in OPERATIONS}
        self._query = _AT["query.vectors"]
        self._engine_at = _AT["engine.heap_bytes"]
        self._engine_due = 0

    def done(self, operation: str, ns: int, error: BaseException | None) -> bool:
        """An operation that ended; whether it was slow."""
        values, first = self.cells.values, self._first[operation]
        bucket = _buckets.bucket_of(ns, BITS) - FIRST_BUCKET
        bucket = min(max(bucket, 0), BUCKETS - 1)
        slow = ns >= self.slow.threshold_ns
        with self._lock:
            values[first] += 1
            values[first + 3] += ns
            values[first + len(_PLAIN) + bucket] += 1
            values[first + (4 if error is None else 1)] += 1
            if slow:
                values[first + 2] += 1
        return slow

    def planned(self, vectors: int) -> None:
        """A query of so many vectors was answered: how is in `watched`."""
        values, first, plan = self.cells.values, self._query, watched.plan.raw
        by_graph = plan.why == _engine.PLAN_WALK
        with self._lock:
            values[first] += vectors
            values[first + 1] += plan.walk_distances
            values[first + 2] += plan.walk_hops
            values[first + 3] += plan.exact_distances
            values[first + 4] += plan.read_rows
            values[first + 5] += plan.select_us
            values[first + 6] += plan.search_us
            values[first + 7] += plan.fetch_us
            values[first + 8 + int(not by_graph)] += 1
        if _trace.tracer is not None:
            _trace.tracer.stages(watched.plan)

    def answered_together(self, more: int, ns: int) -> None:
        """As many operations more were answered with the query that was observed last."""
        by_graph = watched.plan.raw.why == _engine.PLAN_WALK
        for _ in range(more):
            self.done("query", ns, None)
        with self._lock:
            self.cells.values[self._query + 8 + int(not by_graph)] += more

    def publish(self) -> None:
        """Copy the counters of the engine into the cells; at most every second."""
        with self._lock:  # an older look must not be copied over a newer one
            now = time.perf_counter_ns()
            if now < self._engine_due:
                return
            self._engine_due = now + _ENGINE_EVERY_NS
            for number, value in enumerate(_engine.stats().values()):
                self.cells.values[self._engine_at + number] = value

    def read(self) -> dict[str, int]:
        """All counters of this process."""
        self._engine_due = 0
        self.publish()
        return self.cells.read()


_observer: Observer | None = None
_making = threading.Lock()


def observer() -> Observer:
    """The observer of this process."""
    global _observer
    found = _observer
    if found is None:
        with _making:
            if _observer is None:
                directory = os.environ.get(_cells.VARIABLE)
                _observer = Observer(Path(directory) if directory else None)
            found = _observer
    return found


def check_environment() -> None:
    """Raise InvalidArgumentError for variables that are wrong; before anything is done."""
    directory = os.environ.get(_cells.VARIABLE)
    if directory and not Path(directory).is_dir():
        raise InvalidArgumentError(f"{_cells.VARIABLE}={directory!r}: there is no directory")
    threshold_ns()


def _after_fork_in_child() -> None:
    """The cells are the parent's, and so are threads that may have a lock."""
    global _observer, _making
    _observer, _making = None, threading.Lock()
    _cells.own.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Watched(threading.local):
    """How the last query of this thread was answered."""

    def __init__(self) -> None:
        self.plan = _engine.PlanCell()


watched = _Watched()


def observed(operation: str, describe: Callable[..., dict[str, Any]]) -> Callable[[F], F]:
    """Count a method of an API class as an operation ("": its first argument names it).

    `describe`, with the arguments of the method, tells what a slow one was about, without values.
    """

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def observing(self: Any, *args: Any, **kwargs: Any) -> Any:
            error: BaseException | None = None
            started = time.perf_counter_ns()
            name = operation or args[0]
            tracer = _trace.tracer
            try:
                if tracer is not None:
                    return tracer.run(name, describe, method, self, args, kwargs)
                return method(self, *args, **kwargs)
            except BaseException as caught:
                error = caught
                raise
            finally:
                ns = time.perf_counter_ns() - started
                found = observer()
                if found.done(name, ns, error):
                    found.slow.note(name, ns, self, error, describe, args, kwargs)

        return cast("F", observing)

    return decorate
