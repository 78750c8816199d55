"""What is deleted and replaced gives its space back; many small writes leave few files."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vexfs_chroma
from vexfs_chroma import _engine

ROWS = 4000
DIMENSION = 64
IDS = [f"record-{i}" for i in range(ROWS)]


def vectors(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).random((ROWS, DIMENSION), dtype=np.float32)


def size_of(path: Path) -> int:
    return sum(p.stat().st_size for p in (path / "collections").rglob("*") if p.is_file())


def files_of(path: Path, kind: str) -> int:
    return len(list((path / "collections").rglob(f"{kind}-*")))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with vexfs_chroma.PersistentClient(path=tmp_path) as client:
        yield client


def fill(client: Any, seed: int = 0) -> Any:
    collection = client.get_or_create_collection("test", embedding_function=None)
    texts = [f"text {i} of version {seed}" for i in range(ROWS)]
    collection.upsert(ids=IDS, embeddings=vectors(seed), documents=texts)
    return collection


def test_deleting_everything_gives_the_disk_back(client: Any, tmp_path: Path) -> None:
    collection = fill(client)
    assert size_of(tmp_path) > 1_000_000
    for first in range(0, ROWS, 500):
        collection.delete(ids=IDS[first : first + 500])
    client.wait_idle()
    assert size_of(tmp_path) <= 1 << 20
    assert collection.count() == 0


def test_deleting_sealed_records_gives_the_disk_back(client: Any, tmp_path: Path) -> None:
    collection = fill(client)
    client.vacuum()
    assert files_of(tmp_path, "vec") == 1
    collection.delete(ids=IDS)
    client.wait_idle()
    assert files_of(tmp_path, "vec") == 0
    assert size_of(tmp_path) <= 1 << 20


def test_hourly_upserts_of_the_same_records(client: Any, tmp_path: Path) -> None:
    fill(client)
    client.vacuum()
    once = size_of(tmp_path)
    for hour in range(1, 200):
        collection = fill(client, hour)
    client.wait_idle()
    assert size_of(tmp_path) <= 2 * once
    found = collection.get(include=["embeddings", "documents"])
    assert np.array_equal(found["embeddings"], vectors(199).astype(np.float64))
    assert found["documents"][7] == "text 7 of version 199"


def test_vacuum_leaves_only_what_is_alive(client: Any, tmp_path: Path) -> None:
    collection = fill(client)
    client.vacuum()
    full = size_of(tmp_path)
    collection.delete(ids=IDS[1::2])
    client.vacuum()
    assert size_of(tmp_path) < 0.6 * full
    assert files_of(tmp_path, "vec") == files_of(tmp_path, "pay") == 1
    assert files_of(tmp_path, "del") == 0
    assert collection.get(include=[])["ids"] == IDS[::2]
    done = _engine.stats()["compactions"]
    client.vacuum()  # nothing left to do
    assert _engine.stats()["compactions"] == done


def test_vacuum_takes_every_collection_of_the_directory(client: Any, tmp_path: Path) -> None:
    fill(client)
    other = client.create_collection("other", embedding_function=None)
    other.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]])
    other.delete(ids=["a"])
    client.vacuum()
    assert files_of(tmp_path, "vec") == 2
    assert other.get(include=[])["ids"] == ["b"]


def test_small_flushes_leave_few_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VEXFS_MEMTABLE_ROWS", "5")
    with vexfs_chroma.PersistentClient(path=tmp_path, durability="off") as client:
        collection = client.create_collection("test", embedding_function=None)
        for i in range(400):
            ids = [f"{i}.{n}" for n in range(5)]
            collection.add(ids=ids, embeddings=np.full((5, 3), i), documents=ids)
        client.wait_idle()
        # at most three of each tier; 2,000 records are six tiers (factors of four)
        assert files_of(tmp_path, "vec") <= 18
        assert files_of(tmp_path, "pay") <= 18
        assert collection.count() == 2000
        assert collection.get(ids=["399.4"])["documents"] == ["399.4"]


def test_the_same_records_again_write_nothing(client: Any) -> None:
    gc.collect()  # what other tests left open is closed, and its logs are, too
    fill(client)
    before = _engine.stats()
    fill(client)
    after = _engine.stats()
    assert after["wal_bytes"] == before["wal_bytes"]
    collection = fill(client, 0)
    collection.update(ids=IDS[:1], embeddings=vectors(1)[:1])
    assert _engine.stats()["wal_bytes"] > before["wal_bytes"]


def test_in_memory() -> None:
    with vexfs_chroma.EphemeralClient() as client:
        collection = fill(client)
        held = _engine.stats()["bulk_bytes"] + _engine.stats()["heap_bytes"]
        collection.delete(ids=IDS)
        client.wait_idle()
        client.vacuum()
        assert _engine.stats()["bulk_bytes"] + _engine.stats()["heap_bytes"] < held - 1_000_000
        client.delete_collection("test")


def test_writing_while_vacuuming(client: Any) -> None:
    collection = fill(client)
    failures: list[BaseException] = []

    def vacuum() -> None:
        try:
            for _ in range(15):
                client.vacuum()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=vacuum)
    thread.start()
    for version in range(1, 15):
        fill(client, version)
        collection.delete(ids=IDS[version * 100 : version * 100 + 50])
        assert collection.count() == ROWS - 50
    thread.join()
    assert failures == []
    found = collection.get(ids=[IDS[0]], include=["embeddings"])
    assert np.array_equal(found["embeddings"][0], vectors(14)[0].astype(np.float64))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forking_while_vacuuming(client: Any) -> None:
    collection = fill(client)
    stop = threading.Event()

    def vacuum() -> None:
        version = 1
        while not stop.is_set():
            fill(client, version)
            client.vacuum()
            version += 1

    thread = threading.Thread(target=vacuum)
    thread.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0 if collection.count() == ROWS else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()
    assert collection.count() == ROWS


def test_refusals(client: Any, tmp_path: Path) -> None:
    fill(client)
    client.vacuum()
    with pytest.raises(vexfs_chroma.errors.InvalidArgumentError):
        client.wait_idle(timeout=-1)
    client.wait_idle(timeout=60)
    client.close()
    for call in (client.vacuum, client.wait_idle):
        with pytest.raises(vexfs_chroma.errors.InternalError, match="closed"):
            call()
    with vexfs_chroma.PersistentClient(path=tmp_path, read_only=True) as reader:
        reader.wait_idle()
        with pytest.raises(vexfs_chroma.ReadOnlyError):
            reader.vacuum()
