"""Collections: writes, deletes, reads.  Every method is one call of the engine.

Vectors and MessagePack blobs are lent to the engine for the length of the call, uncopied; results
are copied out once and given back at once.  The locals that keep lent memory alive are needed:
cffi structs hold plain addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from chromadb.errors import InvalidArgumentError
from numpy.typing import NDArray

from vexfs_chroma._engine import _transaction, _wire
from vexfs_chroma._engine._handle import Handle, close_with
from vexfs_chroma._engine._idle import wait_idle
from vexfs_chroma._engine._results import (
    QUANTIZATIONS,
    CollectionInfo,
    IndexCheck,
    KeyValues,
    Memory,
    Plan,
    PlanCell,
    RankedRows,
    Rows,
    Usage,
    copy_ranked,
    read_memory,
    take_rows,
)
from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import ffi, lib

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from vexfs_chroma._engine._ranked import RankedSearch

Filter = list[Any]
"""A filter expression, [operator, ...], as vexfs.h ("selection") documents it."""

SPACES: dict[str, int] = {
    "l2": lib.VEX_SPACE_L2,
    "ip": lib.VEX_SPACE_IP,
    "cosine": lib.VEX_SPACE_COSINE,
    "l1": lib.VEX_SPACE_L1,
}
_SPACE_NAMES = {number: name for name, number in SPACES.items()}
_WRITES: dict[str, int] = {
    "add": lib.VEX_WRITE_ADD,
    "update": lib.VEX_WRITE_UPDATE,
    "upsert": lib.VEX_WRITE_UPSERT,
}
_UINT32_MAX = 0xFFFFFFFF
_RESULTS = ffi.typeof("vex_result *[]")

AGGREGATES: dict[str, int] = {
    "keys": lib.VEX_AGGREGATE_KEYS,
    "range": lib.VEX_AGGREGATE_RANGE,
    "values": lib.VEX_AGGREGATE_VALUES,
    "counts": lib.VEX_AGGREGATE_COUNTS,
}
KEY_NUMBERS, KEY_STRING = 2 | 4, 8
"""Of the types of a key that Collection.metadata_keys() tells (vexfs.h): numbers, a string."""

TAIL_ROWS: int = lib.VEX_INDEX_TAIL_ROWS
"""The background leaves up to so many rows in memory, outside the graph (vexfs.h)."""


class Collection:
    """An open collection.  Made by Database.open_collection()."""

    def __init__(self, database: Handle, pointer: Any, owner: object) -> None:
        self._database = database
        self._handle = Handle("the collection", pointer, _close, database)
        self._owner = owner  # an open collection keeps its database open
        self._finalizer = close_with(self, self._handle)

    @property
    def is_kept(self) -> bool:
        """Whether writes wait for the end of a transaction."""
        return _transaction.current(self._database) is not None

    def write(
        self,
        op: str,
        ids: Sequence[str],
        vectors: NDArray[np.float32] | None,
        documents: Sequence[str | None] | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None,
        uris: Sequence[str | None] | None,
        *,
        plain: bool = False,
    ) -> int:
        """Write one batch atomically; `op` is "add", "update" or "upsert".

        `plain`: metadata has no sparse vectors, so nobody need look for them.  Returns how many
        records were inserted or changed; 0 in a transaction, which keeps it for later.
        """
        if op not in _WRITES:
            raise InvalidArgumentError(f"op must be one of {', '.join(_WRITES)}, got {op!r}")
        if plain:
            records = _wire.encode((ids, documents, metadatas, uris))
        else:
            records = _wire.encode_records(ids, documents, metadatas, uris)
        request = ffi.new("vex_write_request *")
        request.op = _WRITES[op]
        request.n = len(ids)
        transaction, lent_vectors = _transaction.current(self._database), None
        if vectors is not None:
            matrix = _wire.as_matrix(vectors)
            if len(matrix) != len(ids):
                raise InvalidArgumentError(f"got {len(matrix)} vectors for {len(ids)} ids")
            if transaction is not None:
                matrix = matrix.copy()  # the caller may go on to use it
            lent_vectors = ffi.from_buffer("float[]", matrix)
            request.dimension = matrix.shape[1]
            request.vectors = lent_vectors
        lent_records = ffi.from_buffer("uint8_t[]", records)
        request.records = lent_records
        request.records_len = len(records)
        if transaction is not None:
            transaction.write(self._handle, request, self, lent_vectors, lent_records)
            return 0
        changed = ffi.new("uint64_t *")
        with self._handle as collection:
            check(lib.vex_write(collection, request, changed))
        return int(changed[0])

    def delete(
        self,
        ids: Sequence[str] | None,
        filter: Filter | None,
        limit: int | None = None,
    ) -> int:
        """Delete the selected records, the first `limit` in insertion order; returns how many.

        In a transaction, how many there are now.
        """
        selection = _Selection(ids, filter)
        transaction = _transaction.current(self._database)
        if transaction is not None:
            by_ids = filter is None and limit is None
            transaction.delete(self._handle, selection, _limit(limit), self, by_ids=by_ids)
            there = self.count(ids, filter)
            return there if limit is None else min(there, limit)
        deleted = ffi.new("uint64_t *")
        with self._handle as collection:
            check(lib.vex_delete(collection, selection.pointer, _limit(limit), deleted))
        return int(deleted[0])

    def count(self, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        """How many records are selected."""
        selection = _Selection(ids, filter)
        out = ffi.new("uint64_t *")
        with self._handle as collection:
            check(lib.vex_count(collection, selection.pointer, out))
        return int(out[0])

    def aggregate(
        self,
        kind: str,
        keys: Sequence[str],
        filter: Filter | None = None,
        limit: int | None = None,
    ) -> list[KeyValues]:
        """What the selected records have under each key; `kind` is one of AGGREGATES."""
        selection = _Selection(None, filter)
        most = _limit(limit)
        lent = ffi.from_buffer("uint8_t[]", _wire.encode(keys))
        blob, length = ffi.new("uint8_t **"), ffi.new("size_t *")
        with self._handle as collection:
            check(
                lib.vex_aggregate(
                    collection,
                    selection.pointer,
                    AGGREGATES[kind],
                    lent,
                    len(lent),
                    most,
                    blob,
                    length,
                )
            )
        try:
            return _wire.decode_as(list[KeyValues], ffi.buffer(blob[0], length[0]))
        finally:
            lib.vex_bytes_free(blob[0])

    def get(
        self,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        *,
        offset: int = 0,
        limit: int | None = None,
        documents: bool = False,
        metadatas: bool = False,
        uris: bool = False,
        vectors: bool = False,
    ) -> Rows:
        """The selected records in insertion order."""
        selection = _Selection(ids, filter)
        skip, most = _wire.as_index(offset, "offset"), _limit(limit)
        include = _include(documents, metadatas, uris, vectors)
        out = ffi.new("vex_result **")
        with self._handle as collection:
            check(lib.vex_get(collection, selection.pointer, skip, most, include, out))
        return take_rows(out[0])

    def get_ordered(
        self,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        *,
        key: str | None,
        descending: bool = False,
        after: bytes | None = None,
        offset: int = 0,
        limit: int | None = None,
        documents: bool = False,
        metadatas: bool = False,
        uris: bool = False,
        vectors: bool = False,
    ) -> tuple[Rows, bytes | None]:
        """The selected records by what they have under a key (None: by insertion).

        With the place of the last one, for `after` of the next call; None when there are none.
        """
        selection = _Selection(ids, filter)
        skip, most = _wire.as_index(offset, "offset"), _limit(limit)
        include = _include(documents, metadatas, uris, vectors)
        order = ffi.new("vex_order *", {"descending": descending})
        if key is not None:
            name = key.encode()
            lent_key = ffi.from_buffer("uint8_t[]", name or b"\0")
            order.key, order.key_len = lent_key, len(name)
        if after is not None:
            lent_after = ffi.from_buffer("uint8_t[]", after)
            order.after, order.after_len = lent_after, len(after)
        out, last, length = ffi.new("vex_result **"), ffi.new("uint8_t **"), ffi.new("size_t *")
        with self._handle as collection:
            check(
                lib.vex_get_ordered(
                    collection, selection.pointer, order, skip, most, include, out, last, length
                )
            )
        try:
            place = ffi.buffer(last[0], length[0])[:] if last[0] else None
            return take_rows(out[0]), place
        finally:
            lib.vex_bytes_free(last[0])

    def query(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        documents: bool = False,
        metadatas: bool = False,
        uris: bool = False,
        vectors: bool = False,
        exact: bool = False,
        walk: bool = False,
        ef: int = 0,
        threads: int = 0,
        plan: PlanCell | None = None,
    ) -> Rows:
        """The k nearest selected records of each query, nearest first.

        Where a graph is built the search is approximate, unless it is to be `exact`.  `walk` uses
        the graph even where reading all rows is faster; it is for tests.  `ef` are the candidates
        of a walk, 0: as many as the collection says.  `threads` share the queries, 0: as many as
        there are processors.  `plan` receives how it was done.
        """
        flags = (lib.VEX_QUERY_EXACT if exact else 0) | (lib.VEX_QUERY_GRAPH if walk else 0)
        options = ffi.new("vex_query_options *", {"flags": flags, "ef": ef, "threads": threads})
        if plan is not None:
            options.plan = plan.raw
        include = _include(documents, metadatas, uris, vectors)
        return self._query(queries, k, ids, filter, include, options)

    def explain(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        exact: bool = False,
    ) -> Plan:
        """How query() with these arguments is answered, which is tried out."""
        plan = PlanCell()
        self.query(queries, k, ids=ids, filter=filter, exact=exact, plan=plan)
        return plan.read()

    def _query(
        self,
        queries: NDArray[np.float32],
        k: int,
        ids: Sequence[str] | None,
        filter: Filter | None,
        include: int,
        options: Any,
    ) -> Rows:
        matrix = _wire.as_matrix(queries)
        n, dimension = matrix.shape
        selection = _Selection(ids, filter)
        nearest = _wire.as_index(k, "k", _UINT32_MAX)
        lent = ffi.from_buffer("float[]", matrix)
        out = ffi.new("vex_result **")
        with self._handle as collection:
            check(
                lib.vex_query(
                    collection,
                    selection.pointer,
                    lent,
                    n,
                    dimension,
                    nearest,
                    options,
                    include,
                    out,
                )
            )
        return take_rows(out[0])

    def fork(self, id: uuid.UUID) -> None:
        """Make the collection `id` with the records of this one; see vex_collection_fork."""
        with self._handle as collection:
            check(lib.vex_collection_fork(collection, id.bytes))

    def reindex(self, space: str) -> None:
        """Have that space and the graph built anew; see vex_collection_reindex."""
        with self._handle as collection:
            check(lib.vex_collection_reindex(collection, SPACES[space]))

    def reembed(self, lsn: int, vectors: NDArray[np.float32]) -> bool:
        """Replace all vectors; rows are in insertion order.  See vex_collection_reembed.

        False: the collection was written after `lsn`, and nothing was done.
        """
        changed = ffi.new("uint32_t *")
        n, dimension = vectors.shape
        pointer = ffi.from_buffer("float[]", vectors) if n else ffi.NULL
        request = ffi.new("vex_reembed_request *", (lsn, n, pointer, dimension))
        with self._handle as collection:
            check(lib.vex_collection_reembed(collection, request, changed))
        return not changed[0]

    def count_forks(self) -> int:
        """How many forks its line has; see vex_collection_count_forks."""
        out = ffi.new("uint64_t *")
        with self._handle as collection:
            check(lib.vex_collection_count_forks(collection, out))
        return int(out[0])

    def search(self, searches: Sequence[RankedSearch]) -> list[RankedRows]:
        """Do these searches, on one state of the collection."""
        lent = _wire.encode(searches)
        out = ffi.new(_RESULTS, len(searches))
        with self._handle as collection:
            check(lib.vex_search_ranked(collection, lent, len(lent), len(searches), out))
        try:
            return [copy_ranked(result) for result in out]
        finally:
            for result in out:
                lib.vex_result_free(result)

    def lsn(self) -> int:
        """A number that every change of the collection raises: one of those that info() tells."""
        out = ffi.new("vex_collection_info *")
        with self._handle as collection:
            check(lib.vex_collection_get_info(collection, out))
        return int(out.lsn)

    def info(self) -> CollectionInfo:
        """Counters of the collection as it is now."""
        out = ffi.new("vex_collection_info *")
        with self._handle as collection:
            check(lib.vex_collection_get_info(collection, out))
        fields = {name: getattr(out, name) for name in CollectionInfo.__struct_fields__}
        fields["space"] = _SPACE_NAMES[out.space]
        fields["quantization"] = QUANTIZATIONS[out.quantization]
        return CollectionInfo(**fields)

    def usage(self) -> Usage:
        """What its files take and hold, by the newest manifest."""
        out = ffi.new("vex_collection_usage *")
        with self._handle as collection:
            check(lib.vex_collection_get_usage(collection, out))
        return Usage(**{name: getattr(out, name) for name in Usage.__struct_fields__})

    def memory(self) -> Memory:
        """What it has in memory now."""
        out = ffi.new("vex_collection_memory *")
        with self._handle as collection:
            check(lib.vex_collection_get_memory(collection, out))
        return read_memory(out)

    def unload(self) -> None:
        """Give back what can be had again; see vex_collection_unload."""
        with self._handle as collection:
            check(lib.vex_collection_unload(collection))

    def check_index(self) -> IndexCheck:
        """Walk through the whole graph: is every row in it found?  All zeros without a graph."""
        out = ffi.new("vex_index_check *")
        with self._handle as collection:
            check(lib.vex_collection_check_index(collection, out))
        return IndexCheck(**{name: getattr(out, name) for name in IndexCheck.__struct_fields__})

    def metadata_keys(self) -> dict[str, int]:
        """Metadata keys ever written, each with the bit mask of its types (see vexfs.h)."""
        blob, length = ffi.new("uint8_t **"), ffi.new("size_t *")
        with self._handle as collection:
            check(lib.vex_collection_keys(collection, blob, length))
        try:
            return _wire.decode_map(ffi.buffer(blob[0], length[0]))
        finally:
            lib.vex_bytes_free(blob[0])

    def set_index(
        self, *, max_neighbors: int, ef_construction: int, ef_search: int, rows: int = 0
    ) -> None:
        """Parameters of the graph; what is beyond the engine's limits counts as the limit.

        The first two are for graphs that are built from now on.  `rows`: build one from so many
        records on; NO_INDEX: build nothing more; 0: as it is.
        """
        options = ffi.new("vex_index_options *")
        options.rows = rows
        options.m = min(max(max_neighbors, 2), 1024)
        options.ef_construction = min(max(ef_construction, 1), 65535)
        options.ef = min(max(ef_search, 1), _UINT32_MAX)
        with self._handle as collection:
            check(lib.vex_collection_set_index(collection, options))

    def wait_for_index(self, timeout: float | None = None) -> None:
        """Have everything that is written by now in the graph; see vex_collection_wait_index.

        Raises TimeoutError after `timeout` seconds.
        """
        with self._handle as collection:
            check(lib.vex_collection_start_index(collection, lib.VEX_INDEX_FLUSH))
        wait_idle(self._handle, lib.vex_collection_wait_idle, timeout)

    def want_index(self) -> None:
        """Have the background see to the graph, as a query does: load it, or go on building it."""
        with self._handle as collection:
            check(lib.vex_collection_start_index(collection, 0))

    def flush(self) -> None:
        """Seal what is in memory into segment files and wait until they are committed."""
        with self._handle as collection:
            check(lib.vex_collection_flush(collection))

    def compact(self) -> None:
        """Rewrite the files that hold dead rows, and merge the rest into the fewest."""
        with self._handle as collection:
            check(lib.vex_collection_compact(collection, 0))

    def wait_idle(self, timeout: float | None = None) -> None:
        """Wait until no flush or compaction of this collection is wanted or running.

        Raises TimeoutError after `timeout` seconds.
        """
        wait_idle(self._handle, lib.vex_collection_wait_idle, timeout)

    def close(self) -> None:
        """Give the handle back; waits for its running calls.  Idempotent."""
        self._finalizer.detach()
        self._handle.close()


class _Selection:
    """A vex_selection and the memory that it points to; `pointer` is NULL to select all."""

    __slots__ = ("_filter", "_ids", "pointer")

    def __init__(self, ids: Sequence[str] | None, filter: Filter | None) -> None:
        self.pointer: Any = ffi.NULL
        if ids is None and filter is None:
            return
        self.pointer = ffi.new("vex_selection *")
        if ids is not None:
            self._ids = ffi.from_buffer("uint8_t[]", _wire.encode(ids))
            self.pointer.ids, self.pointer.ids_len = self._ids, len(self._ids)
        if filter is not None:
            self._filter = ffi.from_buffer("uint8_t[]", _wire.encode(filter))
            self.pointer.filter, self.pointer.filter_len = self._filter, len(self._filter)


def _include(documents: bool, metadatas: bool, uris: bool, vectors: bool) -> int:
    mask: int = (
        documents * lib.VEX_INCLUDE_DOCUMENTS
        | metadatas * lib.VEX_INCLUDE_METADATAS
        | uris * lib.VEX_INCLUDE_URIS
        | vectors * lib.VEX_INCLUDE_VECTORS
    )
    return mask


def _limit(limit: int | None) -> int:
    return -1 if limit is None else _wire.as_index(limit, "limit")


def _close(pointer: Any) -> None:
    check(lib.vex_collection_close(pointer))
