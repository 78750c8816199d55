"""Opening a database: the directory, the engine's part and the catalog, in the right order."""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import NotFoundError

from vexfs_chroma import _engine
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._catalog_file import FILE_NAME as CATALOG_FILE
from vexfs_chroma._errors import CorruptionError, ForeignDatabaseError, permissions_checked

if TYPE_CHECKING:
    from vexfs_chroma import _options

logger = logging.getLogger(__name__)


def open_storage(path: str | None, options: _options.Options) -> tuple[Catalog, _engine.Database]:
    if path is not None:
        with permissions_checked():
            check_directory(Path(path), read_only=options.read_only)
    engine = _engine.Database(
        path,
        durability=options.durability,
        read_only=options.read_only,
        create=not options.read_only,
        busy_timeout=options.busy_timeout,
        memtable_rows=options.memtable_rows,
        index_rows=options.index_rows,
        quantization=options.quantization,
        memory_limit=options.memory_limit,
    )
    try:
        read_only = options.read_only or engine.read_only
        why = engine.why_read_only()
        if read_only and not options.read_only:
            logger.warning("%s", why)
        catalog = Catalog(
            path, read_only=read_only, busy_timeout=options.busy_timeout, why_read_only=why
        )
        try:
            catalog.prepare(engine.list_collections, engine.identity)
            if not read_only and path is not None:
                catalog.reconcile(
                    engine.list_collections,
                    engine.drop_collection,
                    lambda found: engine.open_collection(found).info().lsn == 0,
                )
        except BaseException:
            catalog.close()
            raise
    except BaseException:
        engine.close()
        raise
    return catalog, engine


def check_directory(path: Path, *, read_only: bool) -> None:
    """Refuse, before anything is written, what is not a place for a database."""
    if path.exists() and not path.is_dir():
        raise ForeignDatabaseError(f"{path} is a file; a database is a directory")
    if (path / CATALOG_FILE).exists():
        return
    if (path / "chroma.sqlite3").exists():
        raise ForeignDatabaseError(
            f"{path} holds a Chroma database (chroma.sqlite3), which vexfs_chroma does not open; "
            "nothing was changed. Copy it to another path, which works even when Chroma cannot "
            f"open it any more: vexctl import chroma {path} --to NEW_PATH"
        )
    if read_only and any((path / "collections").glob("*/manifest-*")):
        raise CorruptionError(
            f"the catalog {path / CATALOG_FILE} is missing, but there are collections; restore it "
            "from a backup, or have `vexctl repair` make a new one"
        )
    if read_only:
        what = "holds no database" if path.exists() else "does not exist"
        raise NotFoundError(f"{path} {what}, and none is made, as it was to be only read")


def most_open_collections(is_persistent: bool) -> int:
    """An eighth of the file descriptors that the process may have; a collection takes about two.

    In memory there is nothing to save by closing one.
    """
    if not is_persistent:
        return sys.maxsize
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if allowed == resource.RLIM_INFINITY else max(16, min(1024, allowed // 8))
