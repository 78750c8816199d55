"""The catalog for who may only read it, while a change of it is interrupted.

Whoever changed it died, and its journal is to be played back before anybody reads; SQLite leaves
that to who may write.  So it is done in a copy.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

_TRIES = 3
_Marks = tuple[tuple[int, int, int], ...]


class Undone:
    """The state before the change, in memory; made once for each such state of the files."""

    def __init__(self, path: str) -> None:
        self._files = (Path(path), Path(f"{path}-journal"))
        self._marks: _Marks = ()
        self._connection: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, or OSError when the files cannot be read or copied."""
        if self._connection is None or self._look() != self._marks:
            self.close()
            self._connection = self._make()
        return self._connection

    def close(self) -> None:
        """Give the memory back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self) -> _Marks:
        """What tells whether the files are as they were."""
        found = [file.stat() for file in self._files]
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def _make(self) -> sqlite3.Connection:
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            with tempfile.TemporaryDirectory() as directory:
                copy = self._copy(Path(directory))
                with contextlib.closing(sqlite3.connect(copy)) as undoing:
                    undoing.backup(memory)
        except BaseException:
            memory.close()
            raise
        return memory

    def _copy(self, directory: Path) -> Path:
        """Both files as they are together: somebody may just be undoing the change."""
        copies = [directory / file.name for file in self._files]
        for _ in range(_TRIES):
            self._marks = self._look()
            for file, copy in zip(self._files, copies, strict=True):
                shutil.copyfile(file, copy)
            if self._look() == self._marks:
                return copies[0]
        raise sqlite3.OperationalError("database is locked: its files change while they are copied")
