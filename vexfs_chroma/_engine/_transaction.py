"""Writes that are kept, and carried out together by one call of the engine: all of them or none.

While a transaction is entered, `Collection.write` and `delete` of its database give it what they
would have done.  It is entered by a context (contextvars), so threads and tasks have their own.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vexfs_chroma._engine._handle import Handle


class Transaction:
    """The writes that were kept, in their order."""

    def __init__(self, database: Handle) -> None:
        self.database = database
        self._steps: list[tuple[Handle, Any, Any, int]] = []
        self._lent: list[Any] = []
        self._touched: set[Handle] = set()

    def write(self, collection: Handle, request: Any, *lent: Any) -> None:
        """Keep a write; `lent` is the memory that it points to."""
        self._add(collection, request, ffi.NULL, -1, lent)

    def delete(
        self, collection: Handle, selection: Any, limit: int, owner: object, *, by_ids: bool
    ) -> None:
        """Keep a deletion.  If not by ids alone it comes first: what it selects is asked of the
        records as they were before.
        """
        if not by_ids and collection in self._touched:
            raise InvalidArgumentError(
                "in a transaction, delete(where=..., where_document=..., limit=...) comes before "
                "every other write to its collection; delete by ids, or in a transaction before"
            )
        self._add(collection, ffi.NULL, selection.pointer, limit, (selection, owner))

    def _add(
        self, collection: Handle, request: Any, selection: Any, limit: int, lent: tuple[Any, ...]
    ) -> None:
        self._steps.append((collection, request, selection, limit))
        self._lent += lent
        self._touched.add(collection)

    def commit(self) -> None:
        """Carry everything out.  Raises what the writes would raise; then nothing has happened."""
        steps = ffi.new("vex_step[]", len(self._steps))
        with ExitStack() as stack:
            database = stack.enter_context(self.database)
            for step, (collection, request, selection, limit) in zip(
                steps, self._steps, strict=True
            ):
                step.collection = stack.enter_context(collection)
                step.write, step.selection, step.limit = request, selection, limit
            check(lib.vex_transact(database, steps, len(self._steps)))


_current: ContextVar[Transaction | None] = ContextVar("vexfs_transaction", default=None)


def current(database: Handle | None) -> Transaction | None:
    """The transaction that writes to a database belong to, if one is entered."""
    found = _current.get()
    return found if found is not None and found.database is database else None


@contextmanager
def entered(database: Handle) -> Iterator[Transaction]:
    """Keep what is written meanwhile, and carry it out if nothing is raised."""
    if _current.get() is not None:
        raise InvalidArgumentError("a transaction is under way already; transactions do not nest")
    transaction = Transaction(database)
    token = _current.set(transaction)
    try:
        yield transaction
    finally:
        _current.reset(token)
    transaction.commit()


@contextmanager
def apart() -> Iterator[None]:
    """What is written meanwhile belongs to no transaction."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
