"""Forks of collections: what they hold, what they cost, and that each goes its own way."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError
from fork_kit import DIMENSION, bytes_on_disk, directory_of, fill, inodes, records_of

import vexfs_chroma
from vexfs_chroma import ReadOnlyError, _engine


@pytest.fixture(params=["memory", "disk"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    settings = vexfs_chroma.Settings(allow_reset=True, anonymized_telemetry=False)
    made = (
        vexfs_chroma.EphemeralClient(settings)
        if request.param == "memory"
        else vexfs_chroma.PersistentClient(tmp_path / "database", settings)
    )
    made.reset()
    yield made
    made.reset()
    made.close()


@pytest.fixture
def source(client: Any) -> Any:
    collection = client.create_collection(
        "source",
        metadata={"colour": "blue"},
        configuration={"hnsw": {"space": "cosine", "ef_construction": 77}},
        embedding_function=None,
    )
    fill(collection, 0, 60)
    return collection


# ---- what a fork is ------------------------------------------------------------------------------


def test_a_fork_has_everything(client: Any, source: Any) -> None:
    before = records_of(source)
    fork = source.fork("copy")
    assert type(fork) is type(source)
    assert fork.id != source.id
    assert fork.name == "copy"
    assert fork.metadata == source.metadata == {"colour": "blue"}
    assert fork.configuration == source.configuration
    assert fork.schema == client.get_collection("source", embedding_function=None).schema
    assert (fork.tenant, fork.database) == (source.tenant, source.database)
    assert records_of(fork) == before
    assert [c.name for c in client.list_collections()] == ["source", "copy"]
    near = source.query(query_embeddings=[[0.5] * DIMENSION], n_results=5)
    assert fork.query(query_embeddings=[[0.5] * DIMENSION], n_results=5) == near
    assert fork.get_model().dimension == DIMENSION


def test_each_goes_its_own_way(client: Any, source: Any) -> None:
    fork = source.fork("copy")
    fork.delete(ids=["1", "2"])
    fork.update(ids=["3"], metadatas=[{"new": True}])
    fill(source, 60, 5)
    fork.modify(metadata={"colour": "red"})
    assert (source.count(), fork.count()) == (65, 58)
    assert "new" not in source.get(ids=["3"])["metadatas"][0]
    assert client.get_collection("source", embedding_function=None).metadata == {"colour": "blue"}
    kept = records_of(fork)
    client.delete_collection("source")
    assert records_of(fork) == kept
    client.vacuum()
    assert records_of(fork) == kept
    assert records_of(client.get_collection("copy", embedding_function=None)) == kept


def test_of_nothing(client: Any) -> None:
    empty = client.create_collection("empty", embedding_function=None)
    fork = empty.fork("copy")
    assert fork.count() == 0
    assert fork.get_model().dimension is None
    fork.add(ids=["a"], embeddings=[[1.0]])
    empty.add(ids=["a"], embeddings=[[1.0, 2.0]])  # of another dimension
    assert (empty.count(), fork.count()) == (1, 1)


def test_the_line_is_counted(client: Any, source: Any) -> None:
    assert source.fork_count() == 0
    first = source.fork("one")
    second = first.fork("two")
    assert [c.fork_count() for c in (source, first, second)] == [2, 2, 2]
    other = client.create_collection("other", embedding_function=None)
    assert other.fork_count() == 0
    client.delete_collection("one")
    assert [c.fork_count() for c in (source, second)] == [1, 1]
    client.delete_collection("source")
    assert second.fork_count() == 1


def test_names(client: Any, source: Any) -> None:
    source.fork("taken")
    for name in ("taken", "source"):
        with pytest.raises(InternalError, match=rf"Collection \[{name}\] already exists"):
            source.fork(name)
    with pytest.raises(InvalidArgumentError, match="Expected a name containing 3-512 characters"):
        source.fork("a")
    assert client.count_collections() == 2
    assert source.fork_count() == 1
    client.delete_collection("source")
    for call in (lambda: source.fork("new"), source.fork_count):
        with pytest.raises(NotFoundError, match="does not exist"):
            call()


def test_it_stays_in_its_database(client: Any, source: Any) -> None:
    admin = client._admin_client
    admin.create_database("elsewhere")
    client.set_database("elsewhere")
    there = client.create_collection("source", embedding_function=None)
    fill(there, 0, 3)
    there.fork("copy")
    assert [c.name for c in client.list_collections()] == ["source", "copy"]
    client.set_database("default_database")
    assert [c.name for c in client.list_collections()] == ["source"]


def test_a_fork_is_rolled_back_to(client: Any, source: Any) -> None:
    """The use that forks have most: try something, and take it back."""
    before = records_of(source)
    saved = source.fork("saved")
    fill(source, 20, 80, seed=9)
    client.delete_collection("source")
    saved.modify(name="source")
    assert records_of(client.get_collection("source", embedding_function=None)) == before


# ---- the graph -----------------------------------------------------------------------------------


def test_the_graph_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "500")
    for made in (
        vexfs_chroma.PersistentClient(tmp_path / "graph"),
        vexfs_chroma.EphemeralClient(),
    ):
        with made as client:
            source = client.get_or_create_collection("graphs", embedding_function=None)
            fill(source, 0, 2000)
            source.wait_for_index()
            client.wait_idle()
            fork = source.fork("graphs-too")
            query = np.full((1, DIMENSION), 0.5, np.float32)
            found = fork.query(query_embeddings=query, n_results=5)
            index = fork.stats()["index"]  # as that query found it
            assert index["indexed_rows"] == 2000
            assert found["ids"] == source.query(query_embeddings=query, n_results=5)["ids"]
            fill(fork, 2000, 1000)
            fork.delete(ids=[str(i) for i in range(0, 2000, 3)])
            fork.wait_for_index()
            exact = fork.query(query_embeddings=query, n_results=10, exact=True)
            assert exact["ids"] == fork.query(query_embeddings=query, n_results=10)["ids"]
            assert source.count() == 2000
            client.delete_collection("graphs")
            client.delete_collection("graphs-too")


# ---- what it costs -------------------------------------------------------------------------------


def test_files_are_shared_until_they_change(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        empty = bytes_on_disk(tmp_path)
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 20_000)
        client.vacuum()
        source.wait_for_index()
        client.wait_idle()  # so that nothing but the forks adds files
        fill(source, 20_000, 10)  # in the log alone
        full = bytes_on_disk(tmp_path)
        forks = [source.fork(f"fork-{n}") for n in range(10)]
        assert bytes_on_disk(tmp_path) - full < 10 * (64 << 10)
        shared = inodes(directory_of(tmp_path, source))
        for fork in forks:
            there = inodes(directory_of(tmp_path, fork))
            kinds = sorted(there[inode][:3] for inode in there.keys() & shared.keys())
            assert kinds[-3:] == ["pay", "vec", "wal"]
        client.delete_collection("source")
        assert bytes_on_disk(tmp_path) > full * 3 // 4  # the forks have it all
        assert all(fork.count() == 20_010 for fork in forks)
        for fork in forks:
            client.delete_collection(fork.name)
        assert bytes_on_disk(tmp_path) - empty < 256 << 10


def test_stats_tell_what_is_shared(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 2000)
        client.vacuum()
        client.wait_idle()
        assert client.stats().shared_bytes == 0
        assert client.stats().collections[0].shared_bytes == 0
        fork, other = source.fork("fork"), source.fork("other")
        fill(other, 2000, 10)
        found = client.stats()
        assert found.as_dict()["shared_bytes"] == found.shared_bytes
        per_name = {one.name: one for one in found.collections}
        files = per_name["source"].disk
        for name in ("source", "fork", "other"):
            assert per_name[name].shared_bytes >= files.vectors + files.payloads > 0
        assert found.disk.total - found.shared_bytes < per_name["source"].disk.total * 2
        every = [file.stat() for file in (tmp_path / "collections").glob("*/*")]
        single = {file.st_ino: file.st_size for file in every}
        assert found.shared_bytes == sum(f.st_size for f in every) - sum(single.values())
        for gone in (source, other):
            client.delete_collection(gone.name)
        assert client.stats().shared_bytes == 0
        assert client.stats().collections[0].shared_bytes == 0
        assert fork.count() == 2000
    with vexfs_chroma.EphemeralClient() as in_memory:
        assert in_memory.stats().shared_bytes == 0


def test_rows_of_the_log_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_MEMTABLE_ROWS", "1000000")
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        source = client.create_collection("source", embedding_function=None)
        source.add(
            ids=[str(i) for i in range(20_000)],
            embeddings=np.random.default_rng(1).random((20_000, 96), np.float32),
        )
        assert source.stats()["files"]["vectors"] == 0
        full = bytes_on_disk(tmp_path)
        fork = source.fork("copy")
        assert bytes_on_disk(tmp_path) - full < 128 << 10
        assert fork.count() == 20_000


def test_a_large_fork_is_small(tmp_path: Path) -> None:
    rows = 100_000
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, rows)
        source.wait_for_index()
        client.wait_idle()
        before, taken = bytes_on_disk(tmp_path), []
        for n in range(10):
            started = time.perf_counter()
            fork = source.fork(f"fork-{n}")
            taken.append(time.perf_counter() - started)
        added = bytes_on_disk(tmp_path) - before
        print(
            f"fork of {rows:,} records: {np.median(taken) * 1e3:.1f} ms (median of 10), "
            f"{max(taken) * 1e3:.1f} ms at most, {added / 10 / 1024:.1f} KiB each"
        )
        assert added < 10 * (64 << 10)
        assert fork.count() == rows


# ---- other processes, other openings -------------------------------------------------------------

WRITE_IN_FORK = """
import sys, vexfs_chroma
client = vexfs_chroma.PersistentClient(sys.argv[1])
fork = client.get_collection("source", embedding_function=None).fork("theirs")
fork.delete(ids=["0"])
fork.add(ids=["x"], embeddings=[[0.0] * 8])
print(fork.count(), client.get_collection("mine", embedding_function=None).count(), flush=True)
"""


def test_another_process_forks(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 50)
        mine = source.fork("mine")
        fill(mine, 50, 5)
        done = subprocess.run(
            [sys.executable, "-c", WRITE_IN_FORK, str(tmp_path)],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert done.stdout.split() == ["50", "55"]
        fill(source, 100, 5)  # its log was ended by the other process
        theirs = client.get_collection("theirs", embedding_function=None)
        assert (source.count(), mine.count(), theirs.count()) == (55, 55, 50)
        assert theirs.get(ids=["0", "x"])["ids"] == ["x"]
        assert source.fork_count() == 2
        kept = [records_of(c) for c in (source, mine, theirs)]
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True) as client:
        found = [client.get_collection(n, embedding_function=None) for n in ("source", "mine")]
        assert [records_of(c) for c in found] == kept[:2]
        with pytest.raises(ReadOnlyError):
            found[0].fork("refused")


def test_durabilities(tmp_path: Path) -> None:
    for durability in ("full", "normal", "off"):
        path = tmp_path / durability
        with vexfs_chroma.PersistentClient(path, durability=durability) as client:
            source = client.create_collection("source", embedding_function=None)
            fill(source, 0, 20)
            fork = source.fork("copy")
            fill(source, 20, 5)
            fill(fork, 30, 1)
        with vexfs_chroma.PersistentClient(path) as client:
            counts = {c.name: c.count() for c in client.list_collections()}
            assert counts == {"source": 25, "copy": 21}
            client.get_collection("copy", embedding_function=None).delete(ids=["1"])


# ---- crashes -------------------------------------------------------------------------------------


class Killed(BaseException):
    """What a test raises in the place of a kill."""


@pytest.mark.parametrize("at", ["before the directory", "after the directory"])
def test_killed_between_catalog_and_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A fork that was not acknowledged is gone at the next opening, directory and all."""
    original = _engine.Collection.fork

    def killed(self: Any, id: Any) -> None:
        if at == "after the directory":
            original(self, id)
        os._exit(7)

    with vexfs_chroma.PersistentClient(tmp_path) as client:
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 20)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(_engine.Collection, "fork", killed)
        client = vexfs_chroma.PersistentClient(tmp_path)
        client.get_collection("source", embedding_function=None).fork("copy")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    left = len(list((tmp_path / "collections").iterdir()))
    assert left == (2 if at == "after the directory" else 1)
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM dropped").fetchone() == (1,)
    db.close()
    assert vexfs_chroma.check(tmp_path).ok
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        assert [c.name for c in client.list_collections()] == ["source"]
        source = client.get_collection("source", embedding_function=None)
        assert (source.count(), source.fork_count()) == (20, 0)
        assert len(list((tmp_path / "collections").iterdir())) == 1
        assert source.fork("copy").count() == 20
    with sqlite3.connect(tmp_path / "catalog.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM dropped").fetchone() == (0,)
    db.close()


