"""Options of ours, beyond chromadb's Settings.

They are keyword arguments of our client functions, or environment variables, in this order:

    durability     VEXFS_DURABILITY    "full" (default): a write returns once it is on the disk
                                       "normal": when the operating system has it; "off": at once
    read_only      VEXFS_READ_ONLY     1: never write, not even a lock
    busy_timeout   VEXFS_BUSY_TIMEOUT  seconds to wait for another process (default 30)
    memtable_rows  VEXFS_MEMTABLE_ROWS records kept in memory before they are sealed into files
                                       (environment only; default 50,000)
    quantization   VEXFS_QUANTIZATION  what graphs are walked on; results have exact distances
                                       "auto" (default): 8 bits per element where that is enough,
                                       else 16, else float32; "sq8": 8 bits; "none": float32
    memory_limit   VEXFS_MEMORY_LIMIT  bytes that the engine stays below as far as it can (default
                                       0: no limit).  Chroma's settings of the same meaning count,
                                       too: chroma_segment_cache_policy="LRU" with
                                       chroma_memory_limit_bytes
    index_rows     VEXFS_INDEX_ROWS    build a graph for collections of so many records
                                       (environment only; default 10,000; 0: never, every search
                                       is exact)
                   VEXFS_THREADS       threads that share the queries of one call (environment
                                       only; default: as many as there are processors)

A directory that is open in this process has the options that it was opened with.  Further clients
of it inherit what they are not given; being given something else is a ValueError.

chromadb shares one System among all clients of a directory, made from a Settings object that has no
room for them, so what a client function was given waits here until the System starts.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chromadb.config import Settings

IMPLEMENTATION = "vexfs_chroma.api.VexfsAPI"
"""The value of `Settings.chroma_api_impl` that chooses us."""
HTTP_IMPLEMENTATION = "vexfs_chroma.api.HttpAPI"
"""The same for a server, whichever it is."""

_DURABILITIES = ("full", "normal", "off")


class Options(msgspec.Struct, frozen=True):
    """How a database is opened."""

    durability: str = "full"
    read_only: bool = False
    busy_timeout: float = 30.0
    quantization: str = "auto"
    memtable_rows: int = 0
    index_rows: int = 0
    memory_limit: int = 0


_given: ContextVar[dict[str, Any]] = ContextVar("vexfs_options", default={})  # noqa: B039


def identifier_of(settings: Settings) -> str:
    """The name under which chromadb shares the System of these settings.

    It starts with our own prefix: a client of real Chroma on the same directory is another System.
    It tells the real directory, as "./data" is another one after os.chdir(); and the spelling where
    that differs, as one System has one Settings object.  Systems on one directory share one engine.
    """
    if not settings.is_persistent:
        return f"{IMPLEMENTATION}:ephemeral"
    spelled = settings.persist_directory
    real = os.path.realpath(spelled)
    return f"{IMPLEMENTATION}:{real}" + ("" if spelled == real else f" ({spelled})")


@contextmanager
def given(**options: Any) -> Iterator[None]:
    """Open databases with these options (None: not given) while in the block.

    Raises InvalidArgumentError for values that an option cannot have.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    _check(Options(**chosen))
    token = _given.set(chosen)
    try:
        yield
    finally:
        _given.reset(token)


def current(settings: Settings) -> Options:
    """The options for a database that is opened now.

    Given, else by Chroma's settings, else from the environment.
    """
    options = Options(**{**_from_environment(), **_from_settings(settings), **_given.get()})
    _check(options)
    return options


def inherited(running: Options, where: str) -> Options:
    """The options of a database that is open already.

    Raises ValueError when it is now asked for differently.
    """
    for name, value in _given.get().items():
        if getattr(running, name) != value:
            raise ValueError(
                f"{where} is already open in this process with {name}={getattr(running, name)!r}, "
                f"not {value!r}; close those clients first"
            )
    return running


def _check(options: Options) -> None:
    if options.durability not in _DURABILITIES:
        raise InvalidArgumentError(
            f"durability must be one of {', '.join(_DURABILITIES)}, got {options.durability!r}"
        )
    if not isinstance(options.read_only, bool):
        raise InvalidArgumentError(f"read_only must be True or False, got {options.read_only!r}")
    if options.quantization not in tuple(_engine.QUANTIZATIONS):  # it may be unhashable
        raise InvalidArgumentError(
            f"quantization must be one of {', '.join(_engine.QUANTIZATIONS)}, "
            f"got {options.quantization!r}"
        )
    check_seconds("busy_timeout", options.busy_timeout)
    limit = options.memory_limit
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit < 2**63:
        raise InvalidArgumentError(
            f"memory_limit must be a number of bytes, 0 for no limit, got {limit!r}"
        )


def check_seconds(name: str, value: object) -> None:
    """Raise InvalidArgumentError unless the value of argument `name` is a length of time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InvalidArgumentError(f"{name} must be a number of seconds, got {value!r}")


def _from_settings(settings: Settings) -> dict[str, Any]:
    """What Chroma's settings say, as Chroma's local segment manager reads them."""
    limit = settings.chroma_memory_limit_bytes
    if settings.chroma_segment_cache_policy == "LRU" and limit > 0:
        return {"memory_limit": limit}
    return {}


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if durability := os.environ.get("VEXFS_DURABILITY"):
        found["durability"] = durability
    if read_only := os.environ.get("VEXFS_READ_ONLY"):
        if read_only.lower() not in {"0", "1", "false", "true", "no", "yes"}:
            raise InvalidArgumentError(f"VEXFS_READ_ONLY must be 0 or 1, got {read_only!r}")
        found["read_only"] = read_only.lower() in {"1", "true", "yes"}
    if quantization := os.environ.get("VEXFS_QUANTIZATION"):
        found["quantization"] = quantization
    for name, least in (("memtable_rows", 1), ("index_rows", 0)):
        variable = f"VEXFS_{name.upper()}"
        if rows := os.environ.get(variable):
            if not (rows.isascii() and rows.isdigit() and least <= int(rows) < 2**31):
                raise InvalidArgumentError(
                    f"{variable} must be a number of rows, {least} or more, got {rows!r}"
                )
            found[name] = int(rows)
    if limit := os.environ.get("VEXFS_MEMORY_LIMIT"):
        if not (limit.isascii() and limit.isdigit() and int(limit) < 2**63):
            raise InvalidArgumentError(
                f"VEXFS_MEMORY_LIMIT must be a number of bytes, got {limit!r}"
            )
        found["memory_limit"] = int(limit)
    if found.get("index_rows") == 0:
        found["index_rows"] = _engine.NO_INDEX
    if timeout := os.environ.get("VEXFS_BUSY_TIMEOUT"):
        try:
            found["busy_timeout"] = float(timeout)
        except ValueError as error:
            raise InvalidArgumentError(
                f"VEXFS_BUSY_TIMEOUT must be a number of seconds, got {timeout!r}"
            ) from error
    return found
