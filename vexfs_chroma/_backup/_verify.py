"""Whether a database that nobody writes is whole: it opens, has what it is to have, and every byte
agrees with its checksum.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from vexfs_chroma import _engine
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._errors import CorruptionError
from vexfs_chroma._integrity import check

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable


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
    _read_all(path, lost={id.hex for id in named.difference(held)})
    progress("verifying", len(ids), len(ids))
    return rows


def _read_all(path: Path, lost: set[str]) -> None:
    """An opening reads all logs, but of files only what describes them.

    `lost`: collections whose directories were gone before, which is reported otherwise.
    """
    report = check(path, deep=True)
    damage = [finding for finding in report.damage if Path(finding.file).name not in lost]
    if damage:
        first = damage[0]
        place = f" at offset {first.offset}" if first.offset else ""
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        raise CorruptionError(f"{first.file}{place}: {first.what}{more}; {first.advice}")
