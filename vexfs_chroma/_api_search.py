"""Hybrid search, which Chroma's local mode refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chromadb.api.types import ReadLevel, SearchResult
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.errors import InvalidArgumentError
from typing_extensions import override

from vexfs_chroma import _search
from vexfs_chroma._api_records import RecordOperations
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from chromadb.execution.expression.plan import Search


class SearchOperations(RecordOperations):
    """The part of the interface that searches by rank expressions."""

    @override
    def _search(
        self,
        collection_id: UUID,
        searches: list[Search],
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        return self.search_payloads(collection_id, _search.to_payloads(searches), read_level)

    @observed("search", _described.search)
    def search_payloads(
        self,
        collection_id: UUID,
        payloads: Sequence[Any],
        read_level: ReadLevel | str = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        """_search of searches as a client sends them over HTTP: what `Search.to_dict()` gives.

        Every read level sees every write that was acknowledged before the call.  There is no log
        to be skipped: what is not in an index yet is searched without one.
        """
        try:
            ReadLevel(read_level)
        except ValueError as error:
            levels = ", ".join(repr(level.value) for level in ReadLevel)
            raise InvalidArgumentError(
                f"read_level must be one of {levels}, got {read_level!r}"
            ) from error
        with self._using(collection_id, "Error getting collection: ") as collection:
            return _search.run(collection.engine, payloads, collection.indexes)
