"""Checking and salvaging collections: what `vexfs_chroma._integrity` is made of.

Every method is one call of the engine.  Nothing here takes a lock; who repairs sees to that.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._engine import _wire
from vexfs_chroma._engine._collection import SPACES
from vexfs_chroma._engine._handle import Handle, close_with
from vexfs_chroma._engine._results import copy_rows
from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import ffi, lib

if TYPE_CHECKING:
    from vexfs_chroma._engine._collection import Collection

_SPACE_NAMES = {number: name for name, number in SPACES.items()}


@dataclass(slots=True, frozen=True)
class CheckProgress:
    """How far a check is; see vex_check_progress."""

    files: int
    bytes: int
    rows: int
    expected_bytes: int
    lsn: int
    more: int
    gone: int


@dataclass(slots=True, frozen=True)
class SalvageInfo:
    """What can be read of a damaged collection; `space` is None when it is not known."""

    records: int
    bytes: int
    dimension: int
    space: str | None
    manifest_lost: bool


RawFinding = tuple[bool, str, int, str]
"""Whether it is damage, file below the path, offset, what is wrong."""
RawLoss = tuple[str, "str | None", int, str, int, str]
"""What, id, how many (0: not known), file below the path, offset, why."""


class Check:
    """A check of one collection."""

    def __init__(
        self, path: str, database: uuid.UUID, collection: uuid.UUID, *, deep: bool
    ) -> None:
        out = ffi.new("vex_check **")
        flags = lib.VEX_CHECK_DEEP if deep else 0
        encoded = os.fsencode(path)
        check(lib.vex_check_open(encoded, database.bytes, collection.bytes, flags, out))
        self._handle = Handle("the check", out[0], lib.vex_check_close)
        self._finalizer = close_with(self, self._handle)

    def step(self) -> CheckProgress:
        """Examine a file or so."""
        out = ffi.new("vex_check_progress *")
        with self._handle as pointer:
            check(lib.vex_check_step(pointer, out))
        return CheckProgress(**{name: getattr(out, name) for name in CheckProgress.__slots__})

    def take_findings(self) -> list[RawFinding]:
        """What was found since the last call."""
        with self._handle as pointer:
            return [tuple(item) for item in _take(lib.vex_check_take_findings, pointer)]

    def close(self) -> None:
        """Give the handle back.  Idempotent."""
        self._finalizer.detach()
        self._handle.close()


class Salvage:
    """Reads a damaged collection, as far as it can be read."""

    def __init__(self, path: str, database: uuid.UUID, collection: uuid.UUID) -> None:
        out = ffi.new("vex_salvage **")
        check(lib.vex_salvage_open(os.fsencode(path), database.bytes, collection.bytes, out))
        self._handle = Handle("the salvage", out[0], lib.vex_salvage_close)
        self._finalizer = close_with(self, self._handle)

    def info(self) -> SalvageInfo:
        """What there is."""
        out = ffi.new("vex_salvage_info *")
        with self._handle as pointer:
            lib.vex_salvage_get_info(pointer, out)
        return SalvageInfo(
            records=out.records,
            bytes=out.bytes,
            dimension=out.dimension,
            space=_SPACE_NAMES.get(out.space),
            manifest_lost=bool(out.manifest_lost),
        )

    def next(self, n: int) -> tuple[Batch, bool]:
        """The next records, at most n, and whether there are more."""
        out, more = ffi.new("vex_result **"), ffi.new("uint32_t *")
        with self._handle as pointer:
            check(lib.vex_salvage_next(pointer, n, out, more))
        return Batch(out[0]), bool(more[0])

    def take_losses(self) -> list[RawLoss]:
        """What turned out to be lost since the last call."""
        with self._handle as pointer:
            return [tuple(item) for item in _take(lib.vex_salvage_take_losses, pointer)]

    def close(self) -> None:
        """Give the handle back.  Idempotent."""
        self._finalizer.detach()
        self._handle.close()


class Batch:
    """Records that were read, in the form in which they are written: nothing is decoded between."""

    def __init__(self, result: Any) -> None:
        self._result = ffi.gc(result, lib.vex_result_free)
        self.rows: int = result.n_rows

    def write_to(self, target: Collection) -> None:
        """Add them all to another collection."""
        result = self._result
        request = ffi.new("vex_write_request *")
        request.op = lib.VEX_WRITE_ADD
        request.n = result.n_rows
        request.dimension = result.dimension
        request.vectors = result.vectors
        request.records = result.records
        request.records_len = result.records_len
        with target._handle as collection:
            check(lib.vex_write(collection, request, ffi.NULL))

    def write_singly(self, target: Collection) -> list[tuple[str, str]]:
        """Add them one by one; returns the ids of those that are refused, and why."""
        rows, refused = copy_rows(self._result), []
        assert rows.vectors is not None
        for i, id in enumerate(rows.ids):
            documents = None if rows.documents is None else rows.documents[i : i + 1]
            metadatas = None if rows.metadatas is None else rows.metadatas[i : i + 1]
            uris = None if rows.uris is None else rows.uris[i : i + 1]
            try:
                target.write("add", [id], rows.vectors[i : i + 1], documents, metadatas, uris)
            except InvalidArgumentError as error:
                refused.append((id, str(error)))
        return refused


def read_superblock(path: str) -> uuid.UUID:
    """The uuid of the database.  Raises for a superblock that is missing, damaged or no such."""
    out = ffi.new("uint8_t[16]")
    check(lib.vex_check_superblock(os.fsencode(path), out))
    return uuid.UUID(bytes=bytes(ffi.buffer(out)))


def check_transaction(path: str, database: uuid.UUID) -> bool:
    """Whether a transaction is not carried out yet.  Raises for a file that is damaged."""
    out = ffi.new("uint32_t *")
    check(lib.vex_check_transaction(os.fsencode(path), database.bytes, out))
    return bool(out[0])


def read_owner(path: str, collection: uuid.UUID) -> uuid.UUID:
    """The database that the newest manifest of a collection names."""
    out = ffi.new("uint8_t[16]")
    check(lib.vex_check_owner(os.fsencode(path), collection.bytes, out))
    return uuid.UUID(bytes=bytes(ffi.buffer(out)))


def write_superblock(path: str, database: uuid.UUID) -> None:
    """Make a new superblock, in the place of whatever is there."""
    check(lib.vex_repair_superblock(os.fsencode(path), database.bytes))


def announce_replacement(path: str, collection: uuid.UUID) -> None:
    """Have other processes notice that the collection's directory is another one from now on."""
    check(lib.vex_salvage_announce(os.fsencode(path), collection.bytes))


def _take(function: Any, pointer: Any) -> list[Any]:
    blob, length = ffi.new("uint8_t **"), ffi.new("size_t *")
    check(function(pointer, blob, length))
    try:
        return _wire.decode_items(ffi.buffer(blob[0], length[0]))
    finally:
        lib.vex_bytes_free(blob[0])
