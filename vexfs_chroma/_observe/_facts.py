"""Everything that a process, or all processes of a server, can tell about a database.

counters    cells by name, sums over the processes: see _observer
processes   each: pid, seconds since its start, resident bytes, CPU seconds, seconds without a
            processor, open files
database    client.stats(): collections, records, files, bytes
memory      client.memory(), of this process
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma import _engine
from vexfs_chroma._observe import _cells, _observer
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    from vexfs_chroma._api import VexfsAPI

FORMAT = 1


def counters() -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The sums over all processes, and the processes that run."""
    own = _observer.observer()
    own.read()
    parts, started = [cells.read() for cells in _cells.own], {os.getpid(): own.cells.started}
    directory = os.environ.get(_cells.VARIABLE)
    mine = {cells.path for cells in _cells.own}
    for cells in _cells.read_directory(Path(directory)) if directory else []:
        if cells.path in mine:
            continue
        if cells.alive:
            started.setdefault(cells.pid, cells.started)
            parts.append(cells.values)
        else:  # what it did still counts; what it had does not
            parts.append({k: v for k, v in cells.values.items() if not is_gauge(k)})
    return _cells.summed(parts), [process_facts(pid, at) for pid, at in started.items()]


_NOW = ("heap_bytes", "heap_blocks", "bulk_bytes", "bulk_maps", "mapped_bytes", "mapped_files")
_GAUGES = frozenset({f"engine.{name}" for name in (*_NOW, "open_files")})


def is_gauge(name: str) -> bool:
    """Whether a counter tells what there is now, not what was done."""
    return name in _GAUGES


def process_facts(pid: int, started: float) -> dict[str, Any]:
    """Of a running process; what the system does not tell is None."""
    found: dict[str, Any] = {
        "pid": pid,
        "seconds": max(0.0, time.time() - started),
        "resident_bytes": None,
        "cpu_seconds": None,
        "run_delay_seconds": None,
        "open_files": None,
    }
    place = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int((place / "statm").read_text("ascii").split()[1])
        found["resident_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
        fields = (place / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        found["cpu_seconds"] = ticks / os.sysconf("SC_CLK_TCK")
        found["run_delay_seconds"] = _run_delay(place)
        found["open_files"] = sum(1 for _ in (place / "fd").iterdir())
    return found


def _run_delay(place: Path) -> float | None:
    """How long the threads that a process has were ready and had no processor; Linux tells."""
    waited = None
    for task in (place / "task").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that ends meanwhile
            waited = (waited or 0.0) + int((task / "schedstat").read_text("ascii").split()[1]) / 1e9
    return waited


def usable_cpus() -> int | None:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def kernels() -> str:
    """Which distance kernels this machine uses."""
    return _engine.simd_level()


def try_engine() -> None:
    """Raise whatever opening any database would raise, because of a variable of the engine, say."""
    _engine.Database(None).close()


def facts(api: VexfsAPI) -> dict[str, Any]:
    """All of it, as plain values."""
    from vexfs_chroma._memory import memory_report
    from vexfs_chroma._stats import stats_open

    values, processes = counters()
    database = stats_open(api).as_dict()
    del database["process"]["memory"], database["process"]["counters"]
    return {
        "format": FORMAT,
        "at": time.time(),
        "version": __version__,
        "simd": kernels(),
        "cpus": usable_cpus(),
        "counters": values,
        "processes": processes,
        "database": database,
        "memory": memory_report(api).as_dict(),
    }
