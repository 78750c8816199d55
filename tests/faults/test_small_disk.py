"""A file system of 64 MiB gets full during every kind of write.

What is refused says StorageFullError and changes nothing; what was acknowledged stays, also after
opening on the full disk; deleting works, gives the space back, and the space can be used again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disks import MIB, fill_up, free, mounted

import vexfs_chroma
from vexfs_chroma import StorageFullError

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SIZE = 64 * MIB
DIMENSION = 256
BATCH = 500
BASE = 6000  # records that are there before the disk is filled


@pytest.fixture(params=["tmpfs", pytest.param("ext4", marks=pytest.mark.slow)])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, request.param, SIZE) as path:
        yield path


def words(number: int, length: int) -> str:
    """Text that hardly compresses."""
    raw = np.random.default_rng(number).integers(0, 26, length, np.uint8) + ord("a")
    return raw.tobytes().decode()


def vectors(seed: int, n: int, dimension: int = DIMENSION) -> np.ndarray:
    return np.random.default_rng(seed).random((n, dimension), np.float32)


class Model:
    """A collection, and what it must hold."""

    def __init__(self, client: Any, name: str = "filled") -> None:
        self.collection = client.get_or_create_collection(name, embedding_function=None)
        self.rows: dict[str, tuple[np.ndarray, str | None, dict | None]] = {}

    def write(self, method: str, ids: list[str], **values: Any) -> None:
        """Raises without a change to the model when the write is refused."""
        getattr(self.collection, method)(ids=ids, **values)
        nothing = [None] * len(ids)
        columns = (values.get(k, nothing) for k in ("embeddings", "documents", "metadatas"))
        for id, vector, document, metadata in zip(ids, *columns, strict=True):
            before = self.rows.get(id, (None, None, None))
            self.rows[id] = (
                before[0] if vector is None else vector,
                document or before[1],
                {**(before[2] or {}), **metadata} if metadata else before[2],
            )

    def delete(self, ids: list[str]) -> None:
        self.collection.delete(ids=ids)
        for id in ids:
            del self.rows[id]

    def check(self) -> None:
        found = self.collection.get(include=["embeddings", "documents", "metadatas"])
        assert found["ids"] == list(self.rows)
        if not self.rows:
            return
        expected = list(self.rows.values())
        np.testing.assert_array_equal(found["embeddings"], np.array([row[0] for row in expected]))
        assert found["documents"] == [row[1] for row in expected]
        assert found["metadatas"] == [row[2] for row in expected]
        some = next(iter(self.rows))
        near = self.collection.query(query_embeddings=[self.rows[some][0]], n_results=1)
        assert near["distances"][0][0] <= 1e-4


def names(first: int, n: int = BATCH) -> list[str]:
    return [f"r{i}" for i in range(first, first + n)]


def old(step: int) -> list[str]:
    """Records that are there, over and over."""
    return names(step * BATCH % BASE)


def add(model: Model, step: int) -> None:
    model.write("add", names(BASE + step * BATCH), embeddings=vectors(step, BATCH))


def upsert(model: Model, step: int) -> None:
    half = names(BASE + step * BATCH // 2, BATCH // 2)
    model.write("upsert", old(step)[: BATCH // 2] + half, embeddings=vectors(step, BATCH))


def update(model: Model, step: int) -> None:
    model.write("update", old(step), embeddings=vectors(step, BATCH))


def update_metadatas(model: Model, step: int) -> None:
    values = [{f"k{step // 4 % 8}": words(step * BATCH + i, 2000)} for i in range(BATCH)]
    model.write("update", old(step), metadatas=values)


def update_documents(model: Model, step: int) -> None:
    same = np.array([model.rows[id][0] for id in old(step)])  # without them they are embedded anew
    texts = [words(step * BATCH + i, 2000) for i in range(BATCH)]
    model.write("update", old(step), embeddings=same, documents=texts)


def add_documents(model: Model, step: int) -> None:
    model.write(
        "add",
        names(BASE + step * BATCH),
        embeddings=vectors(step, BATCH),
        documents=[words(step * BATCH + i, 1500) for i in range(BATCH)],
        metadatas=[{"step": step, "text": words(i, 20)} for i in range(BATCH)],
    )


# What is replaced is given back, so updates fill a disk only where little of it is left.
LEFT = {upsert: 12, update: 5, update_metadatas: 12, update_documents: 12}  # MiB
QUICK = [upsert, update_metadatas, update_documents]
WRITES = [*QUICK, *(pytest.param(f, marks=pytest.mark.slow) for f in (add, update, add_documents))]


def fill(step: Callable[[int], None], steps: int = 3000) -> str:
    """Until it is refused; the refusal."""
    with pytest.raises(StorageFullError) as caught:
        for number in range(1, steps):
            step(number)
    return str(caught.value)


def open_client(disk: Path) -> Any:
    return vexfs_chroma.PersistentClient(disk / "db")


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_the_disk_gets_full(disk: Path, write: Callable[[Model, int], None]) -> None:
    empty = free(disk)
    with open_client(disk) as client:
        model = Model(client)
        for first in range(0, BASE, BATCH):
            model.write("add", names(first), embeddings=vectors(first + 7, BATCH))
        if write in LEFT:
            (disk / "other").write_bytes(bytes(free(disk) - LEFT[write] * MIB))
        refusal = fill(lambda step: write(model, step))
        assert str(disk / "db") in refusal
        assert "free some space" in refusal
        assert free(disk) < SIZE / 6  # room for one of the largest files, and for three batches
        model.check()
    with open_client(disk) as client:  # on the full disk
        model.collection = client.get_collection("filled", embedding_function=None)
        model.check()
        ids = list(model.rows)
        before = free(disk)
        for first in range(0, len(ids), 2 * BATCH):
            model.delete(ids[first : first + BATCH])
        model.check()
        client.vacuum()
        client.wait_idle(120)  # the graph stands on the new files then
        model.check()
        gained = free(disk) - before
        assert gained > 2 * MIB
        number = 10**6
        while gained > MIB:  # most of it can be filled again
            model.write("add", names(number), embeddings=vectors(number, BATCH))
            number += BATCH
            gained -= 2 * BATCH * DIMENSION * 4
        client.wait_idle(60)
        model.check()
        client.delete_collection("filled")
    (disk / "other").unlink(missing_ok=True)
    assert free(disk) > empty - MIB


def test_collections_are_created_until_it_is_full(disk: Path) -> None:
    (disk / "other").write_bytes(bytes(free(disk) - 3 * MIB))
    with open_client(disk) as client:
        made: list[str] = []

        def create(step: int) -> None:
            name = f"collection-{step}"
            collection = client.create_collection(name, embedding_function=None)
            made.append(name)
            collection.add(ids=["a"], embeddings=[[step, 1.0]])

        refusal = fill(create)
        assert str(disk / "db") in refusal
        listed = [one.name for one in client.list_collections()]
        assert listed == made
    with open_client(disk) as client:
        assert [one.name for one in client.list_collections()] == made
        before = free(disk)
        for name in made[::2]:
            client.delete_collection(name)
        assert free(disk) > before
        create(10**6)
        kept = client.get_collection(made[1], embedding_function=None)
        assert kept.get(include=["embeddings"])["embeddings"].tolist() == [[2, 1]]


def test_others_take_the_last_byte(disk: Path) -> None:
    with open_client(disk) as client:
        model = Model(client)
        model.write("add", names(0), embeddings=vectors(1, BATCH))
        ballast = fill_up(disk)
        with pytest.raises(StorageFullError):
            model.write("add", names(BATCH), embeddings=vectors(2, BATCH))
        with pytest.raises(StorageFullError):
            client.create_collection("another")
        for id in names(0, 20):  # in what the log keeps reserved
            model.delete([id])
        model.check()
    with open_client(disk) as client:
        model.collection = client.get_collection("filled", embedding_function=None)
        model.check()
        ballast.unlink()
        model.write("add", names(BATCH), embeddings=vectors(2, BATCH))
        model.check()


# ---- several processes -------------------------------------------------------------------------


def fill_from_a_process(path: Path, mark: int, pipe: Any) -> None:
    """Add to a collection of its own and to one that all share; tells what was acknowledged."""
    acknowledged, refusals = 0, 0
    with vexfs_chroma.PersistentClient(path) as client:
        shared = client.get_or_create_collection("shared", embedding_function=None)
        own = client.get_or_create_collection(f"own-{mark}", embedding_function=None)
        while refusals < 2:
            ids = [f"{mark}-{i}" for i in range(acknowledged * BATCH, (acknowledged + 1) * BATCH)]
            batch = vectors(mark * 10**6 + acknowledged, BATCH)
            try:
                own.add(ids=ids, embeddings=batch)
                shared.add(ids=ids[:50], embeddings=batch[:50])
                acknowledged += 1
            except StorageFullError:
                refusals += 1
                own.delete(ids=ids)  # of a round that was refused half-way
                shared.delete(ids=ids[:50])
        pipe.send(acknowledged)


@pytest.mark.slow
def test_several_processes_fill_it(disk: Path) -> None:
    context = multiprocessing.get_context("spawn")
    marks = (1, 2, 3)
    pipes, processes = [], []
    for mark in marks:
        ours, theirs = context.Pipe()
        process = context.Process(target=fill_from_a_process, args=(disk / "db", mark, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    rounds = []
    for pipe, process in zip(pipes, processes, strict=True):
        assert pipe.poll(300), "a process neither filled the disk nor failed"
        rounds.append(pipe.recv())
        process.join(60)
        assert process.exitcode == 0
    assert sum(rounds) * BATCH * DIMENSION * 4 > SIZE / 4
    with open_client(disk) as client:
        shared = client.get_collection("shared", embedding_function=None)
        assert shared.count() == 50 * sum(rounds)
        for mark, n in zip(marks, rounds, strict=True):
            own = client.get_collection(f"own-{mark}", embedding_function=None)
            found = own.get(include=["embeddings"])
            assert found["ids"] == [f"{mark}-{i}" for i in range(n * BATCH)]
            if n > 0:
                expected = np.concatenate([vectors(mark * 10**6 + i, BATCH) for i in range(n)])
                np.testing.assert_array_equal(found["embeddings"], expected)
        for mark in marks:
            client.delete_collection(f"own-{mark}")
        shared.add(ids=["more"], embeddings=vectors(5, 1))
        assert shared.count() == 50 * sum(rounds) + 1


# ---- graphs ------------------------------------------------------------------------------------


def test_it_gets_full_while_a_graph_is_built(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dimension, n = 32, 11_000
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "10000")
    monkeypatch.setenv("VEXFS_MEMTABLE_ROWS", "4000")
    (disk / "other").write_bytes(bytes(free(disk) - 8 * MIB))
    stored = vectors(3, 200 * BATCH, dimension)
    with open_client(disk) as client:
        collection = client.create_collection("graph", embedding_function=None)
        added = 0

        def step(_: int) -> None:
            nonlocal added
            rows = stored[added : added + BATCH]
            collection.add(ids=names(added), embeddings=rows)
            added += BATCH

        fill(step)
        assert added > n
        collection.wait_for_index(timeout=120)  # though it may not be saved
        assert collection.stats()["index"]["unindexed_rows"] == 0
        for seed in (0, added // 2, added - 1):
            near = collection.query(query_embeddings=[stored[seed]], n_results=1)
            assert near["ids"] == [[f"r{seed}"]]
    with open_client(disk) as client:
        collection = client.get_collection("graph", embedding_function=None)
        assert collection.count() == added
        collection.delete(ids=names(0, added // 2))
        client.vacuum()
        collection.add(ids=["new"], embeddings=stored[:1])
        near = collection.query(query_embeddings=[stored[0]], n_results=1)
        assert near["ids"] == [["new"]]
