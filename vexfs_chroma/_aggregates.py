"""Aggregates: what the records of a collection have under their metadata keys.

The engine answers each call by itself, from its typed columns of metadata where records are in
files: no record is read, and nothing but the answer comes to Python.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import ReadLevel, validate_filter_set
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._api_records import UINT32_MAX
from vexfs_chroma._names import as_read_level
from vexfs_chroma._records import is_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chromadb.api.types import FilterSet, Where, WhereDocument

    from vexfs_chroma._extensions import Extensions

Value = str | int | float | bool


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

    All methods raise ValueError for filters that chromadb refuses, with its texts,
    InvalidArgumentError for what is no key or limit and for filters that need an index which the
    schema switched off, and NotFoundError for a collection that was deleted.
    """

    if TYPE_CHECKING:

        @property
        def _api(self) -> Extensions: ...
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

        Raises:
            ValueError: A filter that chromadb refuses; see the class for other errors.
            InvalidArgumentError: A read level that there is not: a filter is given by its name.
        """
        if type(read_level) is not ReadLevel:
            read_level = as_read_level(read_level)
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

        Returns:
            bool, int, float and str; an empty list where no record has the key.
        """
        filters = self._checked_call("distinct", [key], where, where_document)
        return self._api.distinct_values(self.id, key, *filters, _as_limit("distinct", limit))

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
            keys: One metadata key, or a list of them.
            where: Only of records that meet this filter on metadata.
            where_document: Only of records that meet this filter on documents.
            limit: At most so many values for each key.
        """
        if not isinstance(keys, str | Iterable):
            raise InvalidArgumentError(
                f"Expected keys to be a metadata key or a list of them, got {keys!r} in facets."
            )
        names = [keys] if isinstance(keys, str) else list(keys)
        filters = self._checked_call("facets", names, where, where_document)
        return self._api.value_counts(self.id, names, *filters, _as_limit("facets", limit))

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
        filters = self._checked_call("min_max", [key], where, where_document)
        return self._api.value_range(self.id, key, *filters)

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
        filters = self._checked_call("keys", [], where, where_document)
        return self._api.key_summaries(self.id, *filters)

    def _checked_call(
        self, call: str, keys: list[str], where: Any, where_document: Any
    ) -> tuple[Any, Any]:
        """The filters of a call about these keys."""
        check_keys(call, keys)
        return self._checked_filters(call, where, where_document)

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


def check_keys(call: str, keys: Iterable[object]) -> None:
    """Raise InvalidArgumentError for what cannot be the key of metadata."""
    for key in keys:
        if not isinstance(key, str):
            raise InvalidArgumentError(f"Expected metadata key to be a str, got {key} in {call}.")
        if key[:1] in {"#", "$"}:  # Chroma takes no such key; nothing would be found
            raise InvalidArgumentError(
                f"Expected a metadata key, which never begins with '#' or '$', got {key!r} "
                f"in {call}."
            )
        if not is_text(key):
            raise InvalidArgumentError(
                f"Expected metadata key to be valid Unicode, got {key!r} in {call}."
            )


def _as_limit(call: str, limit: Any) -> int | None:
    """How many values are wanted; raises InvalidArgumentError for what is no number of them."""
    if limit is None:
        return None
    with contextlib.suppress(TypeError):  # what is no integer
        if not isinstance(limit, bool) and 0 <= operator.index(limit) <= UINT32_MAX:
            return operator.index(limit)
    raise InvalidArgumentError(
        f"Expected limit to be None or an int from 0 to {UINT32_MAX}, got {limit!r} in {call}."
    )
