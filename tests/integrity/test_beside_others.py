"""Checks beside writers; repairs must be alone, and may be killed at any moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromadb.errors import ChromaError
from integrity_kit import World, contents, digest, flip_bit, overwrite, read_everything

import vexfs_chroma
from vexfs_chroma import _engine
from vexfs_chroma._integrity import _repair

WRITER = """
import random, sys
import numpy as np
import vexfs_chroma
path, seed = sys.argv[1], int(sys.argv[2])
random_ = np.random.default_rng(seed)
with vexfs_chroma.PersistentClient(path) as client:
    stays = client.get_or_create_collection("stays", embedding_function=None)
    round_ = 0
    while True:
        ids = [f"{seed}-{random_.integers(300)}" for _ in range(30)]
        ids = list(dict.fromkeys(ids))
        vectors = random_.random((len(ids), 4), dtype=np.float32)
        stays.upsert(ids=ids, embeddings=vectors, documents=[f"text {round_} {id}" for id in ids])
        stays.delete(ids=ids[:5])
        comes = client.create_collection(f"comes-{seed}-{round_}", embedding_function=None)
        comes.add(ids=["a"], embeddings=[[1, 2, 3, 4]])
        if round_ >= 3:
            client.delete_collection(f"comes-{seed}-{round_ - 3}")
        if round_ % 40 == 0:
            client.vacuum()
        round_ += 1
        print(round_, flush=True)
"""


def start_writer(path: Path, seed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "VEXFS_MEMTABLE_ROWS": "50", "VEXFS_INDEX_ROWS": "100"}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(seed)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def test_a_check_beside_writers_finds_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "db"
    writers = [start_writer(path, seed) for seed in (1, 2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline()
        for n in range(24):
            report = vexfs_chroma.check(path, deep=n % 3 != 0)
            assert report.ok, report.damage
            assert report.collections >= 1
            for writer in writers:  # they were not only alive, but writing
                assert writer.stdout is not None
                assert writer.stdout.readline()
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert vexfs_chroma.check(path, deep=True).ok, "killed writers leave no damage"
    with vexfs_chroma.PersistentClient(path):
        pass
    assert vexfs_chroma.check(path, deep=True).ok


def test_a_creation_that_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is there, its name comes after the last look at names, then a record."""
    from vexfs_chroma._integrity import _check, _names

    looks = 0

    def read_names(path: str, directories: Any) -> Any:
        nonlocal looks
        looks += 1
        names = real(path, directories)
        if looks <= _check._LOOKS + 1:
            names.collections.clear()
        return names

    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("new", embedding_function=None)
        collection.add(ids=["a"], embeddings=[[1.0, 2.0]])
        real = _names.read_names
        monkeypatch.setattr(_names, "read_names", read_names)
        monkeypatch.setattr(_check, "_BETWEEN_LOOKS", 0)
        report = vexfs_chroma.check(tmp_path)
    assert looks > _check._LOOKS + 1
    assert report.findings == []
    assert report.rows == 1


def test_a_repair_must_be_alone(world: World) -> None:
    flip_bit(min(world.directories["first"].glob("vec-*")), 5000, 1)
    before = digest(world.path)
    with vexfs_chroma.PersistentClient(world.path) as client:
        with pytest.raises(vexfs_chroma.DatabaseLockedError, match=f"process {os.getpid()} "):
            vexfs_chroma.repair(world.path)
        assert client.list_collections()
    after = digest(world.path)
    assert {k: v for k, v in after.items() if "head" not in k} == {
        k: v for k, v in before.items() if "head" not in k
    }
    assert vexfs_chroma.repair(world.path).changed


def test_who_has_it_open_notices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell who has files open."""
    monkeypatch.setattr("vexfs_chroma._integrity._locking.processes_using", lambda path: [])
    vector = [1.0] * 8
    with vexfs_chroma.PersistentClient(world.path) as client:
        first = client.get_collection("first", embedding_function=None)
        first.add(ids=["new"], embeddings=[vector])
        expected = {**world.expected["first"]}
        client.wait_idle()
        damaged = min(world.directories["first"].glob("vec-*"))
        overwrite(damaged, damaged.stat().st_size - 64, 64, 1)
        damaged_size = damaged.stat().st_size
        damaged.write_bytes(damaged.read_bytes()[: damaged_size - 1] + b"\0")
        assert vexfs_chroma.repair(world.path).changed
        with pytest.raises(ChromaError):
            first.add(ids=["lost?"], embeddings=[vector])
        again = client.get_collection("first", embedding_function=None)
        again.add(ids=["after"], embeddings=[vector])
        assert set(again.get()["ids"]) >= {"after", "new"}
        assert "lost?" not in again.get()["ids"]
    found = contents(world.path)["first"]
    assert set(found) == {"new", "after"} | (set(expected) & set(found))


# -- kills -----------------------------------------------------------------------------------------


class Steps:
    """Kills this process before the n-th step of a repair."""

    def __init__(self, n: int) -> None:
        self.left = n

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    def install(self) -> None:
        for owner, names in (
            (Path, ("rename", "replace", "unlink", "mkdir")),
            (shutil, ("rmtree", "copy2")),
            (_repair, ("sync_directory",)),
            (_engine, ("write_superblock", "announce_replacement")),
            (_engine.Batch, ("write_to",)),
        ):
            for name in names:
                setattr(owner, name, self.counted(getattr(owner, name)))


def repair_and_die(path: Path, step: int) -> bool:
    """Repair in another process that is killed before that step; False: it was done before."""
    child = os.fork()
    if child == 0:
        Steps(step).install()
        vexfs_chroma.repair(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def damage_everything(world: World) -> None:
    (world.path / "VEXFS").unlink()
    catalog = world.path / "catalog.sqlite3"
    flip_bit(catalog, catalog.read_bytes().index(b'{"number": 0}') + 11, 0)
    min(world.directories["first"].glob("vec-*")).write_bytes(b"")
    second = sorted(world.directories["second"].glob("pay-*"))[1]
    overwrite(second, second.stat().st_size // 2, 200, 1)


@pytest.mark.parametrize(
    "stride", [9, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_a_repair_that_is_killed_at_any_moment(sound: World, tmp_path: Path, stride: int) -> None:
    whole = sound.copy(tmp_path / "whole")
    damage_everything(whole)
    done = vexfs_chroma.repair(whole.path)
    assert done.after is not None
    assert done.after.ok
    expected = contents(whole.path)
    assert len(expected) == 4
    step = 1 - stride
    while True:
        step += stride
        world = sound.copy(tmp_path / str(step))
        damage_everything(world)
        world.expected = {name: expected[name] for name in ("logged",)}
        if not repair_and_die(world.path, step):
            break
        if step % 2:  # somebody opens it in between
            read_everything(world)
            with contextlib.suppress(ChromaError):
                contents(world.path, read_only=False)
        again = vexfs_chroma.repair(world.path)
        assert again.after is None or again.after.ok
        assert contents(world.path) == expected, step
        assert not vexfs_chroma.repair(world.path).changed
        assert not list(world.path.glob("repair.tmp"))
        assert not list(world.path.glob("collections/*.repaired"))
        shutil.rmtree(world.path)
    assert step > 30
