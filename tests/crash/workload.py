"""The workload of the kill tests, and what a database must hold after it.

Operation number i of seed s is always the same, given the ones before it, so what a database must
hold after n of them can be computed, and nothing but n has to be remembered.  `Expected` computes
it, in memory, outside of the database; `write_until_killed` does the same to the database.
"""

from __future__ import annotations

import mmap
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIMENSION = 8
COLLECTIONS = ("killed-0", "killed-1", "killed-2")
IDS = 500

Row = tuple[list[float], str, dict[str, int]]  # vector, document, metadata
Stored = dict[str, Row]
"""A collection, in order of insertion."""
Contents = dict[str, Stored]
"""A database: its collections by name."""


@dataclass(frozen=True)
class Operation:
    number: int
    collection: str
    method: str  # of a collection; or create, drop, vacuum
    arguments: dict[str, Any] = field(default_factory=dict)


def operation(seed: int, number: int, existing: set[str]) -> Operation:
    """Operation `number`, when these collections exist.  Batches have one row to 300."""
    chance = random.Random(f"{seed}:{number}")
    collection = chance.choice(COLLECTIONS)
    method = chance.choice(
        ["add"] * 10 + ["upsert"] * 10 + ["update"] * 5 + ["delete"] * 5 + ["drop"] + ["vacuum"]
    )
    if collection not in existing:
        return Operation(number, collection, "create")
    if method in {"drop", "vacuum"}:
        return Operation(number, collection, method)
    size = chance.choice([1, 1, 3, 10, 30, 300])
    ids = [f"id{n}" for n in chance.sample(range(IDS), size)]
    if method == "delete":
        return Operation(number, collection, method, {"ids": ids[:60]})
    arguments = {
        "ids": ids,
        "embeddings": [[float(number % 1000), float(row), *[0.5] * 6] for row in range(size)],
        "documents": [
            f"batch {number} row {row} " + "x" * chance.choice([0, 10, 200]) for row in range(size)
        ],
        "metadatas": [{"batch": number, "row": row} for row in range(size)],
    }
    return Operation(number, collection, method, arguments)


class Expected:
    """What a database holds after the first `done` operations."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.done = 0
        self.contents: Contents = {}

    def next(self) -> Operation:
        """The operation that comes now."""
        return operation(self.seed, self.done, set(self.contents))

    def advance(self, done: int) -> None:
        """Go on until `done` operations are done."""
        while self.done < done:
            self.contents = self.after(self.next())
            self.done += 1

    def after(self, do: Operation) -> Contents:
        """What there is after this operation; only its collection is copied."""
        contents = dict(self.contents)
        if do.method == "create":
            contents[do.collection] = {}
        elif do.method == "drop":
            del contents[do.collection]
        elif do.method != "vacuum":
            contents[do.collection] = _after(contents[do.collection], do)
        return contents


def _after(stored: Stored, do: Operation) -> Stored:
    stored = dict(stored)
    if do.method == "delete":
        for one in do.arguments["ids"]:
            stored.pop(one, None)
        return stored
    columns = (do.arguments[name] for name in ("ids", "embeddings", "documents", "metadatas"))
    for one, vector, document, metadata in zip(*columns, strict=True):
        if (one in stored) == (do.method != "add") or do.method == "upsert":
            stored[one] = (vector, document, metadata)
    return stored


# ---- the writer ----------------------------------------------------------------------------------

NOT_STARTED, OPENING, FIRST_CALLS, WRITING, FAILED = range(5)


class Progress:
    """How far a writer is, in a small file that parent and writer have mapped.

    Its number of acknowledged operations counts when the writer is killed: a process that dies
    leaves what it stored in a shared map.  Numbers are stored as one: struct.pack_into() would
    zero them first.
    """

    _BYTES = 2 * 8

    def __init__(self, path: Path) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(self._BYTES)
            self._numbers = memoryview(mmap.mmap(file.fileno(), self._BYTES)).cast("q")

    @property
    def phase(self) -> int:
        return self._numbers[0]

    @phase.setter
    def phase(self, value: int) -> None:
        self._numbers[0] = value

    @property
    def acknowledged(self) -> int:
        return self._numbers[1]

    @acknowledged.setter
    def acknowledged(self, value: int) -> None:
        self._numbers[1] = value


def open_client(package: Any, path: Path) -> Any:
    return package.PersistentClient(path=str(path))


def get_collection(client: Any, name: str) -> Any:
    return client.get_collection(name, embedding_function=None)


def write_until_killed(
    package: Any, path: Path, progress: Progress, expected: Expected, merges: bool
) -> None:
    """Open, look around, and go on with the operations; `merges`: while files are merged."""
    progress.phase = OPENING
    client = open_client(package, path)
    progress.phase = FIRST_CALLS
    opened = {name: get_collection(client, name) for name in expected.contents}
    for collection in opened.values():
        collection.get(limit=3)
    if merges:
        threading.Thread(target=_vacuum_for_ever, args=(client,), daemon=True).start()
    progress.phase = WRITING
    while True:
        do = expected.next()
        _apply(client, opened, do)
        expected.advance(expected.done + 1)
        progress.acknowledged = expected.done


def _apply(client: Any, opened: dict[str, Any], do: Operation) -> None:
    if do.method == "create":  # it is there if the writer before was killed after making it
        opened[do.collection] = client.get_or_create_collection(
            do.collection, embedding_function=None
        )
    elif do.method == "drop":
        client.delete_collection(do.collection)
        del opened[do.collection]
    elif do.method == "vacuum":
        if hasattr(client, "vacuum"):
            client.vacuum()
    else:
        getattr(opened[do.collection], do.method)(**do.arguments)


def _vacuum_for_ever(client: Any) -> None:
    while True:
        client.vacuum()
        time.sleep(0.01)
