"""Databases: open, list, close.  Every method is one call of the engine."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._engine._codec import check_started
from vexfs_chroma._engine._collection import SPACES, Collection
from vexfs_chroma._engine._handle import Handle, close_with
from vexfs_chroma._engine._idle import wait_idle
from vexfs_chroma._engine._results import Memory, read_memory
from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._transaction import Transaction
from vexfs_chroma._engine._vexfs import ffi, lib
from vexfs_chroma._engine._wire import as_index
from vexfs_chroma._errors import ReadOnlyError
from vexfs_chroma._kept import keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

DURABILITIES: dict[str, int] = {
    "full": lib.VEX_DURABILITY_FULL,
    "normal": lib.VEX_DURABILITY_NORMAL,
    "off": lib.VEX_DURABILITY_OFF,
}
QUANTIZATIONS: dict[str, int] = {
    "auto": lib.VEX_QUANTIZE_AUTO,
    "sq8": lib.VEX_QUANTIZE_SQ8,
    "none": lib.VEX_QUANTIZE_NONE,
}
NO_INDEX: int = 0xFFFFFFFF
"""The value of `index_rows` that means: never build a graph."""
_UINT32_MAX = 0xFFFFFFFF


class Copied(msgspec.Struct, frozen=True):
    """What a call of Database.backup did; see vex_backup_result."""

    lsns: dict[uuid.UUID, int]
    """The last batch of each collection that is in the backup."""
    linked_files: int
    linked_bytes: int
    copied_files: int
    copied_bytes: int
    left_bytes: int
    held_ms: int
    one_moment: int


class Database:
    """One open database: a directory, or memory when `path` is None.

    It is closed by close(), when it is no longer referenced, and at the end of the process.
    """

    def __init__(
        self,
        path: str | None,
        *,
        durability: str = "full",
        read_only: bool = False,
        create: bool = True,
        busy_timeout: float = 30.0,
        memtable_rows: int = 0,
        memtable_bytes: int = 0,
        index_rows: int = 0,
        index_threads: int = 0,
        quantization: str = "auto",
        memory_limit: int = 0,
    ) -> None:
        if durability not in DURABILITIES:
            raise InvalidArgumentError(
                f"durability must be one of {', '.join(DURABILITIES)}, got {durability!r}"
            )
        if quantization not in QUANTIZATIONS:
            raise InvalidArgumentError(
                f"quantization must be one of {', '.join(QUANTIZATIONS)}, got {quantization!r}"
            )
        if not busy_timeout >= 0:  # refuses NaN, too
            raise InvalidArgumentError(f"busy_timeout must not be negative, got {busy_timeout}")
        check_started()
        options = ffi.new("vex_db_options *")
        options.durability = DURABILITIES[durability]
        options.flags = (lib.VEX_OPEN_READ_ONLY if read_only else 0) | (
            0 if create else lib.VEX_OPEN_NO_CREATE
        )
        options.busy_timeout_ms = int(min(busy_timeout * 1000, _UINT32_MAX))
        options.memtable_rows = as_index(memtable_rows, "memtable_rows", _UINT32_MAX)
        options.memtable_bytes = as_index(memtable_bytes, "memtable_bytes")
        options.index_rows = as_index(index_rows, "index_rows", _UINT32_MAX)
        options.index_threads = as_index(index_threads, "index_threads", _UINT32_MAX)
        options.quantization = QUANTIZATIONS[quantization]
        options.memory_limit = as_index(memory_limit, "memory_limit")
        out = ffi.new("vex_db **")
        check(lib.vex_db_open(_path_bytes(path), options, out))
        self._handle = Handle("the database", out[0], _close)
        self._finalizer = close_with(self, self._handle)

    @property
    def identity(self) -> uuid.UUID:
        """What tells this database from all others."""
        out = ffi.new("uint8_t[16]")
        with self._handle as db:
            lib.vex_db_uuid(db, out)
        return uuid.UUID(bytes=bytes(ffi.buffer(out)))

    @property
    def read_only(self) -> bool:
        """Whether it takes no writes, asked for or not: see vex_db_is_read_only."""
        with self._handle as db:
            return bool(lib.vex_db_is_read_only(db))

    def why_read_only(self) -> str:
        """What every write of a database that takes none is told; "" when it takes writes."""
        if self.read_only:
            try:
                self.drop_collection(uuid.UUID(int=0))  # refused before anything else
            except ReadOnlyError as error:
                return str(error)
        return ""

    def keeping(self) -> AbstractContextManager[Transaction]:
        """Keep what this context writes to collections, for commit() of what it gives."""
        return keeping(Transaction(self._handle))

    def create_collection(self, id: uuid.UUID, space: str) -> None:
        """Create the empty collection `id`."""
        if space not in SPACES:
            raise InvalidArgumentError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
        with self._handle as db:
            check(lib.vex_collection_create(db, id.bytes, SPACES[space]))

    def open_collection(
        self, id: uuid.UUID, make: Callable[[Handle, Any, object], Collection] = Collection
    ) -> Collection:
        """A handle on the collection `id`, made by `make`; many may be open at once."""
        out = ffi.new("vex_collection **")
        with self._handle as db:
            check(lib.vex_collection_open(db, id.bytes, out))
            return make(self._handle, out[0], self)

    def drop_collection(self, id: uuid.UUID) -> None:
        """Delete the collection `id` and its files."""
        with self._handle as db:
            check(lib.vex_collection_drop(db, id.bytes))

    def list_collections(self) -> list[uuid.UUID]:
        """The ids of all collections, ascending."""
        uuids, n = ffi.new("uint8_t **"), ffi.new("uint32_t *")
        with self._handle as db:
            check(lib.vex_collection_list(db, uuids, n))
        try:
            blob = bytes(ffi.buffer(uuids[0], 16 * n[0])) if n[0] else b""
        finally:
            lib.vex_bytes_free(uuids[0])
        return [uuid.UUID(bytes=blob[i : i + 16]) for i in range(0, len(blob), 16)]

    def backup(
        self,
        target: str,
        collections: Sequence[uuid.UUID],
        *,
        copy: bool = False,
        ahead: bool = False,
        most_bytes: int = 0,
    ) -> Copied:
        """Back up collections into the directory `target`; see vex_db_backup.

        `ahead` copies only files, and no more when there are `most_bytes`.
        """
        items = ffi.new("vex_backup_item[]", [{"uuid": id.bytes} for id in collections])
        flags = (lib.VEX_BACKUP_COPY if copy else 0) | (lib.VEX_BACKUP_AHEAD if ahead else 0)
        out = ffi.new("vex_backup_result *")
        with self._handle as db:
            path, n = _path_bytes(target), len(items)
            check(lib.vex_db_backup(db, path, flags, most_bytes, items, n, out))
        return Copied(
            {id: item.lsn for id, item in zip(collections, items, strict=True)},
            **{name: getattr(out, name) for name in Copied.__struct_fields__ if name != "lsns"},
        )

    def unload(self) -> None:
        """Give back what its open collections can have again; see vex_db_unload."""
        with self._handle as db:
            check(lib.vex_db_unload(db))

    def memory(self) -> Memory:
        """What its open collections have in memory now."""
        out = ffi.new("vex_collection_memory *")
        with self._handle as db:
            check(lib.vex_db_get_memory(db, out))
        return read_memory(out)

    def wait_idle(self, timeout: float | None = None) -> None:
        """Wait until no flush or compaction of any open collection is wanted or running.

        Raises TimeoutError after `timeout` seconds.
        """
        wait_idle(self._handle, lib.vex_db_wait_idle, timeout)

    def close(self) -> None:
        """Close the database and its collections; wait for calls that are running.  Idempotent."""
        self._finalizer.detach()
        self._handle.close()


def _close(pointer: Any) -> None:
    check(lib.vex_db_close(pointer))


def _path_bytes(path: str | None) -> Any:
    if path is None:
        return ffi.NULL
    encoded = os.fsencode(path)
    if not encoded or b"\0" in encoded:
        raise InvalidArgumentError(f"path must be a non-empty path, got {path!r}")
    return encoded
