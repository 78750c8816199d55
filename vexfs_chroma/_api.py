"""VexfsAPI: every operation of Chroma, on the catalog and the engine.

This class is chromadb's `ServerAPI`, so chromadb's own Client and Collection run on it unchanged.
They have checked the shape of every argument; this module does what Chroma's server does: the
meaning, and the errors with Chroma's classes and texts (a few are odd, but programs match them).

Data operations rarely touch the catalog: collections used lately are kept open, with the view of
their schema that filters need, and the engine knows when one was deleted.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import dataclasses
import json
import operator
import os
import resource
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chromadb import __version__ as _chromadb_version
from chromadb.api import ServerAPI
from chromadb.api.collection_configuration import (
    CreateCollectionConfiguration,
    UpdateCollectionConfiguration,
    create_collection_configuration_to_json_str,
    update_collection_configuration_to_json_str,
)
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.api.types import (
    CollectionMetadata,
    DeleteResult,
    Documents,
    Embeddings,
    GetResult,
    IDs,
    Include,
    IncludeMetadataDocuments,
    IncludeMetadataDocumentsDistances,
    IncludeMetadataDocumentsEmbeddings,
    IndexingStatus,
    Metadatas,
    QueryResult,
    ReadLevel,
    Schema,
    SearchResult,
    URIs,
    Where,
    WhereDocument,
)
from chromadb.auth import UserIdentity
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings, System
from chromadb.errors import (
    AuthorizationError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from chromadb.execution.expression.plan import Search
from chromadb.types import Collection as CollectionModel
from chromadb.types import Database, Tenant
from overrides import override

from vexfs_chroma import _config, _engine, _options, _records
from vexfs_chroma._catalog import Catalog
from vexfs_chroma._catalog import Collection as CatalogEntry
from vexfs_chroma._catalog_file import FILE_NAME as CATALOG_FILE
from vexfs_chroma._errors import CorruptionError, ForeignDatabaseError
from vexfs_chroma._names import (
    check_collection_metadata,
    check_database_name,
    check_name,
    check_str,
    check_tenant_name,
)
from vexfs_chroma._where import Clause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chromadb.api.models.AttachedFunction import AttachedFunction

MAX_BATCH_SIZE = 2**20
"""What `get_max_batch_size` answers.  It is advice for callers that split; larger calls work."""

_NO_FUNCTIONS = (
    "Attached functions are only supported when connecting to a Chroma server via HttpClient. "
    "The Rust bindings (embedded mode) do not support attached function operations."
)
_UINT32_MAX = 2**32 - 1
_running: weakref.WeakValueDictionary[int, VexfsAPI] = weakref.WeakValueDictionary()


class _Open:
    """An open collection: the engine's handle, and what its schema allows."""

    __slots__ = ("engine", "indexes", "used")

    def __init__(self, engine: _engine.Collection, entry: CatalogEntry) -> None:
        self.engine = engine
        self.used = False  # since the last look for one to close
        self.indexes = _config.IndexView(entry.schema)


class _Using:
    """The context manager of `VexfsAPI._using`; a generator would take 1 us more."""

    __slots__ = ("_api", "_id", "_prefix")

    def __init__(self, api: VexfsAPI, id: UUID, prefix: str) -> None:
        self._api, self._id, self._prefix = api, id, prefix

    def __enter__(self) -> _Open:
        try:
            return self._api._open(self._id)
        except NotFoundError as error:
            raise self._gone() from error

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, NotFoundError):
            raise self._gone() from error

    def _gone(self) -> NotFoundError:
        self._api._forget(self._id)
        self._api._catalog.check_present()  # or has everything gone?
        return NotFoundError(f"{self._prefix}Collection [{self._id}] does not exist.")


