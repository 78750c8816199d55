"""Regular expressions for the engine's filters, by `vexfs_chroma._regex`.

The engine calls back once to compile a pattern and then with whole blocks of documents to match.
A callback cannot raise through C, so the exception of a refused pattern waits in a thread-local
until the engine's call has failed with VEX_ERR_REGEX, and is raised then (`take_error`).
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from vexfs_chroma._engine._vexfs import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable

CDEF = """
extern "Python" void *vexfs_regex_compile(void *, const char *, size_t);
extern "Python" int vexfs_regex_match(void *, void *, const char *const *, const size_t *,
                                      uint32_t, uint8_t *);
extern "Python" void vexfs_regex_release(void *, void *);
"""

_searchers: dict[int, Callable[[bytes], Any]] = {}
_numbers = itertools.count(1)  # handles: small numbers, as C only passes them back
_pending = threading.local()


def register() -> None:
    """Make this the engine's regular expression provider."""
    provider = ffi.new(
        "vex_regex_provider *",
        {
            "compile": lib.vexfs_regex_compile,
            "match": lib.vexfs_regex_match,
            "release": lib.vexfs_regex_release,
        },
    )
    status = lib.vex_set_regex(provider)
    if status != lib.VEX_OK:
        raise ImportError(f"the engine refused the regex provider (status {status})")


def take_error() -> BaseException | None:
    """The exception that made the last callback of this thread fail, once."""
    error: BaseException | None = getattr(_pending, "error", None)
    _pending.error = None
    return error


def _keep_error(_type: object, error: BaseException, _traceback: object) -> None:
    _pending.error = error


@ffi.def_extern(error=ffi.NULL, onerror=_keep_error)
def vexfs_regex_compile(_context: Any, pattern: Any, length: int) -> Any:
    from vexfs_chroma._regex import compile_pattern  # a fifth of the package's import

    text = ffi.unpack(pattern, length).decode("utf-8")
    number = next(_numbers)
    _searchers[number] = compile_pattern(text).search
    return ffi.cast("void *", number)


@ffi.def_extern(error=-1, onerror=_keep_error)
def vexfs_regex_match(
    _context: Any,
    handle: Any,
    texts: Any,
    lengths: Any,
    count: int,
    out: Any,
) -> int:
    search = _searchers[int(ffi.cast("uintptr_t", handle))]
    unpack = ffi.unpack
    for i in range(count):
        out[i] = search(unpack(texts[i], lengths[i])) is not None
    return 0


@ffi.def_extern()
def vexfs_regex_release(_context: Any, handle: Any) -> None:
    _searchers.pop(int(ffi.cast("uintptr_t", handle)), None)
