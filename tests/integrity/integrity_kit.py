"""A database with every kind of file, what it holds, and ways to damage it."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import vexfs_chroma

DIMENSION = 8
Record = tuple[bytes, str | None, dict[str, Any] | None]
"""Vector, document, metadata."""
Contents = dict[str, dict[str, Record]]
"""Records by id, in order of insertion, by the collection's name."""

SECTIONS = {
    1: "INFO", 2: "SEQS", 3: "VECTORS", 4: "NORMS", 5: "IDS", 6: "ID_INDEX", 7: "DOCUMENTS",
    8: "METADATA", 9: "URIS", 10: "COLUMNS", 11: "TOMBS", 13: "CODES", 14: "SPARSE", 15: "TEXT",
    17: "WORDS",
}  # fmt: skip


def make_database(path: Path) -> Contents:
    """Three collections: files with dead rows and a log; a log alone; nothing."""
    with vexfs_chroma.PersistentClient(path) as client:
        for number, name in enumerate(("first", "second")):
            collection = client.create_collection(
                name, metadata={"number": number}, embedding_function=None
            )
            random_ = np.random.default_rng(number)
            for part in range(3):
                add(collection, random_, name, part, 40 + number)
                if part < 2:
                    change(collection, random_, name, part)
                    flush(client, collection)
            change(collection, random_, name, 2)
        add(client.create_collection("logged", embedding_function=None), random_, "logged", 0, 9)
        client.create_collection("empty", embedding_function=None)
    return contents(path)


def add(collection: Any, random_: Any, name: str, part: int, n: int) -> None:
    collection.add(
        ids=[f"{name}-{part}-{i}" for i in range(n)],
        embeddings=random_.standard_normal((n, DIMENSION), dtype=np.float32),
        documents=[f"document {i} of part {part}, " + f"word{i % 7} " * (i + 1) for i in range(n)],
        metadatas=[{"n": i, "part": part, "text": "x" * (i % 5 + 1)} for i in range(n)],
    )


def change(collection: Any, random_: Any, name: str, part: int) -> None:
    """Replace a document, replace vectors, delete: of this part and of those before."""
    for before in range(part + 1):
        collection.update(ids=[f"{name}-{before}-{3 + part}"], metadatas=[{"n": 1000 + part}])
        collection.update(
            ids=[f"{name}-{before}-{10 + part}"],
            embeddings=random_.standard_normal((1, DIMENSION), dtype=np.float32),
        )
        collection.delete(ids=[f"{name}-{before}-{20 + part}"])


def flush(client: Any, collection: Any) -> None:
    client._server._open(collection.id).engine.flush()
    client.wait_idle()


def contents(path: Path, *, read_only: bool = True) -> Contents:
    with vexfs_chroma.PersistentClient(path, read_only=read_only) as client:
        return {collection.name: records(collection) for collection in client.list_collections()}


def records(collection: Any) -> dict[str, Record]:
    got = collection.get(include=["embeddings", "documents", "metadatas"])
    vectors = [np.asarray(v, dtype=np.float32).tobytes() for v in got["embeddings"]]
    return dict(
        zip(got["ids"], zip(vectors, got["documents"], got["metadatas"], strict=True), strict=True)
    )


def directory_of(path: Path, name: str) -> Path:
    with vexfs_chroma.PersistentClient(path, read_only=True) as client:
        return path / "collections" / client.get_collection(name).id.hex


def digest(directory: Path) -> dict[str, str]:
    """What is in the files below a directory."""
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


@dataclass(slots=True)
class World:
    """A copy of the database that may be damaged."""

    path: Path
    expected: Contents
    directories: dict[str, Path] = field(default_factory=dict)

    def copy(self, to: Path) -> World:
        shutil.copytree(self.path, to)
        directories = {
            name: to / directory.relative_to(self.path)
            for name, directory in self.directories.items()
        }
        return World(to, self.expected, directories)


def sections(file: Path) -> dict[str, tuple[int, int]]:
    """Offset and length of the sections of a container."""
    data = file.read_bytes()
    footer = data[-64:]
    table, n = int.from_bytes(footer[:8], "little"), int.from_bytes(footer[8:12], "little")
    found = {}
    for i in range(n):
        entry = data[table + 48 * i : table + 48 * i + 48]
        kind = int.from_bytes(entry[:4], "little")
        offset, length = (int.from_bytes(entry[a : a + 8], "little") for a in (8, 16))
        if length:
            found[SECTIONS.get(kind, str(kind))] = (offset, length)
    return found


def regions(file: Path) -> dict[str, tuple[int, int]]:
    """All parts of a file in which every byte counts: offset and length."""
    size = file.stat().st_size
    if file.suffix in {".vxv", ".vxp", ".vxd", ".vxg"}:
        table = int.from_bytes(file.read_bytes()[-64:-56], "little")
        return {
            "header": (0, 64),
            **sections(file),
            "tables": (table, size - 64 - table),
            "footer": (size - 64, 64),
        }
    if file.name.startswith("wal-"):
        last = len(file.read_bytes().rstrip(b"\0")) // 2
        return {"header": (0, 64), "first record": (64, 100), "middle": (last, 100)}
    if file.name.startswith("manifest-"):
        return {"header": (0, 64), "body": (64, size - 64)}
    return {"all": (0, min(size, 64))}


def flip_bit(file: Path, at: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    file.write_bytes(data)


def overwrite(file: Path, at: int, length: int, seed: int) -> None:
    data = bytearray(file.read_bytes())
    data[at : at + length] = random.Random(seed).randbytes(len(data[at : at + length]))
    file.write_bytes(data)


def read_everything(world: World) -> list[str]:
    """Read all that can be read; what is read is right, or a known error.  Returns the errors."""
    errors = []
    allowed = (
        vexfs_chroma.CorruptionError,
        vexfs_chroma.ForeignDatabaseError,
    )
    try:
        client = vexfs_chroma.PersistentClient(world.path, read_only=True)
    except allowed as error:
        return [str(error)]
    with client:
        for name, expected in world.expected.items():
            try:
                found = records(client.get_collection(name, embedding_function=None))
            except allowed as error:
                errors.append(str(error))
                continue
            assert found == expected, f"wrong records in {name}"
            assert list(found) == list(expected)
    return errors


def may_be_hurt(id: str, kind: str, part: int) -> bool:
    """Has the record a row in that file?  Files hold what was written since the file before; logs
    hold the last part.  Rows changed later are in later files.
    """
    own, row = map(int, id.split("-")[1:])
    changed = range(3, 6) if kind == "pay" else range(10, 13) if kind == "vec" else range(3, 13)
    return own == part or (own < part and row in changed)
