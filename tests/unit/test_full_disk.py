"""Deleting gives space back, and needs none: also when the disk is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disks import MIB, fill_up, is_freed, mounted

import vexfs_chroma
from vexfs_chroma import StorageFullError
from vexfs_chroma._catalog_file import FILE_NAME


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    with mounted(tmp_path, "tmpfs", 6 * MIB) as path:
        yield path


def make(client, name, n=500):
    collection = client.create_collection(name, embedding_function=None)
    vectors = np.random.default_rng(1).random((n, 64), np.float32)
    collection.add(ids=[str(i) for i in range(n)], embeddings=vectors)
    return collection


def test_collections_are_deleted_on_a_full_disk(small_disk):
    with vexfs_chroma.PersistentClient(small_disk / "db") as client:
        for name in ("one", "two", "three", "kept"):
            make(client, name)
        fill_up(small_disk)
        with pytest.raises(StorageFullError):
            make(client, "new")
        client.delete_collection("one")
        assert is_freed(small_disk, 100_000)
        fill_up(small_disk)
    with vexfs_chroma.PersistentClient(small_disk / "db") as client:  # opening needs none either
        client.delete_collection("two")
        assert is_freed(small_disk, 100_000)
        make(client, "new", 10)
        fill_up(small_disk)
    # And when the journal is gone, and cannot be made large enough.
    (small_disk / "db" / f"{FILE_NAME}-journal").unlink()
    fill_up(small_disk)
    with vexfs_chroma.PersistentClient(small_disk / "db") as client:
        assert [c.name for c in client.list_collections()] == ["three", "kept", "new"]
        with pytest.raises(StorageFullError):
            client.delete_collection("three")
        assert client.get_collection("three", embedding_function=None).count() == 500
        (small_disk / "ballast").unlink()
        client.delete_collection("three")
        assert [c.name for c in client.list_collections()] == ["kept", "new"]


def test_deleting_makes_no_file_larger(tmp_path):
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        for i in range(60):
            client.create_collection(f"name-{i}", metadata={"a": "x" * 5000})
        files = [tmp_path / FILE_NAME, tmp_path / f"{FILE_NAME}-journal"]
        before = [file.stat().st_size for file in files]
        for i in range(60):
            client.delete_collection(f"name-{i}")
            assert [file.stat().st_size for file in files] == before
    assert before[1] == 128 * 1024
    assert files[1].read_bytes()[:8] == bytes(8)


def test_a_journal_cut_short_is_filled_up_again(tmp_path):
    vexfs_chroma.PersistentClient(tmp_path).close()
    journal = tmp_path / f"{FILE_NAME}-journal"
    os.truncate(journal, 5000)
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True):
        assert journal.stat().st_size == 5000
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        assert journal.stat().st_size == 128 * 1024
        assert client.count_collections() == 0
