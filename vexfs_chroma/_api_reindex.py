"""Another configuration for the graph of a collection; which space it has is settled here.

The space is in the catalog, in the schema, and in the engine.  The catalog's counts: both are
changed within one write transaction of the catalog, and an engine that differs from it when the
collection is opened, since somebody was killed in between, is given the catalog's.
"""

from __future__ import annotations

import abc
import contextlib
from typing import TYPE_CHECKING, Any

from chromadb.api import ServerAPI
from chromadb.errors import ChromaError

from vexfs_chroma import _config

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from uuid import UUID

    from vexfs_chroma import _engine
    from vexfs_chroma._api_records import OpenCollection
    from vexfs_chroma._catalog import Catalog


class ReindexOperations(ServerAPI):
    """What chromadb's interface has nothing for: changing the space of a collection."""

    @abc.abstractmethod
    def _opened(self) -> tuple[Catalog, _engine.Database]:
        """Catalog and engine."""

    @abc.abstractmethod
    def _using(self, id: UUID, prefix: str = "") -> AbstractContextManager[OpenCollection]:
        """An open collection, for one operation; a deleted one raises with Chroma's text."""

    @abc.abstractmethod
    def _reopen(self, id: UUID) -> None:
        """Read the schema anew."""

    def reindex_collection(
        self,
        id: UUID,
        space: str | None,
        max_neighbors: int | None,
        ef_construction: int | None,
    ) -> None:
        """Change what is not None, and have the graph built anew."""
        catalog, _ = self._opened()
        hnsw = {"max_neighbors": max_neighbors, "ef_construction": ef_construction}
        with self._using(id) as collection:
            engine, before = collection.engine, collection.engine.info().space

            def change(schema: dict[str, Any]) -> dict[str, Any]:
                changed = _config.reindexed_schema(schema, space, hnsw)
                engine.set_index(**_config.index_parameters(changed))
                engine.reindex(_config.vector_config(changed)["space"])
                return changed

            try:
                change_schema(catalog, id, change)
            except BaseException:
                with contextlib.suppress(ChromaError):  # else the next opening does it
                    engine.set_index(**collection.graph)
                    engine.reindex(before)
                raise
        self._reopen(id)

    def _settle_space(self, id: UUID, engine: _engine.Collection, schema: dict[str, Any]) -> None:
        """Give a collection that is opened the space that the catalog says."""
        catalog, database = self._opened()
        if database.read_only or engine.info().space == _config.vector_config(schema)["space"]:
            return

        def settle(newest: dict[str, Any]) -> dict[str, Any]:
            """Under the catalog's lock: what was read before may be the past by now."""
            space = _config.vector_config(newest)["space"]
            if engine.info().space != space:
                engine.reindex(space)
            return newest

        change_schema(catalog, id, settle)


def change_schema(catalog: Catalog, id: UUID, change: Any) -> None:
    """Give a collection the schema that `change` makes of its newest, in one transaction."""
    catalog.update_collection(
        id, name=None, change_metadata=False, metadata=None, change_schema=change
    )
