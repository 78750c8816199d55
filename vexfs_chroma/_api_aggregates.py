"""Counts and values of metadata: what Chroma has no call for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vexfs_chroma import _engine
from vexfs_chroma._aggregates import KeySummary, Value, ValueCount
from vexfs_chroma._api_records import RecordOperations
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed
from vexfs_chroma._records import HIDDEN_PREFIX
from vexfs_chroma._where import Clause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from vexfs_chroma._api_records import OpenCollection


_TYPES = ("bool", "int", "float", "str", "list[bool]", "list[int]", "list[float]", "list[str]")
_SPARSE, _SPARSE_TYPE = "SparseVector", 1 << len(_TYPES)


class AggregateOperations(RecordOperations):
    """The part of the interface that counts records and their metadata."""

    @observed("count", _described.count_records)
    def count_records(self, collection_id: UUID, where: Any, where_document: Any) -> int:
        """How many records meet both filters."""
        with self._using(collection_id) as collection:
            return collection.engine.count(None, _condition(collection, where, where_document))

    def distinct_values(
        self, collection_id: UUID, key: str, where: Any, where_document: Any, limit: int | None
    ) -> list[Value]:
        """The different values under a key, ascending; the first `limit`."""
        found = self.aggregate(collection_id, "values", [key], where, where_document, limit)
        values: list[Value] = found[key].values
        return values

    def value_counts(
        self,
        collection_id: UUID,
        keys: Sequence[str],
        where: Any,
        where_document: Any,
        limit: int | None,
    ) -> dict[str, list[ValueCount]]:
        """The values under each key with their records, most first; `limit` for each key."""
        found = self.aggregate(collection_id, "counts", keys, where, where_document, limit)
        return {
            key: list(map(ValueCount, about.values, about.counts)) for key, about in found.items()
        }

    def value_range(
        self, collection_id: UUID, key: str, where: Any, where_document: Any
    ) -> tuple[Value, Value] | None:
        """The least and the greatest value under a key; None when there is none."""
        found = self.aggregate(collection_id, "range", [key], where, where_document)
        ends = found[key].values
        return (ends[0], ends[1]) if ends else None

    def key_summaries(
        self, collection_id: UUID, where: Any, where_document: Any
    ) -> dict[str, KeySummary]:
        """How many records have each key, and of which types, by name."""
        found = self.aggregate(collection_id, "keys", None, where, where_document)
        return {
            key: KeySummary(about.rows, _type_names(about.types))
            for key, about in sorted(found.items())
            if about.rows and not key.startswith(HIDDEN_PREFIX)
        }

    def takes_text_ranges(self, collection_id: UUID, key: str) -> bool:
        """Whether a key may be compared with a text by order: it has strings, or nothing yet."""
        with self._using(collection_id) as collection:
            types = collection.engine.metadata_keys().get(key, 0)
        return not types or bool(types & _engine.KEY_STRING)

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


def _type_names(types: int) -> tuple[str, ...]:
    names = [name for bit, name in enumerate(_TYPES) if types >> bit & 1]
    return (*names, _SPARSE) if types & _SPARSE_TYPE else tuple(names)
