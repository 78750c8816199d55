"""Clocks, memory and percentiles."""

from __future__ import annotations

import gc
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def seconds(call: Callable[[], object]) -> float:
    """How long one call took."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_ms(calls: Iterable[Callable[[], object]]) -> float:
    """The median of some calls, in milliseconds."""
    return statistics.median(seconds(call) for call in calls) * 1e3


def percentile_ms(times: list[float], percent: float) -> float:
    """Of times in seconds, in milliseconds."""
    return float(np.percentile(times, percent)) * 1e3


def memory() -> dict[str, float]:
    """What this process has in memory, in MB: all of it, and what is not backed by a file.

    Empty where there is no /proc.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    gc.collect()
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return {
        name: int(lines[key].split()[0]) * 1024 / 1e6
        for name, key in (("RSS growth, MB", "VmRSS"), ("RSS growth without files, MB", "RssAnon"))
        if key in lines
    }


def growth(before: dict[str, float]) -> dict[str, float]:
    """What `memory` says more than it said before."""
    now = memory()
    return {name: now[name] - before[name] for name in before if name in now}


def memory_now() -> dict[str, float]:
    """What `memory` says, by names for a size instead of a growth."""
    return {name.replace(" growth", ""): value for name, value in memory().items()}


def disk_mb(path: Path) -> float:
    """What a directory takes on the disk, in allocated blocks: holes are free, reserves are not."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()) / 1e6
