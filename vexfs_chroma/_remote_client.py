"""RemoteClient: chromadb's Client of a server, whose collections can do what a server of ours can.

On a server of Chroma's own they are chromadb's collections: what is beyond these raises
NotOfferedError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from vexfs_chroma import _collection, _filters
from vexfs_chroma._collections_client import CollectionsClient
from vexfs_chroma._remote import RemoteDatabase

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from chromadb.api.types import FilterSet

    from vexfs_chroma._http_api import HttpAPI


class Collection(_collection.Collection):
    """A collection on a server: chromadb's Collection, and the methods of our local ones.

    `memory()` tells of the server's process; `wait_for_index()` and `unload()` need the role
    `write`, as does `reindex()`.
    """

    @property
    def _api(self) -> RemoteDatabase:
        return RemoteDatabase(cast("HttpAPI", self._client), self.tenant, self.database)

    def _read_filters(self, where: Any, where_document: Any) -> tuple[FilterSet, tuple[Any, Any]]:
        plain, ours = super()._read_filters(where, where_document)
        pairs = ((plain["where"], ours[0]), (plain["where_document"], ours[1]))
        if any(_filters.has_ours(*pair) for pair in pairs):
            self._api.check_offered("conditions beyond Chroma's in filters")
        return plain, ours

    def _stamped(self, ids: Any, metadatas: Any, ttl: object) -> Any:
        self._api.check_offered("records that expire")
        return super()._stamped(ids, metadatas, ttl)


class RemoteClient(CollectionsClient[Collection]):
    """chromadb's Client of a server; HttpClient() makes it."""

    _collection_class = Collection

    @override
    def _all_or_none(self) -> AbstractContextManager[None]:
        return cast("HttpAPI", self._server).transaction(self.tenant, self.database)


RemoteCollection = Collection
