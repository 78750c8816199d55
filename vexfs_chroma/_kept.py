"""Writes that are kept until a block ends: whose they are is known by the context (contextvars).

Threads and tasks have their own.  A task that is started in the block, or a call that the block no
longer waits for, has the block's context; what it writes when the block has ended is refused, as it
would happen whatever became of the rest.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from chromadb.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kept:
    """What is kept, for a database in this process or on a server (`owner`)."""

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.has_ended = False


KeptT = TypeVar("KeptT", bound=Kept)

_current: ContextVar[Kept | None] = ContextVar("vexfs_transaction", default=None)


def kept_for(owner: object, kind: type[KeptT]) -> KeptT | None:
    """Where a write to `owner` is to be kept, if it is.  Raises InvalidArgumentError, see above."""
    found = _current.get()
    if not isinstance(found, kind) or found.owner is not owner:
        return None
    if found.has_ended:
        raise InvalidArgumentError(
            "the transaction that this write was to be a part of has ended; start tasks that "
            "write after a transaction outside of it"
        )
    return found


@contextmanager
def keeping(kept: KeptT) -> Iterator[KeptT]:
    """Keep what is written meanwhile; what becomes of it is the caller's affair."""
    found = _current.get()
    if found is not None and not found.has_ended:
        raise InvalidArgumentError("a transaction is under way already; transactions do not nest")
    token = _current.set(kept)
    try:
        yield kept
    finally:
        kept.has_ended = True
        _current.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """What is written meanwhile belongs to no transaction."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
