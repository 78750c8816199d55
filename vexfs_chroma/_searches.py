"""Hybrid search on collections: chromadb's call, and what is done with searches before it."""

from __future__ import annotations

import operator
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import ReadLevel, maybe_cast_one_to_many
from chromadb.errors import InvalidArgumentError
from chromadb.execution.expression.operator import Key, Knn, Limit, Where
from chromadb.execution.expression.plan import Search

from vexfs_chroma import _search, _search_plain
from vexfs_chroma._filters import as_stored

if TYPE_CHECKING:
    from chromadb.api.types import OneOrMany, SearchResult


class Searches(ChromaCollection):
    """Searching by rank expressions."""

    if TYPE_CHECKING:

        def _nest(self, found: Any) -> None: ...

    def search(
        self, searches: OneOrMany[Search], read_level: ReadLevel = ReadLevel.INDEX_AND_WAL
    ) -> SearchResult:
        """Filter, rank, group and select in one call: chromadb's Search API.

        Args:
            searches: A Search, or a list of them.
            read_level: As in Chroma; every level sees all records here.

        Returns:
            A list for each search under "ids" and "select" (what was selected), and under
            "documents", "embeddings" (lists of float), "metadatas" and "scores" (float, of single
            precision; lower is better) a list, or None where it was not selected.  rows() gives
            the same as a list of dicts for each search.

        Raises:
            InvalidArgumentError: What is no Search, or an expression, filter, limit or key that
                cannot be; a query of another dimension; an index that the schema switched off.
            ValueError: Text under a key for which the schema has no embedding function.
            NotFoundError: The collection was deleted.
        """
        listed = list(map(checked, maybe_cast_one_to_many(searches) or []))
        try:
            if all(map(_search_plain.is_embedded, listed)):
                found = self._client._search(
                    collection_id=self.id,
                    searches=listed,
                    tenant=self.tenant,
                    database=self.database,
                    read_level=read_level,
                )
            else:
                found = super().search(listed, read_level)
        except AttributeError as error:  # chromadb's classes take anything as their parts
            raise InvalidArgumentError(
                f"a part of a search is of another type than it must be: {error}"
            ) from error
        self._nest(found)
        return found

    def _embed_knn_string_queries(self, knn: Any) -> Any:
        # chromadb compares the key, which makes a condition of a Key: always true.
        if isinstance(knn, Knn) and isinstance(knn.key, Key):
            knn = replace(knn, key=knn.key.name)
        return super()._embed_knn_string_queries(knn)


def checked(search: Any) -> Search:
    """The search, with operands as they are stored.  Raises InvalidArgumentError for what is none.

    An operand may be a datetime or of numpy's types: sent to a server, they would become JSON.
    """
    if not isinstance(search, Search):
        raise InvalidArgumentError(f"searches must be a Search, or a list of them, got {search!r}")
    limit = search._limit
    if isinstance(limit, Limit) and float in {type(limit.limit), type(limit.offset)}:
        _search.read_limit(limit.to_dict())  # raises: as JSON, NaN would be no limit
    where = search._where
    if not isinstance(where, Where) or (stored := _as_stored(where)) is where:
        return search
    changed = copy(search)
    changed._where = stored
    return changed


def _as_stored(value: Any) -> Any:
    """A condition, or an operand of one, of plain values; itself, when it is so already."""
    if isinstance(value, Where):
        fields = {name: _as_stored(field) for name, field in vars(value).items()}
        is_same = all(fields[name] is field for name, field in vars(value).items())
        return value if is_same else replace(value, **fields)
    if isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return list(map(_as_stored, value))
    if isinstance(value, list):
        stored = list(map(_as_stored, value))
        return value if all(map(operator.is_, stored, value)) else stored
    if isinstance(value, np.number | np.bool_):
        return value.item()
    return as_stored(value)
