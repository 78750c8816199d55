"""Exports beside programs that write, and exports that end early."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError
from disks import mounted

import vexfs_chroma

EXPORTS = {
    "jsonl": vexfs_chroma.export_jsonl,
    "npz": vexfs_chroma.export_npz,
    "parquet": vexfs_chroma.export_parquet,
    "chroma": vexfs_chroma.export_chroma,
}
KILLED = """
import os, signal, sys
import vexfs_chroma

steps, kind, source, target = int(sys.argv[1]), *sys.argv[2:]

def step(*_):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)

from vexfs_chroma import _partial
rename = _partial.Partial.finish
_partial.Partial.finish = lambda self: (step(), rename(self))
getattr(vexfs_chroma, "export_" + kind)(source, target, batch=20, progress=step)
"""


@pytest.fixture(params=list(EXPORTS))
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


def add(collection: Any, *names: int, dimension: int = 3) -> None:
    collection.add(
        ids=[f"id-{n}" for n in names],
        embeddings=[[n, *[1.0] * (dimension - 1)] for n in names],
        documents=[f"text {n}" for n in names],
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        add(client.create_collection("docs", embedding_function=None), *range(100))
        add(client.create_collection("others", embedding_function=None), *range(7))
    return tmp_path / "db"


def contents(kind: str, directory: Path, scratch: Path) -> dict[str, dict[str, float]]:
    """By collection and id, the first number of the vector."""
    if kind == "chroma":
        report = vexfs_chroma.import_chroma(directory, scratch)
    else:
        report = vexfs_chroma.import_files(directory, scratch)
    assert report.ok, report
    with vexfs_chroma.PersistentClient(scratch) as client:
        found = {c.name: c.get(include=["embeddings"]) for c in client.list_collections()}
        return {
            name: dict(zip(got["ids"], np.asarray(got["embeddings"])[:, 0].tolist(), strict=True))
            for name, got in found.items()
        }


def test_records_that_come_and_go(kind: str, database: Path, tmp_path: Path) -> None:
    """Those that stay are all there, whatever others are deleted and added."""
    with vexfs_chroma.PersistentClient(database) as client:
        docs = client.get_collection("docs", embedding_function=None)

        def meanwhile(report: Any, done: int) -> None:
            if report.name == "docs" and done == 20:
                docs.delete(ids=[f"id-{n}" for n in (*range(15), *range(50, 55))])
                add(docs, *range(100, 120))

        report = EXPORTS[kind](database, tmp_path / "out", batch=10, progress=meanwhile)
    assert report.ok
    assert (report.rows, report.collections[0].copied) == (102, 95)
    assert "5 records were deleted" in report.collections[0].notes[0]
    found = contents(kind, tmp_path / "out", tmp_path / "back")
    stays = {n for n in range(100) if n >= 15 and not 50 <= n < 55}
    before = set(range(15))  # in the copy already
    assert found["docs"] == {f"id-{n}": float(n) for n in stays | before}
    assert len(found["others"]) == 7
    if kind == "npz":
        with np.load(tmp_path / "out" / "0000-docs.npz") as loaded:
            assert loaded["vectors"].shape == (95, 3)
        with zipfile.ZipFile(tmp_path / "out" / "0000-docs.npz") as archive:
            assert archive.testzip() is None


def test_a_collection_that_gets_its_first_record(kind: str, tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        add(client.create_collection("first", embedding_function=None), 1)
        late = client.create_collection("late", embedding_function=None)

        def meanwhile(report: Any, _: int) -> None:
            if report.name == "first":
                add(late, 7, 8, dimension=9)

        assert EXPORTS[kind](tmp_path / "db", tmp_path / "out", progress=meanwhile).ok
    found = contents(kind, tmp_path / "out", tmp_path / "back")
    assert found == {"first": {"id-1": 1.0}, "late": {"id-7": 7.0, "id-8": 8.0}}


@pytest.mark.parametrize("step", [1, 6, 7])
def test_a_killed_export_is_not_there(step: int, kind: str, database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, str(step), kind, str(database), str(out)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    assert (tmp_path / "out.partial").exists()
    assert EXPORTS[kind](database, out).ok
    assert not (tmp_path / "out.partial").exists()
    assert len(contents(kind, out, tmp_path / "back")["docs"]) == 100


def test_an_interrupt_leaves_nothing(kind: str, database: Path, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EXPORTS[kind](database, tmp_path / "out", batch=20, progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db"]


def test_a_full_disk(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        for name in ("first", "second"):
            made = client.create_collection(name, embedding_function=None)
            made.add(ids=[str(n) for n in range(2000)], embeddings=rng.random((2000, 64)))
    with mounted(tmp_path, "tmpfs", 700 << 10) as disk:
        with pytest.raises(OSError, match=r"No space|nothing of the export was kept"):
            EXPORTS[kind](tmp_path / "db", disk / "out")
        assert list(disk.iterdir()) == []


def test_the_root_of_a_file_system(kind: str, database: Path, tmp_path: Path) -> None:
    with mounted(tmp_path, "tmpfs", 8 << 20) as disk:
        with pytest.raises(InvalidArgumentError, match="root of a file system"):
            EXPORTS[kind](database, disk)
        assert EXPORTS[kind](database, disk / "new" / "out").ok
    assert not (tmp_path / "disk.partial").exists()


def test_rows_of_the_manifest(database: Path, tmp_path: Path) -> None:
    """They are those of the file, which tell whether it is whole."""
    with vexfs_chroma.PersistentClient(database) as client:
        docs = client.get_collection("docs", embedding_function=None)
        EXPORTS["jsonl"](
            database, tmp_path / "out", batch=50, progress=lambda *_: docs.delete(ids=["id-99"])
        )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["rows"] for entry in manifest["collections"]] == [99, 7]
