"""Counts and values of metadata: what Chroma has no call for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vexfs_chroma._api_records import RecordOperations
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed
from vexfs_chroma._where import Clause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from vexfs_chroma import _engine
    from vexfs_chroma._api_records import OpenCollection


class AggregateOperations(RecordOperations):
    """The part of the interface that counts records and their metadata."""

    @observed("count", _described.count_records)
    def count_records(self, collection_id: UUID, where: Any, where_document: Any) -> int:
        """How many records meet both filters."""
        with self._using(collection_id) as collection:
            return collection.engine.count(None, _condition(collection, where, where_document))

    @observed("count", _described.aggregate)
    def aggregate(
        self,
        collection_id: UUID,
        kind: str,
        keys: Sequence[str] | None,
        where: Any,
        where_document: Any,
        limit: int | None = None,
    ) -> dict[str, _engine.KeyValues]:
        """What records have under each key; None: all keys that were ever written."""
        with self._using(collection_id) as collection:
            condition = _condition(collection, where, where_document)
            names = list(collection.engine.metadata_keys()) if keys is None else list(keys)
            found = collection.engine.aggregate(kind, names, condition, limit)
        return dict(zip(names, found, strict=True))


def _condition(collection: OpenCollection, where: Any, where_document: Any) -> Any:
    if not where and not where_document:
        return None
    clause = Clause(where or None, where_document or None)
    clause.check(collection.indexes)
    return clause.filter
