"""Forks: a second collection with the records of another, and how many of them there are."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from chromadb.api import ServerAPI
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from typing_extensions import override

from vexfs_chroma._names import check_name, check_str

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from uuid import UUID

    from chromadb.types import Collection as CollectionModel

    from vexfs_chroma import _engine
    from vexfs_chroma._api_records import OpenCollection
    from vexfs_chroma._catalog import Catalog
    from vexfs_chroma._catalog import Collection as CatalogEntry


class ForkOperations(ServerAPI):
    """The part of the interface that is about forks, which Chroma's local mode refuses."""

    @abc.abstractmethod
    def _opened(self) -> tuple[Catalog, _engine.Database]:
        """Catalog and engine."""

    @abc.abstractmethod
    def _using(self, id: UUID, prefix: str = "") -> AbstractContextManager[OpenCollection]:
        """An open collection, for one operation; a deleted one raises with Chroma's text."""

    @abc.abstractmethod
    def _model(
        self, entry: CatalogEntry, engine: _engine.Collection | None = None
    ) -> CollectionModel:
        """The collection as clients see it; `engine` may be another that has seen the same."""

    @override
    def _fork(
        self,
        collection_id: UUID,
        new_name: str,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        check_str("new_name", new_name)
        check_name("new_name", new_name)
        catalog, engine = self._opened()
        with self._using(collection_id) as source:
            entry = catalog.fork_collection(
                collection_id, new_name, make=source.engine.fork, drop=engine.drop_collection
            )
            return self._model(entry, source.engine)  # opening it would read its logs

    @override
    def _fork_count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> int:
        with self._using(collection_id) as collection:
            return collection.engine.count_forks()
