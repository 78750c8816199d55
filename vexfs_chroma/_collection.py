"""Collection: chromadb's, with what only a database of ours can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.models.CollectionCommon import CollectionCommon, validation_context
from chromadb.api.types import (
    ID,
    URI,
    DeleteRequest,
    DeleteResult,
    Document,
    Embedding,
    FilterSet,
    GetRequest,
    GetResult,
    IDs,
    Image,
    Include,
    IncludeMetadataDocuments,
    IncludeMetadataDocumentsDistances,
    IndexingStatus,
    Metadata,
    OneOrMany,
    PyEmbedding,
    QueryRequest,
    QueryResult,
    Where,
    WhereDocument,
    validate_filter_set,
)
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _expiry, _filters, _nested, _options, _plain
from vexfs_chroma._aggregates import Aggregates
from vexfs_chroma._empty_lists import EmptyLists
from vexfs_chroma._pages import Pages
from vexfs_chroma._recall import RecallChecks
from vexfs_chroma._reindex import Reindexing
from vexfs_chroma._searches import Searches

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import Self

    from vexfs_chroma._extensions import Extensions
    from vexfs_chroma._memory import MemoryReport
    from vexfs_chroma._query_plan import QueryPlan

# chromadb's own, without the decorator that says in which call an error is: ours has it.
_validate_get = CollectionCommon._validate_and_prepare_get_request.__wrapped__  # type: ignore[attr-defined]
_validate_query = CollectionCommon._validate_and_prepare_query_request.__wrapped__  # type: ignore[attr-defined]
_validate_delete = CollectionCommon._validate_and_prepare_delete_request.__wrapped__  # type: ignore[attr-defined]

# Without "data", which needs a loader.
_GET_INCLUDES = frozenset({"documents", "embeddings", "metadatas", "uris"})
_QUERY_INCLUDES = _GET_INCLUDES | {"distances"}


class Collection(Aggregates, EmptyLists, Pages, RecallChecks, Reindexing, Searches):
    """A collection of a local database: chromadb's Collection and some methods more."""

    @classmethod
    def from_chroma(cls, collection: ChromaCollection) -> Self:
        """The same collection, with our methods."""
        made = cls.__new__(cls)
        vars(made).update(vars(collection))
        return made

    def query(
        self,
        query_embeddings: OneOrMany[Embedding] | OneOrMany[PyEmbedding] | None = None,
        query_texts: OneOrMany[Document] | None = None,
        query_images: OneOrMany[Image] | None = None,
        query_uris: OneOrMany[URI] | None = None,
        ids: OneOrMany[ID] | None = None,
        n_results: int = 10,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocumentsDistances,
        *,
        exact: bool = False,
    ) -> QueryResult:
        """The nearest records of each query, nearest first.

        Large collections (10,000 records by default) are searched by a graph: approximately, with
        exact distances, and never fewer results than there are.  Smaller ones, and whatever the
        graph does not have yet, are searched exactly.

        Args:
            query_embeddings: Vectors to search for; or
            query_texts: documents, which are embedded; or
            query_images: images, which are embedded; or
            query_uris: URIs, which are loaded and embedded.
            ids: Search only these records.
            n_results: How many records to find for each query.
            where: A filter on metadata.
            where_document: A filter on documents.
            include: Any of "embeddings", "metadatas", "documents", "uris", "data", "distances".
            exact: Do without the graph: find the nearest records, all of them.

        Returns:
            For each query a list under "ids" and each name of `include`; None under other names.
            "distances" are float, "embeddings" an array of float64, k x dimension, for each query.

        Raises:
            ValueError, TypeError: What chromadb refuses, with its texts.
            InvalidArgumentError: Another dimension, an index that the schema switched off.
            InternalError: One of `ids` does not exist.
            NotFoundError: The collection was deleted; so for every method.
        """
        _check_exact(exact)
        if (
            query_texts is None
            and query_images is None
            and query_uris is None
            and (ids is None or type(ids) is list)
            and _plain.plain_count(n_results)
            and _plain.plain_include(include, _QUERY_INCLUDES)
            and (matrix := _plain.plain_matrix(query_embeddings)) is not None
            and (filters := self._plain_filters(where, where_document)) is not None
        ):
            result = self._api.query_records(
                self.id, matrix, ids, n_results, *filters, include, exact=exact
            )
            if result["embeddings"] is not None:
                result["embeddings"] = [np.asarray(found) for found in result["embeddings"]]
            self._nest(result)
            return result
        request = self._validate_and_prepare_query_request(
            query_embeddings=query_embeddings,
            query_texts=query_texts,
            query_images=query_images,
            query_uris=query_uris,
            ids=ids,
            n_results=n_results,
            where=where,
            where_document=where_document,
            include=include,
        )
        found = self._api.query_records(
            self.id,
            request["embeddings"],
            request["ids"],
            request["n_results"],
            request["where"],
            request["where_document"],
            request["include"],
            exact=exact,
        )
        result = self._transform_query_response(response=found, include=request["include"])
        self._nest(result)
        return result

    # -- chromadb's methods: what is plain goes to the engine, the rest goes chromadb's way --------

    def add(
        self,
        ids: OneOrMany[ID],
        embeddings: OneOrMany[Embedding] | OneOrMany[PyEmbedding] | None = None,
        metadatas: OneOrMany[Metadata] | None = None,
        documents: OneOrMany[Document] | None = None,
        images: OneOrMany[Image] | None = None,
        uris: OneOrMany[URI] | None = None,
        *,
        ttl: float | timedelta | None = None,
    ) -> None:
        """Add records; those whose id exists are left alone.

        Args:
            ids: One id per record, all different.
            embeddings: One vector per record, n x dimension; computed from documents, images or
                URIs if not given.
            metadatas: A map for each record, or None.
            documents: A text for each record, or None.
            images: Images to compute embeddings from.
            uris: URIs to compute embeddings from, and to keep.
            ttl: Seconds, or a timedelta, until the records expire.  The collection must have been
                created with metadata={"vexfs:ttl": key}: it is written as a time under that key.

        Raises:
            ValueError, TypeError: What chromadb refuses, with its texts; nothing is stored then.
            InvalidArgumentError: Another dimension, NaN or infinity in an embedding, a ttl where
                records do not expire.
            DatabaseLockedError, ReadOnlyError, StorageFullError: Nothing can be written now.
        """
        if ttl is not None:
            metadatas = self._stamped(ids, metadatas, ttl)
        if not self._write_plain("add", ids, embeddings, metadatas, documents, images, uris):
            metadatas = self._stored_metadatas(metadatas)
            super().add(ids, embeddings, metadatas, documents, images, uris)

    def update(
        self,
        ids: OneOrMany[ID],
        embeddings: OneOrMany[Embedding] | OneOrMany[PyEmbedding] | None = None,
        metadatas: OneOrMany[Metadata] | None = None,
        documents: OneOrMany[Document] | None = None,
        images: OneOrMany[Image] | None = None,
        uris: OneOrMany[URI] | None = None,
        *,
        ttl: float | timedelta | None = None,
    ) -> None:
        """Change records; ids that do not exist are ignored.  Takes what add() takes.

        What is not given stays; metadata is merged by key.
        """
        if ttl is not None:
            metadatas = self._stamped(ids, metadatas, ttl)
        if not self._write_plain("update", ids, embeddings, metadatas, documents, images, uris):
            metadatas = self._stored_metadatas(metadatas)
            super().update(ids, embeddings, metadatas, documents, images, uris)

    def upsert(
        self,
        ids: OneOrMany[ID],
        embeddings: OneOrMany[Embedding] | OneOrMany[PyEmbedding] | None = None,
        metadatas: OneOrMany[Metadata] | None = None,
        documents: OneOrMany[Document] | None = None,
        images: OneOrMany[Image] | None = None,
        uris: OneOrMany[URI] | None = None,
        *,
        ttl: float | timedelta | None = None,
    ) -> None:
        """Change the records that exist and add the others.  Takes what add() takes."""
        if ttl is not None:
            metadatas = self._stamped(ids, metadatas, ttl)
        if not self._write_plain("upsert", ids, embeddings, metadatas, documents, images, uris):
            metadatas = self._stored_metadatas(metadatas)
            super().upsert(ids, embeddings, metadatas, documents, images, uris)

    def get(
        self,
        ids: OneOrMany[ID] | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocuments,
        *,
        order_by: str | None = None,
        descending: bool = False,
        after: str | None = None,
    ) -> GetResult:
        """The selected records, in order of insertion, or in another one.

        With an order, the result has an entry "next": what to give as `after` for the records that
        follow, or None when there are no more.  A page begins behind the last record of the one
        before, wherever that would be now: records that nobody changes meanwhile are on exactly
        one page.

        Args:
            ids: Only these records.
            where: A filter on metadata.
            limit: At most so many records ...
            offset: ... after leaving out so many.
            where_document: A filter on documents.
            include: Any of "embeddings", "metadatas", "documents", "uris", "data".
            order_by: A metadata key: False, True, numbers by value, strings by code point, then
                records that have nothing, or a list, under it; ties by insertion.  Or "#insertion".
            descending: Values in descending order (without a key: the newest record first).
            after: The "next" of an earlier page, in the same order, which need not be repeated.

        Returns:
            A list of n under "ids" and each name of `include`, an array of float64, n x dimension,
            under "embeddings"; None under other names.

        Raises:
            ValueError, TypeError, OverflowError: What chromadb refuses, with its texts.
            InvalidArgumentError: An order that there is not, a token of another one.
        """
        if order_by is not None or descending is not False or after is not None:
            return self._get_ordered(
                ids, where, limit, offset, where_document, include, order_by, descending, after
            )
        wanted = None if ids is None else _plain.plain_ids(ids)
        if (
            (ids is None or wanted is not None)
            and _plain.plain_include(include, _GET_INCLUDES)
            and (filters := self._plain_filters(where, where_document)) is not None
        ):
            found = self._api._get(self.id, wanted, filters[0], limit, offset, filters[1], include)
            if found["embeddings"] is not None:
                found["embeddings"] = np.asarray(found["embeddings"])
            self._nest(found)
            return found
        found = super().get(ids, where, limit, offset, where_document, include)
        self._nest(found)
        return found

    def peek(self, limit: int = 10) -> GetResult:
        """The first records, with their embeddings, as get() gives them.

        Args:
            limit: How many.
        """
        found = super().peek(limit)
        self._nest(found)
        return found

    def delete(
        self,
        ids: IDs | None = None,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        limit: int | None = None,
    ) -> DeleteResult:
        """Delete the selected records, and tell how many, `{"deleted": n}`: of ids, those given.

        Args:
            ids: Only these records.
            where: A filter on metadata.
            where_document: A filter on documents.
            limit: At most so many records, the oldest; needs a filter.
        """
        wanted = None if ids is None else _plain.plain_ids(ids)
        if wanted is not None and where is None and where_document is None and limit is None:
            return self._api._delete(self.id, wanted)
        return super().delete(ids, where, where_document, limit)

    def _write_plain(
        self,
        op: str,
        ids: Any,
        embeddings: Any,
        metadatas: Any,
        documents: Any,
        images: Any,
        uris: Any,
    ) -> bool:
        """Write plain records.  False, and nothing is done, when they are not."""
        if images is not None or uris is not None or self._embeds_sparsely():
            return False
        if embeddings is None and (op != "update" or documents is not None or metadatas is None):
            return False  # to be computed, or a mistake
        records = _plain.plain_ids(ids)
        if records is None:
            return False
        n, matrix = len(records), None
        if embeddings is not None:
            matrix = _plain.plain_matrix(embeddings)
            if matrix is None or len(matrix) != n:
                return False
        if type(documents) is str:
            documents = [documents]
        if documents is not None and not _plain.plain_texts(documents, n):
            return False
        if type(metadatas) is dict:
            metadatas = [metadatas]
        if metadatas is not None and not _plain.plain_metadatas(metadatas, n):
            return False
        self._api.write_plain(op, self.id, records, matrix, documents, metadatas)
        return True

    def _stamped(self, ids: Any, metadatas: Any, ttl: object) -> Any:
        """Metadata that says when the records expire."""
        if not isinstance(ids, str | list):
            return metadatas  # a mistake, which chromadb tells
        n = 1 if isinstance(ids, str) else len(ids)
        return _expiry.stamped(metadatas, n, ttl, self._model.metadata)

    def _stored_metadatas(self, metadatas: Any) -> Any:
        """Metadata as it is stored, for chromadb to check."""
        flat = _nested.flatten(metadatas) if self._is_nested else metadatas
        return _filters.stored_metadatas(flat)

    def _nest(self, found: Any) -> None:
        """Show metadata as it was given, where a collection asks for that."""
        if self._is_nested:
            _nested.nest(found["metadatas"])

    @property
    def _is_nested(self) -> bool:
        return bool((self._model.metadata or {}).get(_nested.NESTED))

    def _embeds_sparsely(self) -> bool:
        """Whether chromadb may compute sparse embeddings of what is written."""
        schema = self._model.serialized_schema or {}
        return any("sparse_vector" in types for types in schema.get("keys", {}).values())

    # -- filters: chromadb checks its part of them (_filters.py) -----------------------------------

    def _plain_filters(self, where: Any, where_document: Any) -> tuple[Any, Any] | None:
        """The filters for the engine; None, when chromadb does not take its part of them."""
        if where is None and where_document is None:
            return None, None
        try:
            plain, ours = self._read_filters(where, where_document)
            validate_filter_set(plain)
        except Exception:  # noqa: BLE001 - chromadb's way raises it again, with its context
            return None
        return ours

    def _read_filters(self, where: Any, where_document: Any) -> tuple[FilterSet, tuple[Any, Any]]:
        """What chromadb is to check, and what the engine is to have."""

        def takes_text(key: str) -> bool:
            return self._api.takes_text_ranges(self.id, key)

        if self._is_nested:
            _nested.check_where(where)
        plain, ours = _filters.read_where(where, takes_text)
        plain_document, our_document = _filters.read_where_document(where_document)
        return FilterSet(where=plain, where_document=plain_document), (ours, our_document)

    @validation_context("get")
    def _validate_and_prepare_get_request(
        self, ids: Any, where: Any, where_document: Any, include: Include
    ) -> GetRequest:
        plain, ours = self._read_filters(where, where_document)
        request: GetRequest = _validate_get(
            self, ids, plain["where"], plain["where_document"], include
        )
        request["where"], request["where_document"] = ours
        return request

    @validation_context("query")
    def _validate_and_prepare_query_request(
        self,
        query_embeddings: Any,
        query_texts: Any,
        query_images: Any,
        query_uris: Any,
        ids: Any,
        n_results: int,
        where: Any,
        where_document: Any,
        include: Include,
    ) -> QueryRequest:
        plain, ours = self._read_filters(where, where_document)
        request: QueryRequest = _validate_query(
            self,
            query_embeddings,
            query_texts,
            query_images,
            query_uris,
            ids,
            n_results,
            plain["where"],
            plain["where_document"],
            include,
        )
        request["where"], request["where_document"] = ours
        return request

    @validation_context("delete")
    def _validate_and_prepare_delete_request(
        self, ids: Any, where: Any, where_document: Any, limit: int | None = None
    ) -> DeleteRequest:
        plain, ours = self._read_filters(where, where_document)
        request: DeleteRequest = _validate_delete(
            self, ids, plain["where"], plain["where_document"], limit
        )
        request["where"], request["where_document"] = ours
        return request

    # -- beyond chromadb ---------------------------------------------------------------------------

    def explain(
        self,
        query_embeddings: OneOrMany[Embedding] | OneOrMany[PyEmbedding] | None = None,
        query_texts: OneOrMany[Document] | None = None,
        query_images: OneOrMany[Image] | None = None,
        query_uris: OneOrMany[URI] | None = None,
        ids: OneOrMany[ID] | None = None,
        n_results: int = 10,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        *,
        exact: bool = False,
    ) -> QueryPlan:
        """Run a query, and tell how it was answered instead of what was found.

        Takes what query() takes; see QueryPlan for what it tells.
        """
        _check_exact(exact)
        request = self._validate_and_prepare_query_request(
            query_embeddings=query_embeddings,
            query_texts=query_texts,
            query_images=query_images,
            query_uris=query_uris,
            ids=ids,
            n_results=n_results,
            where=where,
            where_document=where_document,
            include=[],
        )
        return self._api.query_plan(
            self.id,
            request["embeddings"],
            request["ids"],
            request["n_results"],
            request["where"],
            request["where_document"],
            exact=exact,
        )

    def stats(self) -> dict[str, Any]:
        """How the collection is stored and indexed: plain numbers, strings and None.

            rows                      records
            dimension                 of the embeddings; None before the first one
            space                     "l2", "cosine" or "ip"
            disk_bytes                files and log (in memory, for a database in memory)
            files
                vectors, payloads     files of embeddings, and of documents and metadata
            unflushed
                rows, bytes           records not yet in files, and the memory that they take
            index
                from_rows             records from which on a graph is built; None: never
                indexed_rows          records that the graph finds
                unindexed_rows        records that every query reads, one after the other
                bytes                 memory of the graph
                quantization          what the graph reads: "sq8" (a byte per element), "f16" (two),
                                      "none" (float32); None while nothing is in files
                max_neighbors, ef_construction, ef_search    as configured
            documents, metadatas
                raw_bytes             before compression, in files
                stored_bytes          after it

        A graph that was stored is loaded by the first query or get_indexing_status() after opening:
        indexed_rows and bytes are 0 until then.  While a graph is made anew (after vacuum(), say),
        bytes may be those of the old one, which finds nothing any more.
        """
        return self._api.collection_stats(self.id)

    def memory(self) -> MemoryReport:
        """What the collection has in memory, by what it is, and what else the process has."""
        return self._api.collection_memory(self.id)

    def expire(self) -> int:
        """Delete what has expired (see `ttl` of add()), and tell how many records that were.

        Nobody sees expired records before that either, and the background deletes them about once
        a minute while the collection is in use.
        """
        return self._api.expire_records(self.id)

    def unload(self) -> None:
        """Give back the memory of everything that can be loaded again: graph, caches, open files.

        Nothing is lost and no answer changes; the next use opens the collection again.
        """
        self._api.unload_collection(self.id)

    def wait_for_index(self, timeout: float | None = None) -> None:
        """Wait until the graph has every record that is written by now.

        Returns soon where the collection is too small to get one.  Writes what is in memory into
        files first.  Raises TimeoutError after `timeout` seconds; None waits as long as it takes.
        """
        if timeout is not None:
            _options.check_seconds("timeout", timeout)
        self._api.wait_for_index(self.id, timeout)

    def get_indexing_status(self) -> IndexingStatus:
        """How far the graph is built.

        The "operations" are records: `total_ops` is count().  Unindexed are those that the graph is
        still to get, so that `op_indexing_progress` becomes 1.0 in the end.  Where there is nothing
        left to do all records count as indexed: a collection that is too small for a graph, and
        fewer than 2,000 records in memory, which queries simply read (wait_for_index() has those in
        the graph, too).
        """
        return super().get_indexing_status()

    def fork(self, new_name: str) -> Self:
        """A new collection with the records, metadata, configuration and schema of this one.

        Both go their own ways from then on.  They share their files until they are rewritten, so
        that a fork takes milliseconds and next to no space however many records there are, and its
        first query finds the graph ready.  The fork has what was acknowledged before the call.

        Args:
            new_name: A name that no collection of the database has; else InternalError, as for
                create_collection.
        """
        return self.from_chroma(super().fork(new_name))

    def fork_count(self) -> int:
        """How many forks there are in the line of this collection.

        They are counted from the collection that the first fork was made of, and the number is
        the same whichever of them is asked.  Deleted forks do not count.
        """
        return super().fork_count()

    @property
    def _api(self) -> Extensions:
        return cast("Extensions", self._client)


def _check_exact(exact: object) -> None:
    if not isinstance(exact, bool):
        raise InvalidArgumentError(f"exact must be True or False, got {exact!r}")
