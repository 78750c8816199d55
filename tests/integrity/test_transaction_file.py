"""The file of a transaction that was not carried out yet: sound, damaged, another database's."""

from __future__ import annotations

import contextlib
import os
import shutil
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


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A database whose last transaction is stored, and in neither log: lsn 2 of both.

    The records of "two" are not numbered from 0 on, so a copy of them is numbered otherwise.
    """
    path, before, caught = tmp_path / "database", tmp_path / "before", tmp_path / "caught"
    is_over = threading.Event()

    def catch() -> None:
        while not is_over.is_set() and not caught.exists():
            with contextlib.suppress(FileNotFoundError):
                os.link(path / "transaction", caught)

    thread = threading.Thread(target=catch)
    thread.start()
    while not caught.exists():
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
        with vexfs_chroma.PersistentClient(path) as client:
            one, two = (
                client.create_collection(n, embedding_function=None) for n in ("one", "two")
            )
            one.add(ids=["a"], embeddings=[[1, 1]])
            with client.transaction():
                two.add(ids=["a", "b", "c"], embeddings=[[1, 1], [2, 2], [3, 3]])
                two.delete(ids=["a"])
            shutil.copytree(path, before)
            caught.unlink(missing_ok=True)  # of the transaction before
            with client.transaction():
                one.add(ids=["new"], embeddings=[[9, 9]])
                two.update(ids=["b"], embeddings=[[9, 9]], documents=["new"])
    is_over.set()
    thread.join()
    (before / "transaction").write_bytes(caught.read_bytes())
    return before


def records(path: Path) -> list[dict[str, Any]]:
    found = []
    with vexfs_chroma.PersistentClient(path) as client:
        for name in ("one", "two"):
            got = client.get_collection(name, embedding_function=None).get(include=["embeddings"])
            found.append(
                {id: v.tolist() for id, v in zip(got["ids"], got["embeddings"], strict=True)}
            )
    return found


def log_of(path: Path, name: str) -> Path:
    with vexfs_chroma.PersistentClient(path, read_only=True) as client:
        id = client.get_collection(name, embedding_function=None).id
    return path / "collections" / id.hex / "wal-0000000001"


def test_one_that_was_only_stored(stored: Path) -> None:
    assert vexfs_chroma.repair(stored).repaired == []  # as nothing is wrong with it
    assert records(stored) == [{"a": [1, 1], "new": [9, 9]}, {"b": [9, 9], "c": [3, 3]}]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_collection_of_it_is_damaged(stored: Path, dry_run: bool) -> None:
    log = log_of(stored, "two")
    wrong = bytearray(log.read_bytes())
    wrong[10] ^= 0xFF  # its header, without which every record is found all the same
    log.write_bytes(wrong)
    report = vexfs_chroma.repair(stored, dry_run=dry_run)
    assert report.repaired == ["transaction", "two"]
    losses = {(loss.what, loss.collection) for loss in report.losses}
    assert losses == {("batch", "one"), ("batch", "two")}
    assert (stored / "transaction").exists() is dry_run
    if not dry_run:
        assert records(stored) == [{"a": [1, 1]}, {"b": [2, 2], "c": [3, 3]}]
        with vexfs_chroma.PersistentClient(stored) as client:
            transact(client, 10**6)
        assert vexfs_chroma.check(stored, deep=True).ok


@pytest.fixture
def half(stored: Path, tmp_path: Path) -> Path:
    """The same, carried out in "one", and not in "two"."""
    whole = tmp_path / "whole"
    shutil.copytree(stored, whole)
    one = log_of(stored, "one").parent
    assert len(records(whole)) == 2  # opening carries it out
    shutil.rmtree(one)
    shutil.copytree(whole / "collections" / one.name, one)
    return stored


@pytest.mark.parametrize("byte", [20, 64 + 40, -3])
def test_a_damaged_one_that_is_carried_out_in_part(half: Path, byte: int) -> None:
    file = bytearray((half / "transaction").read_bytes())
    file[byte] ^= 4  # of the header, of the first batch, of the last
    (half / "transaction").write_bytes(file)
    report = vexfs_chroma.repair(half)
    assert [(loss.what, loss.collection) for loss in report.losses] == [("batch", "two")]
    assert not report.ok
    assert records(half) == [{"a": [1, 1], "new": [9, 9]}, {"b": [2, 2], "c": [3, 3]}]


@pytest.mark.parametrize("size", [30, 64, 100])
def test_a_part_of_one_that_is_carried_out_in_part(half: Path, size: int) -> None:
    file = (half / "transaction").read_bytes()
    (half / "transaction").write_bytes(file[:size])
    report = vexfs_chroma.repair(half)
    assert [(loss.what, loss.collection) for loss in report.losses] == [("batch", "")]
    assert "part of its collections" in report.losses[0].why
    assert not report.ok


def test_a_damaged_one_that_is_carried_out(stored: Path) -> None:
    file = bytearray((stored / "transaction").read_bytes())
    assert len(records(stored)) == 2
    file[-3] ^= 4
    (stored / "transaction").write_bytes(file)
    report = vexfs_chroma.repair(stored)
    assert (report.repaired, report.losses, report.ok) == (["transaction"], [], True)


def test_a_log_lacks_batches_before_it(stored: Path) -> None:
    log = log_of(stored, "two")
    with log.open("r+b") as file:
        file.truncate(64)
    (log.parent / "head").unlink()  # as a power failure in durability "off" may leave them
    (found,) = vexfs_chroma.check(stored).damage
    assert (found.file, found.collection) == (str(stored / "transaction"), "two")
    assert vexfs_chroma.repair(stored).repaired == ["transaction"]
    with vexfs_chroma.PersistentClient(stored) as client:
        transact(client, 10**6)
    assert vexfs_chroma.check(stored, deep=True).ok


def test_a_damaged_collection_holds_up_no_other(caught: tuple[Path, bytes]) -> None:
    path, file = caught
    with vexfs_chroma.PersistentClient(path) as client:
        two = client.get_collection("two", embedding_function=None).id
    for manifest in (path / "collections" / two.hex).glob("manifest-*"):
        manifest.write_bytes(b"\0" * manifest.stat().st_size)
    (path / "transaction").write_bytes(file)
    vector = [[1.0, 1.0]]
    with vexfs_chroma.PersistentClient(path) as client:
        one = client.get_collection("one", embedding_function=None)
        one.add(ids=["new"], embeddings=vector)
        three = client.create_collection("three", embedding_function=None)
        assert (path / "transaction").exists()
        with (  # there is one such file
            pytest.raises(CorruptionError, match=r"transaction .*run vexctl repair"),
            client.transaction(),
        ):
            one.add(ids=["newer"], embeddings=vector)
            three.add(ids=["newer"], embeddings=vector)
        client.delete_collection("two")
        with client.transaction():
            one.add(ids=["newer"], embeddings=vector)
            three.add(ids=["newer"], embeddings=vector)
        assert three.get(include=[])["ids"] == ["newer"]
        assert one.get(["new", "newer"], include=[])["ids"] == ["new", "newer"]
    assert not (path / "transaction").exists()
