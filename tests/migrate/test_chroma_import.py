"""Chroma directories of all releases come over as those releases show them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import chroma_fixtures as fixtures
import pytest
from chroma_fixtures import VERSIONS, records, same_vector, segment, snapshot, unpack
from chromadb.errors import InvalidArgumentError
from disks import mounted_again

import vexfs_chroma
from vexfs_chroma import import_chroma

NEWEST = "1.5.9"


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_comes_over(version: str, tmp_path: Path) -> None:
    source, expected = unpack(version, tmp_path)
    before = snapshot(source)
    target = tmp_path / "vexfs"
    report = import_chroma(source, target)
    assert snapshot(source) == before
    assert report.ok, report
    assert len(report.collections) == len(expected)
    for collection in expected:
        compare(target, collection, version)


def compare(target: Path, expected: dict[str, Any], version: str) -> None:
    home = expected["tenant"], expected["database"], expected["name"]
    collection, found = records(target, *home)
    assert collection.metadata == expected["metadata"]
    configuration = expected["configuration"]
    if configuration is not None and "hnsw" in configuration:
        assert collection.configuration_json == configuration
    space = collection.configuration_json["hnsw"]["space"]
    assert space == (expected["metadata"] or {}).get("hnsw:space", space)
    if version != "0.4.24":  # it shows them in another order than that of insertion
        assert list(found) == expected["ids"]
    assert sorted(found) == sorted(expected["ids"])
    uris = expected["uris"] or [None] * len(found)
    for id, document, metadata, uri, vector in zip(
        expected["ids"], expected["documents"], expected["metadatas"], uris,
        expected["embeddings"], strict=True,
    ):  # fmt: skip
        mine = found[id]
        assert same_vector(mine[0], vector, cosine=space == "cosine"), id
        assert mine[1] == document
        assert (mine[2] or None) == metadata or mine[2] == metadata  # with a uri: {} since 1.0
        assert [type(v) for v in (mine[2] or {}).values()] == [
            type((metadata or {})[k]) for k in mine[2] or {}
        ]
        assert mine[3] == uri


def test_filters(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    chosen = import_chroma(source, tmp_path / "a", tenants=["tenant-b"])
    assert [c.tenant for c in chosen.collections] == ["tenant-b"]
    chosen = import_chroma(source, tmp_path / "b", databases=["database-b"])
    assert {c.database for c in chosen.collections} == {"database-b"}
    chosen = import_chroma(source, tmp_path / "c", collections=["cosine", "inner"])
    assert sorted(c.name for c in chosen.collections) == ["cosine", "inner"]


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    source, expected = unpack(NEWEST, tmp_path)
    report = import_chroma(source, tmp_path / "target", dry_run=True)
    assert report.copied == sum(len(c["ids"]) for c in expected)
    assert not (tmp_path / "target").exists()


def test_conflicts(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    target = tmp_path / "target"
    with vexfs_chroma.PersistentClient(target) as client:
        client.create_collection("inner").add(ids=["mine"], embeddings=[[1.0]])
    with pytest.raises(vexfs_chroma.ConflictError, match="inner"):
        import_chroma(source, target)
    with vexfs_chroma.PersistentClient(target) as client:
        assert client.count_collections() == 1
    report = import_chroma(source, target, on_conflict="skip")
    assert report.ok
    assert [c.name for c in report.collections if c.skipped] == ["inner"]
    assert list(records(target, "default_tenant", "default_database", "inner")[1]) == ["mine"]
    report = import_chroma(source, target, on_conflict="replace")
    assert report.ok
    assert len(records(target, "default_tenant", "default_database", "inner")[1]) == 23


def test_an_unfinished_transaction_is_undone_in_a_copy(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    file = source / "chroma.sqlite3"
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA cache_size = 1")  # writes pages before the transaction ends
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE embedding_metadata SET string_value = 'never committed' || key")
    journal = file.with_name(file.name + "-journal")
    killed = tmp_path / "killed"
    for name, content in snapshot(source).items():
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        (killed / name).write_bytes(content)
    assert journal.exists()
    assert b"never committed" in (killed / "chroma.sqlite3").read_bytes()
    writer.execute("ROLLBACK")
    writer.close()
    before = snapshot(killed)
    report = import_chroma(killed, tmp_path / "target")
    assert report.ok
    assert snapshot(killed) == before
    found = records(tmp_path / "target", "default_tenant", "default_database", "inner")[1]
    assert found["id-1"][1] == "the train is late 1"


def test_a_write_ahead_log_is_honoured(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    writer = sqlite3.connect(source / "chroma.sqlite3", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE embedding_metadata SET string_value = 'in the WAL' WHERE key = 'text'")
    killed = tmp_path / "killed"
    for name, content in snapshot(source).items():
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        (killed / name).write_bytes(content)
    writer.close()
    before = snapshot(killed)
    assert import_chroma(killed, tmp_path / "target").ok
    assert snapshot(killed) == before
    found = records(tmp_path / "target", "default_tenant", "default_database", "inner")[1]
    assert found["id-1"][2]["text"] == "in the WAL"


def test_an_empty_write_ahead_log_makes_no_files(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    writer = sqlite3.connect(source / "chroma.sqlite3", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.close()
    before = snapshot(source)
    assert before["chroma.sqlite3"][18:20] == b"\2\2"
    assert import_chroma(source, tmp_path / "target").ok
    assert snapshot(source) == before


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ((0, "new", "[1,2,3,4,5]", {"a": 1}), {"new": {"a": 1}}),
        ((0, "id-1", "[1,2,3,4,5]", {"a": 1}), {"id-1": "unchanged"}),
        ((1, "id-1", None, {"i": None, "b": True}), {"id-1": {"b": True}}),
        ((1, "nobody", None, {"b": True}), {}),
        ((2, "id-1", "[5,4,3,2,1]", {"b": 0.5}), {"id-1": {"b": 0.5, "i": 1}}),
        ((3, "id-1", None, {}), {"id-1": None}),
    ],
)
def test_the_log_is_applied(operation: Any, expected: Any, tmp_path: Path) -> None:
    """What Chroma had not applied when it was killed."""
    import numpy as np

    kind, id, vector, metadata = operation
    source, _ = unpack(NEWEST, tmp_path)
    writer = sqlite3.connect(source / "chroma.sqlite3", isolation_level=None)
    (topic,) = writer.execute(
        "SELECT 'persistent://default/default/' || id FROM collections WHERE name = 'inner'"
    ).fetchone()
    blob = None if vector is None else np.asarray(json.loads(vector), np.float32).tobytes()
    writer.execute(
        "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (kind, topic, id, blob, blob and "FLOAT32", json.dumps(metadata)),
    )
    writer.close()
    home = ("default_tenant", "default_database", "inner")
    import_chroma(unpack(NEWEST, tmp_path / "plain")[0], tmp_path / "before")
    before = records(tmp_path / "before", *home)[1]
    assert import_chroma(source, tmp_path / "target").ok
    found = records(tmp_path / "target", *home)[1]
    assert found.keys() - {"new"} == before.keys() - {i for i, v in expected.items() if v is None}
    for changed, what in expected.items():
        if what == "unchanged":
            assert found[changed][2] == before[changed][2]
            assert found[changed][0].tolist() == before[changed][0].tolist()
        elif what is not None:
            assert what.items() <= found[changed][2].items()
            assert "i" not in found[changed][2] or metadata.get("i", 1) is not None
            if vector is not None:
                assert found[changed][0].tolist() == json.loads(vector)


def test_numbers_of_the_log_as_bytes(tmp_path: Path) -> None:
    """Up to 0.5, sequence numbers were big-endian bytes."""
    source, expected = unpack("0.4.24", tmp_path)
    with sqlite3.connect(source / "chroma.sqlite3") as connection:
        kinds = {row[0] for row in connection.execute("SELECT typeof(seq_id) FROM max_seq_id")}
    connection.close()
    assert kinds == {"blob"}
    assert len(expected) == 8


def test_what_is_no_chroma_directory(tmp_path: Path) -> None:
    for make, message in [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "holds no Chroma database"),
        (lambda path: (path / "chroma-embeddings.parquet").touch(), "Chroma 0.3"),
        (lambda path: (path / "chroma.sqlite3").write_bytes(b"x" * 5000), "not an SQLite file"),
    ]:
        make(tmp_path / "source")
        with pytest.raises(vexfs_chroma.SourceError, match=message):
            import_chroma(tmp_path / "source", tmp_path / "target")
        assert not (tmp_path / "target").exists()


def test_source_and_target_must_differ(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    (tmp_path / "link").symlink_to(source)
    for target in (source, source / "inside", tmp_path / "link" / "inside" / "more"):
        with pytest.raises(InvalidArgumentError, match="in the directory"):
            import_chroma(source, target)


def test_another_path_of_the_source(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    assert import_chroma(source, tmp_path / "db").ok
    before = snapshot(source), snapshot(tmp_path / "db")
    with (
        mounted_again(source, tmp_path / "again") as again,
        pytest.raises(InvalidArgumentError, match="in the directory"),
    ):
        import_chroma(source, again / "inside")
    with mounted_again(tmp_path / "db", tmp_path / "again") as again:
        with pytest.raises(InvalidArgumentError, match="in the directory"):
            vexfs_chroma.export_jsonl(tmp_path / "db", again / "inside")
        with pytest.raises(InvalidArgumentError, match="lies in"):
            vexfs_chroma.backup(tmp_path / "db", again / "inside")
    assert (snapshot(source), snapshot(tmp_path / "db")) == before


def test_an_index_directory_that_was_never_filled(tmp_path: Path) -> None:
    """Chroma 0.4.15 leaves one for a collection that has no record: nothing is wrong with it."""
    source, _ = unpack("0.4.24", tmp_path)
    segment(source, "empty").mkdir(exist_ok=True)
    report = import_chroma(source, tmp_path / "target")
    assert report.ok
    assert [c.notes for c in report.collections if c.name == "empty"] == [[]]


def test_numbers_that_are_not_finite_are_told(tmp_path: Path) -> None:
    source, _ = unpack("0.6.3", tmp_path)
    with sqlite3.connect(source / "chroma.sqlite3") as connection:
        connection.execute(
            "UPDATE embedding_metadata SET float_value = 9e999, int_value = NULL, "
            "string_value = NULL, bool_value = NULL WHERE rowid = (SELECT min(rowid) FROM "
            "embedding_metadata WHERE key NOT LIKE 'chroma:%')"
        )
    connection.close()
    report = import_chroma(source, tmp_path / "target", report=tmp_path / "problems")
    assert not report.ok
    assert [c.incomplete for c in report.collections if not c.ok] == [1]
    assert report.lost == 0
    (line,) = map(json.loads, (tmp_path / "problems").read_text().splitlines())
    assert "NaN and infinity" in line["problem"]
    assert float("inf") in line["metadata"].values()


def test_the_report_is_not_written_over_a_database(tmp_path: Path) -> None:
    source, _ = unpack(NEWEST, tmp_path)
    assert import_chroma(source, tmp_path / "target").ok
    (tmp_path / "link").symlink_to(source)
    before = snapshot(tmp_path)
    for report in (
        source / "chroma.sqlite3",
        tmp_path / "link" / "chroma.sqlite3",
        tmp_path / "target" / "catalog.sqlite3",
    ):
        with pytest.raises(InvalidArgumentError, match="another place"):
            import_chroma(source, tmp_path / "target", on_conflict="skip", report=report)
        with pytest.raises(InvalidArgumentError, match="another place"):
            vexfs_chroma.repair(report.parent, report=report)
    assert snapshot(tmp_path) == before


def test_the_fixtures_reach_what_they_are_for(tmp_path: Path) -> None:
    """Some vectors are in the index only, some in the log only."""
    source, _ = unpack(NEWEST, tmp_path)
    assert (segment(source, "euclid") / "index_metadata.pickle").exists()
    assert not (segment(source, "log-only") / "index_metadata.pickle").exists()
    assert fixtures.VERSIONS == ["0.4.24", "0.5.23", "0.6.3", "1.0.20", "1.5.9"]
