"""backup() and restore()."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine, _options
from vexfs_chroma._backup._copy import BackupReport, Source, check_places, copy_database, ignore
from vexfs_chroma._backup._verify import verify
from vexfs_chroma._storage import check_directory

if TYPE_CHECKING:
    from vexfs_chroma._api import VexfsAPI
    from vexfs_chroma._backup._copy import Progress


def backup(
    path: str | Path,
    target: str | Path,
    *,
    copy: bool = False,
    busy_timeout: float = 30.0,
    progress: Progress | None = None,
) -> BackupReport:
    """Back up the database `path`, which may be in use, into the new directory `target`.

    The backup is a database, with everything that was acknowledged before the call.  It has files
    that never change in common with the original where the file system can link them; such files
    take no space, but later damage of the medium hits both.

    Args:
        path: The database.  Programs that use it, this one too, go on.
        target: A directory that does not exist, or is empty.
        copy: Copy all files, link none.
        busy_timeout: Seconds to wait for other processes that write or merge files.
        progress: Called with what is done ("copying", "verifying"), how far it is, and how far it
            goes: bytes, collections.

    Raises an error of chromadb's kinds and leaves nothing behind when it cannot be done.
    """
    from vexfs_chroma._api import running_on

    _options.check_seconds("busy_timeout", busy_timeout)
    source, made = check_places(Path(path), Path(target))
    client = running_on(source)
    if client is not None:  # which has its options, and they are not to change
        return backup_open(client, made, copy=copy, progress=progress)
    check_directory(source, read_only=True)
    engine = _engine.Database(str(source), create=False, busy_timeout=busy_timeout)
    with contextlib.closing(engine):
        return copy_database(
            Source(source, engine, read_only=False, busy_timeout=busy_timeout),
            made,
            copy=copy,
            progress=progress,
        )


def backup_open(
    client: VexfsAPI, target: str | Path, *, copy: bool, progress: Progress | None
) -> BackupReport:
    """backup() of a database that is open in this process, on disk."""
    _, engine, source, _ = client.storage()
    if source is None:
        raise InvalidArgumentError(
            "a database in memory has no files to back up; copy its records to a PersistentClient's"
        )
    path, made = check_places(source, Path(target))
    options = client.options
    return copy_database(
        Source(path, engine, options.read_only, options.busy_timeout),
        made,
        copy=copy,
        progress=progress,
    )


def restore(
    backup: str | Path,
    path: str | Path,
    *,
    link: bool = False,
    progress: Progress | None = None,
) -> BackupReport:
    """Make a database of a backup, after looking whether that is whole.

    Args:
        backup: What backup() made, or any database that nobody writes; it is only read.
        path: A directory that does not exist, or is empty.
        link: Link files that never change, instead of copying them: at once and without space, but
            later damage of the medium hits both.
        progress: As for backup().

    Raises an error of chromadb's kinds and leaves nothing behind when it cannot be done.
    """
    source, made = check_places(Path(backup), Path(path))
    check_directory(source, read_only=True)
    verify(source, None, progress or ignore)
    engine = _engine.Database(str(source), create=False, read_only=True)
    with contextlib.closing(engine):
        return copy_database(
            Source(source, engine, read_only=True, busy_timeout=30.0),
            made,
            copy=not link,
            progress=progress,
        )
