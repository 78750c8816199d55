"""Numbers by name that one process counts and others may read.

They are 64-bit cells, in memory or in a mapped file of the directory VEXFS_METRICS_DIR:

    8 bytes   "VEXFSMET"
    4 bytes   version 1, little-endian
    4 bytes   length of the names
    ...       names: JSON {"pid": ..., "started": ..., "names": [...]}, then zeros up to a multiple
              of 8, then one cell for each name, in the machine's byte order

A process writes its own file only, cell by cell, so that readers need no lock.  Files of processes
that have ended are kept, so that sums never fall; whoever made the directory removes it.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VARIABLE = "VEXFS_METRICS_DIR"
_MAGIC, _VERSION = b"VEXFSMET", 1
_HEAD = struct.Struct("<8sII")
_MOST_BYTES = 1 << 22  # of a file; others are not ours


own: list[Cells] = []
"""All cells of this process."""


class Cells:
    """Some cells of this process."""

    def __init__(self, names: Sequence[str], directory: Path | None) -> None:
        self.names = list(names)
        self.started = time.time()
        self.path: Path | None = None
        self._map: mmap.mmap | None = None
        size = 8 * len(self.names)
        own.append(self)
        self.values = memoryview(bytearray(size)).cast("Q")
        if directory is not None:
            with contextlib.suppress(OSError):  # gone, or full: then others do not see them
                self._map_file(directory, size)

    def _map_file(self, directory: Path, size: int) -> None:
        about = {"pid": os.getpid(), "started": self.started, "names": self.names}
        text = json.dumps(about).encode("utf-8")
        text += b" " * (-(len(text) + _HEAD.size) % 8)
        head = _HEAD.pack(_MAGIC, _VERSION, len(text)) + text
        path = directory / f"{os.getpid()}-{len(own)}-{time.time_ns()}.cells"
        part = path.with_suffix(".part")
        part.write_bytes(head + bytes(size))
        with part.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), len(head) + size)
        part.rename(path)
        self.path = path
        self.values = memoryview(self._map)[len(head) :].cast("Q")

    def read(self) -> dict[str, int]:
        """All cells that are not 0."""
        return {name: value for name, value in zip(self.names, self.values, strict=True) if value}


class ProcessCells:
    """What a file of some process tells."""

    def __init__(self, path: Path, pid: int, started: float, values: dict[str, int]) -> None:
        self.path, self.pid, self.started, self.values = path, pid, started, values

    @property
    def alive(self) -> bool:
        """Whether the process runs still."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def read_directory(directory: Path) -> list[ProcessCells]:
    """The files of a directory; those that are no such files are left out."""
    found = []
    for path in sorted(directory.glob("*.cells")):
        with contextlib.suppress(OSError):
            cells = _parse(path, path.read_bytes()[:_MOST_BYTES])
            if cells is not None:
                found.append(cells)
    return found


def _parse(path: Path, data: bytes) -> ProcessCells | None:
    """None for what is no such file; nothing in it is trusted."""
    if len(data) < _HEAD.size:
        return None
    magic, version, length = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or length > len(data) - _HEAD.size:
        return None
    try:
        about: Any = json.loads(data[_HEAD.size : _HEAD.size + length])
        pid, started, names = int(about["pid"]), float(about["started"]), about["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    cells = data[_HEAD.size + length :]
    if pid <= 0 or not isinstance(names, list) or len(cells) < 8 * len(names):
        return None
    values = memoryview(cells[: 8 * len(names)]).cast("Q")
    pairs = zip(names, values, strict=True)
    return ProcessCells(path, pid, started, {str(name): value for name, value in pairs if value})


def summed(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sums by name."""
    found: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0) + value
    return found
