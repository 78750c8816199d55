"""Writes that are kept, and carried out together by one call of the engine: all of them or none.

While they are kept (`_kept.py`), `Collection.write` and `delete` of the database give the
transaction what they would have done.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import ffi, lib
from vexfs_chroma._kept import Kept, kept_for

if TYPE_CHECKING:
    from vexfs_chroma._engine._handle import Handle


class Transaction(Kept):
    """The writes that were kept, in their order."""

    def __init__(self, database: Handle) -> None:
        super().__init__(database)
        self._database = database
        self._steps: list[tuple[Handle, Any, Any, int]] = []
        self._lent: list[Any] = []
        self._touched: set[Handle] = set()
        self._dimensions: dict[Handle, int] = {}

    @property
    def size(self) -> tuple[int, int]:
        """How many writes there are, and to how many collections."""
        return len(self._steps), len(self._touched)

    def write(self, collection: Handle, request: Any, *lent: Any) -> None:
        """Keep a write; `lent` is the memory that it points to."""
        if request.dimension:
            first = self._dimensions.setdefault(collection, request.dimension)
            if first != request.dimension:
                raise InvalidArgumentError(
                    f"Collection expecting embedding with dimension of {first}, "
                    f"got {request.dimension}"
                )
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
        """Carry everything out.  Raises what the writes would raise; then nothing has happened, but
        where the message says that it is stored, and happens later.
        """
        steps = ffi.new("vex_step[]", len(self._steps))
        with ExitStack() as stack:
            database = stack.enter_context(self._database)
            for step, (collection, request, selection, limit) in zip(
                steps, self._steps, strict=True
            ):
                step.collection = stack.enter_context(collection)
                step.write, step.selection, step.limit = request, selection, limit
            check(lib.vex_transact(database, steps, len(self._steps)))


def current(database: Handle | None) -> Transaction | None:
    """The transaction that writes to a database belong to, if they are kept."""
    return kept_for(database, Transaction)
