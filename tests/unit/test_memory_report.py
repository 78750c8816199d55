"""client.memory(), unload() and the memory limit."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings
from chromadb.errors import InvalidArgumentError

import vexfs_chroma
from vexfs_chroma import _engine

SMAPS = Path("/proc/self/smaps")
SEED = 20261130
ROWS, DIMENSION = 6000, 64
FROM_ROWS = 500  # a graph is built


@pytest.fixture(autouse=True)
def no_system_survives():
    yield
    for system in list(SharedSystemClient._identifier_to_system.values()):
        system.stop()
    SharedSystemClient.clear_system_cache()


@pytest.fixture(autouse=True)
def graphs_of_small_collections(monkeypatch):
    monkeypatch.setenv("VEXFS_INDEX_ROWS", str(FROM_ROWS))


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(SEED).standard_normal((ROWS, DIMENSION)).astype(np.float32)


def fill(client, vectors, name="filled"):
    collection = client.create_collection(name, embedding_function=None)
    collection.add(
        ids=[str(i) for i in range(len(vectors))],
        embeddings=vectors,
        documents=[f"document {i} about {i % 17} things" for i in range(len(vectors))],
        metadatas=[{"i": i, "word": f"w{i % 100}"} for i in range(len(vectors))],
    )
    collection.wait_for_index()
    return collection


def look(collection, vectors):
    """What every kind of reading answers."""
    return (
        collection.query(query_embeddings=vectors[:20], n_results=5),
        collection.query(query_embeddings=vectors[:3], n_results=5, where={"word": "w7"}),
        collection.get(where_document={"$contains": "about 3 "}, include=["documents"]),
        collection.get(ids=["5", "77"], include=["metadatas"]),
        collection.count(),
    )


def mapped_bytes(folder):
    """Resident bytes of the mapped files below `folder`, by the system's own list."""
    found, ours = 0, False
    for line in SMAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = str(folder) in line
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.skipif(not SMAPS.exists(), reason="compares with /proc")
def test_parts_add_up_to_what_the_system_says(tmp_path, vectors):
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client, vectors)
    look(collection, vectors)
    report = collection.memory()
    files = (
        report.code_rows
        + report.vectors
        + report.documents
        + report.keys
        + report.columns
        + report.text_index
        + collection._api.memory(collection.id)[0].link_bytes
    )
    assert files == pytest.approx(mapped_bytes(tmp_path), rel=0.1)
    assert report.vectors >= vectors.nbytes // 2  # queries have read them
    assert report.code_rows >= ROWS * DIMENSION
    assert report.links >= ROWS * 4 * 16
    assert report.resident is not None
    assert report.total == report.resident
    assert 0 < report.other < report.resident
    status = Path("/proc/self/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
    assert report.total == pytest.approx(resident, rel=0.1)


def test_a_report_of_a_client_has_all_collections(tmp_path, vectors):
    client = vexfs_chroma.PersistentClient(tmp_path)
    one = fill(client, vectors, "one")
    alone = client.memory().links
    fill(client, vectors, "two")
    assert client.memory().links == pytest.approx(2 * alone, rel=0.1)
    assert one.memory().links == alone
    plain = client.memory().as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert "links" in str(client.memory())


def test_stats_tell_of_memory(tmp_path, vectors):
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client, vectors)
    found = client.stats()
    assert found.process.memory.links == collection.memory().links > 0
    needed = found.collections[0].search_bytes
    assert needed >= ROWS * (DIMENSION + 4 * 32)
    client.close()
    assert vexfs_chroma.stats(tmp_path).collections[0].search_bytes == needed


def test_in_memory_files_are_allocated(vectors):
    client = vexfs_chroma.EphemeralClient()
    collection = fill(client, vectors)
    report = collection.memory()
    assert report.vectors >= vectors.nbytes
    assert report.catalog == 0
    counters = _engine.stats()
    allocated = counters["heap_bytes"] + counters["bulk_bytes"]
    parts = report.total - report.other
    assert parts == pytest.approx(allocated, rel=0.1)
    client.delete_collection("filled")


