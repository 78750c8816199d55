"""Prometheus takes a counter that falls for one that began anew, and adds all of it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from vexfs_chroma._observe import _observer, _prometheus, _waits


class Looked:
    """Cells that another process reads whenever one of them was written."""

    def __init__(self, cells: Any, metrics: Callable[[dict[str, int]], Any]) -> None:
        self._cells, self._values, self._metrics = cells, cells.values, metrics
        self.told: list[dict[Any, float]] = []
        cells.values = self

    def __getitem__(self, at: int) -> int:
        return self._values[at]

    def __setitem__(self, at: int, value: int) -> None:
        self._values[at] = value
        counters = dict(zip(self._cells.names, self._values, strict=True))
        self.told.append(
            {
                (sample.name, *sample.labels.items()): sample.value
                for metric in self._metrics(counters)
                for sample in metric.samples
            }
        )

    def falls(self) -> list[Any]:
        return [
            name
            for before, now in zip(self.told, self.told[1:], strict=False)
            for name, value in before.items()
            if now.get(name, 0) < value
        ]


def test_operations() -> None:
    made = _observer.Observer(None)
    looked = Looked(made.cells, _prometheus._operations)
    for error in (None, ValueError(), ValueError(), None, ValueError()):
        made.done("get", 5000, error)
    last = looked.told[-1]
    name, get = "vexfs_operations_total", ("operation", "get")
    assert (last[name, get, ("status", "ok")], last[name, get, ("status", "error")]) == (2, 3)
    assert looked.falls() == []


@pytest.mark.parametrize("writes", [True, False])
def test_waits(writes: bool) -> None:
    made = _waits.WaitCounters()
    looked = Looked(made.cells, _prometheus._of_waits)
    for _ in range(3):
        made.worked(writes=writes, queue_ns=10**9, wall_ns=5 * 10**9, cpu_ns=3 * 10**9)
    kind = ("kind", "write" if writes else "read")
    seconds = {
        state: looked.told[-1]["vexfs_thread_seconds_total", kind, ("state", state)]
        for state in ("queue", "running", "waiting")
    }
    assert seconds == {"queue": 3, "running": 9, "waiting": 6}
    assert looked.falls() == []
