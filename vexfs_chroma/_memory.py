"""What the process has in memory, by what it is: client.memory() and collection.memory().

The engine counts what it allocated, and asks the system which pages of its mapped files are in
memory.  The rest of the process (interpreter, libraries, what the C library keeps of freed memory)
is the difference to its resident size, as the system tells it.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vexfs_chroma import _engine

if TYPE_CHECKING:
    from uuid import UUID

    from vexfs_chroma._api_maintenance import MaintenanceOperations


@dataclass(slots=True, frozen=True)
class MemoryReport:
    """Bytes in memory now.  `str()` of it is a table."""

    memtables: int
    """Records that are in the log, and not in files yet."""
    links: int
    """Of graphs."""
    scratch: int
    """What searches keep for the next search."""
    caches: int
    """Results of filters with documents, and which ids files may have."""
    code_rows: int
    """Vectors in the short form that graphs read: pages of files, and copies in large pages."""
    vectors: int
    """Pages of files: vectors as they were given."""
    documents: int
    """Pages of files: documents, metadata and uris, compressed."""
    keys: int
    """Pages of files: ids, and numbers of rows."""
    columns: int
    """Pages of files: metadata, as filters read them."""
    text_index: int
    """Pages of files: what finds substrings of documents."""
    engine: int
    """What the engine has allocated besides: for open files and logs, and for other collections and
    databases of the process."""
    catalog: int
    """The page cache of the catalog (SQLite): its size, at most."""
    other: int
    """The rest of the process: interpreter, libraries, objects of the program, and freed memory
    that the C library keeps: the difference to `resident`; 0 where that is not known."""
    resident: int | None
    """The process's resident size, as the system tells it; None: it does not."""

    @property
    def total(self) -> int:
        """All parts: the resident size, where that is known and no part was estimated too high."""
        values = dataclasses.asdict(self)
        del values["resident"]
        return sum(values.values())

    def as_dict(self) -> dict[str, int | None]:
        """The parts and sums, for JSON."""
        return {**dataclasses.asdict(self), "total": self.total}

    def __str__(self) -> str:
        lines = [
            f"{name.replace('_', ' '):<12}{value / 1e6:>10,.1f} MB"
            for name, value in self.as_dict().items()
            if value is not None
        ]
        return "\n".join(lines)


def memory_report(api: MaintenanceOperations, id: UUID | None = None) -> MemoryReport:
    """Of one collection, or of all that are open."""
    found, catalog = api.memory(id)
    counters = _engine.stats()
    in_files = (
        found.code_bytes
        + found.vector_bytes
        + found.document_bytes
        + found.key_bytes
        + found.column_bytes
        + found.text_bytes
        + found.link_bytes
    )
    allocated = (
        found.memtable_bytes
        + found.graph_bytes
        + found.held_bytes
        + found.search_bytes
        + found.cache_bytes
    ) + (0 if catalog.is_persistent else in_files)
    parts = {
        "memtables": found.memtable_bytes,
        "links": found.graph_bytes + found.link_bytes,
        "scratch": found.search_bytes,
        "caches": found.cache_bytes,
        "code_rows": found.code_bytes + found.held_bytes,
        "vectors": found.vector_bytes,
        "documents": found.document_bytes,
        "keys": found.key_bytes,
        "columns": found.column_bytes,
        "text_index": found.text_bytes,
        "engine": max(0, counters["heap_bytes"] + counters["bulk_bytes"] - allocated),
        "catalog": catalog.cache_bytes(),
    }
    resident = resident_bytes()
    other = 0 if resident is None else max(0, resident - sum(parts.values()))
    return MemoryReport(**parts, other=other, resident=resident)


def resident_bytes() -> int | None:
    """The resident size of this process; None where there is no /proc."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