class VexfsAPI(ServerAPI):
    """Chroma's API on a vexfs database: a directory, or memory."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self.options = _options.current()
        self._storage: tuple[Catalog, _engine.Database] | None = None
        self._path: str | None = None
        self._stopped = False
        self._switching = threading.RLock()
        self._collections: dict[UUID, _Open] = {}
        self._most_open = _most_open_collections(system.settings.is_persistent)
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
                self._storage = _open_storage(path, self.options)
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

    # -- tenants and databases -------------------------------------------------------------------

    @override
    def create_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        check_database_name(name)
        check_str("tenant", tenant)
        self._catalog.create_database(name, tenant)

    @override
    def get_database(self, name: str, tenant: str = DEFAULT_TENANT) -> Database:
        check_database_name(name)
        check_str("tenant", tenant)
        found = self._catalog.find_database(name, tenant)
        if found is None:
            raise NotFoundError(f"Database [{name}] not found. Are you sure it exists?")
        return Database(id=found.id, name=found.name, tenant=found.tenant)

    @override
    def delete_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        check_str("name", name)
        check_str("tenant", tenant)
        self._drop(self._catalog.delete_database(name, tenant))

    @override
    def list_databases(
        self,
        limit: int | None = None,
        offset: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Sequence[Database]:
        limit, offset = _count("limit", limit), _count("offset", offset)
        found = self._catalog.list_databases(tenant, limit, offset or 0)
        return [Database(id=d.id, name=d.name, tenant=d.tenant) for d in found]

    @override
    def create_tenant(self, name: str) -> None:
        check_tenant_name(name)
        self._catalog.create_tenant(name)

    @override
    def get_tenant(self, name: str) -> Tenant:
        check_str("name", name)
        if not self._catalog.has_tenant(name):
            raise NotFoundError(f"Tenant [{name}] not found")
        return Tenant(name=name)

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
        limit, offset = _count("limit", limit), _count("offset", offset)
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
        complete = _config.build_schema(configuration, schema, metadata)
        _config.check_sparse(complete)
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
            entry = dataclasses.replace(entry, metadata=metadata)  # also what was not stored
        return self._model(entry)

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
        self._drop([self._catalog.delete_collection(name, tenant, database)])

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
        change_schema: Callable[[_config.Json], _config.Json] | None = None
        if new_configuration is not None:

            def change_schema(schema: _config.Json) -> _config.Json:
                return _config.update_schema(schema, new_configuration)

        self._catalog.update_collection(
            id,
            name=new_name,
            change_metadata=new_metadata is not None,
            metadata=_records.stored_collection_metadata(metadata),
            change_schema=change_schema,
        )

    def _model(self, entry: CatalogEntry) -> CollectionModel:
        """The collection as clients see it: the catalog's part and what the engine has seen."""
        dimension, schema = None, entry.schema
        # Deleted meanwhile, or damaged: that is told when it is used, and hides no other.
        with contextlib.suppress(NotFoundError, CorruptionError):
            engine = self._open(entry.id, entry).engine
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

    def _open(self, id: UUID, entry: CatalogEntry | None = None) -> _Open:
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
                found = _Open(database.open_collection(id), entry)
                self._make_room()
                self._collections[id] = found
            return found

    def _make_room(self) -> None:
        """Close collections that were not used lately: each holds file descriptors."""
        while len(self._collections) >= self._most_open:
            id, oldest = next(iter(self._collections.items()))
            self._forget(id)
            if oldest.used:  # a second chance, as the youngest
                oldest.used = False
                self._collections[id] = oldest

    def _forget(self, id: UUID) -> None:
        self._collections.pop(id, None)  # closed when the last running call lets go of it

    def _drop(self, ids: Sequence[UUID]) -> None:
        """Remove directories of collections that the catalog no longer has."""
        database = self._database
        for id in ids:
            self._forget(id)
            with contextlib.suppress(NotFoundError):  # another process was faster
                database.drop_collection(id)

    def _using(self, id: UUID, prefix: str = "") -> _Using:
        """An open collection, for one operation; a deleted one raises with Chroma's text."""
        return _Using(self, id, prefix)

    # -- records ---------------------------------------------------------------------------------

    @override
    def _add(
        self,
        ids: IDs,
        collection_id: UUID,
        embeddings: Embeddings,
        metadatas: Metadatas | None = None,
        documents: Documents | None = None,
        uris: URIs | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        return self._write("add", collection_id, ids, embeddings, metadatas, documents, uris)

    @override
    def _update(
        self,
        collection_id: UUID,
        ids: IDs,
        embeddings: Embeddings | None = None,
        metadatas: Metadatas | None = None,
        documents: Documents | None = None,
        uris: URIs | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        return self._write("update", collection_id, ids, embeddings, metadatas, documents, uris)

    @override
    def _upsert(
        self,
        collection_id: UUID,
        ids: IDs,
        embeddings: Embeddings,
        metadatas: Metadatas | None = None,
        documents: Documents | None = None,
        uris: URIs | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        return self._write("upsert", collection_id, ids, embeddings, metadatas, documents, uris)

    def _write(
        self,
        op: str,
        collection_id: UUID,
        ids: IDs,
        embeddings: Embeddings | None,
        metadatas: Metadatas | None,
        documents: Documents | None,
        uris: URIs | None,
    ) -> bool:
        if not ids:
            return True
        stored = _records.stored_metadatas(op, metadatas, uris)
        vectors = None if embeddings is None else _records.as_matrix(embeddings)
        with self._using(collection_id, "Error getting collection: ") as collection:
            try:
                collection.engine.write(op, ids, vectors, documents, stored, uris)
            except InvalidArgumentError as error:
                raise _records.why_refused(collection.engine, ids, vectors, error) from error
            except UnicodeEncodeError:
                _records.check_text(op, ids, stored)
                raise  # a document or a uri
        return True

    @override
    def _count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> int:
        with self._using(collection_id) as collection:
            return collection.engine.count()

    @override
    def _peek(
        self,
        collection_id: UUID,
        n: int = 10,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> GetResult:
        return self._get(
            collection_id, limit=n, include=IncludeMetadataDocumentsEmbeddings, tenant=tenant
        )

    @override
    def _get(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocuments,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> GetResult:
        limit, offset = _count("limit", limit), _count("offset", offset)
        clause = Clause(where, where_document) if where or where_document else None
        with self._using(collection_id) as collection:
            if clause is not None:
                clause.check(collection.indexes)
            rows = collection.engine.get(
                ids,
                None if clause is None else clause.filter,
                offset=offset or 0,
                limit=limit,
                documents="documents" in include,
                metadatas="metadatas" in include,
                uris="uris" in include,
                vectors="embeddings" in include,
            )
            metadatas = _records.visible_metadatas(collection.engine, rows.metadatas)
        return GetResult(
            ids=rows.ids,
            embeddings=_records.as_embeddings(rows.vectors),
            documents=rows.documents,  # type: ignore[typeddict-item]  # None for a missing one
            uris=rows.uris,  # type: ignore[typeddict-item]
            included=include,
            data=None,
            metadatas=metadatas,  # type: ignore[typeddict-item]
        )

    @override
    def _query(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings,
        ids: IDs | None = None,
        n_results: int = 10,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocumentsDistances,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> QueryResult:
        if ids is not None and not all(isinstance(id, str) for id in ids):
            wrong = next(type(id).__name__ for id in ids if not isinstance(id, str))
            raise TypeError(f"argument 'ids': '{wrong}' object cannot be converted to 'PyString'")
        n_results = _count("n_results", n_results) or 0
        clause = Clause(where, where_document) if where or where_document else None
        queries = _records.as_matrix(query_embeddings)
        with self._using(collection_id, "Error getting collection: ") as collection:
            if clause is not None:
                clause.check(collection.indexes)
            columns = {
                "documents": "documents" in include,
                "metadatas": "metadatas" in include or "data" in include,  # as in Chroma
                "uris": "uris" in include,
                "vectors": "embeddings" in include,
            }
            condition = None if clause is None else clause.filter
            try:
                rows = collection.engine.query(
                    queries, n_results, ids=ids, filter=condition, **columns
                )
            except InvalidArgumentError as error:
                raise _records.why_refused(collection.engine, (), queries, error) from error
            except NotFoundError as error:
                # The collection, or an id.  info() raises the same when it is the collection.
                if collection.engine.info().dimension:
                    raise InternalError(
                        "Error executing plan: Internal error: Error finding id"
                    ) from error
                rows = collection.engine.query(queries, n_results, ids=None, filter=None, **columns)
            metadatas = _records.visible_metadatas(collection.engine, rows.metadatas)
        counts = rows.counts
        distances = None
        if "distances" in include and rows.distances is not None:
            distances = rows.distances.tolist()
        return QueryResult(
            ids=_records.split(rows.ids, counts),
            embeddings=_records.split_embeddings(rows.vectors, counts),
            documents=_records.split_optional(rows.documents, counts),
            uris=_records.split_optional(rows.uris, counts),
            included=include,
            data=None,
            metadatas=_records.split_optional(metadatas, counts),
            distances=_records.split_optional(distances, counts),
        )

    @override
    def _delete(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        limit: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> DeleteResult:
        limit = _count("limit", limit)
        clause = Clause(where, where_document) if where or where_document else None
        if clause is None and ids is not None and not ids:
            raise InvalidArgumentError(
                "Validation error: ids, where: Either ids or where must be specified"
            )
        with self._using(collection_id) as collection:
            if clause is None:
                if ids is None:
                    collection.engine.info()  # raises when the collection is gone
                    return DeleteResult(deleted=0)
                collection.engine.delete(ids, None)
                return DeleteResult(deleted=len(ids))  # Chroma counts the ids given
            clause.check(collection.indexes)
            deleted = collection.engine.delete(ids, clause.filter, limit)
        return DeleteResult(deleted=deleted)

    # -- what Chroma's local mode does not do ----------------------------------------------------

    @override
    def _search(
        self,
        collection_id: UUID,
        searches: list[Search],
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        raise NotImplementedError("Search is not implemented for Local Chroma")

    @override
    def _fork(
        self,
        collection_id: UUID,
        new_name: str,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        raise NotImplementedError("Collection forking is not implemented for Local Chroma")

    @override
    def _fork_count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> int:
        raise NotImplementedError("Fork count is not implemented for Local Chroma")

    @override
    def _get_indexing_status(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> IndexingStatus:
        raise NotImplementedError("Indexing status is not implemented for Local Chroma")

    @override
    def attach_function(
        self,
        function_id: str,
        name: str,
        input_collection_id: UUID,
        output_collection: str,
        params: dict[str, Any] | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> tuple[AttachedFunction, bool]:
        raise NotImplementedError(_NO_FUNCTIONS)

    @override
    def get_attached_function(
        self,
        name: str,
        input_collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> AttachedFunction:
        raise NotImplementedError(_NO_FUNCTIONS)

    @override
    def detach_function(
        self,
        name: str,
        input_collection_id: UUID,
        delete_output: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        raise NotImplementedError(_NO_FUNCTIONS)

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


def _open_storage(path: str | None, options: _options.Options) -> tuple[Catalog, _engine.Database]:
    if path is not None:
        _check_directory(Path(path), read_only=options.read_only)
    engine = _engine.Database(
        path,
        durability=options.durability,
        read_only=options.read_only,
        create=not options.read_only,
        busy_timeout=options.busy_timeout,
        memtable_rows=options.memtable_rows,
    )
    try:
        catalog = Catalog(path, read_only=options.read_only, busy_timeout=options.busy_timeout)
        try:
            catalog.prepare(engine.list_collections)
            if not options.read_only and path is not None:
                catalog.reconcile(
                    engine.list_collections,
                    engine.drop_collection,
                    lambda found: engine.open_collection(found).info().lsn == 0,
                )
        except BaseException:
            catalog.close()
            raise
    except BaseException:
        engine.close()
        raise
    return catalog, engine


def _check_directory(path: Path, *, read_only: bool) -> None:
    """Refuse, before anything is written, what is not a place for a database."""
    if path.exists() and not path.is_dir():
        raise ForeignDatabaseError(f"{path} is a file; a database is a directory")
    if (path / CATALOG_FILE).exists():
        return
    if (path / "chroma.sqlite3").exists():
        raise ForeignDatabaseError(
            f"{path} holds a Chroma database (chroma.sqlite3), which vexfs_chroma does not read; "
            "nothing was changed. Give another path, and copy the records over with chromadb's "
            "get() and add()"
        )
    if read_only:
        raise NotFoundError(f"{path} holds no database, and it was to be opened read-only")


def _most_open_collections(is_persistent: bool) -> int:
    """An eighth of the file descriptors that the process may have; a collection takes about two.

    In memory there is nothing to save by closing one.
    """
    if not is_persistent:
        return sys.maxsize
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if allowed == resource.RLIM_INFINITY else max(16, min(1024, allowed // 8))


def _count(name: str, value: Any) -> int | None:
    """A limit or an offset: an unsigned number of 32 bits."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"argument '{name}': {error}") from error
    if not 0 <= number <= _UINT32_MAX:
        raise OverflowError("out of range integral type conversion attempted")
    return number


def _implement_unknown_methods() -> None:
    """Let the class be made under later releases of chromadb: their new methods say so."""

    def stub(name: str) -> Callable[..., Any]:
        def unsupported(self: VexfsAPI, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(
                f"{name} came with chromadb {_chromadb_version}; this release of vexfs_chroma "
                "does not support it"
            )

        unsupported.__name__ = name
        return unsupported

    for name in VexfsAPI.__abstractmethods__:
        setattr(VexfsAPI, name, stub(name))
    abc.update_abstractmethods(VexfsAPI)


def _all_running() -> list[VexfsAPI]:
    # valuerefs() is one atomic step: other threads may start and stop clients meanwhile.
    return [api for reference in _running.valuerefs() if (api := reference()) is not None]


def _stop_all() -> None:
    for api in _all_running():
        api.stop()


_implement_unknown_methods()
atexit.register(_stop_all)
