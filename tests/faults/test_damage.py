"""A changed byte in any region of any file of one collection of three.

The answers of the damaged collection are right, or a CorruptionError that names the file and tells
what to do; what does not need the damaged part is right (REGIONS says what that is).  The other
collections go on as if nothing was.  Byte by byte, in C: csrc/tests/t_faults_damage.c; the catalog:
tests/unit/test_catalog_damage.py.
"""

from __future__ import annotations

import os
import shutil
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vexfs_chroma
from vexfs_chroma import CorruptionError

pytestmark = pytest.mark.faults

ROWS, DIMENSION = 1500, 64
NAMES = ("first", "damaged", "third")
VECTORS = np.random.default_rng(1).random((ROWS, DIMENSION), np.float32)
IDS = [f"r{i}" for i in range(ROWS)]
DOCUMENTS = [f"number {i} of some words that are {'even' if i % 2 == 0 else 'odd'}" for i in range(ROWS)]  # fmt: skip # noqa: E501
METADATAS = [{"n": i, "s": f"text {i % 7}"} for i in range(ROWS)]

SECTIONS = {
    1: "INFO", 2: "SEQS", 3: "VECTORS", 4: "NORMS", 5: "IDS", 6: "ID_INDEX", 7: "DOCUMENTS",
    8: "METADATA", 9: "URIS", 10: "COLUMNS", 11: "TOMBS", 13: "CODES", 14: "SPARSE", 15: "TEXT",
    17: "WORDS",
    32: "SOURCES", 33: "LINKS", 34: "UPPER",
}  # fmt: skip


@dataclass
class Database:
    path: Path
    collection: Path  # the directory of the damaged one
    answers: dict[str, Any] = field(default_factory=dict)


# ---- what is asked ----------------------------------------------------------------------------


def as_set(found: dict) -> set[str]:
    return set(found["ids"])


CALLS: dict[str, Callable[[Any], Any]] = {
    "count": lambda c: c.count(),
    "ids": lambda c: c.get(include=[])["ids"],
    "one": lambda c: c.get(ids=["r77"], include=[])["ids"],
    "documents": lambda c: c.get(include=["documents"])["documents"],
    "metadatas": lambda c: c.get(include=["metadatas"])["metadatas"],
    "embeddings": lambda c: c.get(include=["embeddings"])["embeddings"].tolist(),
    "where": lambda c: as_set(c.get(where={"n": {"$gte": 1450}}, include=[])),
    "text": lambda c: as_set(c.get(where_document={"$contains": "even"}, include=[])),
    "query": lambda c: [
        c.query(query_embeddings=VECTORS[i : i + 1], n_results=3, include=["distances"])["ids"]
        for i in range(0, ROWS, 150)
    ],
}
ALL = set(CALLS)

# What still must be answered when a byte in this region is wrong.  The rest is right or refused,
# and so is everything for other regions: what says where rows are is checked at opening.
REGIONS: dict[str, set[str]] = {
    "vec/VECTORS": ALL - {"embeddings", "query"},
    "vec/CODES": ALL,
    "pay/DOCUMENTS": ALL - {"documents", "text"},
    "pay/METADATA": ALL - {"metadatas", "where"},
    "pay/COLUMNS": ALL,
    "pay/TEXT": ALL,
    "pay/WORDS": ALL,
    "pay/SPARSE": ALL,
    "head/any": ALL,
    **{f"gra/{part}": ALL for part in ("INFO", "SOURCES", "LINKS", "UPPER", "header", "footer")},
}


def ask(collection: Any) -> dict[str, Any]:
    return {name: call(collection) for name, call in CALLS.items()}


# ---- the database -----------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def small_graphs() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEXFS_INDEX_ROWS", "100")
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_graphs: None) -> Database:
    path = tmp_path_factory.mktemp("damage") / "db"
    with vexfs_chroma.PersistentClient(path) as client:
        most = ROWS - 20
        collections = [client.create_collection(name, embedding_function=None) for name in NAMES]
        for collection in collections:
            collection.add(ids=IDS[:most], embeddings=VECTORS[:most],
                           documents=DOCUMENTS[:most], metadatas=METADATAS[:most])  # fmt: skip
        client.vacuum()
        for collection in collections:
            collection.delete(ids=IDS[:5])
            for i in range(
                most, ROWS
            ):  # the first one flushed with the deletes, the rest in the log
                collection.add(ids=[IDS[i]], embeddings=VECTORS[i : i + 1],
                               documents=[DOCUMENTS[i]], metadatas=[METADATAS[i]])  # fmt: skip
                if i == most:
                    collection.wait_for_index(60)
        answers = ask(client.get_collection("damaged", embedding_function=None))
        name = uuid.UUID(str(client.get_collection("damaged").id)).hex
    assert answers["ids"] == IDS[5:]
    return Database(path, path / "collections" / name, answers)


def files_of(database: Database) -> dict[str, Path]:
    """The largest file of every kind."""
    by_size = sorted(database.collection.iterdir(), key=lambda file: file.stat().st_size)
    return {file.name.split("-")[0]: file for file in by_size}


