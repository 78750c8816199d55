"""What the engine answers, copied out of its structs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vexfs_chroma._engine import _wire
from vexfs_chroma._engine._vexfs import ffi, lib

QUANTIZATIONS: dict[int, str | None] = {
    0: None,
    lib.VEX_QUANTIZE_SQ8: "sq8",
    lib.VEX_QUANTIZE_F16: "f16",
    lib.VEX_QUANTIZE_NONE: "none",
}
_PLANS: dict[int, str] = {
    lib.VEX_PLAN_NO_VECTORS: "nothing can be found",
    lib.VEX_PLAN_WALK: "graph",
    lib.VEX_PLAN_ASKED: "asked for",
    lib.VEX_PLAN_NO_GRAPH: "no graph yet",
    lib.VEX_PLAN_FEW_ROWS: "few rows",
    lib.VEX_PLAN_LARGE_K: "many results",
    lib.VEX_PLAN_NOT_FINITE: "query not finite",
}
PLAN_WALK: int = lib.VEX_PLAN_WALK
"""PlanCell.raw.why of a query that walked a graph."""


class Rows(msgspec.Struct):
    """Records found, flat over all queries: counts[i] rows belong to query i.

    What was not asked for is None.
    """

    counts: list[int]
    ids: list[str]
    documents: list[str | None] | None
    metadatas: list[dict[str, Any] | None] | None
    uris: list[str | None] | None
    vectors: NDArray[np.float32] | None
    distances: NDArray[np.float32] | None


class RankedRows(msgspec.Struct):
    """Records found by a ranked search, best first.  What was not asked for is None."""

    ids: list[str]
    documents: list[str | None] | None
    metadatas: list[dict[str, Any] | None] | None
    vectors: NDArray[np.float32] | None
    scores: list[float]


class KeyValues(msgspec.Struct, frozen=True, array_like=True):
    """What records have under one metadata key; see vex_aggregate."""

    rows: int
    types: int
    n_values: int
    values: list[Any]
    counts: list[int]


class CollectionInfo(msgspec.Struct, frozen=True):
    """The counters of one collection; see vex_collection_info."""

    rows: int
    lsn: int
    next_seq: int
    memtable_rows: int
    memtable_bytes: int
    disk_bytes: int
    dimension: int
    space: str
    vector_files: int
    payload_files: int
    indexed_rows: int
    unindexed_rows: int
    index_bytes: int
    quantization: str | None
    index_rows: int
    raw_document_bytes: int
    stored_document_bytes: int
    raw_metadata_bytes: int
    stored_metadata_bytes: int


class Usage(msgspec.Struct, frozen=True):
    """What the files of a collection take and hold; see vex_collection_usage."""

    generation: int
    vector_bytes: int
    payload_bytes: int
    tombstone_bytes: int
    log_bytes: int
    graph_bytes: int
    other_bytes: int
    leftover_bytes: int
    vector_rows: int
    dead_vector_rows: int
    payload_rows: int
    dead_payload_rows: int
    code_bytes: int
    graph_rows: int


class Memory(msgspec.Struct, frozen=True):
    """What collections have in memory; see vex_collection_memory."""

    collections: int
    memtable_bytes: int
    graph_bytes: int
    search_bytes: int
    cache_bytes: int
    vector_bytes: int
    code_bytes: int
    key_bytes: int
    document_bytes: int
    column_bytes: int
    text_bytes: int
    link_bytes: int
    held_bytes: int
    mapped_bytes: int


class IndexCheck(msgspec.Struct, frozen=True):
    """What a walk through the whole graph found; see vex_index_check."""

    linked: int
    duplicates: int
    unreachable: int
    links: int
    max_level: int
    m: int


class Plan(msgspec.Struct, frozen=True):
    """How a query was answered; see vex_query_plan."""

    why: str
    ef: int
    quantization: str | None
    read_again: int
    rows: int
    graph_rows: int
    walk_distances: int
    walk_hops: int
    exact_distances: int
    read_rows: int
    select_us: int
    search_us: int
    fetch_us: int


class PlanCell:
    """Room for how a query was answered, which is used again for the next one of the thread."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw = ffi.new("vex_query_plan *")
        """Its fields are those of vex_query_plan, numbers all of them."""

    def read(self) -> Plan:
        """What the last query left."""
        fields = {name: getattr(self.raw, name) for name in Plan.__struct_fields__}
        fields["why"] = _PLANS[self.raw.why]
        fields["quantization"] = QUANTIZATIONS[self.raw.quantization]
        return Plan(**fields)


def read_memory(found: Any) -> Memory:
    """A vex_collection_memory."""
    return Memory(**{name: getattr(found, name) for name in Memory.__struct_fields__})


def take_rows(result: Any) -> Rows:
    """Copy a vex_result out and free it."""
    try:
        return copy_rows(result)
    finally:
        lib.vex_result_free(result)


def copy_rows(result: Any) -> Rows:
    """The content of a vex_result."""
    n, include = result.n_rows, result.include
    ids, documents, metadatas, uris = _wire.decode_records(
        ffi.buffer(result.records, result.records_len)
    )
    vectors, distances = _copy_vectors(result, n, include), None
    if result.distances != ffi.NULL:
        distances = _copy_floats(result.distances, n)
    counts = ffi.unpack(result.row_counts, result.n_queries) if result.n_queries else []
    return Rows(counts, ids, documents, metadatas, uris, vectors, distances)


def copy_ranked(result: Any) -> RankedRows:
    """The content of a vex_result of vex_search_ranked."""
    n = result.n_rows
    ids, documents, metadatas, _ = _wire.decode_records(
        ffi.buffer(result.records, result.records_len)
    )
    scores = ffi.unpack(result.distances, n) if n else []
    return RankedRows(ids, documents, metadatas, _copy_vectors(result, n, result.include), scores)


def _copy_vectors(result: Any, n: int, include: int) -> NDArray[np.float32] | None:
    if not include & lib.VEX_INCLUDE_VECTORS:
        return None
    return _copy_floats(result.vectors, n * result.dimension).reshape(n, result.dimension)


def _copy_floats(source: Any, n: int) -> NDArray[np.float32]:
    copy = np.empty(n, dtype=np.float32)
    if n:
        ffi.memmove(copy, source, 4 * n)
    return copy
