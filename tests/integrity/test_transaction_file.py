"""The file of a transaction that was not carried out yet: sound, damaged, another database's."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vexfs_chroma
from vexfs_chroma import CorruptionError, ForeignDatabaseError

SEED = 20261130


def transact(client: Any, number: int) -> None:
    with client.transaction():
        for name in ("one", "two"):
            collection = client.get_or_create_collection(name, embedding_function=None)
            collection.add(ids=[str(number)], embeddings=[[float(number), 1.0]])


@pytest.fixture
def caught(tmp_path: Path) -> tuple[Path, bytes]:
    """A database, and the file of its last transaction: there for a moment, under another name for
    longer.
    """
    path, copy = tmp_path / "database", tmp_path / "copy"
    is_caught = threading.Event()

    def catch() -> None:
        while not is_caught.is_set():
            with contextlib.suppress(FileNotFoundError):
                os.link(path / "transaction", copy)
                is_caught.set()

    thread = threading.Thread(target=catch)
    thread.start()
    with vexfs_chroma.PersistentClient(path) as client:
        number = 0
        while not is_caught.is_set():
            transact(client, number)
            number += 1
    thread.join()
    return path, copy.read_bytes()


def held(path: Path) -> list[int]:
    with vexfs_chroma.PersistentClient(path) as client:
        return [
            client.get_collection(name, embedding_function=None).count() for name in ("one", "two")
        ]


def test_a_sound_one(caught: tuple[Path, bytes]) -> None:
    path, file = caught
    before = held(path)
    (path / "transaction").write_bytes(file)
    report = vexfs_chroma.check(path)
    assert [one.file for one in report.notices] == [str(path / "transaction")]
    assert report.damage == []
    assert held(path) == before  # it was carried out already, and that is seen
    assert not (path / "transaction").exists()


def test_a_damaged_one(caught: tuple[Path, bytes]) -> None:
    path, file = caught
    before = held(path)
    random = np.random.default_rng(SEED)
    for turn in range(40):
        wrong = bytearray(file)
        if turn % 4 == 0:
            wrong = wrong[: int(random.integers(0, len(file)))]
        else:
            wrong[int(random.integers(len(file)))] ^= 1 << int(random.integers(8))
        (path / "transaction").write_bytes(wrong)
        (found,) = vexfs_chroma.check(path).damage
        assert found.file == str(path / "transaction")
    assert held(path) == before  # reading goes on
    with (
        vexfs_chroma.PersistentClient(path) as client,
        pytest.raises(CorruptionError, match=r"transaction .*run vexctl repair"),
    ):
        transact(client, 10**6)
    report = vexfs_chroma.repair(path)
    assert report.repaired == ["transaction"]
    assert (Path(report.quarantine or "") / "transaction").read_bytes() == bytes(wrong)
    with vexfs_chroma.PersistentClient(path) as client:
        transact(client, 10**6)
    assert held(path) == [count + 1 for count in before]


def test_another_databases(caught: tuple[Path, bytes], tmp_path: Path) -> None:
    _, file = caught
    other = tmp_path / "other"
    with vexfs_chroma.PersistentClient(other) as client:
        transact(client, 0)
        (other / "transaction").write_bytes(file)
        with pytest.raises(ForeignDatabaseError, match="another database"):
            transact(client, 1)
        assert len(vexfs_chroma.check(other).damage) == 1
    vexfs_chroma.repair(other)
    assert held(other) == [1, 1]
