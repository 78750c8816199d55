"""Damaged Chroma directories: what is left comes over, and what is lost is told, row by row."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chroma_fixtures import VERSIONS, records, same_vector, segment, unpack

import vexfs_chroma
from vexfs_chroma import import_chroma
from vexfs_chroma._migrate._pickle import read_index_metadata

NEWEST = "1.5.9"
COSINE = {"cosine", "configured"}
HOME = ("default_tenant", "default_database")


class Damaged:
    """A directory to damage, and what it held."""

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.expected = unpack(version, path)
        self._to = path / "vexfs"
        self._problems = path / "problems.jsonl"

    def imported(self, name: str) -> tuple[Any, dict[str, Any]]:
        """Import it; the report of one collection and its records, all of which are right."""
        self.report = import_chroma(self.path, self._to, report=self._problems)
        (done,) = (c for c in self.report.collections if (c.tenant, c.database, c.name)
                   == (*HOME, name))  # fmt: skip
        (expected,) = (c for c in self.expected if (c["tenant"], c["database"], c["name"])
                       == (*HOME, name))  # fmt: skip
        found = records(self._to, *HOME, name)[1]
        for i, id in enumerate(expected["ids"]):
            if id in found:
                vector = expected["embeddings"][i]
                assert same_vector(found[id][0], vector, cosine=name in COSINE), id
                assert found[id][1] == expected["documents"][i]
                assert (found[id][2] or None) == (expected["metadatas"][i] or None)
        assert found.keys() <= set(expected["ids"])
        assert done.copied == done.counted == len(found)
        return done, found

    def problems(self, name: str) -> list[dict[str, Any]]:
        """What the report file says of a collection."""
        lines = [json.loads(line) for line in self._problems.read_text().splitlines()]
        return [line for line in lines if line["collection"] == name]


@pytest.fixture
def damaged(tmp_path: Path) -> Damaged:
    return Damaged(tmp_path, NEWEST)


def test_no_index_directory(damaged: Damaged) -> None:
    shutil.rmtree(segment(damaged.path, "euclid"))
    done, found = damaged.imported("euclid")
    assert not damaged.report.ok
    assert done.without_vector == done.lost > 0
    assert found  # what the log has
    problems = damaged.problems("euclid")
    assert len(problems) == done.lost
    assert all("no vector" in line["problem"] for line in problems)
    by_id = {line["id"]: line for line in problems}
    assert by_id["id-12"]["document"] == "tea is ready 12"  # can be embedded again
    assert by_id["id-12"]["metadata"]["i"] == 12
    assert all(c.ok for c in damaged.report.collections if c is not done)


def test_vectors_cut_short(damaged: Damaged) -> None:
    path = segment(damaged.path, "inner") / "data_level0.bin"
    os.truncate(path, 1000)
    done, found = damaged.imported("inner")
    assert 0 < done.without_vector < done.rows
    assert len(found) == done.rows - done.without_vector
    assert any("cut short" in note for note in done.notes)


def test_no_vectors_file(damaged: Damaged) -> None:
    (segment(damaged.path, "inner") / "data_level0.bin").unlink()
    done, _ = damaged.imported("inner")
    assert done.without_vector > 0
    assert any("data_level0.bin" in note for note in done.notes)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"short"])
def test_header_damaged(damaged: Damaged, content: bytes) -> None:
    """Its sizes follow from the configuration."""
    for name in ("inner", "cosine"):
        (segment(damaged.path, name) / "header.bin").write_bytes(content)
    done, _ = damaged.imported("inner")
    assert done.ok
    assert any("computed" in note for note in done.notes)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", ["inner", "cosine", "configured"])
def test_ids_cut_short(damaged: Damaged, part: float, name: str) -> None:
    """Chroma's most frequent end: killed while it wrote the list of ids."""
    path = segment(damaged.path, name) / "index_metadata.pickle"
    os.truncate(path, int(path.stat().st_size * part))
    done, _ = damaged.imported(name)  # compares every vector
    assert any("pickle" in note for note in done.notes)
    if name != "cosine":
        assert done.ok, done
    else:  # the log has no vector that the index has, too, so nothing confirms their order
        assert done.without_vector == len(damaged.problems(name)) == done.lost


@pytest.mark.parametrize("version", ["0.5.23", "0.6.3"])
def test_ids_lost_before_1_0(version: str, tmp_path: Path) -> None:
    """The vectors were not numbered in order then: nothing is guessed."""
    damaged = Damaged(tmp_path, version)
    (segment(damaged.path, "euclid") / "index_metadata.pickle").write_bytes(b"")
    done, found = damaged.imported("euclid")  # compares every vector
    assert done.without_vector + len(found) == done.rows


