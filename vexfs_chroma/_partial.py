"""A directory that is made under another name, and gets its own when it is whole.

    TARGET.partial/UNFINISHED    says whose directory it is; locked while somebody is at it
    TARGET.partial/database/     becomes TARGET, by one rename

Whatever kills the maker, TARGET is whole or not there; and the next attempt for the same TARGET
removes what the last one left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._errors import DatabaseLockedError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_MARKER = "UNFINISHED"
_TEXT = "vexfs_chroma is making a copy here. When no such job runs, the directory can be removed.\n"


class Partial:
    """The directory `target` in the making; in the block `directory` is what to fill."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._home = target.with_name(target.name + ".partial")
        self._marker = self._home / _MARKER
        self._lock: int | None = None
        self.directory = self._home / "database"

    def __enter__(self) -> Self:
        check_new(self._target)
        if not self._target.parent.is_dir():
            raise InvalidArgumentError(
                f"{self._target.parent}, where {self._target.name} is to be made, is no directory; "
                "make it first"
            )
        self._home.mkdir(exist_ok=True)
        if not self._marker.exists() and any(self._home.iterdir()):
            raise InvalidArgumentError(
                f"{self._home} is in the way: it was not left by an earlier attempt; move it, or "
                "choose another name"
            )
        self._take_lock()
        try:
            self._marker.write_text(_TEXT)
            self._remove_directory()
        except BaseException:
            self._clean_up()
            raise
        return self

    def finish(self) -> None:
        """Give the directory, whose content is on the disk, its name."""
        check_new(self._target)
        self.directory.rename(self._target)
        sync(self._target.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        with contextlib.suppress(OSError):  # the next attempt removes it, too
            self._remove_directory()
            self._marker.unlink()
            self._home.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        self._lock = os.open(self._marker, os.O_RDWR | os.O_CREAT, 0o666)
        found = ours = None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found, ours = self._marker.stat(), os.fstat(self._lock)
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:  # a file system without locks
            self._clean_up()
            raise OSError(error.errno, error.strerror, str(self._marker)) from error
        # Who had the lock may have removed the file in the meantime.
        if found is None or ours is None or not os.path.samestat(found, ours):
            os.close(self._lock)
            self._lock = None
            raise DatabaseLockedError(f"another process is making {self._target} at this moment")

    def _remove_directory(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory)


def check_new(target: Path) -> None:
    """Raise unless `target` does not exist, or is an empty directory that can be replaced."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgumentError(
            f"{target} exists and is not empty; give a new directory, or close whatever uses this "
            "one and move it away first"
        )
    if target.is_symlink():  # the caller has followed those that lead somewhere
        raise InvalidArgumentError(f"{target} is a link that leads nowhere; remove it")
    if target.is_mount():
        raise InvalidArgumentError(
            f"{target} is the root of a file system, whose name cannot be given to anything else; "
            "give a directory in it"
        )


def sync_below(directory: Path) -> None:
    """sync() of a directory and of everything in it."""
    for place, _, files in os.walk(directory):
        for file in files:
            sync(Path(place, file))
        sync(Path(place))


def sync(path: Path) -> None:
    """Have a file's content, or a directory's names, on stable storage."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        full = getattr(fcntl, "F_FULLFSYNC", None)
        if full is None:
            os.fsync(descriptor)
        else:  # macOS, whose fsync stops at the drive's cache
            fcntl.fcntl(descriptor, full)
    finally:
        os.close(descriptor)
