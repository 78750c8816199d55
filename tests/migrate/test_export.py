"""What is exported comes back the same; Chroma reads what is exported to it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chroma_fixtures import EVERYTHING, unpack
from chromadb import Schema, SparseVector, SparseVectorIndexConfig
from chromadb.errors import InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import _migrate, export_chroma, import_chroma, import_files
from vexfs_chroma._migrate import _files
from vexfs_chroma._migrate._pages import SourceDatabase

EXPORTS = {
    "jsonl": vexfs_chroma.export_jsonl,
    "npz": vexfs_chroma.export_npz,
    "parquet": vexfs_chroma.export_parquet,
}
TEXTS = ["", "a\u0000b", "two\nlines\r\n", "\u2028 日本語 🙂", '{"not": "a record"}']


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with whatever can be stored."""
    path = tmp_path / "database"
    source, _ = unpack("1.5.9", tmp_path)
    assert import_chroma(source, path).ok
    with vexfs_chroma.PersistentClient(path) as client:
        collection = client.create_collection(
            "corners", configuration={"hnsw": {"space": "ip", "max_neighbors": 5}}
        )
        bits = np.array([0x00000001, 0x7F7FFFFF, 0x80000000, 0x3DCCCCCD, 0x00800000], np.uint32)
        collection.add(
            ids=[f"{i}:{text}" for i, text in enumerate(TEXTS)],
            embeddings=[np.roll(bits, i).view(np.float32) for i in range(5)],
            documents=TEXTS,
            metadatas=[
                {"int": 2**63 - 1, "float": 0.1, "tiny": 5e-324},
                {"float": 1.0, "int": 1, "true": True},
                {"list": [1, 2], "floats": [1.0, 2.5], "flags": [False], TEXTS[3]: TEXTS[2]},
                {"negative": -(2**63), "large": 1e308},
                {"minus zero": -0.0},
            ],
        )
        collection.add(ids=["plain"], embeddings=[[1, 2, 3, 4, 5]])
        collection.add(ids=["uri"], embeddings=[[1, 2, 3, 4, 5]], uris=["file:///x"])
        api: Any = client._server  # a tenant of this name cannot be made, a database of it can
        api.create_database("of-nobody", "t")
        home = {"tenant": "t", "database": "of-nobody"}
        alone = api.create_collection("alone", **home)
        api._add(["one"], alone.id, [[1.0]], **home)
    return path


def everything(path: Path) -> dict[Any, Any]:
    found = {}
    with SourceDatabase(path) as database:
        for model in database.collections(database.databases(None, None), None):
            rows = [
                (id, vector.tobytes(), document, uri, json.dumps(metadata, sort_keys=True))
                for page in database.pages(model.id, database.ids(model.id), 7)
                for id, vector, document, uri, metadata in zip(
                    page.ids, page.vectors, page.documents, page.uris, page.metadatas, strict=True
                )
            ]
            found[model.tenant, model.database, model.name] = (
                model.metadata, model.configuration_json, model.serialized_schema, rows
            )  # fmt: skip
    return found


