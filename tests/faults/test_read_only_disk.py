"""A file system that is, or was, mounted read-only: everything is read, nothing written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import MIB, mounted

import vexfs_chroma
from vexfs_chroma import ReadOnlyError

pytestmark = pytest.mark.faults


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, "tmpfs", 16 * MIB) as path:
        yield path


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def test_a_read_only_disk(disk: Path) -> None:
    path = disk / "db"
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.create_collection("kept", embedding_function=None)
        collection.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], documents=["x", "y"])
        client.vacuum()
        collection.add(ids=["c"], embeddings=[[5, 6]])
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    remount(disk, "ro")
    for options in ({}, {"read_only": True}):
        with vexfs_chroma.PersistentClient(path, **options) as client:
            collection = client.get_collection("kept", embedding_function=None)
            assert collection.get(include=["documents"])["documents"] == ["x", "y", None]
            assert collection.query(query_embeddings=[[5, 6]], n_results=1)["ids"] == [["c"]]
            for write in (
                lambda c=collection: c.add(ids=["d"], embeddings=[[7, 8]]),
                lambda c=collection: c.delete(ids=["a"]),
                lambda c=client: c.create_collection("new", embedding_function=None),
                lambda c=client: c.delete_collection("kept"),
            ):
                with pytest.raises(ReadOnlyError):
                    write()
    remount(disk, "rw")
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.get_collection("kept", embedding_function=None)
        collection.add(ids=["d"], embeddings=[[7, 8]])
        assert collection.count() == 4