def test_lengths_lost(damaged: Damaged) -> None:
    """With cosine, only the direction of a vector is left then."""
    (segment(damaged.path, "configured") / "length.bin").unlink()
    report = import_chroma(damaged.path, damaged.path.parent / "vexfs")
    (done,) = (c for c in report.collections if c.name == "configured")
    assert not done.ok
    assert done.direction_only > 0
    assert done.copied == done.rows
    found = records(damaged.path.parent / "vexfs", *HOME, "configured")[1]
    (expected,) = (c for c in damaged.expected if c["name"] == "configured")
    for id, vector in zip(expected["ids"], expected["embeddings"], strict=True):
        shown = np.frombuffer(bytes.fromhex(vector), np.float32)
        cosine = shown @ found[id][0] / np.linalg.norm(shown) / np.linalg.norm(found[id][0])
        assert cosine > 0.99999


def root_pages(path: Path, name: str) -> tuple[int, list[int]]:
    """Page size, and the pages of a table but its first."""
    with sqlite3.connect(path) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()[0]
    connection.close()
    data = path.read_bytes()
    page = data[(root - 1) * size : root * size]
    cells = int.from_bytes(page[3:5], "big")
    assert page[0] in (2, 5)  # an interior page
    at = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(cells)]
    return size, [int.from_bytes(page[cell : cell + 4], "big") for cell in at]


@pytest.mark.parametrize(
    "table",
    [
        "embeddings",
        "embedding_metadata",
        "embeddings_queue",
        "sqlite_autoindex_embeddings_1",
        "sqlite_autoindex_embedding_metadata_1",
    ],
)
def test_a_damaged_page_of_sqlite(damaged: Damaged, table: str) -> None:
    path = damaged.path / "chroma.sqlite3"
    size, pages = root_pages(path, table)
    with path.open("r+b") as file:
        file.seek((pages[0] - 1) * size)
        file.write(b"\xa5" * size)
    problems = damaged.path.parent / "problems.jsonl"
    report = import_chroma(damaged.path, damaged.path.parent / "vexfs", report=problems)
    if table.startswith("sqlite_autoindex"):
        assert report.ok, report  # the table has the same
    else:
        assert not report.ok
        assert any(table in text for text in report.damage)
    everything = sum(len(c["ids"]) for c in damaged.expected)
    assert report.copied > everything // 3
    if table == "embeddings":
        assert report.copied == everything  # the ids are in the index, too
    if table == "embedding_metadata":
        incomplete = sum(c.incomplete for c in report.collections)
        assert 0 < incomplete == problems.read_text().count("metadata damaged") < everything


def test_documents_are_found_in_the_full_text_table(damaged: Damaged) -> None:
    path = damaged.path / "chroma.sqlite3"
    size, pages = root_pages(path, "embedding_metadata")
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)
    report = import_chroma(damaged.path, damaged.path.parent / "vexfs")
    assert not report.ok
    found = records(damaged.path.parent / "vexfs", *HOME, "inner")[1]
    assert found["id-1"][1] == "the train is late 1"


def test_a_collection_that_cannot_be_created_is_told(damaged: Damaged) -> None:
    with sqlite3.connect(damaged.path / "chroma.sqlite3") as connection:
        connection.execute("UPDATE collections SET name = 'a' WHERE name = 'inner'")
        connection.execute("UPDATE collections SET schema_str = '{' WHERE name = 'cosine'")
    connection.close()
    report = import_chroma(damaged.path, damaged.path.parent / "vexfs")
    by_name = {c.name: c for c in report.collections}
    assert by_name["a"].error is not None
    assert by_name["a"].lost == 23
    assert by_name["cosine"].ok  # metadata has the space, too
    assert any("schema" in text for text in report.damage)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    for protocol in range(2, 6):
        assert read_index_metadata(pickle.dumps(Evil(), protocol)).labels == {}
        nested = pickle.dumps({"id_to_label": {"a": 1}, "x": Evil()}, protocol)
        assert read_index_metadata(nested).labels == {"a": 1}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_ends_the_import(seed: int, tmp_path: Path) -> None:
    """Nor does it bring wrong vectors: all but those in damaged bytes are compared."""
    damage_at_random(seed, tmp_path)


def damage_at_random(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    source, _ = unpack(rng.choice(VERSIONS), tmp_path)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in rng.sample(files, 6) + [source / "chroma.sqlite3"] * (seed % 2):
        data = bytearray(path.read_bytes() if path.exists() else b"")
        if not data:
            continue
        kind = rng.randrange(4)
        at = rng.randrange(len(data))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at : at + 600] = bytes(rng.randrange(256) for _ in range(600))
        elif kind == 2:
            data[at] ^= 1 << rng.randrange(8)
        else:
            path.unlink()
            continue
        path.write_bytes(data)
    try:
        report = import_chroma(source, tmp_path / "vexfs", report=tmp_path / "problems.jsonl")
    except vexfs_chroma.SourceError:
        return
    assert all(c.copied == c.counted or c.error for c in report.collections)
    told = len((tmp_path / "problems.jsonl").read_text().splitlines())
    assert told >= sum(c.without_vector + c.refused for c in report.collections)
