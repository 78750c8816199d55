"""Times and counts of a load test, kept for each kind of operation and each second.

Locust rounds times to milliseconds, or to two digits; an engine that answers in 0.1 ms needs more.
Times are counted in buckets, 128 to each power of two of nanoseconds, so that a percentile is at
most 0.8 % above the time itself.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from vexfs_chroma._buckets import bucket_end, bucket_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BITS = 7


class Histogram:
    """How many times fell into each bucket."""

    __slots__ = ("counts", "longest_ns", "total_ns")

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total_ns = 0
        self.longest_ns = 0

    def add(self, ns: int) -> None:
        """One time, in nanoseconds."""
        self.counts[bucket_of(ns, BITS)] += 1
        self.total_ns += ns
        self.longest_ns = max(self.longest_ns, ns)

    def merge(self, other: Histogram) -> None:
        """All times of another one."""
        self.counts.update(other.counts)
        self.total_ns += other.total_ns
        self.longest_ns = max(self.longest_ns, other.longest_ns)

    def __len__(self) -> int:
        return self.counts.total() if hasattr(self.counts, "total") else sum(self.counts.values())

    def quantile_ns(self, share: float) -> int:
        """The time that `share` of all did not exceed; 0 where there are none."""
        rank, seen = max(1, -int(-len(self) * share // 1)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return min(bucket_end(bucket, BITS), self.longest_ns)
        return 0

    def summary_ms(self) -> dict[str, float]:
        """Mean, percentiles and maximum, in milliseconds."""
        count = len(self)
        found = {"mean_ms": self.total_ns / count / 1e6 if count else 0.0}
        for name, share in PERCENTILES.items():
            found[f"{name}_ms"] = self.quantile_ns(share) / 1e6
        return found | {"max_ms": self.longest_ns / 1e6}

    def as_json(self) -> dict[str, Any]:
        """For from_json, in another process."""
        return {
            "counts": {str(bucket): count for bucket, count in self.counts.items()},
            "total_ns": self.total_ns,
            "longest_ns": self.longest_ns,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Histogram:
        """What as_json gave."""
        made = cls()
        made.counts = Counter({int(bucket): count for bucket, count in plain["counts"].items()})
        made.total_ns, made.longest_ns = plain["total_ns"], plain["longest_ns"]
        return made


PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


class Slot:
    """One kind of operation in one second (or of any time: slots can be merged)."""

    __slots__ = ("failed", "hits", "times", "vectors", "wanted")

    def __init__(self) -> None:
        self.times = Histogram()  # of operations that were answered
        self.failed: Counter[str] = Counter()  # by kind of failure
        self.vectors = 0  # asked for, or written
        self.wanted = 0  # nearest rows, in answers whose recall was measured ...
        self.hits = 0  # ... and how many of them were there

    def merge(self, other: Slot) -> None:
        """All that another one counted."""
        self.times.merge(other.times)
        self.failed.update(other.failed)
        self.vectors += other.vectors
        self.wanted += other.wanted
        self.hits += other.hits

    @property
    def count(self) -> int:
        """Operations, failed ones included."""
        return len(self.times) + sum(self.failed.values())

    def summary(self, seconds: float) -> dict[str, float]:
        """The figures that service levels are about."""
        answered = len(self.times)
        found = {
            "count": float(self.count),
            "per_second": answered / seconds if seconds > 0 else 0.0,
            "vectors_per_second": self.vectors / seconds if seconds > 0 else 0.0,
            "errors": float(sum(self.failed.values())),
            "error_rate": sum(self.failed.values()) / self.count if self.count else 0.0,
        }
        if answered:
            found |= self.times.summary_ms()
        if self.wanted:
            found["recall"] = self.hits / self.wanted
        return found

    def as_json(self) -> dict[str, Any]:
        """For from_json, in another process."""
        counts = (self.vectors, self.wanted, self.hits)
        return {"times": self.times.as_json(), "failed": dict(self.failed), "counts": counts}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Slot:
        """What as_json gave."""
        made = cls()
        made.times = Histogram.from_json(plain["times"])
        made.failed = Counter(plain["failed"])
        made.vectors, made.wanted, made.hits = plain["counts"]
        return made


class Recorder:
    """What happened, by second and kind of operation.  Seconds are those of the system's clock, so
    that recorders of several processes can be merged.

    `width` is how many seconds share a slot, so that a run of hours does not take gigabytes.
    """

    def __init__(self, width: int = 1) -> None:
        self.width = width
        self.slots: dict[tuple[int, str], Slot] = {}
        self.examples: dict[str, str] = {}  # the first message of each kind of failure
        self.counters: Counter[str] = Counter()  # what else is to be counted

    def slot(self, kind: str, at: float | None = None) -> Slot:
        """What to count an operation in that ended now."""
        second = int(time.time() if at is None else at)
        key = (second - second % self.width, kind)
        found = self.slots.get(key)
        if found is None:
            found = self.slots[key] = Slot()
        return found

    def failed(self, kind: str, failure: str, message: str, at: float | None = None) -> None:
        """An operation that was not answered, or wrongly."""
        self.slot(kind, at).failed[failure] += 1
        self.examples.setdefault(failure, f"{kind}: {message}")

    def merge(self, other: Recorder) -> None:
        """All that another one counted."""
        for key, slot in other.slots.items():
            if key in self.slots:
                self.slots[key].merge(slot)
            else:
                self.slots[key] = slot
        self.counters.update(other.counters)
        self.examples = {**other.examples, **self.examples}

    def kinds(self) -> list[str]:
        """The kinds of operations there were."""
        return sorted({kind for _, kind in self.slots})

    def span(self) -> tuple[int, int]:
        """The first second, and the one after the last; the same when there was nothing."""
        seconds = [second for second, _ in self.slots]
        return (min(seconds), max(seconds) + self.width) if seconds else (0, 0)

    def course(self) -> Iterator[tuple[int, Slot]]:
        """The operations of all kinds, slot after slot in time, empty ones included."""
        by_second: dict[int, Slot] = {}
        for (second, _), slot in self.slots.items():
            by_second.setdefault(second, Slot()).merge(slot)
        for second in range(*self.span(), self.width):
            yield second, by_second.get(second, Slot())

    def between(self, start: float, end: float, kinds: Iterable[str] | None = None) -> Slot:
        """All operations of these kinds (or all) in seconds from `start` on, before `end`."""
        wanted, found = None if kinds is None else set(kinds), Slot()
        for (second, kind), slot in self.slots.items():
            if start <= second < end and (wanted is None or kind in wanted):
                found.merge(slot)
        return found

    def take(self) -> dict[str, Any]:
        """Everything, as plain values; nothing is left."""
        plain = {
            "slots": [[*key, slot.as_json()] for key, slot in self.slots.items()],
            "examples": self.examples,
            "counters": dict(self.counters),
        }
        self.slots, self.counters = {}, Counter()
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Recorder:
        """What take() gave."""
        made = cls()
        for second, kind, slot in plain["slots"]:
            made.slots[second, kind] = Slot.from_json(slot)
        made.examples = dict(plain["examples"])
        made.counters = Counter(plain["counters"])
        return made
