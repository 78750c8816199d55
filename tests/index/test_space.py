"""Collections with a graph give space back: on the disk, and in memory when they are closed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_kit import Live, make, misses

ROWS = 4000
DIMENSION = 64
IDS = [f"record-{i}" for i in range(ROWS)]
DELETED = 12_000  # rows of which the graph alone is 2 MiB
MIB = 1 << 20

CYCLES = """
import json, sys, uuid
from pathlib import Path
import numpy as np
import psutil
from vexfs_chroma import _engine

def figures():
    stats = _engine.stats()
    held = ("heap_blocks", "bulk_bytes", "mapped_bytes", "mapped_files", "open_files")
    return {"rss": psutil.Process().memory_info().rss, **{name: stats[name] for name in held}}

def cycle(path, seed):
    database = _engine.Database(path, durability="off", index_rows=1000, memtable_rows=1500)
    if name not in database.list_collections():
        database.create_collection(name, "l2")
    collection = database.open_collection(name)
    rows = np.random.default_rng(seed).random((3000, 32), dtype=np.float32)
    collection.write("upsert", [str(i) for i in range(3000)], rows, None, None, None)
    collection.flush()
    collection.wait_for_index(120)
    assert collection.info().indexed_rows >= 3000
    for k in (1, 10, 100):
        collection.query(rows[:200], k)
    collection.delete([str(i) for i in range(1500)], None)
    collection.query(rows[:200], 10)
    database.close()

name = uuid.uuid4()
measured = [figures()]
for turn in range(20):
    for path in (None, sys.argv[1]):
        cycle(path, turn)
    measured.append(figures())
json.dump(measured, sys.stdout)
"""


def disk(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def fill(live: Live, seed: int) -> None:
    rows = np.random.default_rng(seed).random((ROWS, DIMENSION), dtype=np.float32)
    texts = [f"text {i} of version {seed}" for i in range(ROWS)]
    live.collection.write("upsert", IDS, rows, texts, None, None)
    live.vectors = dict(zip(IDS, rows, strict=True))


@pytest.mark.parametrize("index_rows", [1, 1000])
@pytest.mark.parametrize("how", ["in one", "in parts", "dropped"])
def test_deleting_everything_gives_the_disk_back(tmp_path: Path, how: str, index_rows: int) -> None:
    live = make("l2", tmp_path, index_rows=index_rows)
    live.database.wait_idle(60)
    empty = disk(tmp_path)
    ids = [f"r{i}" for i in range(DELETED)]
    live.write("add", ids, np.random.default_rng(0).random((DELETED, 16), dtype=np.float32))
    live.settle()
    assert live.collection.info().indexed_rows == DELETED
    full = disk(tmp_path)
    assert full > empty + 2 * MIB
    if how == "dropped":
        live.database.drop_collection(live.database.list_collections()[0])
    else:
        step = DELETED if how == "in one" else 1000
        for at in range(0, DELETED, step):
            live.delete(ids[at : at + step])
        assert live.collection.count() == 0
    live.database.wait_idle(60)
    print(f"empty {empty}, full {full}, now {disk(tmp_path)}")
    assert disk(tmp_path) <= empty + MIB
    live.close()
    assert disk(tmp_path) <= empty + MIB


@pytest.mark.parametrize("hours", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_hourly_upserts_of_the_same_records(tmp_path: Path, hours: int) -> None:
    live = make("l2", tmp_path, index_rows=1000)
    fill(live, 0)
    live.collection.compact()
    live.settle()
    once = disk(tmp_path)
    most = 0
    for hour in range(1, hours):
        fill(live, hour)
        if hour % 3 == 0:
            live.settle()  # a graph of every third version, made anew or built
        if hour % 10 == 0:
            live.database.wait_idle(60)
            most = max(most, disk(tmp_path))
    live.settle()
    live.database.wait_idle(60)
    most = max(most, disk(tmp_path))
    print(f"once {once}, at most {most} ({most / once:.2f}x) in {hours} hours")
    assert most <= 2 * once
    assert misses(live) == []
    live.close()


def test_memory_of_closed_databases(tmp_path: Path) -> None:
    """Twenty times: open, load, index, query, close, in memory and on the disk."""
    command = [sys.executable, "-c", CYCLES, str(tmp_path / "database")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=250)
    measured: list[dict[str, Any]] = json.loads(done.stdout)
    rss = [one["rss"] / MIB for one in measured[1:]]
    slope = float(np.polyfit(range(15), rss[5:], 1)[0])
    print(f"RSS {', '.join(f'{one:.1f}' for one in rss)} MiB; slope {slope:.3f} MiB a cycle")
    assert rss[-1] <= rss[4] + 8
    for name in ("heap_blocks", "bulk_bytes", "mapped_bytes", "mapped_files", "open_files"):
        held = [one[name] for one in measured]
        assert held[1:] == [held[1]] * 20, name
