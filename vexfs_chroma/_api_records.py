"""Operations on records: add, update, upsert, count, get, query, delete.

Each opens its collection with `_using`, says it to the engine in one call, and gives the answer
Chroma's shape.
"""

from __future__ import annotations

import abc
import operator
import time
from typing import TYPE_CHECKING, Any, TypeVar

from chromadb.api import ServerAPI
from chromadb.api.types import (
    DeleteResult,
    Documents,
    Embeddings,
    GetResult,
    IDs,
    Include,
    IncludeMetadataDocuments,
    IncludeMetadataDocumentsDistances,
    IncludeMetadataDocumentsEmbeddings,
    Metadatas,
    QueryResult,
    ReadLevel,
    URIs,
    Where,
    WhereDocument,
)
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError
from typing_extensions import override

from vexfs_chroma import _config, _engine, _records
from vexfs_chroma._expiry import ExpiringCollection
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed, observer, watched
from vexfs_chroma._where import Clause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from vexfs_chroma._catalog import Collection as CatalogEntry

    Matrix = NDArray[np.float32]

T = TypeVar("T")

UINT32_MAX = 2**32 - 1


class OpenCollection:
    """An open collection: the engine's handle, and what its schema says."""

    __slots__ = ("engine", "graph", "indexes", "used")

    def __init__(self, engine: _engine.Collection, entry: CatalogEntry) -> None:
        self.engine = engine
        self.used = False  # since the last look for one to close
        self.indexes = _config.IndexView(entry.schema)
        self.graph = _config.index_parameters(entry.schema)
        engine.set_index(**self.graph)


