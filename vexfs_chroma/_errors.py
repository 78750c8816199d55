"""Errors of ours, each a kind of the chromadb error that existing code already catches.

    chromadb.errors.ChromaError
     +-- InternalError
     |    +-- DatabaseLockedError       another process, which it names, writes past busy_timeout
     |    +-- ReadOnlyError             opened read-only, or on read-only media
     |    +-- StorageFullError          the disk or the quota is full; nothing stored was lost
     |    +-- StoragePermissionError    the operating system refused access; __cause__ says how
     |    +-- CorruptionError           stored bytes are damaged; the message says which
     +-- InvalidArgumentError
     |    +-- ForeignDatabaseError      the directory holds something that is not a vexfs database
     +-- NotOfferedError                the server has no such call: it is Chroma's, or ours

Over HTTP they carry the name of their parent, so that every Chroma client knows them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from chromadb.errors import ChromaError, InternalError, InvalidArgumentError
from overrides import override

if TYPE_CHECKING:
    from collections.abc import Iterator


class DatabaseLockedError(InternalError):
    """Another process held the database for longer than the busy timeout."""


class ReadOnlyError(InternalError):
    """The database was opened read-only, or lies on read-only media."""


class StorageFullError(InternalError):
    """The disk or the quota is full; nothing stored was lost."""


class StoragePermissionError(InternalError):
    """The operating system refused access to a file of the database."""


class CorruptionError(InternalError):
    """Stored bytes are damaged; the message names the file and the offset."""


class ForeignDatabaseError(InvalidArgumentError):
    """The directory holds something that is not a vexfs database."""


class NotOfferedError(ChromaError, NotImplementedError):
    """A server does not offer this: Chroma's what only ours do, ours what is Chroma's cloud's."""

    @override
    def code(self) -> int:
        """The HTTP status of what a server does not implement."""
        return 501

    @classmethod
    @override
    def name(cls) -> str:
        """The name of such errors over HTTP."""
        return "ChromaError"


@contextlib.contextmanager
def permissions_checked() -> Iterator[None]:
    """What Python's own calls in this block are not permitted is a StoragePermissionError."""
    try:
        yield
    except PermissionError as error:
        raise StoragePermissionError(
            f"{error.strerror}: {error.filename}; run this as the user whom the database belongs "
            "to, or have that one allow it"
        ) from error