@pytest.mark.parametrize("kind", list(EXPORTS))
@pytest.mark.parametrize("batch", [3, 1000])
def test_there_and_back(kind: str, batch: int, database: Path, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    steps: list[int] = []
    done = EXPORTS[kind](
        database, tmp_path / "out", batch=batch, progress=lambda _, rows: steps.append(rows)
    )
    assert done.ok
    assert done.rows == done.copied == 192
    assert steps
    assert not list((tmp_path / "out").glob("*.tmp"))
    back = import_files(tmp_path / "out", tmp_path / "back", batch=batch)
    assert back.ok
    assert everything(tmp_path / "back") == everything(database)


def test_a_database_that_is_open_in_the_process(database: Path, tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(database) as client:
        assert vexfs_chroma.export_jsonl(database, tmp_path / "out").ok
        client.delete_collection("corners")
        assert import_files(tmp_path / "out", database, on_conflict="skip").copied == 7
        assert client.get_collection("corners", embedding_function=None).count() == 7


def test_jsonl_needs_nothing_to_be_read(database: Path, tmp_path: Path) -> None:
    vexfs_chroma.export_jsonl(database, tmp_path / "out", collections=["corners"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (entry,) = manifest["collections"]
    assert (entry["rows"], entry["dimension"]) == (7, 5)
    lines = (tmp_path / "out" / entry["file"]).read_text().split("\n")
    assert len(lines) == 8  # the last one is empty
    record = json.loads(lines[0])
    assert np.float32(record["embedding"][3]) == np.float32(0.1)
    assert record["metadata"]["int"] == 2**63 - 1


def test_numpy_reads_npz(database: Path, tmp_path: Path) -> None:
    vexfs_chroma.export_npz(database, tmp_path / "out", collections=["inner"])
    (path,) = (tmp_path / "out").glob("*.npz")
    with np.load(path) as loaded:
        assert loaded["vectors"].shape == (23, 5)
        assert loaded["vectors"].dtype == np.float32
    with zipfile.ZipFile(path) as archive:
        assert len(archive.read("records.jsonl").splitlines()) == 23


def test_chroma_reads_what_is_exported_to_it(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "chroma"
    done = export_chroma(database, out, batch=10)
    assert done.ok, done
    for tenant, name in [("tenant-b", "database-b"), ("default_tenant", "default_database")]:
        with (
            chromadb.PersistentClient(out, tenant=tenant, database=name) as theirs,
            vexfs_chroma.PersistentClient(database, tenant=tenant, database=name) as ours,
        ):
            assert type(theirs._server).__name__ == "RustBindingsAPI"
            names = {collection.name for collection in theirs.list_collections()}
            assert names == {collection.name for collection in ours.list_collections()}
            for name in names:
                compare(*(c.get_collection(name, embedding_function=None) for c in (theirs, ours)))
    with chromadb.PersistentClient(str(out), chromadb.Settings(anonymized_telemetry=True)):
        pass  # nothing of the export is left open, whose settings would be others
    assert import_chroma(out, tmp_path / "back").ok
    assert everything(tmp_path / "back").keys() == everything(database).keys()


def compare(theirs: Any, ours: Any) -> None:
    assert theirs.metadata == ours.metadata
    assert theirs.configuration_json == ours.configuration_json
    there, here = (collection.get(include=EVERYTHING) for collection in (theirs, ours))
    assert there["ids"] == here["ids"]
    for what in ("documents", "metadatas", "uris"):
        assert there[what] == here[what]
    if ours.configuration_json["hnsw"]["space"] != "cosine":  # which Chroma rounds
        assert np.array_equal(there["embeddings"], here["embeddings"])


def test_export_to_chroma_needs_the_real_one(database: Path, tmp_path: Path) -> None:
    vexfs_chroma.install()
    try:
        with pytest.raises(InvalidArgumentError, match="uninstall"):
            export_chroma(database, tmp_path / "out")
    finally:
        vexfs_chroma.uninstall()


def test_export_to_chroma_tells_of_sparse_vectors(tmp_path: Path) -> None:
    """Chroma's local databases cannot have them; everything else is there."""
    schema = Schema().create_index(key="sparse", config=SparseVectorIndexConfig())
    sparse = SparseVector(indices=[1, 7], values=[0.5, 2.0])
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        words = client.create_collection("words", embedding_function=None, schema=schema)
        words.add(
            ids=["a", "b"],
            embeddings=[[1, 2], [3, 4]],
            metadatas=[{"sparse": sparse, "kept": 1}, {"kept": 2}],
        )
        client.create_collection("other", embedding_function=None).add("c", [[5, 6]])
    report = export_chroma(tmp_path / "db", tmp_path / "out")
    assert [(c.name, c.copied, c.incomplete) for c in report.collections] == [
        ("words", 2, 1),
        ("other", 1, 0),
    ]
    assert not report.ok
    assert "sparse vectors" in report.collections[0].notes[0]
    with chromadb.PersistentClient(tmp_path / "out") as client:
        found = client.get_collection("words", embedding_function=None).get()
        assert found["metadatas"] == [{"kept": 1}, {"kept": 2}]


@pytest.mark.parametrize("export", [*EXPORTS.values(), export_chroma])
def test_only_into_a_new_directory(export: Any, database: Path, tmp_path: Path) -> None:
    if export is EXPORTS["parquet"]:
        pytest.importorskip("pyarrow")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InvalidArgumentError, match="not empty"):
        export(database, tmp_path / "out")
    with pytest.raises(NotFoundError, match="does not exist"):
        export(tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "nowhere").exists()


def test_parquet_without_pyarrow(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"vexfs-chroma\[parquet\]"):
        vexfs_chroma.export_parquet(database, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("argument", ["collections", "databases", "tenants"])
def test_what_is_no_choice_is_refused(argument: str, database: Path, tmp_path: Path) -> None:
    chroma, out = tmp_path / "chroma", tmp_path / "out"
    chroma.mkdir()
    for wrong in ("inner", b"inner", 5, True, [1], [["inner"]], iter(["inner"])):
        for call, source in ((vexfs_chroma.export_jsonl, database), (import_chroma, chroma)):
            with pytest.raises(InvalidArgumentError, match=f"{argument} must be a list of names"):
                call(source, out, **{argument: wrong})
    assert not out.exists()


@pytest.mark.parametrize("batch", [0, -1, True, 1.5, "10", None])
def test_a_batch_is_a_number_of_records(batch: Any, database: Path, tmp_path: Path) -> None:
    vexfs_chroma.export_jsonl(database, tmp_path / "there", collections=["inner"])
    for call, source in (
        (vexfs_chroma.export_jsonl, database),
        (import_files, tmp_path / "there"),
        (import_chroma, tmp_path),
    ):
        with pytest.raises(InvalidArgumentError, match="batch must be an int of at least 1, got"):
            call(source, tmp_path / "out", batch=batch)
    assert not (tmp_path / "out").exists()


def test_only_a_finished_export_is_imported(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    vexfs_chroma.export_jsonl(database, out, collections=["inner", "corners"])
    with pytest.raises(vexfs_chroma.ConflictError):
        import_files(out, database)
    assert all(c.skipped for c in import_files(out, database, on_conflict="skip").collections)
    before = everything(database)
    assert import_files(out, database, on_conflict="replace").ok
    assert everything(database) == before
    (damaged,) = out.glob("*inner.jsonl")
    damaged.write_bytes(damaged.read_bytes()[:1000])
    report = import_files(out, tmp_path / "other")
    assert [c.ok for c in report.collections] == [c.name != "inner" for c in report.collections]
    (out / "manifest.json").unlink()
    with pytest.raises(vexfs_chroma.SourceError, match="did not finish"):
        import_files(out, tmp_path / "other")


def test_formats_are_all_there() -> None:
    assert set(EXPORTS) == set(_files.FORMATS)
    assert all(hasattr(vexfs_chroma, name) for name in _migrate.__all__)
