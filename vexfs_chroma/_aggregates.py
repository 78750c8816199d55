"""Aggregates: what the records of a collection have under their metadata keys.

The engine answers each call by itself, from its typed columns of metadata where records are in
files: no record is read, and nothing but the answer comes to Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import ReadLevel, validate_filter_set
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._api_records import as_count
from vexfs_chroma._records import HIDDEN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chromadb.api.types import FilterSet, Where, WhereDocument

    from vexfs_chroma._api import VexfsAPI

Value = str | int | float | bool

_TYPES = ("bool", "int", "float", "str", "list[bool]", "list[int]", "list[float]", "list[str]")
_SPARSE, _SPARSE_TYPE = "SparseVector", 1 << len(_TYPES)


class ValueCount(NamedTuple):
    """A metadata value, and how many records have it."""

    value: Value
    records: int


class KeySummary(NamedTuple):
    """How many records have a metadata key, and the types of what they have under it."""

    records: int
    types: tuple[str, ...]


class Aggregates(ChromaCollection):
    """What our collections count.

    Values are bools, ints, floats and strings.  A record whose value is a list has each of its
    elements, once.  1, 1.0 and True are three values, of which a filter `{key: 1}` finds the first
    two.  Their order: False, True, numbers by value, strings by code point.
    """

    if TYPE_CHECKING:

        @property
        def _api(self) -> VexfsAPI: ...
        def _read_filters(
            self, where: Any, where_document: Any
        ) -> tuple[FilterSet, tuple[Any, Any]]: ...

    def count(
        self,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
        *,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
    ) -> int:
        """How many records there are, or how many meet the filters.

        Args:
            read_level: As in Chroma; every level sees all records here.
            where: A filter on metadata.
            where_document: A filter on documents.
        """
        if where is None and where_document is None:
            return super().count(read_level)
        filters = self._checked_filters("count", where, where_document)
        return self._api.count_records(self.id, *filters)

    def distinct(
        self,
        key: str,
        *,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        limit: int | None = None,
    ) -> list[Value]:
        """The different values that records have under a metadata key, ascending.

        Args:
            key: The metadata key.
            where: Only of records that meet this filter on metadata.
            where_document: Only of records that meet this filter on documents.
            limit: At most so many, the first.
        """
        found = self._aggregate("distinct", "values", [key], where, where_document, limit)
        values: list[Value] = found[key].values
        return values

    def facets(
        self,
        keys: str | Sequence[str],
        *,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        limit: int | None = None,
    ) -> dict[str, list[ValueCount]]:
        """The values of each key with the number of records that have them, most records first.

        Values with equal counts are in ascending order.  A key that no record has gets an empty
        list.

        Args:
            keys: One metadata key, or several.
            where: Only of records that meet this filter on metadata.
            where_document: Only of records that meet this filter on documents.
            limit: At most so many values for each key.
        """
        names = [keys] if isinstance(keys, str) else list(keys)
        found = self._aggregate("facets", "counts", names, where, where_document, limit)
        return {
            key: list(map(ValueCount, about.values, about.counts)) for key, about in found.items()
        }

    def min_max(
        self,
        key: str,
        *,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
    ) -> tuple[Value, Value] | None:
        """The least and the greatest value under a metadata key; None when there is none.

        Args:
            key: The metadata key.
            where: Only of records that meet this filter on metadata.
            where_document: Only of records that meet this filter on documents.
        """
        found = self._aggregate("min_max", "range", [key], where, where_document)
        ends = found[key].values
        return (ends[0], ends[1]) if ends else None

    def keys(
        self,
        *,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
    ) -> dict[str, KeySummary]:
        """The metadata keys that records have, by name: how many have each, and of which types.

        Types are "bool", "int", "float", "str", "list[...]" of these, and "SparseVector".

        Args:
            where: Only of records that meet this filter on metadata.
            where_document: Only of records that meet this filter on documents.
        """
        found = self._aggregate("keys", "keys", None, where, where_document)
        return {
            key: KeySummary(about.rows, _type_names(about.types))
            for key, about in sorted(found.items())
            if about.rows and not key.startswith(HIDDEN_PREFIX)
        }

    def _aggregate(
        self,
        call: str,
        kind: str,
        keys: list[str] | None,
        where: Any,
        where_document: Any,
        limit: int | None = None,
    ) -> dict[str, Any]:
        for key in keys or ():
            if not isinstance(key, str):
                raise InvalidArgumentError(
                    f"Expected metadata key to be a str, got {key} in {call}."
                )
        filters = self._checked_filters(call, where, where_document)
        most = as_count("limit", limit)
        return self._api.aggregate(self.id, kind, keys, *filters, most)

    def _checked_filters(self, call: str, where: Any, where_document: Any) -> tuple[Any, Any]:
        """The filters for the engine; raises what get() does for them."""
        if where is None and where_document is None:
            return None, None
        try:
            plain, ours = self._read_filters(where, where_document)
            validate_filter_set(plain)
        except ValueError as error:
            raise ValueError(f"{error} in {call}.") from error
        return ours


def _type_names(types: int) -> tuple[str, ...]:
    names = [name for bit, name in enumerate(_TYPES) if types >> bit & 1]
    return (*names, _SPARSE) if types & _SPARSE_TYPE else tuple(names)
