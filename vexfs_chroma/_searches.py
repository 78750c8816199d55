"""Hybrid search on collections: chromadb's call, and what is done with searches before it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import ReadLevel, maybe_cast_one_to_many
from chromadb.errors import InvalidArgumentError
from chromadb.execution.expression.operator import Key, Knn
from chromadb.execution.expression.plan import Search

from vexfs_chroma import _search_plain

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
        listed = maybe_cast_one_to_many(searches) or []
        for one in listed:
            if not isinstance(one, Search):
                raise InvalidArgumentError(
                    f"searches must be a Search, or a list of them, got {one!r}"
                )
        if all(map(_search_plain.is_embedded, listed)):
            found = self._client._search(
                collection_id=self.id,
                searches=listed,
                tenant=self.tenant,
                database=self.database,
                read_level=read_level,
            )
        else:
            found = super().search(searches, read_level)
        self._nest(found)
        return found

    def _embed_knn_string_queries(self, knn: Any) -> Any:
        # chromadb compares the key, which makes a condition of a Key: always true.
        if isinstance(knn, Knn) and isinstance(knn.key, Key):
            knn = replace(knn, key=knn.key.name)
        return super()._embed_knn_string_queries(knn)