def places_in(file: Path) -> dict[str, list[int]]:
    """Offsets in every region of a file."""
    data = file.read_bytes()
    if data[:8] != b"VXSG\r\n\x1a\n":
        return {"any": sorted({int(part * (len(data) - 1)) for part in np.linspace(0, 1, 9)})}
    table, n = struct.unpack_from("<QI", data, len(data) - 64)
    places = {
        "header": [0, 20, 61],
        "table": [table + 5],
        "footer": [len(data) - 60, len(data) - 1],
    }
    for at in range(table, table + 48 * n, 48):
        kind, _, offset, length = struct.unpack_from("<IIQQ", data, at)
        if SECTIONS[kind] in {
            "DOCUMENTS",
            "METADATA",
            "URIS",
        }:  # columns with a header of their own
            places[f"{SECTIONS[kind]} header"] = [offset, offset + 62, offset + 70]
            places[SECTIONS[kind]] = [offset + length // 2, offset + length - 1]
        elif (
            SECTIONS[kind] == "CODES"
        ):  # not where they share 64 KiB, and a checksum, with the vectors
            places["CODES"] = [offset + length // 2, offset + length - 1]
        elif length:
            places[SECTIONS[kind]] = sorted({offset, offset + length // 2, offset + length - 1})
    return places


def test_there_are_files_of_every_kind(made: Database) -> None:
    assert set(files_of(made)) == {"vec", "pay", "del", "gra", "wal", "manifest", "head"}
    for kind, expected in {
        "vec": {"INFO", "SEQS", "NORMS", "VECTORS", "CODES"},
        "pay": {
            "INFO",
            "SEQS",
            "IDS",
            "ID_INDEX",
            "DOCUMENTS",
            "METADATA",
            "COLUMNS",
            "TEXT",
            "WORDS",
        },
        "del": {"INFO", "TOMBS"},
        "gra": {"INFO", "SOURCES", "LINKS"},
    }.items():
        assert expected <= set(places_in(files_of(made)[kind]))


# ---- damage -----------------------------------------------------------------------------------


def check_the_others(client: Any, made: Database) -> None:
    for name in NAMES:
        if name != "damaged":
            collection = client.get_collection(name, embedding_function=None)
            assert ask(collection) == made.answers
            collection.upsert(ids=["new"], embeddings=VECTORS[:1], documents=["new"])
            collection.delete(ids=["new"])
            assert collection.count() == made.answers["count"]


def check_error(error: CorruptionError, path: Path) -> None:
    text = str(error)
    assert str(path) in text, text
    assert "restore" in text, text


def check_the_damaged(client: Any, made: Database, path: Path, must: set[str]) -> int:
    """How many calls were refused."""
    told = 0
    try:
        collection = client.get_collection("damaged", embedding_function=None)
    except CorruptionError as error:
        check_error(error, path)
        assert not must
        return len(CALLS)
    for name, call in CALLS.items():
        answer = outcome(call, collection)
        if isinstance(answer, CorruptionError):
            check_error(answer, path)
            assert name not in must, f"{name}: {answer}"
            told += 1
        else:
            assert answer == made.answers[name], f"{name}: a wrong answer"
    return told


def outcome(call: Callable[[Any], Any], collection: Any) -> Any:
    try:
        return call(collection)
    except CorruptionError as error:
        return error


@pytest.mark.parametrize("kind", ["vec", "pay", "del", "gra", "wal", "manifest", "head"])
def test_a_changed_byte(made: Database, kind: str, tmp_path: Path) -> None:
    original = files_of(made)[kind]
    told = 0
    for region, places in places_in(original).items():
        for number, at in enumerate(places):
            path = tmp_path / f"{region}-{number}"
            shutil.copytree(made.path, path)
            file = path / original.relative_to(made.path)
            with file.open("r+b") as opened:
                opened.seek(at)
                byte = opened.read(1)[0]
                opened.seek(at)
                opened.write(bytes([byte ^ 1 << at % 8]))
            with vexfs_chroma.PersistentClient(path) as client:
                check_the_others(client, made)
                must = REGIONS.get(f"{kind}/{region}", set())
                told += check_the_damaged(client, made, path, must)
                if kind == "gra":
                    check_rebuilt(client)
                check_the_others(client, made)
                client.delete_collection("damaged")  # also when it is damaged
                assert len(client.list_collections()) == 2
            shutil.rmtree(path)
    assert (told > 0) == (kind not in {"gra", "head"})


def check_rebuilt(client: Any) -> None:
    """A graph is derived: it is made anew, and that it was damaged is counted."""
    collection = client.get_collection("damaged", embedding_function=None)
    collection.wait_for_index(60)
    assert collection.stats()["index"]["unindexed_rows"] == 0
    assert collection.stats()["index"]["indexed_rows"] >= ROWS - 5


@pytest.mark.parametrize("kind", ["vec", "pay", "del", "wal", "manifest"])
@pytest.mark.parametrize("what", ["missing", "empty", "half", "zeros"])
def test_a_lost_file(made: Database, kind: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "db"
    shutil.copytree(made.path, path)
    file = path / files_of(made)[kind].relative_to(made.path)
    size = file.stat().st_size
    if what == "missing":
        file.unlink()
    elif what == "zeros":
        file.write_bytes(bytes(size))
    else:
        os.truncate(file, size // 2 if what == "half" else 0)
    with vexfs_chroma.PersistentClient(path) as client:
        check_the_others(client, made)
        assert check_the_damaged(client, made, path, set()) == len(CALLS)
        check_the_others(client, made)


@pytest.mark.parametrize("what", ["changed", "empty", "missing"])
def test_the_superblock(made: Database, what: str, tmp_path: Path) -> None:
    path = tmp_path / "db"
    shutil.copytree(made.path, path)
    file = path / "VEXFS"
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    if what == "missing":
        file.unlink()
    else:
        file.write_bytes(bytes(data) if what == "changed" else b"")
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(CorruptionError) as caught:
        vexfs_chroma.PersistentClient(path)
    check_error(caught.value, path)
    after = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert after == before
