"""Turns a vex_status into the exception that the caller sees.

One table maps every code of vexfs.h to a class; a test walks the header and requires it to be
complete.  The text is the engine's own message (what, where, what to do) with the file and the
offset it concerns.  A failed system call is the exception's ``__cause__``, as an OSError.
"""

from __future__ import annotations

import os

from chromadb.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UniqueConstraintError,
    VersionMismatchError,
)

from vexfs_chroma import _errors
from vexfs_chroma._engine import _regex_provider
from vexfs_chroma._engine._vexfs import ffi, lib

ERROR_CLASSES: dict[int, type[Exception]] = {
    lib.VEX_ERR_INVALID: InvalidArgumentError,
    lib.VEX_ERR_DIMENSION: InvalidArgumentError,
    lib.VEX_ERR_NOT_FINITE: InvalidArgumentError,
    lib.VEX_ERR_EXISTS: UniqueConstraintError,
    lib.VEX_ERR_NOT_FOUND: NotFoundError,
    lib.VEX_ERR_TOO_BIG: InvalidArgumentError,
    lib.VEX_ERR_CLOSED: InternalError,
    lib.VEX_ERR_BUSY: _errors.DatabaseLockedError,
    lib.VEX_ERR_READ_ONLY: _errors.ReadOnlyError,
    lib.VEX_ERR_POISONED: InternalError,
    lib.VEX_ERR_FORKED: InternalError,
    lib.VEX_ERR_IO: InternalError,
    lib.VEX_ERR_NO_SPACE: _errors.StorageFullError,
    lib.VEX_ERR_PERMISSION: _errors.StoragePermissionError,
    lib.VEX_ERR_CORRUPT: _errors.CorruptionError,
    lib.VEX_ERR_VERSION: VersionMismatchError,
    lib.VEX_ERR_FOREIGN: _errors.ForeignDatabaseError,
    lib.VEX_ERR_NO_MEMORY: MemoryError,
    lib.VEX_ERR_CODEC: InternalError,
    lib.VEX_ERR_REGEX: InvalidArgumentError,
}


def check(status: int) -> None:
    """Raise the error of the call that just returned `status` to this thread, if it failed."""
    if status != lib.VEX_OK:
        raise error_of(status)


def error_of(status: int) -> BaseException:
    """The exception for the call that just failed in this thread with `status`."""
    if status == lib.VEX_ERR_REGEX:
        refusal = _regex_provider.take_error()
        if refusal is not None:
            return refusal
    error_class = ERROR_CLASSES.get(status, InternalError)
    error = lib.vex_last_error()
    if error.code != status:
        return error_class(_text(lib.vex_status_name(status)))
    message, path = _text(error.message), _text(error.path)
    if path:
        where = f"{path}, offset {error.offset}" if error.offset else path
        message = f"{message} ({where})"
    exception = error_class(message)
    if error.sys_errno:
        reason = os.strerror(error.sys_errno)
        exception.__cause__ = OSError(error.sys_errno, reason, path or None)
    return exception


def _text(c_string: object) -> str:
    return ffi.string(c_string).decode("utf-8", "replace")
