"""The fixed-layout structures of vexfs.h: their sizes and offsets are part of the C ABI."""

from __future__ import annotations

import numpy as np
import pytest

from vexfs_chroma import _engine
from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import ffi, lib

LAYOUTS = {
    "vexfs_vector_file_info": (
        40,
        {
            "dimensions": 0,
            "element_type": 4,
            "vector_count": 8,
            "storage_format": 12,
            "data_offset": 16,
            "index_offset": 24,
            "compression_type": 32,
            "alignment_bytes": 36,
        },
    ),
    "vexfs_vector_search_request": (
        48,
        {
            "query": 0,
            "dimensions": 8,
            "k": 12,
            "search_type": 16,
            "results": 24,
            "result_ids": 32,
            "result_count": 40,
        },
    ),
    "vexfs_batch_insert_request": (
        32,
        {"vectors": 0, "count": 8, "dimensions": 12, "ids": 16, "flags": 24},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str) -> None:
    size, offsets = LAYOUTS[name]
    assert ffi.sizeof(name) == size
    assert {field: ffi.offsetof(name, field) for field in offsets} == offsets
    assert [field for field, _ in ffi.typeof(name).fields] == list(offsets)


def test_insert_then_search(collection: _engine.Collection) -> None:
    vectors = np.array([[0, 0], [3, 4], [6, 8]], dtype=np.float32)
    ids = np.array([7, 2**64 - 1, 9], dtype=np.uint64)
    lent_vectors = ffi.from_buffer("float[]", vectors)
    lent_ids = ffi.from_buffer("uint64_t[]", ids)
    insert = ffi.new(
        "vexfs_batch_insert_request *",
        {
            "vectors": lent_vectors,
            "count": 3,
            "dimensions": 2,
            "ids": lent_ids,
            "flags": lib.VEX_WRITE_ADD,
        },
    )
    query = ffi.new("float[]", [0.0, 0.0])
    distances, found = ffi.new("float[]", 5), ffi.new("uint64_t[]", 5)
    search = ffi.new(
        "vexfs_vector_search_request *",
        {
            "query": query,
            "dimensions": 2,
            "k": 5,
            "search_type": lib.VEX_SPACE_L2,
            "results": distances,
            "result_ids": found,
        },
    )
    with collection._handle as pointer:
        check(lib.vex_batch_insert_simple(pointer, insert))
        check(lib.vex_search_simple(pointer, search))
    assert search.result_count == 3
    assert ffi.unpack(found, 3) == [7, 2**64 - 1, 9]
    assert ffi.unpack(distances, 3) == [0.0, 25.0, 100.0]
    assert collection.get().ids == ["7", "18446744073709551615", "9"]


def test_search_of_the_wrong_space_is_refused(collection: _engine.Collection) -> None:
    query, distances, found = (
        ffi.new("float[]", [0.0]),
        ffi.new("float[]", 1),
        ffi.new("uint64_t[]", 1),
    )
    search = ffi.new(
        "vexfs_vector_search_request *",
        {
            "query": query,
            "dimensions": 1,
            "k": 1,
            "search_type": lib.VEX_SPACE_COSINE,
            "results": distances,
            "result_ids": found,
        },
    )
    with collection._handle as pointer:
        assert lib.vex_search_simple(pointer, search) == lib.VEX_ERR_INVALID
