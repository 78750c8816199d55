"""Whether a database that nobody writes is whole: it opens, and has what it is to have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vexfs_chroma import _engine
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._errors import CorruptionError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from pathlib import Path


def verify(
    path: Path,
    lsns: dict[uuid.UUID, int] | None,
    progress: Callable[[str, int, int], None],
) -> int:
    """Open the database `path` for reading, and all its collections; how many records it has.

    `lsns` is the last batch that each collection must have; None: whatever it has.  Raises
    CorruptionError.
    """
    engine = _engine.Database(str(path), read_only=True, create=False)
    with (
        contextlib.closing(engine),
        contextlib.closing(Catalog(str(path), read_only=True)) as catalog,
    ):
        catalog.prepare(engine.list_collections, engine.identity)
        held, named = engine.list_collections(), set(catalog.list_ids())
        if lsns is not None and (held != sorted(lsns) or not named.issuperset(held)):
            raise CorruptionError(f"{path} has other collections than it must have")
        ids = [id for id in held if id in named]
        rows = 0
        for done, id in enumerate(ids):
            progress("verifying", done, len(ids))
            with contextlib.closing(engine.open_collection(id)) as collection:
                info = collection.info()
            if lsns is not None and info.lsn != lsns[id]:
                raise CorruptionError(
                    f"collection {id} in {path} ends with batch {info.lsn}, not with {lsns[id]}"
                )
            rows += info.rows
    # Whatever reads every byte of a database belongs here: an opening reads all logs, but of files
    # only what describes them.
    progress("verifying", len(ids), len(ids))
    return rows
