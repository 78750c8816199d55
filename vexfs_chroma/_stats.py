"""What a database consists of: stats().  Nothing is written, no lock is taken."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb.errors import NotFoundError

from vexfs_chroma import _engine
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._catalog_file import FILE_NAME
from vexfs_chroma._errors import CorruptionError
from vexfs_chroma._memory import MemoryReport, memory_report
from vexfs_chroma._storage import check_directory

if TYPE_CHECKING:
    import uuid

    from vexfs_chroma._api import VexfsAPI
    from vexfs_chroma._catalog import Collection as Entry


@dataclass(slots=True, frozen=True)
class DiskUsage:
    """Bytes of files, by what is in them."""

    vectors: int = 0
    payloads: int = 0
    """Ids, documents, metadata, uris, and what filters need."""
    tombstones: int = 0
    """Which rows of the two are dead."""
    logs: int = 0
    """With the space that is reserved in them."""
    graphs: int = 0
    catalog: int = 0
    leftovers: int = 0
    """Files that are being made, are about to be removed, or were left by a killed process."""
    other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(dataclasses.astuple(self))


@dataclass(slots=True, frozen=True)
class CollectionStats:
    """One collection."""

    tenant: str
    database: str
    name: str
    id: str
    rows: int
    """Records."""
    dimension: int | None
    """Of the embeddings; None before the first one."""
    space: str
    lsn: int
    """Batches that were ever written."""
    generation: int
    """Of the manifest, which names the files."""
    manifest_age: float | None
    """Seconds since files were added or merged; None in memory."""
    vector_files: int
    payload_files: int
    file_rows: int
    """Rows of embeddings in files, dead ones included."""
    dead_rows: int
    """... that were deleted or replaced, and wait for a merge."""
    dead_payload_rows: int
    """The same of documents and metadata."""
    unflushed_rows: int
    """Rows of embeddings in the log and in memory, not yet in a file."""
    unflushed_bytes: int
    """The memory that they take in a process that has the collection open."""
    quantization: str | None
    """What a graph reads: "sq8", "f16", "none" (float32); None while nothing is in files."""
    graph_rows: int
    """Rows of files in the graph that is stored, dead ones included."""
    graph_coverage: float
    """The share of the rows in files that are in it."""
    raw_document_bytes: int
    stored_document_bytes: int
    raw_metadata_bytes: int
    stored_metadata_bytes: int
    disk: DiskUsage
    shared_bytes: int
    """Of these, in files that forks, or backups made of hard links, have, too: deleting the
    collection does not give them back."""
    search_bytes: int
    """Memory that searches use again and again: code rows and links, as they are in files."""
    index_bytes: int | None
    """Memory of the graph in this process; None: not known (client.stats() tells it)."""


@dataclass(slots=True, frozen=True)
class ProcessStats:
    """What only the process knows that has the database open."""

    durability: str
    read_only: bool
    open_collections: int
    """Collections that are kept open for the next call."""
    counters: dict[str, int]
    """Of all databases of the process: memory by kind, open files, and what was done since its
    start; see vex_stats in vexfs.h."""
    memory: MemoryReport
    """What the process has in memory."""


@dataclass(slots=True, frozen=True)
class DatabaseStats:
    """One database directory, or a database in memory."""

    path: str | None
    uuid: str
    format_version: str
    """Of the files that this release writes and reads."""
    collections: list[CollectionStats]
    missing: list[str]
    """Names of collections whose directory is gone."""
    unlisted: list[str]
    """Ids of collections that no catalog entry names (one is being made, or an old catalog was put
    in place)."""
    disk: DiskUsage
    """Of all collections, and the catalog."""
    shared_bytes: int
    """Of these, what is counted more than once, as several collections have the same file."""
    process: ProcessStats | None
    """None where stats() was called with a path."""

    @property
    def rows(self) -> int:
        """Records of all collections."""
        return sum(collection.rows for collection in self.collections)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, for JSON; sums included."""
        found = dataclasses.asdict(self)
        found["rows"] = self.rows
        found["disk"]["total"] = self.disk.total
        for collection, plain in zip(self.collections, found["collections"], strict=True):
            plain["disk"]["total"] = collection.disk.total
        return found


def stats(path: str | Path) -> DatabaseStats:
    """What the database `path` consists of, whoever uses it meanwhile.

    It is only read, and not locked.
    """
    real = Path(os.path.realpath(path))
    check_directory(real, read_only=True)
    engine = _engine.Database(str(real), read_only=True, create=False)
    with (
        contextlib.closing(engine),
        contextlib.closing(Catalog(str(real), read_only=True)) as found,
    ):
        found.prepare(engine.list_collections, engine.identity)
        return _look(found, engine, real, None)


def stats_open(client: VexfsAPI) -> DatabaseStats:
    """stats() of a database that is open in this process, with what the process knows."""
    catalog, engine, path, opened = client.storage()
    process = ProcessStats(
        durability=client.options.durability,
        read_only=client.options.read_only,
        open_collections=opened,
        counters=_engine.stats(),
        memory=memory_report(client),
    )
    return _look(catalog, engine, path, process)


