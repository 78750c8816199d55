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
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

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
    options = Options(**{**from_environment(), **_from_settings(settings), **_given.get()})
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
    """Raise InvalidArgumentError for the first value that an option cannot have."""
    for problem in problems_of(options):
        raise InvalidArgumentError(problem)


def problems_of(options: Options) -> Iterator[str]:
    """Every value that an option cannot have, in words."""
    if not _is_one_of(options.durability, _DURABILITIES):
        yield f"durability must be one of {', '.join(_DURABILITIES)}, got {options.durability!r}"
    read_only: object = options.read_only  # nobody checked types
    if not isinstance(read_only, bool):
        yield f"read_only must be True or False, got {read_only!r}"
    if not _is_one_of(options.quantization, _engine.QUANTIZATIONS):
        yield (
            f"quantization must be one of {', '.join(_engine.QUANTIZATIONS)}, "
            f"got {options.quantization!r}"
        )
    if not _is_seconds(options.busy_timeout):
        yield f"busy_timeout must be a number of seconds, got {options.busy_timeout!r}"
    limit = options.memory_limit
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit < 2**63:
        yield f"memory_limit must be a number of bytes, 0 for no limit, got {limit!r}"


def _is_one_of(value: object, words: Container[str]) -> bool:
    return isinstance(value, str) and value in words


def check_seconds(name: str, value: object) -> None:
    """Raise InvalidArgumentError unless the value of argument `name` is a length of time."""
    if not _is_seconds(value):
        raise InvalidArgumentError(f"{name} must be a number of seconds, got {value!r}")


def _is_seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max or value == float("inf")


def _from_settings(settings: Settings) -> dict[str, Any]:
    """What Chroma's settings say, as Chroma's local segment manager reads them."""
    limit = settings.chroma_memory_limit_bytes
    if settings.chroma_segment_cache_policy == "LRU" and limit > 0:
        return {"memory_limit": limit}
    return {}


def from_environment() -> dict[str, Any]:
    """The options that variables give.  Raises InvalidArgumentError for what is none."""
    for problem in environment_problems(os.environ):
        raise InvalidArgumentError(problem)
    return {
        name: read(variable, os.environ[variable])
        for variable, (name, read) in VARIABLES.items()
        if os.environ.get(variable)
    }


def environment_problems(environment: Mapping[str, str]) -> Iterator[str]:
    """Every variable of an option that has a value which the option cannot have."""
    for variable, (name, read) in VARIABLES.items():
        if text := environment.get(variable):
            try:
                options = Options(**{name: read(variable, text)})
            except InvalidArgumentError as error:
                yield str(error)
            else:
                yield from (f"{variable}: {problem}" for problem in problems_of(options))


def _read_text(_: str, text: str) -> str:
    return text


def _read_bool(variable: str, text: str) -> bool:
    if text.lower() not in {"0", "1", "false", "true", "no", "yes"}:
        raise InvalidArgumentError(f"{variable} must be 0 or 1, got {text!r}")
    return text.lower() in {"1", "true", "yes"}


def _read_seconds(variable: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{variable} must be a number of seconds, got {text!r}"
        ) from error


def _read_bytes(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise InvalidArgumentError(f"{variable} must be a number of bytes, got {text!r}")
    return int(text)


def _read_rows(variable: str, text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) < 2**31):
        raise InvalidArgumentError(
            f"{variable} must be a number of rows, {least} or more, got {text!r}"
        )
    return int(text)


def _read_index_rows(variable: str, text: str) -> int:
    return _read_rows(variable, text, least=0) or _engine.NO_INDEX


VARIABLES: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "VEXFS_DURABILITY": ("durability", _read_text),
    "VEXFS_READ_ONLY": ("read_only", _read_bool),
    "VEXFS_BUSY_TIMEOUT": ("busy_timeout", _read_seconds),
    "VEXFS_QUANTIZATION": ("quantization", _read_text),
    "VEXFS_MEMORY_LIMIT": ("memory_limit", _read_bytes),
    "VEXFS_MEMTABLE_ROWS": ("memtable_rows", partial(_read_rows, least=1)),
    "VEXFS_INDEX_ROWS": ("index_rows", _read_index_rows),
}
"""The variable of each option, with what reads its text; an empty one does not count."""
