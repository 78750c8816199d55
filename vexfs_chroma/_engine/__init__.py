"""The engine, as the rest of the package sees it: the only place that touches ffi.

`Database` and `Collection` wrap the handles of csrc/include/vexfs.h, one C call per operation,
with the interpreter lock released while the engine works.  Errors are chromadb's classes, or
ours of `vexfs_chroma._errors`, by one table (`_status.py`).
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from vexfs_chroma._engine import _codec, _regex_provider
from vexfs_chroma._engine._collection import KEY_NUMBERS, KEY_STRING, TAIL_ROWS, Collection, Filter
from vexfs_chroma._engine._database import NO_INDEX, QUANTIZATIONS, Copied, Database
from vexfs_chroma._engine._handle import Handle
from vexfs_chroma._engine._ranked import RankedSearch
from vexfs_chroma._engine._results import (
    PLAN_WALK,
    CollectionInfo,
    IndexCheck,
    KeyValues,
    Memory,
    Plan,
    PlanCell,
    RankedRows,
    Rows,
    Usage,
)
from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._transaction import Transaction
from vexfs_chroma._engine._vexfs import ffi, lib
from vexfs_chroma._kept import apart

if TYPE_CHECKING:
    from vexfs_chroma._engine._integrity import (
        Batch,
        Check,
        RawLoss,
        Salvage,
        announce_replacement,
        check_transaction,
        read_owner,
        read_superblock,
        write_superblock,
    )

F_AND: int = lib.VEX_F_AND
F_OR: int = lib.VEX_F_OR
F_EQ: int = lib.VEX_F_EQ
F_NE: int = lib.VEX_F_NE
F_GT: int = lib.VEX_F_GT
F_GE: int = lib.VEX_F_GE
F_LT: int = lib.VEX_F_LT
F_LE: int = lib.VEX_F_LE
F_IN: int = lib.VEX_F_IN
F_NIN: int = lib.VEX_F_NIN
F_CONTAINS: int = lib.VEX_F_CONTAINS
F_NOT_CONTAINS: int = lib.VEX_F_NOT_CONTAINS
F_DOC_CONTAINS: int = lib.VEX_F_DOC_CONTAINS
F_DOC_NOT_CONTAINS: int = lib.VEX_F_DOC_NOT_CONTAINS
F_DOC_REGEX: int = lib.VEX_F_DOC_REGEX
F_DOC_NOT_REGEX: int = lib.VEX_F_DOC_NOT_REGEX
F_ID_IN: int = lib.VEX_F_ID_IN
F_ID_NOT_IN: int = lib.VEX_F_ID_NOT_IN
F_DOC_ICONTAINS: int = lib.VEX_F_DOC_ICONTAINS
F_DOC_NOT_ICONTAINS: int = lib.VEX_F_DOC_NOT_ICONTAINS
F_EXISTS: int = lib.VEX_F_EXISTS
F_NOT_EXISTS: int = lib.VEX_F_NOT_EXISTS
F_TEXT_CONTAINS: int = lib.VEX_F_TEXT_CONTAINS
F_TEXT_NOT_CONTAINS: int = lib.VEX_F_TEXT_NOT_CONTAINS
F_TEXT_STARTS: int = lib.VEX_F_TEXT_STARTS
F_TEXT_NOT_STARTS: int = lib.VEX_F_TEXT_NOT_STARTS
F_TEXT_ICONTAINS: int = lib.VEX_F_TEXT_ICONTAINS
F_TEXT_NOT_ICONTAINS: int = lib.VEX_F_TEXT_NOT_ICONTAINS
F_TEXT_ISTARTS: int = lib.VEX_F_TEXT_ISTARTS
F_TEXT_NOT_ISTARTS: int = lib.VEX_F_TEXT_NOT_ISTARTS
F_TEXT_IEQ: int = lib.VEX_F_TEXT_IEQ
F_TEXT_NOT_IEQ: int = lib.VEX_F_TEXT_NOT_IEQ

__all__ = [
    "F_AND",
    "F_CONTAINS",
    "F_DOC_CONTAINS",
    "F_DOC_ICONTAINS",
    "F_DOC_NOT_CONTAINS",
    "F_DOC_NOT_ICONTAINS",
    "F_DOC_NOT_REGEX",
    "F_DOC_REGEX",
    "F_EQ",
    "F_EXISTS",
    "F_GE",
    "F_GT",
    "F_ID_IN",
    "F_ID_NOT_IN",
    "F_IN",
    "F_LE",
    "F_LT",
    "F_NE",
    "F_NIN",
    "F_NOT_CONTAINS",
    "F_NOT_EXISTS",
    "F_OR",
    "F_TEXT_CONTAINS",
    "F_TEXT_ICONTAINS",
    "F_TEXT_IEQ",
    "F_TEXT_ISTARTS",
    "F_TEXT_NOT_CONTAINS",
    "F_TEXT_NOT_ICONTAINS",
    "F_TEXT_NOT_IEQ",
    "F_TEXT_NOT_ISTARTS",
    "F_TEXT_NOT_STARTS",
    "F_TEXT_STARTS",
    "KEY_NUMBERS",
    "KEY_STRING",
    "NO_INDEX",
    "PLAN_WALK",
    "QUANTIZATIONS",
    "TAIL_ROWS",
    "Batch",
    "Check",
    "Collection",
    "CollectionInfo",
    "Copied",
    "Database",
    "Filter",
    "Handle",
    "IndexCheck",
    "KeyValues",
    "Memory",
    "Plan",
    "PlanCell",
    "RankedRows",
    "RankedSearch",
    "RawLoss",
    "Rows",
    "Salvage",
    "Transaction",
    "Usage",
    "announce_replacement",
    "apart",
    "check_transaction",
    "codec_name",
    "format_version",
    "lock_holder",
    "read_owner",
    "read_superblock",
    "simd_level",
    "stats",
    "version",
    "write_superblock",
]

# What only checking and repairing need is imported when it is first named.
_INTEGRITY = frozenset(
    {
        "Batch",
        "Check",
        "RawLoss",
        "Salvage",
        "announce_replacement",
        "check_transaction",
        "read_owner",
        "read_superblock",
        "write_superblock",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _INTEGRITY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}._integrity"), name)
    globals()[name] = value
    return value


def stats() -> dict[str, int]:
    """Process-wide counters of the engine; see vex_stats."""
    out = ffi.new("vex_stats *")
    lib.vex_get_stats(out)
    return {name: getattr(out, name) for name, _ in ffi.typeof("vex_stats").fields}


def simd_level() -> str:
    """The kernels in use: "scalar", "avx2", "avx512" or "neon"."""
    out = ffi.new("const char **")
    check(lib.vex_simd_level(out))
    return ffi.string(out[0]).decode("ascii")


def codec_name() -> str:
    """The compression in use; "store" when there is none."""
    return ffi.string(lib.vex_codec_name()).decode("utf-8")


def version() -> str:
    """Version of the engine."""
    return ffi.string(lib.vex_version()).decode("ascii")


def format_version() -> tuple[int, int]:
    """Version of the on-disk format that this engine writes."""
    out = ffi.new("uint16_t[2]")
    lib.vex_format_version(out, out + 1)
    return out[0], out[1]


def lock_holder(path: str) -> str:
    """Which other process has a lock on a file, for messages: "process 4711 (python3)"."""
    out = ffi.new("vex_lock_holder *")
    lib.vex_find_lock_holder(os.fsencode(path), out)
    if out.pid == 0:
        return "another process"
    name = ffi.string(out.name).decode("utf-8", "replace")
    return f"process {out.pid} ({name or 'of unknown name'})"


_codec.start(ffi, lib)
_regex_provider.register()
os.register_at_fork(
    before=lib.vex_fork_prepare,
    after_in_parent=lib.vex_fork_parent,
    after_in_child=lib.vex_fork_child,
)