def test_a_fork_that_fails_leaves_nothing(
    client: Any, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = _engine.Collection.fork

    def fails_late(self: Any, id: Any) -> None:
        original(self, id)
        raise OSError("after the directory")

    with monkeypatch.context() as patched:
        patched.setattr(_engine.Collection, "fork", fails_late)
        with pytest.raises(OSError, match="after the directory"):
            source.fork("copy")
    assert client.count_collections() == 1
    assert source.fork_count() == 0
    assert len(client._server._database.list_collections()) == 1
    assert source.fork("copy").count() == 60


def test_the_note_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens the database between the two transactions of a fork takes it for interrupted."""
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 20)
        catalog = client._server._catalog
        original, tries = type(catalog)._insert_fork, []

        def after_an_opening(self: Any, *arguments: Any) -> Any:
            tries.append(1)
            if len(tries) == 1:
                command = "import sys, vexfs_chroma; vexfs_chroma.PersistentClient(sys.argv[1])"
                subprocess.run([sys.executable, "-c", command, str(tmp_path)], check=True)
            return original(self, *arguments)

        monkeypatch.setattr(type(catalog), "_insert_fork", after_an_opening)
        assert source.fork("copy").count() == 20
        assert len(tries) == 2


# ---- with the rest -------------------------------------------------------------------------------


def test_backup_check_and_repair(tmp_path: Path) -> None:
    path = tmp_path / "database"
    with vexfs_chroma.PersistentClient(path) as client:
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 200)
        client.vacuum()
        fill(source, 200, 5)
        fork = source.fork("copy")
        again = fork.fork("again")
        fill(fork, 300, 5)
        fill(source, 400, 5)
        kept = {c.name: records_of(c) for c in (source, fork, again)}
        client.backup(tmp_path / "backup")
        client.backup(tmp_path / "copied", copy=True)
    assert vexfs_chroma.check(path, deep=True).ok
    for backup in ("backup", "copied"):
        assert vexfs_chroma.check(tmp_path / backup, deep=True).ok
        vexfs_chroma.restore(tmp_path / backup, tmp_path / f"{backup}-restored")
        with vexfs_chroma.PersistentClient(tmp_path / f"{backup}-restored") as client:
            for name, records in kept.items():
                found = client.get_collection(name, embedding_function=None)
                assert records_of(found) == records
                assert found.fork_count() == 2
    (damaged,) = (path / "collections" / again.id.hex).glob("manifest-*")
    damaged.unlink()  # its logs carry another collection's uuid
    assert not vexfs_chroma.check(path).ok
    vexfs_chroma.repair(path)
    assert vexfs_chroma.check(path, deep=True).ok
    with vexfs_chroma.PersistentClient(path) as client:
        for name, records in kept.items():
            assert records_of(client.get_collection(name, embedding_function=None)) == records


def test_many_forks_against_a_model(client: Any, source: Any) -> None:
    seed = 20261129
    rng = random.Random(seed)
    model = {"source": records_of(source)}
    opened = {"source": source}
    for step in range(150):
        name = rng.choice(sorted(opened))
        collection, what = opened[name], rng.random()
        if what < 0.25:
            new = f"fork-{step}"
            opened[new], model[new] = collection.fork(new), dict(model[name])
        elif what < 0.6:
            fill(collection, rng.randrange(80), rng.randrange(1, 9), seed=step)
            model[name] = records_of(collection)
        elif what < 0.8:
            ids = [str(rng.randrange(80)) for _ in range(5)]
            collection.delete(ids=list(dict.fromkeys(ids)))
            for id in ids:
                model[name].pop(id, None)
        elif what < 0.9 and len(opened) > 2:
            client.delete_collection(name)
            del opened[name], model[name]
        else:
            client.vacuum()
        for each, collection in opened.items():
            assert records_of(collection) == model[each], (seed, step, each)


def test_forks_of_forks_and_their_disk(tmp_path: Path) -> None:
    """VEXFS_FORKS of them, written to and deleted, from VEXFS_FORK_SEED.

    At last the rows of the catalog are left, whose file does not shrink.
    """
    wanted = int(os.environ.get("VEXFS_FORKS", "60"))
    seed = int(os.environ.get("VEXFS_FORK_SEED", "20261201"))
    rng = random.Random(seed)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        empty = bytes_on_disk(tmp_path)
        source = client.create_collection("source", embedding_function=None)
        fill(source, 0, 60)
        opened, model = {"source": source}, {"source": records_of(source)}
        for number in range(wanted):
            parent, name = rng.choice(sorted(opened)), f"fork-{number}"
            opened[name], model[name] = opened[parent].fork(name), dict(model[parent])
            written = rng.choice([parent, name, rng.choice(sorted(opened))])
            first, n = rng.randrange(80), rng.randrange(1, 9)
            if rng.random() < 0.6:
                fill(opened[written], first, n, seed=number)
                model[written] = records_of(opened[written])
            else:
                opened[written].delete(ids=[str(i) for i in range(first, first + n)])
                for i in range(first, first + n):
                    model[written].pop(str(i), None)
            if number % 100 == 99:
                client.vacuum()
            for each in {parent, name, written, rng.choice(sorted(opened))}:
                assert records_of(opened[each]) == model[each], (seed, number, each)
            if rng.random() < 0.3:
                gone = rng.choice(sorted(opened.keys() - {name}))
                client.delete_collection(gone)
                del opened[gone], model[gone]
        for each, collection in opened.items():
            assert records_of(collection) == model[each], (seed, each)
        most = bytes_on_disk(tmp_path)
        for each in opened:
            client.delete_collection(each)
        left = bytes_on_disk(tmp_path) - empty
        print(f"{wanted} forks, {len(opened)} at last: {most >> 10} KiB, {left >> 10} KiB after")
        assert left < (256 << 10) + (wanted << 11)
