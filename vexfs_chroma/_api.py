"""VexfsAPI: every operation of Chroma, on the catalog and the engine.

This class is chromadb's `ServerAPI`, so chromadb's own Client and Collection run on it unchanged.
They have checked the shape of every argument; this module does what Chroma's server does: the
meaning, and the errors with Chroma's classes and texts (a few are odd, but programs match them).

Operations on records (`_api_records.py`) rarely touch the catalog: collections used lately are kept
open, with the view of their schema that filters need, and the engine knows when one was deleted.
Tenants and databases are in `_api_databases.py`, maintenance is in `_api_maintenance.py`, what
there is to ask about the index in `_api_index.py`, hybrid search in `_api_search.py`, forks
are in `_api_fork.py`, and what Chroma's local mode refuses, and we, too, is in `_api_refused.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from chromadb import __version__ as _chromadb_version
from chromadb.api.collection_configuration import (
    CreateCollectionConfiguration,
    UpdateCollectionConfiguration,
    create_collection_configuration_to_json_str,
    update_collection_configuration_to_json_str,
)
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.api.types import CollectionMetadata, Schema
from chromadb.auth import UserIdentity
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings, System
from chromadb.errors import (
    AuthorizationError,
    ChromaError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from chromadb.types import Collection as CollectionModel
from typing_extensions import override

from vexfs_chroma import _config, _engine, _expiry, _options, _records
from vexfs_chroma._api_aggregates import AggregateOperations
from vexfs_chroma._api_databases import DatabaseOperations
from vexfs_chroma._api_fork import ForkOperations
from vexfs_chroma._api_index import IndexOperations
from vexfs_chroma._api_maintenance import MaintenanceOperations
from vexfs_chroma._api_pages import PageOperations
from vexfs_chroma._api_records import OpenCollection, as_count
from vexfs_chroma._api_reembed import ReembedOperations
from vexfs_chroma._api_refused import RefusedOperations, implement_unknown_methods
from vexfs_chroma._api_search import SearchOperations
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._catalog import Collection as CatalogEntry
from vexfs_chroma._empty_lists import EMPTY_LISTS
from vexfs_chroma._errors import CorruptionError
from vexfs_chroma._names import (
    check_collection_metadata,
    check_name,
    check_str,
)
from vexfs_chroma._observe._observer import check_environment
from vexfs_chroma._own_metadata import check_own
from vexfs_chroma._storage import most_open_collections, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vexfs_chroma._catalog import Removed

MAX_BATCH_SIZE = 2**20
"""What `get_max_batch_size` answers.  It is advice for callers that split; larger calls work."""

_running: weakref.WeakValueDictionary[int, VexfsAPI] = weakref.WeakValueDictionary()


class _Using:
    """The context manager of `VexfsAPI._using`; a generator would take 1 us more."""

    __slots__ = ("_api", "_id", "_prefix")

    def __init__(self, api: VexfsAPI, id: UUID, prefix: str) -> None:
        self._api, self._id, self._prefix = api, id, prefix

    def __enter__(self) -> OpenCollection:
        try:
            return self._api._open(self._id)
        except NotFoundError as error:
            raise self._gone() from error

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, NotFoundError):
            raise self._gone() from error

    def _gone(self) -> Exception:
        api, id = self._api, self._id
        api._forget(id)
        api._catalog.check_present()  # or has everything gone?
        is_named = api._catalog.find_collection_by_id(id) is not None  # deleting begins with that
        if is_named and api._path is not None and id not in api._database.list_collections():
            return CorruptionError(
                f"the files of collection [{id}] are missing: {api._path}/collections/{id.hex}; "
                "restore it from a backup, or delete the collection"
            )
        return NotFoundError(f"{self._prefix}Collection [{id}] does not exist.")


class VexfsAPI(
    AggregateOperations,
    PageOperations,
    IndexOperations,
    SearchOperations,
    ForkOperations,
    ReembedOperations,
    DatabaseOperations,
    MaintenanceOperations,
    RefusedOperations,
):
    """Chroma's API on a vexfs database: a directory, or memory."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        check_environment()
        self.options = _options.current(system.settings)
        self._storage: tuple[Catalog, _engine.Database] | None = None
        self._path: str | None = None
        self._stopped = False
        self._switching = threading.RLock()
        self._collections: dict[UUID, OpenCollection] = {}
        self._most_open = most_open_collections(system.settings.is_persistent)
        self._opening = threading.Lock()

    # -- life ------------------------------------------------------------------------------------

    @override
    def start(self) -> None:
        with self._switching:
            super().start()
            self._stopped = False
            if self._storage is not None:
                return
            settings = self._system.settings
            path = None
            if settings.require("is_persistent"):
                path = os.path.realpath(settings.require("persist_directory"))
            try:
                for other in _all_running():
                    if path is not None and other._path == path:  # spelled differently
                        self.options = _options.inherited(other.options, path)
                self._storage = open_storage(path, self.options)
            except BaseException:
                # chromadb has put the System into its cache already, where the next client of this
                # directory would find it, not started.
                shared = SharedSystemClient._identifier_to_system
                identifier = _options.identifier_of(settings)
                if shared.get(identifier) is self._system:
                    del shared[identifier]
                raise
            self._path = path
            _running[id(self)] = self

    @override
    def stop(self) -> None:
        """Close the database.  Acknowledged writes were safe before; memory is freed now."""
        with self._switching:
            super().stop()
            self._stopped = True
            storage, self._storage = self._storage, None
            self._collections = {}
            _running.pop(id(self), None)
        if storage is not None:
            catalog, engine = storage
            engine.close()
            catalog.close()

    @property
    def _catalog(self) -> Catalog:
        return self._opened()[0]

    @property
    def _database(self) -> _engine.Database:
        return self._opened()[1]

    @override
    def _opened(self) -> tuple[Catalog, _engine.Database]:
        storage = self._storage
        if storage is None:
            if self._stopped:
                raise InternalError(
                    "this client is closed; create a new one to use the database again"
                )
            self.start()  # another thread put the System into chromadb's cache and is starting it
            return self._opened()
        return storage

    # -- collections -----------------------------------------------------------------------------

    @override
    def count_collections(
        self, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> int:
        return self._catalog.count_collections(tenant, database)

    @override
    def list_collections(
        self,
        limit: int | None = None,
        offset: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> Sequence[CollectionModel]:
        limit, offset = as_count("limit", limit), as_count("offset", offset)
        entries = self._catalog.list_collections(tenant, database, limit, offset or 0)
        return [self._model(entry) for entry in entries]

    @override
    def create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: CollectionMetadata | None = None,
        get_or_create: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        configuration_json = schema_json = None
        if configuration:
            text = create_collection_configuration_to_json_str(configuration, metadata)
            configuration_json = json.loads(text)
        if schema:
            schema_json = schema.serialize_to_json()
        return self.create_collection_from_json(
            name,
            schema_json,
            configuration_json,
            metadata,
            get_or_create=get_or_create,
            tenant=tenant,
            database=database,
        )

    def create_collection_from_json(
        self,
        name: str,
        schema: Any,
        configuration: Any,
        metadata: Any,
        *,
        get_or_create: bool,
        tenant: str,
        database: str,
    ) -> CollectionModel:
        """create_collection with schema and configuration as a client sends them over HTTP."""
        check_str("name", name)
        metadata = check_collection_metadata("metadata", metadata)
        check_name("name", name)
        check_own(metadata)
        complete = _config.build_schema(configuration, schema, metadata)
        return self._create(name, complete, metadata, tenant, database, get_or_create=get_or_create)

    def _create(
        self,
        name: str,
        complete: dict[str, Any],
        metadata: dict[str, Any] | None,
        tenant: str,
        database: str,
        *,
        get_or_create: bool,
    ) -> CollectionModel:
        space = _config.vector_config(complete)["space"]
        catalog, engine = self._opened()
        entry, created = catalog.create_collection(
            name,
            _records.stored_collection_metadata(metadata),
            complete,
            tenant,
            database,
            get_or_create=get_or_create,
            make=lambda new: engine.create_collection(new, space),
        )
        if created:
            entry = msgspec.structs.replace(entry, metadata=metadata)  # also what was not stored
        return self._model(entry)

    def restore_collection(
        self, name: str, schema: Any, metadata: Any, tenant: str, database: str
    ) -> CollectionModel:
        """create_collection with the complete schema of a collection, which is kept as it is.

        create_collection tells a schema that only repeats the defaults from one that was given.
        """
        check_str("name", name)
        metadata = check_collection_metadata("metadata", metadata)
        check_name("name", name)
        _expiry.read_expiry(metadata)  # or raise
        complete = _config.restored_schema(schema)
        return self._create(name, complete, metadata, tenant, database, get_or_create=False)

    @override
    def get_collection(
        self,
        name: str,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        check_str("name", name)
        entry = self._catalog.find_collection(name, tenant, database)
        if entry is None:
            raise NotFoundError(f"Collection [{name}] does not exist")
        return self._model(entry)

    def keeps_empty_lists(self, collection_id: UUID) -> bool:
        """Whether a collection keeps empty lists of metadata."""
        entry = self._catalog.find_collection_by_id(collection_id)
        return entry is not None and bool((entry.metadata or {}).get(EMPTY_LISTS))

    @override
    def get_collection_by_id(
        self,
        collection_id: UUID | str,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        if isinstance(collection_id, str):
            try:
                collection_id = UUID(collection_id)
            except ValueError as error:
                raise InvalidArgumentError(
                    "Validation error: collection_id: Invalid collection ID format, expected UUID"
                ) from error
        entry = self._catalog.find_collection_by_id(collection_id)
        if entry is None or (entry.tenant, entry.database) != (tenant, database):
            raise NotFoundError(f"Collection [{collection_id}] does not exist")
        return self._model(entry)

    @override
    def get_or_create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: CollectionMetadata | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        return self.create_collection(name, schema, configuration, metadata, True, tenant, database)

    @override
    def delete_collection(
        self,
        name: str,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        check_str("name", name)
        self._drop(self._catalog.delete_collection(name, tenant, database))

    @override
    def _modify(
        self,
        id: UUID,
        new_name: str | None = None,
        new_metadata: CollectionMetadata | None = None,
        new_configuration: UpdateCollectionConfiguration | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        configuration_json = None
        if new_configuration:
            text = update_collection_configuration_to_json_str(new_configuration)
            configuration_json = json.loads(text)
        self.modify_collection_from_json(id, new_name, new_metadata, configuration_json)

    def modify_collection_from_json(
        self, id: UUID, new_name: Any, new_metadata: Any, new_configuration: Any
    ) -> None:
        """_modify with the configuration as a client sends it over HTTP."""
        metadata = None
        if new_name is not None:
            check_str("new_name", new_name)
        if new_metadata is not None:
            metadata = check_collection_metadata("new_metadata", new_metadata)
        if new_name is not None:
            check_name("new_name", new_name)
        expiry = check_own(metadata)
        if expiry is not None:
            with self._using(id) as collection:
                expiry.refuse_types(collection.engine.metadata_keys().get(expiry.key, 0))
        change_schema: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        if new_configuration is not None:

            def change_schema(schema: dict[str, Any]) -> dict[str, Any]:
                return _config.update_schema(schema, new_configuration)

        self._catalog.update_collection(
            id,
            name=new_name,
            change_metadata=new_metadata is not None,
            metadata=_records.stored_collection_metadata(metadata),
            change_schema=change_schema,
        )
        if change_schema is not None or new_metadata is not None:
            self._reopen(id)  # with the new parameters of its index, or another expiry

    def take_name(self, id: UUID, name: str) -> None:
        """Give a collection the name of another one, which is deleted in the same moment."""
        check_name("name", name)
        self._drop(self._catalog.take_name(id, name))

    @override
    def _model(
        self, entry: CatalogEntry, engine: _engine.Collection | None = None
    ) -> CollectionModel:
        """The collection as clients see it: the catalog's part and what the engine has seen.

        `engine` may be another one that has seen the same.
        """
        dimension, schema = None, entry.schema
        # Deleted meanwhile, or damaged: that is told when it is used, and hides no other.
        with contextlib.suppress(NotFoundError, CorruptionError):
            engine = engine or self._open(entry.id, entry).engine
            dimension = engine.info().dimension or None
            schema = _config.grown_schema(schema, engine.metadata_keys())
        return CollectionModel(
            id=entry.id,
            name=entry.name,
            configuration_json=_config.configuration_of(schema),
            serialized_schema=schema,
            metadata=entry.metadata,
            dimension=dimension,
            tenant=entry.tenant,
            database=entry.database,
        )

    def _open(self, id: UUID, entry: CatalogEntry | None = None) -> OpenCollection:
        """The open collection, opened now if need be.  Raises NotFoundError."""
        found = self._collections.get(id)
        if found is not None:
            found.used = True
            return found
        catalog, database = self._opened()
        with self._opening:
            found = self._collections.get(id)
            if found is None:
                if entry is None:
                    entry = catalog.find_collection_by_id(id)
                if entry is None:
                    raise NotFoundError(f"Collection [{id}] does not exist.")
                engine = _expiry.open_collection(database, id, entry.metadata)
                found = OpenCollection(engine, entry)
                self._settle_space(id, found.engine, entry.schema)
                self._make_room()
                self._collections[id] = found
            return found

    @override
    def _reopen(self, id: UUID) -> None:
        """Read the schema anew.  The old handle lasts until there is a new one: no graph goes."""
        catalog, database = self._opened()
        with self._opening:
            if id in self._collections:
                entry = catalog.find_collection_by_id(id)
                if entry is not None:
                    engine = _expiry.open_collection(database, id, entry.metadata)
                    self._collections[id] = OpenCollection(engine, entry)

    def _make_room(self) -> None:
        """Close collections that were not used lately: each holds file descriptors."""
        while len(self._collections) >= self._most_open:
            id, oldest = next(iter(self._collections.items()))
            self._forget(id)
            if oldest.used:  # a second chance, as the youngest
                oldest.used = False
                self._collections[id] = oldest

    @override
    def _forget(self, id: UUID) -> None:
        self._collections.pop(id, None)  # closed when the last running call lets go of it

    @override
    def _drop(self, removed: Removed) -> None:
        """Remove directories of collections that the catalog no longer has.

        Where that fails, it has them again: a deletion that raised is not to happen later.
        """
        catalog, database = self._opened()
        for n, id in enumerate(removed.ids):
            self._forget(id)
            try:
                with contextlib.suppress(NotFoundError):  # another process was faster
                    database.drop_collection(id)
            except BaseException:
                # Else the next opening goes on with it.
                with contextlib.suppress(ChromaError):
                    catalog.put_back(removed, removed.ids[n:], database.list_collections)
                raise

    @override
    def _using(self, id: UUID, prefix: str = "") -> _Using:
        """An open collection, for one operation; a deleted one raises with Chroma's text."""
        return _Using(self, id, prefix)

    def home_of(self, id: UUID) -> tuple[str, str] | None:
        """Tenant and database of a collection; None when there is no such collection."""
        entry = self._catalog.find_collection_by_id(id)
        return None if entry is None else (entry.tenant, entry.database)

    # -- the system ------------------------------------------------------------------------------

    @override
    def heartbeat(self) -> int:
        return time.time_ns()

    @override
    def reset(self) -> bool:
        if not self._system.settings.allow_reset:
            raise AuthorizationError("Reset is disabled by config")
        self._drop(self._catalog.reset())
        return True

    @override
    def get_version(self) -> str:
        return _chromadb_version

    @override
    def get_settings(self) -> Settings:
        return self._system.settings

    @override
    def get_max_batch_size(self) -> int:
        return MAX_BATCH_SIZE

    @override
    def get_user_identity(self) -> UserIdentity:
        return UserIdentity(user_id="", tenant=DEFAULT_TENANT, databases=[DEFAULT_DATABASE])


def _after_fork_in_child() -> None:
    """Threads that have these locks do not exist in the child."""
    for api in _all_running():
        api._switching = threading.RLock()
        api._opening = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _all_running() -> list[VexfsAPI]:
    # valuerefs() is one atomic step: other threads may start and stop clients meanwhile.
    return [api for reference in _running.valuerefs() if (api := reference()) is not None]


def running_on(path: Path) -> VexfsAPI | None:
    """A client's API in this process that has the directory open; `path` is a real path."""
    return next((api for api in _all_running() if api._path == str(path)), None)


def _stop_all() -> None:
    for api in _all_running():
        api.stop()


implement_unknown_methods(VexfsAPI)
atexit.register(_stop_all)
