"""Hybrid search, which Chroma's local mode refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chromadb.api.types import ReadLevel, SearchResult
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.execution.expression.plan import Search
from typing_extensions import override

from vexfs_chroma import _search, _search_plain
from vexfs_chroma._api_records import RecordOperations
from vexfs_chroma._names import as_read_level
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


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
        payloads = [one if type(one) is Search else _search.to_json(one) for one in searches]
        return self.search_payloads(collection_id, payloads, read_level)

    @observed("search", _described.search)
    def search_payloads(
        self,
        collection_id: UUID,
        payloads: Sequence[Any],
        read_level: ReadLevel | str = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        """_search of Search objects, or of what clients send over HTTP: `Search.to_dict()`.

        Every read level sees every write that was acknowledged before the call.  There is no log
        to be skipped: what is not in an index yet is searched without one.
        """
        if type(read_level) is not ReadLevel:
            as_read_level(read_level)
        with self._using(collection_id, "Error getting collection: ") as collection:
            indexes = collection.indexes
            read = [_search_plain.read(payload, indexes) for payload in payloads]
            return _search.run(collection.engine, read)
