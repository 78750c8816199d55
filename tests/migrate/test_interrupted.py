"""An import that ends early leaves no collection that looks whole and is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chroma_fixtures import unpack
from chromadb.errors import NotFoundError
from disks import mounted

import vexfs_chroma
from vexfs_chroma import CorruptionError, StorageFullError, import_chroma, import_files
from vexfs_chroma._client import client_of_all
from vexfs_chroma._migrate import _target

HOME = ("default_tenant", "default_database")
NEWEST = "1.5.9"

KILLED = """
import os, signal, sys
import vexfs_chroma
from vexfs_chroma._api import VexfsAPI

steps, source, target, conflict = int(sys.argv[1]), *sys.argv[2:]

def step(*_):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)

take_name = VexfsAPI.take_name
VexfsAPI.take_name = lambda *arguments: (step(), take_name(*arguments), step())
vexfs_chroma.import_chroma(source, target, batch=20, on_conflict=conflict, progress=step)
"""


def counts(path: Path) -> dict[tuple[str, str, str], int]:
    """The records of all collections that are not unfinished."""
    return {name: n for name, n in all_counts(path).items() if not is_unfinished(name[2])}


def is_unfinished(name: str) -> bool:
    return name.startswith("unfinished-import-")


def all_counts(path: Path) -> dict[tuple[str, str, str], int]:
    with vexfs_chroma.PersistentClient(path) as client:
        api: Any = client._server
        return {
            (tenant, database["name"], model.name): api._count(model.id)
            for tenant in api.list_tenants()
            for database in api.list_databases(tenant=tenant)
            for model in api.list_collections(tenant=tenant, database=database["name"])
        }


def expected_counts(expected: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    return {(c["tenant"], c["database"], c["name"]): len(c["ids"]) for c in expected}


@pytest.mark.parametrize("step", [1, 2, 4, 5, 9])
def test_a_killed_import_goes_on(step: int, tmp_path: Path) -> None:
    source, expected = unpack(NEWEST, tmp_path)
    target = tmp_path / "target"
    whole = expected_counts(expected)
    kill_import(step, source, target, "fail")
    found = counts(target)
    assert len(found) < len(whole)
    assert found == {name: whole[name] for name in found}
    report = import_chroma(source, target, on_conflict="skip")
    assert report.ok
    assert all_counts(target) == whole


@pytest.mark.parametrize("step", [1, 4, 5, 9])
def test_what_was_to_be_replaced_is_there_until_then(step: int, tmp_path: Path) -> None:
    source, expected = unpack(NEWEST, tmp_path)
    target = tmp_path / "target"
    whole = expected_counts(expected)
    assert import_chroma(source, target).ok
    kill_import(step, source, target, "replace")
    assert counts(target) == whole
    assert import_chroma(source, target, on_conflict="replace").ok
    assert all_counts(target) == whole


def kill_import(step: int, source: Path, target: Path, conflict: str) -> None:
    words = [sys.executable, "-c", KILLED, str(step), str(source), str(target), conflict]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("error", [KeyboardInterrupt, StorageFullError])
def test_an_import_that_is_interrupted_removes_what_it_was_at(
    error: type[BaseException], tmp_path: Path
) -> None:
    source, expected = unpack(NEWEST, tmp_path)

    def interrupt(*_: object) -> None:
        raise error("now")

    with pytest.raises(error):
        import_chroma(source, tmp_path / "target", batch=5, progress=interrupt)
    assert all_counts(tmp_path / "target") == {}
    assert import_chroma(source, tmp_path / "target").ok
    assert all_counts(tmp_path / "target") == expected_counts(expected)


def test_a_disk_that_becomes_full(tmp_path: Path) -> None:
    """The error of the disk is told, and not one for each collection."""
    source, expected = unpack(NEWEST, tmp_path)
    whole = expected_counts(expected)
    with mounted(tmp_path, "tmpfs", 1 << 20) as disk:
        filler = disk / "filler"
        for free in (160, 240, 320, 400):
            filler.write_bytes(bytes((1 << 20) - (free << 10)))
            with pytest.raises((StorageFullError, OSError)):
                import_chroma(source, disk / "target", batch=5, on_conflict="skip")
            filler.unlink()
            found = all_counts(disk / "target")
            assert found == {name: whole[name] for name in found}


def test_a_name_that_is_taken_meanwhile(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)

    def take(report: Any, _: int) -> None:
        if report.name == "inner":
            client.create_collection("inner").add(ids=["mine"], embeddings=[[1.0]])

    with vexfs_chroma.PersistentClient(tmp_path / "target") as client:
        report = import_chroma(source, tmp_path / "target", progress=take)
        (failed,) = [c for c in report.collections if not c.ok]
        assert failed.error == "Collection [inner] already exists"
        assert (failed.copied, failed.lost) == (0, 23)
        assert client.get_collection("inner").get()["ids"] == ["mine"]
    assert not any(is_unfinished(name) for *_, name in all_counts(tmp_path / "target"))


def test_a_damaged_file_of_an_export(tmp_path: Path) -> None:
    """What could be read has another name; a file put right is imported by the next attempt."""
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        made = client.create_collection("docs", embedding_function=None)
        made.add(ids=[f"{i:03}" for i in range(100)], embeddings=[[i, 1.0] for i in range(100)])
    for kind in ("jsonl", "npz"):
        out, target = tmp_path / kind, tmp_path / f"target-{kind}"
        assert getattr(vexfs_chroma, f"export_{kind}")(tmp_path / "db", out).ok
        (file,) = out.glob("0*")
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * 2 // 3])
        (failed,) = import_files(out, target, batch=10).collections
        assert failed.error is not None
        assert failed.error.startswith(file.name)
        assert (failed.copied, failed.lost) == (0, 100)
        left = {name: n for (*_, name), n in all_counts(target).items()}
        if kind == "jsonl":
            assert left == {"unfinished-import-docs": 60}
            assert "the 60 records before the error" in failed.notes[0]
        else:
            assert left == {}
        file.write_bytes(whole)
        assert import_files(out, target, on_conflict="skip").ok
        assert all_counts(target) == {(*HOME, "docs"): 100}


def test_names_of_what_is_unfinished() -> None:
    """They are names that a collection may have, and different for different ones."""
    with vexfs_chroma.EphemeralClient() as client:
        names = ["abc", "a" * 512, "a" * 511 + "b", "b" * 399 + "+abc", "c" * 399 + ".d" * 40]
        begun = {_target.unfinished(name) for name in names}
        assert len(begun) == len(names)
        for name in begun:
            client.create_collection(name)
            client.delete_collection(name)


def test_what_an_import_left_is_not_imported(tmp_path: Path) -> None:
    """Nor is it taken for a collection of that name that is whole."""
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        for name in ("unfinished-import-docs", "docs", "unfinished-import-other"):
            client.create_collection(name).add(ids=[name], embeddings=[[1.0]])
    for kind in ("jsonl", "chroma"):
        out, target = tmp_path / kind, tmp_path / f"target-{kind}"
        assert getattr(vexfs_chroma, f"export_{kind}")(tmp_path / "db", out).ok
        report = (import_chroma if kind == "chroma" else import_files)(out, target)
        assert [c.name for c in report.collections if c.ok] == ["docs"]
        assert "an import that did not finish" in str(report.collections[0].error)
        assert all_counts(target) == {(*HOME, "docs"): 1}


def test_taking_a_name(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        api: Any = client._server
        old, new = client.create_collection("old"), client.create_collection("new")
        old.add(ids=["old"], embeddings=[[1.0]])
        new.add(ids=["new"], embeddings=[[1.0]])
        api.take_name(new.id, "old")
        api.take_name(new.id, "old")  # which it has
        assert [c.name for c in client.list_collections()] == ["old"]
        assert client.get_collection("old").get()["ids"] == ["new"]
        with pytest.raises(NotFoundError):
            old.get()
        with pytest.raises(NotFoundError):
            api.take_name(old.id, "other")
    assert len(list((tmp_path / "db" / "collections").iterdir())) == 1


def test_the_default_database_may_be_deleted(tmp_path: Path) -> None:
    """Others are exported, and imported to, all the same."""
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        api: Any = client._server
        api.create_database("other")
        with vexfs_chroma.PersistentClient(tmp_path / "db", database="other") as other:
            other.create_collection("docs").add(ids=["a"], embeddings=[[1.0]])
        api.delete_database("default_database")
    whole = {("default_tenant", "other", "docs"): 1}
    assert vexfs_chroma.export_jsonl(tmp_path / "db", tmp_path / "out").ok
    with vexfs_chroma.PersistentClient(tmp_path / "new") as client:
        client._server.delete_database("default_database")
    assert import_files(tmp_path / "out", tmp_path / "new").ok
    with client_of_all(tmp_path / "new") as client:
        api = client._server
        assert [model.name for model in api.list_collections(database="other")] == ["docs"]
        client._server.create_database("default_database")
    assert all_counts(tmp_path / "new") == whole


def test_a_damaged_target_is_told(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    vexfs_chroma.PersistentClient(tmp_path / "target").close()
    catalog = tmp_path / "target" / "catalog.sqlite3"
    data = bytearray(catalog.read_bytes())
    at = data.index(json.dumps("default_tenant").strip('"').encode())
    data[at] ^= 1
    catalog.write_bytes(data)
    with pytest.raises(CorruptionError):
        import_chroma(source, tmp_path / "target")
