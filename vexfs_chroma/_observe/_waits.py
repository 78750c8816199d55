"""Counts what requests of the server wait for: a thread, the processor, the event loop.

    wait.read.count      requests that only read, and had a thread; wait.write...: the others
    wait.read.queue_ns   how long they waited for it
    wait.read.wall_ns    how long they had it
    wait.read.cpu_ns     how long of that it ran
    wait.read.rest_ns    ... and did not
    loop.checks          how often a timer of the event loop was looked at
    loop.late_ns         by how much it was late: what came in at that moment had to wait as long

Routes whose requests take or wait as long as they are told to are left out (wait_for_index).
What a thread had and did not run is what it waited: for Python's lock, for locks of the engine and
of other processes, for the disk, for helping threads of the engine, for a processor.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from vexfs_chroma._observe import _cells

KINDS = ("read", "write")
TIMES = ("queue_ns", "wall_ns", "cpu_ns")
_NAMES = [f"wait.{kind}.{what}" for kind in KINDS for what in ("count", *TIMES, "rest_ns")]
_NAMES += ["loop.checks", "loop.late_ns"]


class WaitCounters:
    """Of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        directory = os.environ.get(_cells.VARIABLE)
        self.cells = _cells.Cells(_NAMES, Path(directory) if directory else None)
        self._writes = _NAMES.index("wait.write.count")
        self._loop = _NAMES.index("loop.checks")

    def worked(self, *, writes: bool, queue_ns: int, wall_ns: int, cpu_ns: int) -> None:
        """A request had a thread."""
        values, first = self.cells.values, self._writes if writes else 0
        with self._lock:
            values[first] += 1
            values[first + 1] += max(0, queue_ns)
            values[first + 2] += max(0, wall_ns)
            values[first + 3] += max(0, cpu_ns)
            values[first + 4] += max(0, wall_ns - cpu_ns)

    def looped(self, late_seconds: float) -> None:
        """A timer of the event loop fired so late."""
        values = self.cells.values
        with self._lock:
            values[self._loop] += 1
            values[self._loop + 1] += max(0, int(late_seconds * 1e9))
