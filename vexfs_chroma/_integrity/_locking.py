"""Exclusive use of a database, and who is in the way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vexfs_chroma._errors import DatabaseLockedError
from vexfs_chroma._integrity._check import LOCKS
from vexfs_chroma._plain_files import is_no_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 2.0
"""Seconds: writers hold the locks for moments, unless they hold them for long."""


@contextlib.contextmanager
def exclusive(path: str, *, writes: bool) -> Iterator[None]:
    """Nobody else has the database open, as far as the system tells, and nobody writes to it.

    Who writes nothing himself goes without the locks where they cannot be made.  Raises
    DatabaseLockedError, which names the processes to be stopped.
    """
    users = processes_using(path)
    if users:
        raise DatabaseLockedError(
            f"{path} is open in {', '.join(users)}; stop that first. A repair must be alone"
        )
    with contextlib.ExitStack() as stack:
        for name in LOCKS:
            if is_no_file(Path(path, name)):  # nobody can lock it
                continue
            try:
                descriptor = os.open(Path(path, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError:
                if writes:
                    raise
                break
            stack.callback(os.close, descriptor)
            try:
                _lock(descriptor, path)
            except OSError as error:  # a file system without locks
                raise OSError(error.errno, error.strerror, str(Path(path, name))) from error
        yield


def _lock(descriptor: int, path: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not _try_lock(descriptor):
        if time.monotonic() >= end:
            raise DatabaseLockedError(
                f"a process is writing to {path}; stop the programs that use it. A repair must be "
                "alone"
            )
        time.sleep(0.02)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def processes_using(path: str) -> list[str]:
    """Processes with an open file below `path`, this one included; [] where /proc does not tell."""
    inside = path.rstrip("/") + "/"
    return [
        f"process {process.name} ({_command(process)})"
        for process in Path("/proc").glob("[0-9]*")
        if any(target.startswith(inside) for target in _open_files(process))
    ]


def _open_files(process: Path) -> list[str]:
    """Not those of other users, unless we may see them."""
    try:
        return [_target(link) for link in (process / "fd").iterdir()]
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return b" ".join(words).decode("utf-8", "replace").strip()[:80]
