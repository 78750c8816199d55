"""stats(): every byte is counted once, and nothing is touched."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from chromadb.errors import NotFoundError
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma._cli._app import app

sys.path.insert(0, str(Path(__file__).parent))

from backup_kit import bytes_of, fill


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def of(found: vexfs_chroma.DatabaseStats, name: str) -> vexfs_chroma.CollectionStats:
    return next(collection for collection in found.collections if collection.name == name)


def test_every_byte_is_counted(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "LOCK").unlink()
    before = bytes_of(tmp_path)
    found = vexfs_chroma.stats(tmp_path)
    assert bytes_of(tmp_path) == before
    assert not (tmp_path / "LOCK").exists()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    own = {"VEXFS", "MAINT"}
    assert found.disk.total == sum(f.stat().st_size for f in files if f.name not in own)
    large = next(c for c in found.collections if c.name == "large")
    for kind, prefix in (
        ("vectors", "vec"),
        ("payloads", "pay"),
        ("tombstones", "del"),
        ("logs", "wal"),
    ):
        sizes = [
            f.stat().st_size
            for f in files
            if f.name.startswith(prefix) and large.id.replace("-", "") in str(f)
        ]
        assert getattr(large.disk, kind) == sum(sizes)
    assert found.disk.leftovers == 0
    assert (found.rows, found.path, found.process) == (1810, str(tmp_path), None)


def test_rows(tmp_path: Path) -> None:
    fill(tmp_path)
    found = vexfs_chroma.stats(tmp_path)
    assert [c.name for c in found.collections] == ["large", "small", "empty"]
    large, small, empty = found.collections
    assert (large.rows, large.dimension, large.space) == (1800, 16, "l2")
    assert large.file_rows - large.dead_rows + large.unflushed_rows == 1800
    assert large.dead_rows == 200
    assert large.dead_payload_rows == 201
    assert (large.vector_files, large.lsn) == (1, 3)
    assert large.quantization in {"sq8", "f16", "none"}
    assert (small.rows, small.dead_rows) == (10, 0)
    assert (empty.rows, empty.dimension, empty.lsn, empty.graph_coverage) == (0, None, 0, 0.0)
    assert all(c.manifest_age is not None and c.manifest_age >= 0 for c in found.collections)
    assert all(c.index_bytes is None for c in found.collections)


def test_a_client_knows_more(tmp_path: Path) -> None:
    fill(tmp_path)
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path, durability="normal")) as client:
        small = client.get_collection("small", embedding_function=None)
        small.add(ids=["new"], embeddings=[[1.0] * 16])
        found = client.stats()
        assert found.process is not None
        assert (found.process.durability, found.process.read_only) == ("normal", False)
        assert found.process.open_collections >= 1
        assert found.process.counters["open_files"] > 0
        assert of(found, "small").rows == 11
        assert of(found, "small").unflushed_rows >= 1
        assert of(found, "small").index_bytes == 0
        assert of(vexfs_chroma.stats(tmp_path), "small").rows == 11  # beside the client


def test_in_memory() -> None:
    with contextlib.closing(vexfs_chroma.EphemeralClient()) as client:
        made = client.create_collection("abc", embedding_function=None)
        made.add(ids=["a"], embeddings=[[1.0, 2.0]])
        found = client.stats()
        assert (found.path, found.rows) == (None, 1)
        assert found.collections[0].manifest_age is None
        client.delete_collection("abc")


def test_graphs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "500")
    vectors = np.random.default_rng(5).random((2000, 8), np.float32)
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path)) as client:
        made = client.create_collection("abc", embedding_function=None)
        made.add(ids=[str(i) for i in range(1500)], embeddings=vectors[:1500])
        made.wait_for_index()
        assert of(client.stats(), "abc").index_bytes
    found = of(vexfs_chroma.stats(tmp_path), "abc")
    assert (found.graph_rows, found.graph_coverage) == (1500, 1.0)
    assert found.disk.graphs > 0
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "0")
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path)) as client:
        made = client.get_collection("abc", embedding_function=None)
        made.add(ids=[str(i) for i in range(1500, 2000)], embeddings=vectors[1500:])
        made._api._open(made.id).engine.flush()
    found = of(vexfs_chroma.stats(tmp_path), "abc")
    assert (found.graph_rows, found.graph_coverage) == (1500, 0.75)
    backed_up = of(vexfs_chroma.stats(_backup(tmp_path)), "abc")
    assert (backed_up.graph_rows, backed_up.disk.graphs) == (1500, found.disk.graphs)
    with contextlib.closing(vexfs_chroma.PersistentClient(tmp_path)) as client:
        client.vacuum()  # the graph is of files that are gone
    assert of(vexfs_chroma.stats(tmp_path), "abc").graph_rows == 0


def _backup(path: Path) -> Path:
    target = path.with_name("backup")
    vexfs_chroma.backup(path, target)
    return target


def test_what_is_left_over_or_lost(tmp_path: Path) -> None:
    fill(tmp_path)
    found = vexfs_chroma.stats(tmp_path)
    directory = {
        c.name: tmp_path / "collections" / c.id.replace("-", "") for c in found.collections
    }
    (directory["small"] / "vec-000000000099.vxv").write_bytes(bytes(1000))
    (directory["small"] / "pay-000000000100.vxp.tmp").write_bytes(bytes(10))
    shutil.rmtree(directory["large"])
    stranger = tmp_path / "collections" / ("0" * 31 + "1")
    shutil.copytree(directory["empty"], stranger)
    found = vexfs_chroma.stats(tmp_path)
    assert found.missing == ["large"]
    assert of(found, "small").disk.leftovers == found.disk.leftovers == 1010
    assert found.unlisted == ["00000000-0000-0000-0000-000000000001"]
    shown = run("stats", tmp_path, code=1)
    assert "large: the files of this collection are gone" in shown


def test_vexctl(tmp_path: Path) -> None:
    fill(tmp_path / "database")
    shown = run("stats", tmp_path / "database")
    assert "3 collections, 1810 records" in shown
    found = json.loads(run("stats", tmp_path / "database", "--json"))
    assert found["rows"] == 1810
    assert found["collections"][0]["name"] == "large"
    assert found["disk"]["total"] == sum(n for kind, n in found["disk"].items() if kind != "total")
    assert run("stats", tmp_path / "nowhere", code=3).startswith("vexctl: ")
    with pytest.raises(NotFoundError):
        vexfs_chroma.stats(tmp_path)
