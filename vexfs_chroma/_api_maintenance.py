"""Maintenance: what chromadb's interface has no calls for."""

from __future__ import annotations

import abc
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import NotFoundError

from vexfs_chroma import _engine, _expiry
from vexfs_chroma._api_records import RecordOperations
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from uuid import UUID

    from vexfs_chroma._api_records import OpenCollection
    from vexfs_chroma._catalog import Catalog
    from vexfs_chroma._memory import MemoryReport


class MaintenanceOperations(RecordOperations):
    """Space and memory, given back and told."""

    _collections: dict[UUID, OpenCollection]
    """Those that are kept open."""
    _path: str | None
    """The directory; None: in memory."""

    @abc.abstractmethod
    def _opened(self) -> tuple[Catalog, _engine.Database]:
        """Catalog and engine."""

    @abc.abstractmethod
    def _forget(self, id: UUID) -> None:
        """Keep a collection open no longer."""

    def expire_records(self, id: UUID) -> int:
        """Delete the records of a collection that have expired; returns how many."""
        with self._using(id) as collection:
            engine = collection.engine
            return engine.expire() if isinstance(engine, _expiry.ExpiringCollection) else 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep what this context writes to records, and carry out all of it or nothing."""
        with self.keeping() as kept:
            yield
        self.commit(kept)

    def keeping(self) -> AbstractContextManager[_engine.Transaction]:
        """Keep what this context writes to records, for commit()."""
        return self._opened()[1].keeping()

    @observed("transaction", _described.transaction)
    def commit(self, kept: _engine.Transaction) -> None:
        """Carry out what was kept, all of it or nothing."""
        kept.commit()

    def vacuum(self) -> None:
        """Rewrite every collection of the directory without what was deleted or replaced."""
        for id in self._opened()[1].list_collections():
            with contextlib.suppress(NotFoundError), self._using(id) as collection:  # deleted since
                collection.engine.compact()

    def unload(self) -> None:
        """Give back what every open collection has in memory and can have again."""
        self._opened()[1].unload()
        for id in list(self._collections):
            self._forget(id)

    def unload_collection(self, id: UUID) -> None:
        """The same for one collection; closes it until its next use."""
        with self._using(id) as collection:
            collection.engine.unload()
        self._forget(id)

    def memory(self, id: UUID | None = None) -> tuple[_engine.Memory, Catalog]:
        """What a collection, or all that are open, have in memory; and the catalog."""
        catalog, database = self._opened()
        if id is None:
            return database.memory(), catalog
        with self._using(id) as collection:
            return collection.engine.memory(), catalog

    def collection_memory(self, id: UUID) -> MemoryReport:
        """What a collection has in memory, by what it is, and what else the process has."""
        from vexfs_chroma._memory import memory_report

        return memory_report(self, id)

    def storage(self) -> tuple[Catalog, _engine.Database, Path | None, int]:
        """Catalog, engine, directory (None: in memory), and how many collections are kept open."""
        catalog, engine = self._opened()
        path = None if self._path is None else Path(self._path)
        return catalog, engine, path, len(self._collections)

    def wait_idle(self, timeout: float | None = None) -> None:
        """Wait until the background work of this process on the directory is done."""
        self._opened()[1].wait_idle(timeout)
