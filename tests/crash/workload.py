"""The workload of the kill test: batch number i of seed s is always the same write, so that what
a database must hold after n batches can be computed, and nothing but n has to be remembered.

As a program it is the writer that gets killed:

    python workload.py DATABASE ACKNOWLEDGED SEED FIRST

It applies batch FIRST, FIRST + 1, ... and after each that returned appends its number to the file
ACKNOWLEDGED, which lies outside the database, and syncs that file.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIMENSION = 8
COLLECTION = "killed"


@dataclass(frozen=True)
class Batch:
    method: str
    arguments: dict[str, Any]


def batch(seed: int, number: int) -> Batch:
    """Adds, upserts, updates and deletes over a few hundred ids; sizes from one row to 300."""
    chance = random.Random(f"{seed}:{number}")
    size = chance.choice([1, 1, 3, 10, 30, 300])
    ids = [f"id{n}" for n in chance.sample(range(500), size)]
    method = chance.choice(["add", "add", "upsert", "upsert", "update", "delete"])
    if method == "delete":
        return Batch(method, {"ids": ids[:60]})
    rows = [f"batch {number} row {row} " + "x" * chance.choice([0, 10, 200]) for row in range(size)]
    return Batch(
        method,
        {
            "ids": ids,
            "embeddings": [[float(number % 1000), float(row), *[0.5] * 6] for row in range(size)],
            "documents": rows,
            "metadatas": [{"batch": number, "row": row} for row in range(size)],
        },
    )


Stored = dict[str, tuple[list[float], str, dict[str, int]]]


def apply(stored: Stored, write: Batch) -> None:
    """The batch on a dict."""
    if write.method == "delete":
        for one in write.arguments["ids"]:
            stored.pop(one, None)
        return
    columns = (write.arguments[name] for name in ("ids", "embeddings", "documents", "metadatas"))
    for one, vector, document, metadata in zip(*columns, strict=True):
        if (one in stored) == (write.method != "add") or write.method == "upsert":
            stored[one] = (vector, document, metadata)


def open_collection(path: str) -> tuple[Any, Any]:
    import vexfs_chroma

    client = vexfs_chroma.PersistentClient(path=path)
    return client, client.get_or_create_collection(COLLECTION, embedding_function=None)


def write_until_killed(path: str, acknowledged: str, seed: int, first: int) -> None:
    import vexfs_chroma  # noqa: F401  the import is not what the kill should hit

    log = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    print("opening", flush=True)
    client, collection = open_collection(path)
    if os.environ.get("VEXFS_CRASH_VACUUM"):
        threading.Thread(target=vacuum_for_ever, args=(client,), daemon=True).start()
    number = first
    while True:
        write = batch(seed, number)
        getattr(collection, write.method)(**write.arguments)
        os.write(log, b"%d\n" % number)
        os.fsync(log)
        number += 1


def vacuum_for_ever(client: Any) -> None:
    while True:
        client.vacuum()
        time.sleep(0.01)


def last_acknowledged(path: Path) -> int:
    """The last whole line; -1 when there is none.  A torn last line was not acknowledged."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return int(lines[-1]) if lines else -1


if __name__ == "__main__":
    write_until_killed(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
