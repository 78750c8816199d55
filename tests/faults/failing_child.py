"""What test_failing_calls.py runs in processes of their own, with failing_calls.c preloaded.

python failing_child.py SCENARIO PATH
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InternalError

import vexfs_chroma
from vexfs_chroma import CorruptionError

SHIM = ctypes.CDLL(None)
ROWS = 600


def arm(call: str, part: str | Path, failures: int = 1, code: int = errno.EIO) -> None:
    SHIM.shim_arm(call.encode(), code, os.fsencode(part), failures)


def disarm() -> None:
    SHIM.shim_arm(b"", 0, b"", 0)


def fill(path: str) -> None:
    """A database with files of every kind."""
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.create_collection("calls", embedding_function=None)
        ids = [f"r{i}" for i in range(ROWS)]
        vectors = np.random.default_rng(1).random((ROWS, 16), np.float32)
        collection.add(ids=ids, embeddings=vectors, documents=ids)
        client.vacuum()
        collection.delete(ids=ids[:10])
        collection.upsert(ids=["late"], embeddings=vectors[1:2])
        collection.wait_for_index(60)
        collection.upsert(ids=["late"], embeddings=vectors[:1])


def open_all(path: str) -> tuple[Any, Any]:
    client = vexfs_chroma.PersistentClient(path)
    try:
        return client, client.get_collection("calls", embedding_function=None)
    except BaseException:
        client.close()
        raise


def check_reads(collection: Any) -> None:
    found = collection.get(include=["embeddings", "documents"])
    assert len(found["ids"]) == ROWS - 10 + 1
    near = collection.query(query_embeddings=[found["embeddings"][-1]], n_results=1)
    assert near["ids"] == [["late"]]
    assert near["distances"][0][0] <= 1e-6


def a_sync_fails(path: str) -> None:
    """The writer is poisoned, nothing is tried again, reads go on, reopening recovers."""
    client, collection = open_all(path)
    check_reads(collection)
    collection.upsert(ids=["late"], embeddings=[[0.5] * 16])
    arm("sync", "/wal-", failures=1)
    with pytest.raises(InternalError, match=r"cannot sync file.*wal-") as caught:
        collection.add(ids=["unknown"], embeddings=[[2.0] * 16])
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EIO
    assert SHIM.shim_calls() == 1
    for _ in range(3):
        with pytest.raises(InternalError, match="reopen"):
            collection.add(ids=["refused"], embeddings=[[3.0] * 16])
        with pytest.raises(InternalError, match="reopen"):
            collection.delete(ids=["late"])
        check_reads(collection)
    client.close()
    assert SHIM.shim_calls() == 1, "the failed sync was tried again"
    client, collection = open_all(path)
    collection.add(ids=["after"], embeddings=[[4.0] * 16])
    assert SHIM.shim_calls() > 1
    ids = collection.get()["ids"]
    assert ids[-1] == "after"
    assert "refused" not in ids
    assert set(ids[ROWS - 9 :]) <= {"late", "unknown", "after"}
    client.close()


def reads_fail(path: str) -> None:
    """An error names the file, whichever cannot be read; when the disk is back all is there."""
    directory = next((Path(path) / "collections").iterdir())
    kinds = {file.name[:4] for file in directory.iterdir()}
    assert kinds == {"vec-", "pay-", "del-", "gra-", "wal-", "mani", "head"}, kinds
    for call, part in (
        ("read", "/VEXFS"),
        ("read", "/catalog.sqlite3"),
        ("read", "/manifest-"),
        ("read", "/wal-"),
        ("read", "/head"),
        ("map", "/vec-"),
        ("map", "/pay-"),
        ("map", "/del-"),
    ):
        print(f"{call} of {part} fails", file=sys.stderr)
        arm(call, part, failures=1000)
        with pytest.raises(InternalError) as caught:
            client, collection = open_all(path)
            try:
                check_reads(collection)
            finally:
                client.close()
        assert part in str(caught.value), caught.value
        assert not isinstance(caught.value, CorruptionError), caught.value
        assert SHIM.shim_calls() >= 1
        disarm()
        client, collection = open_all(path)
        check_reads(collection)
        client.close()


def a_graph_cannot_be_read(path: str) -> None:
    """It is derived: it is built anew."""
    arm("map", "/gra-", failures=1000)
    client, collection = open_all(path)
    check_reads(collection)
    collection.wait_for_index(60)
    assert SHIM.shim_calls() >= 1
    disarm()
    assert collection.stats()["index"]["unindexed_rows"] == 0
    check_reads(collection)
    client.close()


def syncs_of_a_new_collection_fail(path: str) -> None:
    client, _ = open_all(path)
    arm("sync", "/manifest-", failures=1)
    with pytest.raises(InternalError, match="manifest-"):
        client.create_collection("new", embedding_function=None)
    assert [one.name for one in client.list_collections()] == ["calls"]
    disarm()
    client.create_collection("new", embedding_function=None).add(ids=["a"], embeddings=[[1, 2]])
    client.close()
    client, collection = open_all(path)
    check_reads(collection)
    assert client.get_collection("new", embedding_function=None).count() == 1
    client.close()


SCENARIOS: dict[str, Callable[[str], None]] = {
    scenario.__name__: scenario
    for scenario in (
        a_sync_fails,
        reads_fail,
        a_graph_cannot_be_read,
        syncs_of_a_new_collection_fail,
    )
}

if __name__ == "__main__":
    fill(sys.argv[2])
    SCENARIOS[sys.argv[1]](sys.argv[2])
