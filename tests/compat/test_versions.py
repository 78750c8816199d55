"""Files of later releases are refused by name, with what was found and what is read; an unknown
writer flag leaves a database that can be read.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromadb.errors import VersionMismatchError

import vexfs_chroma
from vexfs_chroma import ReadOnlyError

from . import golden
from .primitives import crc, u32


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(golden.GOLDEN / "1.0-graph.zip") as files:
        files.extractall(directory)
    return directory / "database"


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "db")
    return tmp_path / "db"


def newest(path: Path, pattern: str) -> Path:
    (directory,) = (path / "collections").iterdir()
    return max(directory.glob(pattern))


def patch(file: Path, at: int, values: bytes, checksum_at: int) -> None:
    """Change bytes of a header whose checksum covers what is before it."""
    data = bytearray(file.read_bytes())
    data[at : at + len(values)] = values
    struct.pack_into("<I", data, checksum_at, crc(data[:checksum_at]))
    file.write_bytes(data)


def patch_manifest(file: Path, at: int, values: bytes) -> None:
    data = bytearray(file.read_bytes())
    data[at : at + len(values)] = values
    struct.pack_into("<I", data, 60, crc(data[64:], crc(data[:60])))
    file.write_bytes(data)


def patch_entry(file: Path, at: int, values: bytes) -> None:
    """Change the manifest's first entry of a file."""
    patch_manifest(file, 64 + 72 + at, values)


VERSION_2 = struct.pack("<HH", 2, 7)

# What is changed, and what the error has to say.
LATER: dict[str, tuple[Callable[[Path], None], str]] = {
    "superblock": (
        lambda path: patch(path / "VEXFS", 8, VERSION_2, 92),
        r"format 2\.7.*reads format 1.*VEXFS",
    ),
    "reader flag": (
        lambda path: patch(path / "VEXFS", 32, b"\4", 92),
        r"format 1\.0, flags 4.*reads format 1.*VEXFS",
    ),
    "manifest": (
        lambda path: patch_manifest(newest(path, "manifest-*"), 8, VERSION_2),
        r"format 2\.7.*reads format 1.*manifest-",
    ),
    "manifest's flag": (
        lambda path: patch_manifest(newest(path, "manifest-*"), 56, b"\2"),
        r"format 1\.0, flags 2.*reads format 1.*manifest-",
    ),
    "owner of a file": (
        lambda path: patch_entry(newest(path, "manifest-*"), 4, b"\1"),
        r"later release.*upgrade.*manifest-",
    ),
    "log": (
        lambda path: patch(newest(path, "wal-*"), 8, VERSION_2, 60),
        r"format 2\.7.*reads format 1.*wal-",
    ),
    "log's flag": (
        lambda path: patch(newest(path, "wal-*"), 48, b"\2", 60),
        r"format 1\.0, flags 2.*reads format 1.*wal-",
    ),
    "vectors": (
        lambda path: patch(newest(path, "vec-*"), 8, VERSION_2, 60),
        r"format 2\.7.*reads format 1.*vec-",
    ),
    "payloads": (
        lambda path: patch(newest(path, "pay-*"), 8, VERSION_2, 60),
        r"format 2\.7.*reads format 1.*pay-",
    ),
}


@contextlib.contextmanager
def refused(path: Path, match: str) -> Iterator[None]:
    """Nothing of the engine's is changed by who refuses; the catalog may be sound."""
    before = contents(path)
    with pytest.raises(VersionMismatchError, match=match):
        yield
    after = contents(path)
    assert after.keys() == before.keys()
    for name, data in before.items():
        assert after[name] == data or Path(name).name.startswith("catalog.sqlite3"), name


def contents(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def read_everything(path: Path) -> dict[str, Any]:
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.get_collection(golden.NAME, embedding_function=None)
        return dict(collection.get(include=["documents", "metadatas"]))


@pytest.mark.parametrize("what", LATER)
def test_later_releases_are_refused(path: Path, what: str) -> None:
    change, message = LATER[what]
    change(path)
    with refused(path, message):
        read_everything(path)


def test_a_later_catalog_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path / "catalog.sqlite3")) as db:
        db.execute("PRAGMA user_version = 2")
        db.commit()
    with refused(path, r"catalog\.sqlite3.*later release \(format 2.*knows 1.*upgrade"):
        read_everything(path)


def test_a_later_graph_is_built_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "200")
    graph = newest(path, "gra-*")
    patch(graph, 8, VERSION_2, 60)
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.get_collection(golden.NAME, embedding_function=None)
        collection.wait_for_index(60)
        assert collection.stats()["index"]["indexed_rows"] > 200


def test_later_minor_versions_are_read(path: Path, pristine: Path) -> None:
    expected = read_everything(path)
    shutil.rmtree(path)
    shutil.copytree(pristine, path)
    minor = struct.pack("<HH", 1, 9)
    patch(path / "VEXFS", 8, minor, 92)
    patch_manifest(newest(path, "manifest-*"), 8, minor)
    patch(newest(path, "wal-*"), 8, minor, 60)
    assert u32((path / "VEXFS").read_bytes(), 8) == 9 << 16 | 1
    assert read_everything(path) == expected


def test_an_unknown_writer_flag_leaves_it_to_be_read(path: Path) -> None:
    expected = read_everything(path)
    patch(path / "VEXFS", 40, b"\x10", 92)
    before = contents(path)
    assert read_everything(path) == expected
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.get_collection(golden.NAME, embedding_function=None)
        some = [[0.5] * 24]
        for write in (
            lambda: collection.add(ids=["new"], embeddings=some),
            lambda: collection.upsert(ids=["g77"], embeddings=some),
            lambda: collection.update(ids=["g77"], metadatas=[{"a": 1}]),
            lambda: collection.delete(ids=["g77"]),
            lambda: collection.modify(name="another"),
            lambda: client.create_collection("new", embedding_function=None),
            lambda: client.delete_collection(golden.NAME),
            lambda: client.vacuum(),
        ):
            with pytest.raises(ReadOnlyError):
                write()
        assert collection.query(query_embeddings=some, n_results=1)["ids"][0]
    assert contents(path) == before
    assert read_everything(path) == expected
