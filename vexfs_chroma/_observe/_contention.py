"""Contention: what requests of a server waited for between two looks.

Everything here was measured: the queue for threads, what threads had and did not run, how late the
event loop was, how long threads were ready and had no processor (Linux tells).  What a thread that
did not run waited for is told by exclusion: reads take
no lock of the engine and have no sync, so they wait for Python's lock, processors, or data that is
not in memory; writes wait for the log, the collection's lock and other processes, too, and these
three the engine times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vexfs_chroma._observe import _figures
from vexfs_chroma._observe._rules import Bottleneck

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LEAST_REQUESTS = 20  # of which anything can be said
_LEAST_MS = 1.0
_LATE_MS = 10.0
_WRITES_WAIT = {
    "other processes": "lease_wait_us",
    "other writers": "writer_wait_us",
    "syncs": "wal_sync_us",
}
_ADVICE = {
    "other processes": "for others that write the directory: fewer processes, larger batches",
    "other writers": "for other writers of the collection: larger batches",
    "syncs": "for the log's sync: larger batches; several at once share one",
}
_WRITES = ("add", "update", "upsert", "delete")


def contention(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    counters: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """The figures of the time between two looks at the facts of a server."""
    return {
        "seconds": seconds,
        "requests": _figures.waits(counters),
        "event_loop_late_ms": _figures.loop_late_ms(counters),
        "running_cpus": _rate(before, now, "cpu_seconds", seconds),
        "waiting_for_cpus": _rate(before, now, "run_delay_seconds", seconds),
        "cpus": now["cpus"],
        "syncs": counters.get("engine.wal_syncs", 0),
        "writes_waited_ms": {
            what: counters.get(f"engine.{name}", 0) / 1e3 for what, name in _WRITES_WAIT.items()
        },
        "writes": sum(counters.get(f"op.{op}.count", 0) for op in _WRITES),
        "processes": len(now["processes"]),
    }


def _rate(
    before: Mapping[str, Any], now: Mapping[str, Any], name: str, seconds: float
) -> float | None:
    """By how much a time of the processes grew, for each second; of those that were there twice."""
    old = {one["pid"]: one[name] for one in before["processes"] if one[name] is not None}
    grown = [
        max(0.0, one[name] - old[one["pid"]])  # less: threads that ended took theirs with them
        for one in now["processes"]
        if one[name] is not None and one["pid"] in old
    ]
    return sum(grown) / seconds if grown and seconds > 0 else None


def problems(found: Mapping[str, Any]) -> list[Bottleneck]:
    """What they waited for more than they should.

    Where processors are missing everything waits, so that comes first and nothing else is advised.
    """
    processors = [*_of_processors(found)]
    others = [*_of_requests(found), *_of_event_loop(found)]
    if processors:
        others = [replace(one, advice="processors first, see above") for one in others]
    return processors + others


def _of_requests(found: Mapping[str, Any]) -> Iterator[Bottleneck]:
    for kind, one in found["requests"].items():
        if one["requests"] < _LEAST_REQUESTS:
            continue
        if one["thread_share"] > 0.2 and one["thread_ms"] > _LEAST_MS:
            yield Bottleneck(
                f"threads for requests that {kind}",
                f"{one['thread_ms']:.1f} ms in the queue, {one['thread_share']:.0%} of their time",
                "more workers (vexctl serve --workers), or more [server] threads if these wait",
            )
        if one["waiting_share"] > 0.5 and one["waiting_ms"] > _LEAST_MS:
            evidence = (
                f"threads run for {one['running_ms']:.1f} ms and wait for {one['waiting_ms']:.1f}, "
                f"{one['waiting_share']:.0%} of the time of requests"
            )
            yield _waiting(kind, evidence, found)


def _waiting(kind: str, evidence: str, found: Mapping[str, Any]) -> Bottleneck:
    if kind == "read":
        return Bottleneck(
            "reads that wait",
            evidence,
            "for Python's lock (more workers), processors, or data that is not in memory "
            "(vexctl memory stats): reads take no lock and write nothing",
        )
    writes, waited = max(1, found["writes"]), found["writes_waited_ms"]
    parts = ", ".join(f"{what} {ms / writes:.1f} ms" for what, ms in waited.items())
    return Bottleneck(
        "writes that wait",
        f"{evidence}; of a write: {parts}; {found['syncs'] / writes:.2f} syncs for each",
        _ADVICE[max(waited, key=waited.__getitem__)],
    )


def _of_processors(found: Mapping[str, Any]) -> Iterator[Bottleneck]:
    delay = found["waiting_for_cpus"]
    if delay is not None and delay > 0.5:
        yield Bottleneck(
            "processors",
            f"{delay:.1f} threads were ready and had no processor, on average; "
            f"{found['running_cpus']:.1f} of {found['cpus']} processors were busy with the server",
            "fewer other programs, or fewer workers and threads than processors",
        )


def _of_event_loop(found: Mapping[str, Any]) -> Iterator[Bottleneck]:
    late = found["event_loop_late_ms"]
    if late is not None and late > _LATE_MS:
        yield Bottleneck(
            "the event loop",
            f"its timers are {late:.0f} ms late: whatever comes in waits as long",
            "more workers; smaller requests and answers",
        )
