"""What a bulk load writes: bytes per row and syncs per batch, by the engine's counters."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from vexfs_chroma import _engine

ROWS, DIMENSION, BATCHES = 10_000, 128, 4


@pytest.mark.parametrize("op", ["add", "upsert"])
def test_a_batch_is_logged_once_and_synced_once(tmp_path, op):
    database = _engine.Database(str(tmp_path), durability="full", memtable_rows=1 << 30)
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    vectors = np.random.default_rng(20261130).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    collection.write(op, ["first"], vectors[:1], None, None, None)  # makes the log
    for batch in range(BATCHES):
        ids = [f"id-{batch}-{i}" for i in range(ROWS)]
        before = _engine.stats()
        collection.write(op, ids, vectors + batch, None, None, None)
        after = _engine.stats()
        logged = (after["wal_bytes"] - before["wal_bytes"]) / ROWS
        assert after["wal_syncs"] - before["wal_syncs"] == 1
        assert 4 * DIMENSION <= logged <= 4 * DIMENSION + 32
        assert after["segment_bytes"] == before["segment_bytes"]  # nothing else waits for the disk
    before = _engine.stats()
    collection.flush()
    after = _engine.stats()
    rows = BATCHES * ROWS + 1
    files = (after["segment_bytes"] - before["segment_bytes"]) / rows
    assert files <= 4 * DIMENSION + (DIMENSION + 64) + 64  # vectors, code rows, keys
    assert after["segments_written"] - before["segments_written"] == 2  # vectors, payloads
    assert collection.count() == rows
    database.close()