def _look(
    catalog: Catalog, engine: _engine.Database, path: Path | None, process: ProcessStats | None
) -> DatabaseStats:
    entries = catalog.list_all_collections()
    found = {
        entry.id: _collection_stats(engine, entry, path, in_process=process is not None)
        for entry in entries
    }
    now = {entry.id for entry in catalog.list_all_collections()}  # some may have come, or gone
    major, minor = _engine.format_version()
    return DatabaseStats(
        path=None if path is None else str(path),
        uuid=str(engine.identity),
        format_version=f"{major}.{minor}",
        collections=[one for one in found.values() if one is not None],
        missing=[entry.name for entry in entries if found[entry.id] is None and entry.id in now],
        unlisted=[str(id) for id in _directories(engine) if id not in now.union(found)],
        disk=_sum([one.disk for one in found.values() if one is not None], _catalog_bytes(path)),
        shared_bytes=_counted_again([id for id, one in found.items() if one is not None], path),
        process=process,
    )


def _directories(engine: _engine.Database) -> list[uuid.UUID]:
    """What the engine holds; nothing where the directory of the collections is gone."""
    try:
        return engine.list_collections()
    except CorruptionError:
        return []


def _collection_stats(
    engine: _engine.Database, entry: Entry, path: Path | None, *, in_process: bool
) -> CollectionStats | None:
    """None when its directory is gone."""
    try:
        with contextlib.closing(engine.open_collection(entry.id)) as collection:
            info, usage = collection.info(), collection.usage()
    except NotFoundError:
        return None
    return CollectionStats(
        tenant=entry.tenant,
        database=entry.database,
        name=entry.name,
        id=str(entry.id),
        rows=info.rows,
        dimension=info.dimension or None,
        space=info.space,
        lsn=info.lsn,
        generation=usage.generation,
        manifest_age=_manifest_age(path, entry, usage.generation),
        vector_files=info.vector_files,
        payload_files=info.payload_files,
        file_rows=usage.vector_rows,
        dead_rows=usage.dead_vector_rows,
        dead_payload_rows=usage.dead_payload_rows,
        unflushed_rows=info.memtable_rows,
        unflushed_bytes=info.memtable_bytes,
        quantization=info.quantization,
        graph_rows=usage.graph_rows,
        graph_coverage=min(1.0, usage.graph_rows / usage.vector_rows) if usage.vector_rows else 0.0,
        raw_document_bytes=info.raw_document_bytes,
        stored_document_bytes=info.stored_document_bytes,
        raw_metadata_bytes=info.raw_metadata_bytes,
        stored_metadata_bytes=info.stored_metadata_bytes,
        disk=DiskUsage(
            vectors=usage.vector_bytes,
            payloads=usage.payload_bytes,
            tombstones=usage.tombstone_bytes,
            logs=usage.log_bytes,
            graphs=usage.graph_bytes,
            leftovers=usage.leftover_bytes,
            other=usage.other_bytes,
        ),
        shared_bytes=sum(file.st_size for file in _files(path, entry.id) if file.st_nlink > 1),
        search_bytes=usage.code_bytes + usage.graph_bytes,
        index_bytes=info.index_bytes if in_process else None,
    )


def _manifest_age(path: Path | None, entry: Entry, generation: int) -> float | None:
    if path is None:
        return None
    manifest = path / "collections" / entry.id.hex / f"manifest-{generation:020}"
    try:
        return max(0.0, time.time() - manifest.stat().st_mtime)
    except FileNotFoundError:  # there is a newer one by now
        return 0.0


def _files(path: Path | None, id: uuid.UUID) -> list[os.stat_result]:
    """The files of a collection, as far as they stay while they are looked at."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for file in [] if path is None else (path / "collections" / id.hex).iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(file.lstat())
    return found


def _counted_again(ids: list[uuid.UUID], path: Path | None) -> int:
    """Bytes of files that an earlier collection has, too."""
    seen: set[tuple[int, int]] = set()
    again = 0
    for id in ids:
        for file in _files(path, id):
            key = (file.st_dev, file.st_ino)
            again += file.st_size if key in seen else 0
            seen.add(key)
    return again


def _catalog_bytes(path: Path | None) -> int:
    found = 0
    with contextlib.suppress(FileNotFoundError):  # the journal comes and goes
        for file in [] if path is None else sorted(path.glob(f"{FILE_NAME}*")):
            found += file.stat().st_size
    return found


def _sum(parts: list[DiskUsage], catalog: int) -> DiskUsage:
    sums = dict.fromkeys(DiskUsage.__slots__, 0)
    for part in parts:
        for name in sums:
            sums[name] += getattr(part, name)
    sums["catalog"] += catalog
    return DiskUsage(**sums)
