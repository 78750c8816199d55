"""Damage outside of collections: superblock, catalog, directories, graphs; later releases."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from chromadb.errors import NotFoundError, VersionMismatchError
from integrity_kit import World, contents, digest, flip_bit, overwrite, read_everything
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma._cli._app import app

CATALOG = "catalog.sqlite3"


def collections_of(path: Path) -> dict[str, str]:
    return digest(path / "collections")


def repair(world: World) -> vexfs_chroma.RepairReport:
    before = collections_of(world.path)
    report = vexfs_chroma.repair(world.path)
    assert report.changed
    assert report.after is not None
    assert report.after.ok, report.after.findings
    assert collections_of(world.path) == before, "collections are not touched"
    assert not vexfs_chroma.repair(world.path).changed
    return report


def test_a_sound_database_stays_as_it_is(world: World) -> None:
    before = digest(world.path)
    for deep in (False, True):
        report = vexfs_chroma.check(world.path, deep=deep)
        assert report.ok
        assert report.findings == []
        assert report.rows == sum(map(len, world.expected.values()))
        assert report.collections == len(world.expected)
    done = vexfs_chroma.repair(world.path)
    assert done.ok
    assert not done.changed
    assert digest(world.path) == before


@pytest.mark.parametrize("way", ["flipped", "magic", "emptied", "removed", "foreign"])
def test_superblock(world: World, way: str) -> None:
    file = world.path / "VEXFS"
    original = file.read_bytes()
    if way == "flipped":
        flip_bit(file, 20, 3)
    elif way == "magic":
        flip_bit(file, 1, 3)
    elif way == "emptied":
        file.write_bytes(b"")
    elif way == "removed":
        file.unlink()
    else:
        with vexfs_chroma.PersistentClient(world.path.parent / "other"):
            pass
        shutil.copyfile(world.path.parent / "other" / "VEXFS", file)
    report = vexfs_chroma.check(world.path)
    assert [finding.file for finding in report.damage] == [str(file)] or way == "foreign"
    assert str(file) in [finding.file for finding in report.damage]
    assert repair(world).lost == {}
    assert file.read_bytes() == original
    assert contents(world.path) == world.expected


def pages_of(file: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(file)) as db:
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    return (page - 1) * 4096


@pytest.mark.parametrize("way", ["header", "row", "page", "emptied", "removed", "foreign"])
def test_catalog(world: World, way: str) -> None:
    file = world.path / CATALOG
    if way == "header":
        overwrite(file, 0, 100, 1)
    elif way == "row":
        at = file.read_bytes().index(b'{"number": 0}')  # in no index
        flip_bit(file, at + 11, 0)
    elif way == "page":
        overwrite(file, pages_of(file, "collections"), 4096, 2)
    elif way == "emptied":
        file.write_bytes(b"")
    elif way == "removed":
        file.unlink()
    else:
        with vexfs_chroma.PersistentClient(world.path.parent / "other") as other:
            other.create_collection("elsewhere", embedding_function=None)
        shutil.copyfile(world.path.parent / "other" / CATALOG, file)
    assert str(file) in [finding.file for finding in vexfs_chroma.check(world.path).damage]
    read_everything(world)
    report = repair(world)
    found = contents(world.path, read_only=False)
    kept = {"second", "logged", "empty"} if way == "row" else set()
    recovered = {n: c for n, c in found.items() if n.startswith("recovered-")}
    for name in kept:
        assert found[name] == world.expected[name]
    want = [c for name, c in world.expected.items() if name not in kept and name != "empty"]
    assert sorted(map(str, recovered.values())) == sorted(map(str, want))
    for name in recovered:
        hexes = [directory.name for directory in (world.path / "collections").iterdir()]
        assert any(name == f"recovered-{h[:8]}" for h in hexes)
    assert report.lost == {"name": len(want)}
    assert set(found) == kept | set(recovered)


def test_a_damaged_row_of_a_tenant_leaves_the_collections(world: World) -> None:
    file = world.path / CATALOG
    at = file.read_bytes().index(b"default_tenant", pages_of(file, "tenants"))
    flip_bit(file, at + 9, 0)
    assert not vexfs_chroma.check(world.path).ok
    assert repair(world).lost == {}
    assert contents(world.path) == world.expected


def test_directory_without_name_and_name_without_directory(world: World) -> None:
    id = world.directories["first"].name
    with contextlib.closing(sqlite3.connect(world.path / CATALOG)) as db, db:
        db.execute("DELETE FROM collections WHERE name = 'first'")
    shutil.rmtree(world.directories["second"])
    report = vexfs_chroma.check(world.path)
    assert {finding.file for finding in report.damage} == {
        str(world.directories["first"]),
        str(world.directories["second"]),
    }
    done = vexfs_chroma.repair(world.path)
    assert done.lost == {"name": 1, "collection": 1}
    assert done.after is not None
    assert done.after.ok
    found = contents(world.path, read_only=False)
    assert found[f"recovered-{id[:8]}"] == world.expected["first"]
    assert found["second"] == {}
    assert found["logged"] == world.expected["logged"]
    assert not vexfs_chroma.repair(world.path).changed


@pytest.mark.parametrize("way", ["missing", "a file", "a link"])
def test_without_the_directory_of_the_collections(world: World, way: str) -> None:
    place = world.path / "collections"
    shutil.rmtree(place)
    if way == "a file":
        place.write_bytes(b"something")
    elif way == "a link":
        place.symlink_to("nowhere")
    report = vexfs_chroma.check(world.path)
    assert str(place) in [finding.file for finding in report.damage]
    with pytest.raises(vexfs_chroma.CorruptionError, match="repair"):
        vexfs_chroma.PersistentClient(world.path)
    ran = CliRunner().invoke(app, ["stats", str(world.path)])
    if way != "a file":
        assert ran.exit_code == 1, ran.output
        assert ran.output.count("the files of this collection are gone") == len(world.expected)
    assert vexfs_chroma.repair(world.path, dry_run=True).lost == {"collection": 4}
    assert os.path.lexists(place) == (way != "missing")
    done = vexfs_chroma.repair(world.path)
    assert done.lost == {"collection": 4}
    assert done.after is not None
    assert done.after.ok
    assert os.path.lexists(Path(done.quarantine or "nowhere", "collections")) == (way != "missing")
    assert contents(world.path, read_only=False) == {name: {} for name in world.expected}
    assert not vexfs_chroma.repair(world.path).changed


def test_the_space_of_a_collection_without_name(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        made = client.create_collection(
            "angles", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        made.add(ids=["a"], embeddings=[[1.0, 2.0]])
    (tmp_path / "db" / CATALOG).unlink()
    vexfs_chroma.repair(tmp_path / "db")
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        (found,) = client.list_collections()
        assert found.configuration["hnsw"]["space"] == "cosine"
        assert found.query(query_embeddings=[[2.0, 4.0]])["distances"][0][0] < 1e-6


def test_what_is_no_damage(world: World) -> None:
    first = world.directories["first"]
    (first / "vec-000000000099.vxv.tmp").write_bytes(b"unfinished")
    (first / "pay-000000000098.vxp").write_bytes(b"not listed")
    flip_bit(first / "head", 20, 1)
    (world.path / "collections" / ("ab" * 16 + ".dropped")).mkdir()
    (world.path / "quarantine" / "old").mkdir(parents=True)
    report = vexfs_chroma.check(world.path, deep=True)
    assert report.ok
    assert len(report.notices) == 5, report.notices
    assert str(first / "head") in [finding.file for finding in report.notices]
    assert not vexfs_chroma.repair(world.path).changed
    assert contents(world.path) == world.expected


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", ["flipped", "pipe", "link"])
def test_a_damaged_graph_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "100")
    path = tmp_path / "db"
    with vexfs_chroma.PersistentClient(path) as client:
        made = client.create_collection("graph", embedding_function=None)
        vectors = np.random.default_rng(1).random((300, 8), dtype=np.float32)
        made.add(ids=[str(i) for i in range(300)], embeddings=vectors)
        made.wait_for_index()
        client.wait_idle()
    (graph,) = path.glob("collections/*/gra-*")
    assert vexfs_chroma.check(path, deep=True).findings == []
    if way == "flipped":
        flip_bit(graph, graph.stat().st_size // 2, 1)
    else:
        graph.unlink()
        if way == "pipe":
            os.mkfifo(graph)
        else:
            graph.symlink_to("nowhere")
        with vexfs_chroma.PersistentClient(path, read_only=True) as client:
            found = client.get_collection("graph", embedding_function=None)
            assert found.query(query_embeddings=vectors[7], n_results=1)["ids"] == [["7"]]
    report = vexfs_chroma.check(path, deep=True)
    assert report.ok
    assert [finding.file for finding in report.notices] == [str(graph)]
    done = vexfs_chroma.repair(path)
    assert done.changed
    assert done.ok
    assert not os.path.lexists(graph)
    assert len(list(Path(done.quarantine or "").iterdir())) == 1
    assert not vexfs_chroma.repair(path).changed


@pytest.mark.parametrize("place", ["superblock", "manifest", "catalog"])
def test_later_releases_are_refused_untouched(world: World, place: str) -> None:
    make_later(world, place)
    flip_bit(min(world.directories["first"].glob("vec-*")), 5000, 1)
    before = digest(world.path)
    with pytest.raises(VersionMismatchError):
        vexfs_chroma.check(world.path)
    with pytest.raises(VersionMismatchError):
        vexfs_chroma.repair(world.path)
    assert digest(world.path) == before


def make_later(world: World, place: str) -> None:
    if place == "catalog":
        with contextlib.closing(sqlite3.connect(world.path / CATALOG)) as db:
            db.execute("PRAGMA user_version = 2")
        return
    if place == "superblock":
        file, checked, at = world.path / "VEXFS", 92, 92
    else:
        (file,) = world.directories["second"].glob("manifest-*")
        checked, at = 60, 60
    data = bytearray(file.read_bytes())
    data[8] = 9
    covered = bytes(data[:checked]) + (bytes(data[64:]) if place == "manifest" else b"")
    data[at : at + 4] = crc32c(covered).to_bytes(4, "little")
    file.write_bytes(data)


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").write_bytes(b"")
    for tool in (vexfs_chroma.check, vexfs_chroma.repair):
        with pytest.raises(vexfs_chroma.ForeignDatabaseError, match="vexctl import chroma"):
            tool(tmp_path)
        with pytest.raises(NotFoundError):
            tool(tmp_path / "nowhere")
    with pytest.raises(vexfs_chroma.ForeignDatabaseError):
        vexfs_chroma.check(tmp_path / "chroma.sqlite3")
    assert [file.name for file in tmp_path.iterdir()] == ["chroma.sqlite3"]


def test_the_report_of_losses(world: World, tmp_path: Path) -> None:
    file = min(world.directories["first"].glob("vec-*"))
    file.write_bytes(b"")
    before = digest(world.path)
    dry = vexfs_chroma.repair(world.path, dry_run=True)
    assert {**digest(world.path)} == before
    done = vexfs_chroma.repair(world.path, report=tmp_path / "losses")
    assert dry.lost == done.lost
    assert dry.kept == done.kept
    lines = [json.loads(line) for line in (tmp_path / "losses").read_text().splitlines()]
    assert len(lines) == done.lost["record"] > 30
    kept = contents(world.path)["first"]
    assert {line["id"] for line in lines} == set(world.expected["first"]) - set(kept)
    assert {line["file"] for line in lines} == {str(file)} or len(lines) > 0


def test_a_path_that_is_not_utf8(sound: World, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/n\xff")
    try:
        shutil.copytree(sound.path, path)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    file = min(Path(path).glob(f"collections/{sound.directories['first'].name}/vec-*"))
    flip_bit(file, 5000, 1)
    assert [finding.file for finding in vexfs_chroma.check(path, deep=True).damage] == [str(file)]
    done = vexfs_chroma.repair(path)
    assert done.ok
    assert done.changed