class RecordOperations(ServerAPI):
    """The part of the interface that reads and writes records."""

    @abc.abstractmethod
    def _using(self, id: UUID, prefix: str = "") -> AbstractContextManager[OpenCollection]:
        """An open collection, for one operation; a deleted one raises with Chroma's text."""

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
        vectors = None if embeddings is None else _records.as_matrix(embeddings)
        self.write_columns(op, collection_id, ids, vectors, documents, metadatas, uris)
        return True

    def write_columns(
        self,
        op: str,
        collection_id: UUID,
        ids: IDs,
        vectors: Matrix | None,
        documents: Sequence[str | None] | None,
        metadatas: Sequence[Any] | None,
        uris: Sequence[str | None] | None,
    ) -> None:
        """_add, _update or _upsert (`op`); of every column but `ids`, entries may be None."""
        stored = _records.stored_metadatas(op, metadatas, uris)
        self._store(op, collection_id, ids, vectors, documents, stored, uris)

    def check_columns(
        self,
        op: str,
        collection_id: UUID,
        ids: IDs,
        vectors: Matrix | None,
        metadatas: Sequence[Any] | None,
        uris: Sequence[str | None] | None,
    ) -> None:
        """Raise what write_columns() would, for who writes records in parts: all of them or none.

        `vectors` are those of any of the records.
        """
        stored = _records.stored_metadatas(op, metadatas, uris)
        with self._using(collection_id, "Error getting collection: ") as collection:
            _records.check_before(collection.engine, ids, vectors)
            if isinstance(collection.engine, ExpiringCollection):
                collection.engine.check_times(stored)

    def write_plain(
        self,
        op: str,
        collection_id: UUID,
        ids: list[str],
        vectors: Matrix | None,
        documents: list[str | None] | None,
        metadatas: list[dict[str, Any] | None] | None,
    ) -> None:
        """_add, _update or _upsert (`op`) of what `_plain` found to need no conversion."""
        self._store(op, collection_id, ids, vectors, documents, metadatas, None, plain=True)

    def restore_records(
        self,
        collection_id: UUID,
        ids: IDs,
        vectors: Matrix,
        documents: Sequence[str | None] | None,
        metadatas: Sequence[Any] | None,
        uris: Sequence[str | None] | None,
    ) -> None:
        """_add of records as another database has them: none is given a time to expire."""
        stored = _records.stored_metadatas("add", metadatas, uris)
        matrix = _records.as_matrix(vectors)
        self._store("add", collection_id, ids, matrix, documents, stored, uris, restores=True)

    @observed("", _described.write)
    def _store(
        self,
        op: str,
        collection_id: UUID,
        ids: IDs,
        vectors: Matrix | None,
        documents: Sequence[str | None] | None,
        metadatas: Sequence[Any] | None,
        uris: Sequence[str | None] | None,
        *,
        plain: bool = False,
        restores: bool = False,
    ) -> None:
        with self._using(collection_id, "Error getting collection: ") as collection:
            engine = collection.engine
            if isinstance(engine, ExpiringCollection) and not restores:
                metadatas = engine.timed(op, metadatas, len(ids))
            try:
                if engine.is_kept:
                    _records.check_before(engine, ids, vectors)
                engine.write(op, ids, vectors, documents, metadatas, uris, plain=plain)
            except InvalidArgumentError as error:
                raise _records.why_refused(engine, ids, vectors, error) from error
            except UnicodeEncodeError:
                _records.check_text(op, ids, metadatas)
                raise  # a document or a uri

    @override
    @observed("count", _described.count)
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
        rows = self.get_rows(collection_id, ids, where, limit, offset, where_document, include)
        return get_result(rows, include)

    @observed("get", _described.get)
    def get_rows(
        self,
        collection_id: UUID,
        ids: IDs | None,
        where: Where | None,
        limit: int | None,
        offset: int | None,
        where_document: WhereDocument | None,
        include: Include,
    ) -> _engine.Rows:
        """_get, with arrays of float32 for embeddings."""
        limit, offset = as_count("limit", limit), as_count("offset", offset)
        clause = _clause(where, where_document)
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
            rows.metadatas = _records.visible_metadatas(collection.engine, rows.metadatas)
        return rows

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
        return self.query_records(
            collection_id, query_embeddings, ids, n_results, where, where_document, include
        )

    def query_records(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings | Matrix,
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
        include: Include,
        *,
        exact: bool = False,
    ) -> QueryResult:
        """_query, which can be told to be exact."""
        rows = self.query_rows(
            collection_id,
            query_embeddings,
            ids,
            n_results,
            where,
            where_document,
            include,
            exact=exact,
        )
        counts = rows.counts
        distances = rows.distances if "distances" in include else None
        return QueryResult(
            ids=_records.split(rows.ids, counts),
            embeddings=_records.split_embeddings(rows.vectors, counts),
            documents=_records.split_optional(rows.documents, counts),
            uris=_records.split_optional(rows.uris, counts),
            included=include,
            data=None,
            metadatas=_records.split_optional(rows.metadatas, counts),
            distances=_records.split_distances(distances, counts),
        )

    @observed("query", _described.query)
    def query_rows(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings | Matrix,
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
        include: Include,
        *,
        exact: bool = False,
        threads: int = 0,
    ) -> _engine.Rows:
        """query_records, flat over all queries and with arrays of float32.

        `threads` share the queries, 0: as many as there are processors.
        """

        def find(
            engine: _engine.Collection, queries: Matrix, k: int, of: IDs | None, filter: Any
        ) -> _engine.Rows:
            rows = engine.query(
                queries,
                k,
                ids=of,
                filter=filter,
                documents="documents" in include,
                metadatas="metadatas" in include or "data" in include,  # as in Chroma
                uris="uris" in include,
                vectors="embeddings" in include,
                exact=exact,
                threads=threads,
                plan=watched.plan,
            )
            observer().planned(len(queries))
            rows.metadatas = _records.visible_metadatas(engine, rows.metadatas)
            return rows

        return self._nearest(
            find, collection_id, query_embeddings, ids, n_results, where, where_document
        )

    def query_rows_together(
        self,
        operations: int,
        collection_id: UUID,
        queries: Matrix,
        n_results: int,
        where: Where | None,
        include: Include,
    ) -> _engine.Rows:
        """query_rows for several operations at once, by the calling thread alone."""
        started = time.perf_counter_ns()
        rows = self.query_rows(
            collection_id, queries, None, n_results, where, None, include, threads=1
        )
        observer().answered_together(operations - 1, time.perf_counter_ns() - started)
        return rows

    def explain_query(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings | Matrix,
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
        *,
        exact: bool = False,
    ) -> tuple[_engine.Plan, _engine.CollectionInfo]:
        """How query_records is answered, which is tried out, and what the collection is like."""

        def explain(
            engine: _engine.Collection, queries: Matrix, k: int, of: IDs | None, filter: Any
        ) -> tuple[_engine.Plan, _engine.CollectionInfo]:
            return engine.explain(queries, k, ids=of, filter=filter, exact=exact), engine.info()

        return self._nearest(
            explain, collection_id, query_embeddings, ids, n_results, where, where_document
        )

    def _nearest(
        self,
        ask: Callable[[_engine.Collection, Matrix, int, IDs | None, Any], T],
        collection_id: UUID,
        query_embeddings: Embeddings | Matrix,
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
    ) -> T:
        """Ask the engine about a query, given as Chroma's clients give it; errors as Chroma's."""
        if ids is not None and not all(isinstance(id, str) for id in ids):
            wrong = next(type(id).__name__ for id in ids if not isinstance(id, str))
            raise TypeError(f"argument 'ids': '{wrong}' object cannot be converted to 'PyString'")
        n_results = as_count("n_results", n_results) or 0
        clause = _clause(where, where_document)
        queries = _records.as_matrix(query_embeddings, "query_embeddings")
        with self._using(collection_id, "Error getting collection: ") as collection:
            if clause is not None:
                clause.check(collection.indexes)
            condition = None if clause is None else clause.filter
            engine = collection.engine
            try:
                return ask(engine, queries, n_results, ids, condition)
            except InvalidArgumentError as error:
                raise _records.why_refused(engine, (), queries, error) from error
            except NotFoundError as error:
                # The collection, or an id.  info() raises the same when it is the collection.
                if engine.info().dimension:
                    raise InternalError(
                        "Error executing plan: Internal error: Error finding id"
                    ) from error
                return ask(engine, queries, n_results, None, None)

    @override
    @observed("delete", _described.delete)
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
        limit = as_count("limit", limit)
        clause = _clause(where, where_document)
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


def get_result(rows: _engine.Rows, include: Include) -> GetResult:
    """What Chroma's get gives for these rows."""
    return GetResult(
        ids=rows.ids,
        embeddings=_records.as_embeddings(rows.vectors),
        documents=rows.documents,  # type: ignore[typeddict-item]  # None for a missing one
        uris=rows.uris,  # type: ignore[typeddict-item]
        included=include,
        data=None,
        metadatas=rows.metadatas,  # type: ignore[typeddict-item]
    )


def _clause(where: Any, where_document: Any) -> Clause | None:
    return Clause(where, where_document) if where or where_document else None


def as_count(name: str, value: Any) -> int | None:
    """A limit or an offset: an unsigned number of 32 bits."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"argument '{name}': {error}") from error
    if not 0 <= number <= UINT32_MAX:
        raise OverflowError("out of range integral type conversion attempted")
    return number
