"""Copying a database, which may be in use, into a new directory.

The engine links or copies the files of the collections, SQLite the catalog.  While both are at
their last step the catalog is read-locked, so a collection that is made or deleted meanwhile is
wholly in the copy or wholly out of it.  Before that, what takes long is done without any lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._backup._verify import verify
from vexfs_chroma._catalog_file import FILE_NAME, CatalogFile, Rows
from vexfs_chroma._errors import CorruptionError, StorageFullError
from vexfs_chroma._partial import Partial, check_new, sync
from vexfs_chroma._places import is_inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from vexfs_chroma import _engine

    Progress = Callable[[str, int, int], None]
    """Called with what is done ("copying", "verifying"), how far it is, and how far it goes."""

_STEP_BYTES = 64 * 1024 * 1024
"""So much is copied between two reports of progress; an interrupt comes through as often."""


@dataclass(slots=True, frozen=True)
class BackupReport:
    """What a backup or a restoration did."""

    source: str
    target: str
    collections: int
    rows: int
    """Records in the copy."""
    missing: tuple[str, ...]
    """Collections whose files were lost before: of these the copy, too, has only the name."""
    linked_files: int
    linked_bytes: int
    """Of files that the copy shares with its source, and that take no space."""
    copied_files: int
    copied_bytes: int
    seconds_held: float
    """How long writers had to wait."""
    one_moment: bool
    """Whether all collections are as of one moment; of a database that is open read-only each is
    as of a moment of its own."""


@dataclass(slots=True, frozen=True)
class Source:
    """A database to copy, open."""

    path: Path
    engine: _engine.Database
    read_only: bool
    busy_timeout: float


def copy_database(
    source: Source, target: Path, *, copy: bool, progress: Progress | None
) -> BackupReport:
    """Make `target` a verified copy of the database: whole, or not at all."""
    report = progress or ignore
    catalog = _open_catalog(source)
    with contextlib.closing(catalog), Partial(target) as partial:
        work = _Copying(source, partial.directory, copy, report)
        with catalog.reading() as rows:
            names = _collections_of(rows)
        work.ahead(list(names))
        with catalog.frozen() as rows:
            names = _collections_of(rows)
            found = [id for id in names if (source.path / "collections" / id.hex).is_dir()]
            lsns = work.finish(found)
            catalog.copy_to(partial.directory)
        sync(partial.directory / FILE_NAME)
        sync(partial.directory)
        try:
            n_rows = verify(partial.directory, lsns, report)
        except CorruptionError as error:
            raise CorruptionError(
                f"the copy of {source.path} was not kept, because it cannot be read, and neither, "
                f"it seems, can the original: {error}"
            ) from error
        partial.finish()
    return BackupReport(
        source=str(source.path),
        target=str(target),
        collections=len(lsns),
        rows=n_rows,
        missing=tuple(name for id, name in names.items() if id not in lsns),
        linked_files=work.linked_files,
        linked_bytes=work.linked_bytes,
        copied_files=work.copied_files,
        copied_bytes=work.copied_bytes,
        seconds_held=work.held_ms / 1000,
        one_moment=work.one_moment,
    )


class _Copying:
    """The engine's part of a copy, and what it has done so far."""

    def __init__(self, source: Source, target: Path, copy: bool, progress: Progress) -> None:
        self._source, self._target, self._copy, self._progress = source, target, copy, progress
        self.linked_files = self.linked_bytes = self.copied_files = self.copied_bytes = 0
        self.held_ms = 0
        self.one_moment = False

    def ahead(self, ids: list[uuid.UUID]) -> None:
        """Take the files that are listed now, collection by collection."""
        total = self._take(ids, ahead=True).left_bytes
        self._check_space(total, ids)
        left = total
        for id in ids:
            before = after = self._take([id], ahead=True).left_bytes
            while after:
                after = self._take([id], ahead=True, most_bytes=_STEP_BYTES).left_bytes
                self._progress("copying", min(total, total - left + before - after), total)
            left -= before

    def finish(self, ids: list[uuid.UUID]) -> dict[uuid.UUID, int]:
        """Take the rest, of these collections and no others; their last batches."""
        wanted = {id.hex for id in ids}
        for directory in (self._target / "collections").iterdir():
            if directory.name not in wanted:  # deleted since
                shutil.rmtree(directory)
        done = self._take(ids)
        self.held_ms, self.one_moment = done.held_ms, bool(done.one_moment)
        return done.lsns

    def _take(
        self, ids: list[uuid.UUID], *, ahead: bool = False, most_bytes: int = 0
    ) -> _engine.Copied:
        done = self._source.engine.backup(
            str(self._target), ids, copy=self._copy, ahead=ahead, most_bytes=most_bytes
        )
        self.linked_files += done.linked_files
        self.linked_bytes += done.linked_bytes
        self.copied_files += done.copied_files
        self.copied_bytes += done.copied_bytes
        return done

    def _check_space(self, file_bytes: int, ids: list[uuid.UUID]) -> None:
        """Linked files need none; whether links can be made is seen from the devices."""
        path = self._source.path
        copied = path.stat().st_dev != self._target.stat().st_dev or self._copy
        logs = sum(_log_bytes(path / "collections" / id.hex) for id in ids)
        needed = (path / FILE_NAME).stat().st_size + logs + (file_bytes if copied else 0)
        there = shutil.disk_usage(self._target).free
        if there < needed:
            raise StorageFullError(
                f"{self._target.parent.parent} has {there >> 20} MiB of free space, and the copy "
                f"needs {needed >> 20} MiB; free some, or choose another place"
            )


def check_places(source: Path, target: Path) -> tuple[Path, Path]:
    """Both as real paths.  Raises when the target is not new, or lies in the source."""
    real, made = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if is_inside(made, real):
        raise InvalidArgumentError(
            f"{target} lies in the database {source} itself; choose a place outside"
        )
    check_new(made)
    return real, made


def _open_catalog(source: Source) -> CatalogFile:
    """A connection of its own: the client's goes on beside it."""
    path = source.path
    if not (path / FILE_NAME).exists():
        raise CorruptionError(
            f"the catalog {path / FILE_NAME} is missing; restore it from a backup"
        )
    writable = os.access(path, os.W_OK) and os.access(path / FILE_NAME, os.W_OK)
    catalog = CatalogFile(
        str(path), read_only=source.read_only or not writable, busy_timeout=source.busy_timeout
    )
    try:
        catalog.exists()  # of our release, and ours
        catalog.check()
        catalog.check_sound()
    except BaseException:
        catalog.close()
        raise
    return catalog


def _log_bytes(directory: Path) -> int:
    found = 0
    with contextlib.suppress(FileNotFoundError):  # flushed, or deleted, at this moment
        for log in directory.glob("wal-*"):
            found += log.stat().st_size
    return found


def _collections_of(rows: Rows) -> dict[uuid.UUID, str]:
    return {uuid.UUID(bytes=row[1]): row[3] for row in rows.all("collections")}


def ignore(what: str, done: int, total: int) -> None:
    """The Progress of who wants none."""