@pytest.mark.parametrize("whole", [False, True])
def test_unload_changes_no_answer(tmp_path, vectors, whole):
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client, vectors)
    before = look(collection, vectors)
    files = _engine.stats()["mapped_files"]
    client.unload() if whole else collection.unload()
    assert _engine.stats()["mapped_files"] == 0 < files
    assert client.memory().links == 0
    assert client.memory().vectors == 0
    assert collection.count() == ROWS
    collection.wait_for_index()
    assert look(collection, vectors) == before
    collection.add(ids=["more"], embeddings=vectors[:1])
    assert collection.count() == ROWS + 1


def test_unload_in_memory_keeps_everything(vectors):
    client = vexfs_chroma.EphemeralClient()
    collection = fill(client, vectors)
    before = look(collection, vectors)
    collection.unload()
    client.unload()
    assert look(collection, vectors) == before
    client.delete_collection("filled")


def test_a_quarter_of_the_data(tmp_path, vectors):
    client = vexfs_chroma.PersistentClient(tmp_path)
    before = look(fill(client, vectors), vectors)
    client.close()
    disk = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    fetched = _engine.stats()["rows_fetched"]
    client = vexfs_chroma.PersistentClient(tmp_path, memory_limit=disk // 4)
    collection = client.get_collection("filled", embedding_function=None)
    collection.wait_for_index()
    assert look(collection, vectors) == before
    for vector in vectors[:20]:  # one by one: batches read all rows
        collection.query(query_embeddings=[vector], n_results=5)
    assert _engine.stats()["rows_fetched"] >= fetched + 20 * 5
    for start in range(0, 3000, 1000):
        ids = [f"more-{start + i}" for i in range(1000)]
        collection.add(ids=ids, embeddings=vectors[start : start + 1000] + 10)
    collection.wait_for_index()
    assert collection.count() == ROWS + 3000
    assert look(collection, vectors)[1:4] == before[1:4]


def test_least_recently_used_by_chromas_settings(tmp_path, vectors):
    settings = Settings(chroma_segment_cache_policy="LRU", chroma_memory_limit_bytes=1)
    client = vexfs_chroma.PersistentClient(tmp_path, settings=settings)
    first, second = fill(client, vectors, "first"), fill(client, vectors, "second")
    second.query(query_embeddings=vectors[:1])
    until = time.monotonic() + 60
    while first.memory().links and time.monotonic() < until:
        time.sleep(0.01)
    assert first.memory().links == 0  # looking at it is no use of it
    assert second.memory().links > 0
    first.wait_for_index()
    first.query(query_embeddings=vectors[:1])
    while second.memory().links and time.monotonic() < until:
        time.sleep(0.01)
    assert second.memory().links == 0
    assert first.memory().links > 0


def test_a_policy_without_a_limit_is_none(tmp_path, vectors):
    settings = Settings(chroma_segment_cache_policy="LRU")
    client = vexfs_chroma.PersistentClient(tmp_path, settings=settings)
    collection = fill(client, vectors)
    fetched = _engine.stats()["rows_fetched"]
    collection.query(query_embeddings=vectors[:1])
    assert _engine.stats()["rows_fetched"] == fetched


def test_environment_and_bad_limits(tmp_path, monkeypatch):
    for bad in (-1, 1.5, "1 GB", True, 2**63):
        with pytest.raises(InvalidArgumentError, match="memory_limit must be a number of bytes"):
            vexfs_chroma.PersistentClient(tmp_path, memory_limit=bad)
    monkeypatch.setenv("VEXFS_MEMORY_LIMIT", "1GB")
    with pytest.raises(InvalidArgumentError, match="VEXFS_MEMORY_LIMIT must be a number"):
        vexfs_chroma.PersistentClient(tmp_path)
    monkeypatch.setenv("VEXFS_MEMORY_LIMIT", "1000000")
    client = vexfs_chroma.PersistentClient(tmp_path)
    with pytest.raises(ValueError, match="already open in this process with memory_limit=1000000"):
        vexfs_chroma.PersistentClient(tmp_path, memory_limit=5)
    client.close()
