"""Memory: big batches take one large mapping, and closing gives everything back."""

from __future__ import annotations

import gc
import re
import uuid
from pathlib import Path

import numpy as np
import pytest

from vexfs_chroma import _engine

SMAPS = Path("/proc/self/smaps")
DESCRIPTORS = Path("/proc/self/fd")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_page_bytes() -> int:
    return 1024 * sum(int(kb) for kb in re.findall(r"AnonHugePages:\s+(\d+) kB", SMAPS.read_text()))


def open_collection(path: str | None = None) -> tuple[_engine.Database, _engine.Collection]:
    database = _engine.Database(path, memtable_rows=1 << 30, memtable_bytes=1 << 40)
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    return database, database.open_collection(name)


def test_a_100_mb_batch_uses_one_bulk_buffer() -> None:
    n, dimension = 1 << 16, 400
    database, collection = open_collection()
    vectors = np.ones((n, dimension), dtype=np.float32)
    ids = [str(i) for i in range(n)]
    before, huge_before = _engine.stats(), huge_page_bytes() if SMAPS.exists() else 0
    collection.write("add", ids, vectors, None, None, None)
    after = _engine.stats()
    assert vectors.nbytes >= 100e6
    assert after["bulk_maps_total"] - before["bulk_maps_total"] == 1
    assert vectors.nbytes <= after["bulk_bytes"] - before["bulk_bytes"] <= 1.1 * vectors.nbytes
    if SMAPS.exists() and HUGE_PAGES.exists() and "[never]" not in HUGE_PAGES.read_text():
        huge = huge_page_bytes() - huge_before
        print(f"{vectors.nbytes / 1e6:.0f} MB batch: 1 mapping, AnonHugePages {huge / 1e6:.0f} MB")
    database.close()
    assert _engine.stats()["bulk_bytes"] == before["bulk_bytes"]


def test_small_batches_share_memory() -> None:
    database, collection = open_collection()
    before = _engine.stats()["bulk_maps_total"]
    for i in range(100):
        collection.write("add", [str(i)], np.ones((1, 384), np.float32), None, None, None)
    assert _engine.stats()["bulk_maps_total"] == before
    database.close()


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts open descriptors in /proc")
def test_closing_gives_everything_back(tmp_path: Path) -> None:
    def use(path: Path) -> None:
        database, collection = open_collection(str(path))
        vectors = np.random.default_rng(1).random((500, 64), dtype=np.float32)
        ids = [str(i) for i in range(500)]
        collection.write("add", ids, vectors, ids, [{"n": i} for i in range(500)], None)
        collection.flush()
        assert collection.query(vectors[:3], 5).counts == [5, 5, 5]
        database.close()

    use(tmp_path / "first")  # per-thread contexts of zstd and the like stay
    gc.collect()
    before, descriptors = _engine.stats(), len(list(DESCRIPTORS.iterdir()))
    for i in range(20):
        use(tmp_path / str(i))
    after = _engine.stats()
    for counter in ("heap_blocks", "bulk_bytes", "mapped_files", "mapped_bytes", "open_files"):
        assert after[counter] == before[counter], counter
    assert len(list(DESCRIPTORS.iterdir())) == descriptors
