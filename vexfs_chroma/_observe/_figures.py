"""What counters mean: rates, times, percentiles, shares; over all time, or between two looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vexfs_chroma._observe import _observer, _waits

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGES = ("select", "search", "fetch")
PLANS = ("graph", "exact")


def difference(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """What was counted between two looks.  A server that started anew meanwhile counts from 0."""
    if any(now.get(name, 0) < n for name, n in before.items() if name.endswith(".count")):
        return dict(now)
    return {name: value - before.get(name, 0) for name, value in now.items()}


def histogram(counters: Mapping[str, int], operation: str) -> dict[int, int]:
    """Times of an operation: how many in each bucket."""
    prefix = _observer.bucket_name(operation, 0)[:-1]
    return {
        int(name[len(prefix) :]): value
        for name, value in counters.items()
        if name.startswith(prefix) and value > 0
    }


def quantile_ms(buckets: Mapping[int, int], share: float) -> float | None:
    """The time that `share` of all did not exceed, at most 25 % too high; None: there are none."""
    total = sum(buckets.values())
    if not total:
        return None
    rank, seen = max(1, -int(-total * share // 1)), 0
    for number in sorted(buckets):
        seen += buckets[number]
        if seen >= rank:
            break
    return _observer.bucket_end_ns(number) / 1e6


def operations(counters: Mapping[str, int], seconds: float | None = None) -> list[dict[str, Any]]:
    """Every kind of operation that there was; rates where it is known how long that took."""
    found = []
    for operation in _observer.OPERATIONS:
        count = counters.get(f"op.{operation}.count", 0)
        if count <= 0:
            continue
        buckets = histogram(counters, operation)
        found.append(
            {
                "operation": operation,
                "count": count,
                "errors": counters.get(f"op.{operation}.errors", 0),
                "slow": counters.get(f"op.{operation}.slow", 0),
                "per_second": count / seconds if seconds else None,
                "mean_ms": counters.get(f"op.{operation}.ns", 0) / count / 1e6,
                "p50_ms": quantile_ms(buckets, 0.5),
                "p95_ms": quantile_ms(buckets, 0.95),
                "p99_ms": quantile_ms(buckets, 0.99),
            }
        )
    return found


def queries(counters: Mapping[str, int]) -> dict[str, Any] | None:
    """What queries did, for each vector; None where there were none."""
    vectors = counters.get("query.vectors", 0)
    if vectors <= 0:
        return None
    stages = {stage: counters.get(f"query.{stage}_us", 0) / 1000 for stage in STAGES}
    total = counters.get("op.query.ns", 0) / 1e6
    stages["around"] = max(0.0, total - sum(stages.values()))
    plans = {plan: counters.get(f"plan.{plan}", 0) for plan in PLANS}
    asked = sum(plans.values()) or 1
    return {
        "vectors": vectors,
        "stage_ms": {stage: ms / vectors for stage, ms in stages.items()},
        "stage_share": {stage: ms / total if total else 0.0 for stage, ms in stages.items()},
        "by_graph": plans["graph"] / asked,
        "walk_distances": counters.get("query.walk_distances", 0) / vectors,
        "walk_hops": counters.get("query.walk_hops", 0) / vectors,
        "exact_distances": counters.get("query.exact_distances", 0) / vectors,
        "read_rows": counters.get("query.read_rows", 0) / vectors,
        "recall": recall(counters),
        "recall_samples": counters.get("recall.samples", 0),
    }


def recall(counters: Mapping[str, int]) -> float | None:
    """Of the queries that a server sampled; None where it sampled none."""
    expected = counters.get("recall.expected", 0)
    return counters.get("recall.found", 0) / expected if expected > 0 else None


def requests(counters: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Routes of the server that were asked: statuses, times, bytes."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in counters.items():
        kind, _, rest = name.partition(".")
        if kind != "http" or value <= 0:
            continue
        route, what, number = (*rest.split("."), "")[:3]
        entry = found.setdefault(
            route, {"statuses": {}, "buckets": {}, "ns": 0, "received": 0, "sent": 0}
        )
        if what == "bucket":
            entry["buckets"][int(number)] = value
        elif what in entry:
            entry[what] = value
        else:
            entry["statuses"][what] = value
    return found


def waits(counters: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What requests that had a thread waited for, by whether they only read; milliseconds each."""
    found = {}
    for kind in _waits.KINDS:
        count = counters.get(f"wait.{kind}.count", 0)
        if count <= 0:
            continue
        queue, wall, cpu = (
            counters.get(f"wait.{kind}.{what}", 0) / count / 1e6 for what in _waits.TIMES
        )
        waiting = max(0.0, wall - cpu)
        found[kind] = {
            "requests": count,
            "thread_ms": queue,
            "running_ms": cpu,
            "waiting_ms": waiting,
            "thread_share": queue / (queue + wall) if queue + wall else 0.0,
            "waiting_share": waiting / (queue + wall) if queue + wall else 0.0,
        }
    return found


def loop_late_ms(counters: Mapping[str, int]) -> float | None:
    """How late timers of event loops were, on average; None: none was looked at."""
    checks = counters.get("loop.checks", 0)
    return counters.get("loop.late_ns", 0) / checks / 1e6 if checks > 0 else None
