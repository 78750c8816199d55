"""docs/design.md, "What a map cannot survive": files that are cut or changed by somebody else.

What kills a process is done to one of its own; what is said to be noticed has to be.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vexfs_chroma
from vexfs_chroma import CorruptionError

pytestmark = pytest.mark.faults

ROWS, DIMENSION = 4000, 64  # 1 MiB of vectors: many pages, many checksums


def fill(path: Path) -> None:
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.create_collection("mapped", embedding_function=None)
        vectors = np.random.default_rng(1).random((ROWS, DIMENSION), np.float32)
        ids = [f"r{i}" for i in range(ROWS)]
        collection.add(ids=ids, embeddings=vectors, documents=[f"{id} text" for id in ids])
        client.vacuum()


def file_of(path: Path, pattern: str) -> Path:
    (found,) = path.glob(f"collections/*/{pattern}")
    return found


def read_all(collection: Any) -> int:
    found = collection.get(include=["embeddings", "documents"])
    collection.query(query_embeddings=found["embeddings"][:1], exact=True)
    return len(found["ids"])


CUT_UNDER_A_MAP = """
import os, sys, vexfs_chroma
client = vexfs_chroma.PersistentClient(sys.argv[1])
collection = client.get_collection("mapped", embedding_function=None)
collection.count()
print("open", flush=True)
os.truncate(sys.argv[2], int(sys.argv[3]))
collection.get(include=["embeddings", "documents"])
print("survived", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what the system does is known for Linux")
@pytest.mark.parametrize("pattern", ["vec-*", "pay-*"])
def test_a_file_cut_under_its_map_kills_the_process_alone(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path)
    file = file_of(tmp_path, pattern)
    whole = file.read_bytes()
    program = [sys.executable, "-c", CUT_UNDER_A_MAP, str(tmp_path), str(file), "4096"]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=100)
    assert done.stdout == "open\n"
    assert done.returncode == -signal.SIGBUS
    told = rf"wrong length.*{file.name}, offset 4096"
    with (
        vexfs_chroma.PersistentClient(tmp_path) as client,
        pytest.raises(CorruptionError, match=told),
    ):
        client.get_collection("mapped", embedding_function=None).count()
    file.write_bytes(whole)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        assert read_all(client.get_collection("mapped", embedding_function=None)) == ROWS


def test_replacing_and_removing_files_harms_no_map(tmp_path: Path) -> None:
    fill(tmp_path)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("mapped", embedding_function=None)
        collection.count()
        for pattern in ("vec-*", "pay-*"):
            file = file_of(tmp_path, pattern)
            other = file.with_suffix(".other")
            other.write_bytes(b"something else")
            other.replace(file)
        assert read_all(collection) == ROWS


def test_bytes_changed_under_a_map_are_noticed_when_they_are_first_used(tmp_path: Path) -> None:
    fill(tmp_path)
    file = file_of(tmp_path, "vec-*")
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("mapped", embedding_function=None)
        assert collection.count() == ROWS
        at = file.stat().st_size // 2
        with file.open("r+b") as opened:
            opened.seek(at)
            byte = opened.read(1)[0]
            opened.seek(at)
            opened.write(bytes([byte ^ 0x10]))
        with pytest.raises(CorruptionError, match=file.name):
            for first in range(0, ROWS, 100):
                collection.get(ids=[f"r{i}" for i in range(first, first + 100)],
                               include=["embeddings"])  # fmt: skip
            collection.query(query_embeddings=[[0.5] * DIMENSION], n_results=ROWS)


def test_logs_and_manifests_are_not_mapped(tmp_path: Path) -> None:
    fill(tmp_path)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("mapped", embedding_function=None)
        for i in range(5):
            collection.add(ids=[f"more{i}"], embeddings=[[float(i)] * DIMENSION])
        os.truncate(file_of(tmp_path, "wal-*"), 64)
        os.truncate(file_of(tmp_path, "manifest-*"), 10)
        assert read_all(collection) == ROWS + 5
    with vexfs_chroma.PersistentClient(tmp_path) as client, pytest.raises(CorruptionError):
        client.get_collection("mapped", embedding_function=None).count()


@pytest.mark.parametrize(("pattern", "size"), [("wal-*", 64), ("wal-*", 0), ("manifest-*", 10)])
def test_a_log_cut_under_a_writer_is_told_by_the_next_opening(
    tmp_path: Path, pattern: str, size: int
) -> None:
    fill(tmp_path)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("mapped", embedding_function=None)
        for i in range(5):
            collection.add(ids=[f"more{i}"], embeddings=[[float(i)] * DIMENSION])
        file = file_of(tmp_path, pattern)
        os.truncate(file, size)
    with (
        vexfs_chroma.PersistentClient(tmp_path) as client,
        pytest.raises(CorruptionError, match=file.name),
    ):
        client.get_collection("mapped", embedding_function=None).count()
