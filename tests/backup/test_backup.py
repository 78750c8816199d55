"""Backups and restorations: what they hold and share, where they may be, what is refused."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError
from disks import mounted
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma import (
    CorruptionError,
    DatabaseLockedError,
    ForeignDatabaseError,
    StorageFullError,
    _partial,
)
from vexfs_chroma._backup import _copy
from vexfs_chroma._cli._app import app

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from backup_kit import bytes_of, content_of, fill
from compat import golden


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def shared_files(a: Path, b: Path) -> set[str]:
    """Names of the files that both have in common, byte for byte on the disk."""
    inodes = {file.stat().st_ino for file in a.rglob("*") if file.is_file()}
    return {file.name for file in b.rglob("*") if file.is_file() and file.stat().st_ino in inodes}


@pytest.fixture
def database(tmp_path: Path) -> tuple[Path, dict]:
    path = tmp_path / "database"
    return path, fill(path)


# ---- what a backup is ------------------------------------------------------------------------


def test_a_backup_is_a_database(database, tmp_path: Path) -> None:
    path, expected = database
    before = bytes_of(path)
    done = vexfs_chroma.backup(path, tmp_path / "backup")
    assert (done.collections, done.rows, done.one_moment) == (3, 1810, True)
    assert done.linked_files
    assert done.copied_files
    assert content_of(tmp_path / "backup") == expected
    assert bytes_of(path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "database"]
    shared = shared_files(path, tmp_path / "backup")
    assert shared
    assert {name[:3] for name in shared} <= {"vec", "pay", "gra"}
    again = vexfs_chroma.backup(tmp_path / "backup", tmp_path / "of the backup")
    assert again.rows == 1810
    assert content_of(tmp_path / "of the backup", read_only=False) == expected


def test_a_copy_shares_nothing(database, tmp_path: Path) -> None:
    path, expected = database
    done = vexfs_chroma.backup(path, tmp_path / "backup", copy=True)
    assert done.linked_files == 0
    assert shared_files(path, tmp_path / "backup") == set()
    shutil.rmtree(path)
    assert content_of(tmp_path / "backup") == expected


def test_the_backup_does_not_change_with_the_original(database, tmp_path: Path) -> None:
    path, expected = database
    with contextlib.closing(vexfs_chroma.PersistentClient(path)) as client:
        small = client.get_collection("small", embedding_function=None)
        small.add(ids=["late"], embeddings=[[0.0] * 16], documents=["late"], metadatas=[{"i": 0}])
        client.backup(tmp_path / "backup")
        before = bytes_of(tmp_path / "backup")
        small.upsert(ids=["late", "later"], embeddings=[[1.0] * 16] * 2, documents=["x", "y"])
        client.vacuum()
        client.delete_collection("large")
    assert bytes_of(tmp_path / "backup") == before
    found = content_of(tmp_path / "backup")
    assert found["small"].pop("late")[1] == "late"
    assert found == expected


def test_a_client_is_backed_up_as_it_is_open(database, tmp_path: Path) -> None:
    path, expected = database
    client = vexfs_chroma.PersistentClient(path, durability="normal")
    vexfs_chroma.backup(path, tmp_path / "by path")  # by another handle it would become "full"
    client.get_collection("small", embedding_function=None).add(
        ids=["x"], embeddings=[[1.0] * 16], documents=["d"], metadatas=[{"i": 1}]
    )
    assert client.backup(tmp_path / "by client").rows == 1811
    client.close()
    assert content_of(tmp_path / "by path") == expected


@pytest.mark.parametrize("how", ["client", "permissions"])
def test_a_backup_of_what_cannot_be_written(database, tmp_path: Path, how: str) -> None:
    path, expected = database
    before = bytes_of(path)
    (path / "LOCK").unlink()
    if how == "client":
        with contextlib.closing(vexfs_chroma.PersistentClient(path, read_only=True)) as client:
            done = client.backup(tmp_path / "backup")
    else:
        if os.geteuid() == 0:
            pytest.skip("root may write everything")
        path.chmod(0o555)
        done = vexfs_chroma.backup(path, tmp_path / "backup")
        path.chmod(0o755)
    assert not done.one_moment
    assert not (path / "LOCK").exists()
    assert bytes_of(path) == before
    assert content_of(tmp_path / "backup") == expected


def test_another_file_system(database, tmp_path: Path) -> None:
    path, expected = database
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == path.stat().st_dev:
        pytest.skip("there is no other file system")
    place = other / f"vexfs-backup-{os.getpid()}"
    try:
        done = vexfs_chroma.backup(path, place)
        assert done.linked_files == 0
        assert content_of(place) == expected
        assert vexfs_chroma.restore(place, tmp_path / "back", link=True).linked_files == 0
        assert content_of(tmp_path / "back") == expected
    finally:
        shutil.rmtree(place, ignore_errors=True)


# ---- restoring -------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [False, True])
def test_restoring(database, tmp_path: Path, link: bool) -> None:
    path, expected = database
    vexfs_chroma.backup(path, tmp_path / "backup")
    before = bytes_of(tmp_path / "backup")
    done = vexfs_chroma.restore(tmp_path / "backup", tmp_path / "restored", link=link)
    assert (done.rows, bool(done.linked_files)) == (1810, link)
    assert bool(shared_files(tmp_path / "backup", tmp_path / "restored")) == link
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path / "restored")) as client:
        assert {c.name for c in client.list_collections()} == set(expected)
        client.get_collection("large", embedding_function=None).delete(ids=["1", "3"])
        client.vacuum()
    assert bytes_of(tmp_path / "backup") == before
    assert content_of(tmp_path / "backup") == expected


@pytest.mark.parametrize(
    "archive", sorted(golden.GOLDEN.glob("*.zip")), ids=lambda archive: archive.stem
)
def test_released_formats(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    done = vexfs_chroma.backup(tmp_path / "database", tmp_path / "backup")
    assert done.missing == ("elsewhere",)  # a name and nothing else
    vexfs_chroma.restore(tmp_path / "backup", tmp_path / "restored")
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path / "restored")) as client:
        collection = client.get_collection(golden.NAME, embedding_function=None)
        assert collection.get()["ids"] == list(expected)
        assert collection.metadata == golden.METADATA


def test_lost_collections_are_told(database, tmp_path: Path) -> None:
    path, expected = database
    lost = max(path.glob("collections/*"), key=lambda p: sum(f.stat().st_size for f in p.iterdir()))
    shutil.rmtree(lost)
    del expected["large"]
    done = vexfs_chroma.backup(path, tmp_path / "backup")
    assert (done.missing, done.collections, done.rows) == (("large",), 2, 10)
    shown = run("restore", tmp_path / "backup", tmp_path / "restored", code=1)
    assert "large: the files of this collection were lost before" in shown
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path / "restored")) as client:
        client.delete_collection("large")
    assert content_of(tmp_path / "restored") == expected


@pytest.mark.parametrize("what", ["vec", "pay", "wal", "manifest", "catalog", "VEXFS"])
def test_a_damaged_backup_is_not_restored(database, tmp_path: Path, what: str) -> None:
    path, _ = database
    vexfs_chroma.backup(path, tmp_path / "backup", copy=True)
    found = max((tmp_path / "backup").rglob(f"{what}*"), key=lambda p: p.stat().st_size)
    data = bytearray(found.read_bytes())
    data[len(data) - 40 if what in {"vec", "pay"} else len(data) // 2] ^= 255
    found.write_bytes(data)
    with pytest.raises(ChromaError):
        vexfs_chroma.restore(tmp_path / "backup", tmp_path / "restored")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "database"]


# ---- where ------------------------------------------------------------------------------------


def test_an_empty_directory_will_do(database, tmp_path: Path) -> None:
    path, expected = database
    (tmp_path / "backup").mkdir()
    vexfs_chroma.backup(path, tmp_path / "backup")
    assert content_of(tmp_path / "backup") == expected


def test_places_that_are_refused(database, tmp_path: Path) -> None:
    path, _ = database
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "linked").symlink_to(path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place, text in (
        (tmp_path / "full", "not empty"),
        (tmp_path / "full" / "file", "not empty"),
        (path, "lies in"),
        (path / "inside", "lies in"),
        (path / "collections" / "inside", "lies in"),
        (tmp_path / "linked" / "inside", "lies in"),
        (tmp_path / "no" / "such", "make it first"),
        (tmp_path / "loop", "leads nowhere"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            vexfs_chroma.backup(path, place)
        with pytest.raises(InvalidArgumentError, match=text):
            vexfs_chroma.restore(path, place)
    client = vexfs_chroma.PersistentClient(tmp_path / "open")
    with pytest.raises(InvalidArgumentError, match="close whatever uses"):
        vexfs_chroma.restore(path, tmp_path / "open")
    client.close()
    assert not list(tmp_path.glob("*.partial"))


def test_sources_that_are_refused(database, tmp_path: Path) -> None:
    path, _ = database
    (tmp_path / "empty").mkdir()
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").touch()
    for job in (vexfs_chroma.backup, vexfs_chroma.restore):
        with pytest.raises(NotFoundError):
            job(tmp_path / "nowhere", tmp_path / "backup")
        with pytest.raises(NotFoundError):
            job(tmp_path / "empty", tmp_path / "backup")
        with pytest.raises(ForeignDatabaseError):
            job(tmp_path / "chroma", tmp_path / "backup")
        with pytest.raises(ForeignDatabaseError):
            job(path / "VEXFS", tmp_path / "backup")
    memory = vexfs_chroma.EphemeralClient()
    with pytest.raises(InvalidArgumentError, match="in memory"):
        memory.backup(tmp_path / "backup")
    memory.close()
    with pytest.raises(InvalidArgumentError, match="busy_timeout"):
        vexfs_chroma.backup(path, tmp_path / "backup", busy_timeout=-1)
    assert not (tmp_path / "backup").exists()


def test_what_an_attempt_left_is_removed(database, tmp_path: Path) -> None:
    path, expected = database
    left = tmp_path / "backup.partial"
    (left / "database" / "collections" / "half").mkdir(parents=True)
    (left / "database" / "collections" / "half" / "vec-1").touch()
    (left / _partial._MARKER).touch()
    vexfs_chroma.backup(path, tmp_path / "backup")
    assert not left.exists()
    assert content_of(tmp_path / "backup") == expected


def test_what_somebody_else_has_there_is_not_removed(database, tmp_path: Path) -> None:
    path, _ = database
    theirs = tmp_path / "backup.partial" / "database"
    theirs.mkdir(parents=True)
    with pytest.raises(InvalidArgumentError, match="is in the way"):
        vexfs_chroma.backup(path, tmp_path / "backup")
    assert theirs.exists()


def test_two_at_a_time(database, tmp_path: Path) -> None:
    path, _ = database
    left = tmp_path / "backup.partial"
    left.mkdir()
    with (left / _partial._MARKER).open("w") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        with pytest.raises(DatabaseLockedError, match="another process is making"):
            vexfs_chroma.backup(path, tmp_path / "backup")
        assert (left / _partial._MARKER).exists()
    vexfs_chroma.backup(path, tmp_path / "backup")


# ---- failures ---------------------------------------------------------------------------------


def test_space_is_looked_for_first(database, tmp_path: Path, monkeypatch) -> None:
    path, _ = database
    monkeypatch.setattr(_copy.shutil, "disk_usage", lambda _: SimpleNamespace(free=20_000))
    with pytest.raises(StorageFullError, match="free space"):
        vexfs_chroma.backup(path, tmp_path / "backup", copy=True)
    with pytest.raises(StorageFullError, match="free space"):
        vexfs_chroma.restore(path, tmp_path / "backup")
    assert [p.name for p in tmp_path.iterdir()] == ["database"]


def test_a_full_disk_is_left_as_it_was(database, tmp_path: Path, monkeypatch) -> None:
    """Space that is gone since it was looked for, at the last moment: the catalog."""
    path, _ = database

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_copy.CatalogFile, "copy_to", full)
    with pytest.raises(OSError, match="No space"):
        vexfs_chroma.backup(path, tmp_path / "backup")
    assert [p.name for p in tmp_path.iterdir()] == ["database"]


def test_a_file_system_without_locks(database, tmp_path: Path, monkeypatch) -> None:
    """The error names the file, and nothing is left."""
    path, _ = database

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(OSError, match=r"No locks available: '.*backup.partial"):
        vexfs_chroma.backup(path, tmp_path / "backup")
    with pytest.raises(OSError, match=r"No locks available: '.*database/MAINT"):
        vexfs_chroma.repair(path)
    assert [p.name for p in tmp_path.iterdir()] == ["database"]


def test_a_disk_that_becomes_full(database, tmp_path: Path, monkeypatch) -> None:
    path, _ = database
    with mounted(tmp_path, "tmpfs", 100 * 1024) as disk:
        with pytest.raises(StorageFullError, match="free space"):
            vexfs_chroma.backup(path, disk / "backup")
        monkeypatch.setattr(_copy.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**40))
        with pytest.raises(StorageFullError):
            vexfs_chroma.backup(path, disk / "backup")
        with pytest.raises(StorageFullError):
            vexfs_chroma.restore(path, disk / "backup", link=True)
        assert list(disk.iterdir()) == []


def test_a_damaged_database_is_not_backed_up(database, tmp_path: Path) -> None:
    path, _ = database
    found = max(path.rglob("pay-*"), key=lambda file: file.stat().st_size)
    data = bytearray(found.read_bytes())
    data[-40] ^= 1
    found.write_bytes(data)
    with pytest.raises(CorruptionError, match="the original"):
        vexfs_chroma.backup(path, tmp_path / "backup")
    found.unlink()
    with pytest.raises(CorruptionError, match="missing"):
        vexfs_chroma.backup(path, tmp_path / "backup")
    (path / "catalog.sqlite3").unlink()
    with pytest.raises((CorruptionError, NotFoundError), match=r"catalog|no database"):
        vexfs_chroma.backup(path, tmp_path / "backup")
    assert [p.name for p in tmp_path.iterdir()] == ["database"]


def test_an_interrupt_leaves_nothing(database, tmp_path: Path) -> None:
    path, _ = database

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vexfs_chroma.backup(path, tmp_path / "backup", copy=True, progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["database"]


def test_progress(database, tmp_path: Path) -> None:
    path, _ = database
    seen: list[tuple[str, int, int]] = []
    vexfs_chroma.backup(
        path, tmp_path / "backup", copy=True, progress=lambda *step: seen.append(step)
    )
    for step in ("copying", "verifying"):
        done = [(done, total) for what, done, total in seen if what == step]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1] > 0


# ---- the catalog ------------------------------------------------------------------------------


def test_the_catalog_waits_for_nobody_but_the_last_step(database, tmp_path: Path) -> None:
    """Collections can be made and deleted while files are copied, and are in the backup or not."""
    path, expected = database
    client = vexfs_chroma.PersistentClient(path)
    changed = False

    def change(what: str, done: int, total: int) -> None:
        nonlocal changed
        if not changed:
            client.delete_collection("large")
            client.create_collection("new", embedding_function=None)
            changed = True

    client.backup(tmp_path / "backup", copy=True, progress=change)
    assert changed
    client.close()
    del expected["large"]
    assert content_of(tmp_path / "backup") == {**expected, "new": {}}
    directories = list((tmp_path / "backup" / "collections").iterdir())
    assert len(directories) == 3


# ---- the command line ---------------------------------------------------------------------------


def test_vexctl(database, tmp_path: Path) -> None:
    path, expected = database
    shown = run("backup", path, tmp_path / "backup")
    assert "3 collections, 1810 records" in shown
    assert "shared" in shown
    run("backup", path, tmp_path / "backup", code=3)
    run("backup", path, tmp_path / "copy", "--copy", "--busy-timeout", "5")
    run("restore", tmp_path / "backup", tmp_path / "restored", "--link")
    assert content_of(tmp_path / "restored") == expected
    shown = run("restore", tmp_path / "nowhere", tmp_path / "other", code=3)
    assert "vexctl: " in shown
    run("backup", path, code=2)
