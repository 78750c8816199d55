"""Operations over the last minutes: a point every two seconds, of all processes of a server.

A dashboard that is opened after something went wrong shows when it did.  A point has rates and
percentiles of what ended in its two seconds; the last minute is kept as counts besides, which give
percentiles of all of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._observe import _cells, _figures, _observer

if TYPE_CHECKING:
    from collections.abc import Mapping

STEP_SECONDS = 2.0
KEPT_SECONDS = 900.0
RECENT_SECONDS = 60.0
_PREFIX = "op."


class History:
    """Of the process that makes it, and of those that share its counters."""

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        self.step_seconds = step_seconds
        self._lock = threading.Lock()
        self._points: deque[dict[str, Any]] = deque(maxlen=int(KEPT_SECONDS / step_seconds))
        self._recent: deque[tuple[float, dict[str, int]]] = deque(
            maxlen=int(RECENT_SECONDS / step_seconds)
        )
        self._before = _read()
        self._looked = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take a point every step, in a thread."""
        self._thread = threading.Thread(target=self._run, name="vexfs-history", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what this process has counted stays in the sums."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            _observer.observer().read()

    def _run(self) -> None:
        while not self._stop.wait(self.step_seconds):
            self.sample()

    def sample(self) -> None:
        """Take a point now: of everything since the last one."""
        now, looked = _read(), time.monotonic()
        with self._lock:
            seconds, self._looked = max(looked - self._looked, 1e-3), looked
            told = _figures.difference(self._before, now)
            done = {name: value for name, value in told.items() if value}
            self._before = now
            self._recent.append((seconds, done))
            operations = {
                one.pop("operation"): _rounded(one) for one in _figures.operations(done, seconds)
            }
            last = self._points[-1]["at"] if self._points else 0.0
            at = max(round(time.time(), 3), round(last + 0.001, 3))  # clocks are set back, too
            self._points.append(
                {
                    "at": at,
                    "seconds": round(seconds, 3),
                    "operations": operations,
                }
            )

    def points(self, after: float = 0.0) -> list[dict[str, Any]]:
        """The points later than `after` (seconds since 1970), in order."""
        with self._lock:
            return [point for point in self._points if point["at"] > after]

    def recent(self) -> dict[str, Any]:
        """The last minute, or what there is of it: seconds, operations, what queries did."""
        with self._lock:
            parts = list(self._recent)
        counters = _cells.summed(done for _, done in parts)
        seconds = sum(seconds for seconds, _ in parts)
        return {
            "seconds": round(seconds, 3),
            "operations": _figures.operations(counters, seconds or None),
        }


def _read() -> dict[str, int]:
    """The counters of operations, sums over all processes."""
    directory = os.environ.get(_cells.VARIABLE)
    _observer.observer().publish()  # whoever of the others is asked for everything has it, too
    mine = {cells.path for cells in _cells.own}
    parts: list[Mapping[str, int]] = [cells.read() for cells in _cells.own]
    others = _cells.read_directory(Path(directory)) if directory else []
    parts += [cells.values for cells in others if cells.path not in mine]
    return _cells.summed(
        {name: value for name, value in part.items() if name.startswith(_PREFIX)} for part in parts
    )


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Four digits are enough for a chart."""
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in figures.items()
    }
