"""Programs that use a database while it is backed up.

    python worker.py write DATABASE ACKNOWLEDGED SEED
    python worker.py merge DATABASE
    python worker.py make DATABASE

The writer applies batch 0, 1, ... of a seed (backup_batches.py) to its collection "a<SEED>"
and then to "b<SEED>", and appends a line to the file ACKNOWLEDGED after each: "begin N", "a N",
"b N".  The others merge files, and make and delete collections, all the time.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

from backup_batches import batch

import vexfs_chroma


def write(path: str, acknowledged: str, seed: int) -> None:
    client = vexfs_chroma.PersistentClient(path)
    both = [client.create_collection(f"{x}{seed}", embedding_function=None) for x in "ab"]
    log = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    print("ready", flush=True)
    for number in itertools.count():
        one = batch(seed, number)
        os.write(log, b"begin %d\n" % number)
        for mark, collection in zip((b"a", b"b"), both, strict=True):
            getattr(collection, one.method)(**one.arguments)
            os.write(log, b"%s %d\n" % (mark, number))


def merge(path: str) -> None:
    client = vexfs_chroma.PersistentClient(path)
    print("ready", flush=True)
    while True:
        client.vacuum()


def make(path: str) -> None:
    client = vexfs_chroma.PersistentClient(path)
    print("ready", flush=True)
    for number in itertools.count():
        made: Any = client.create_collection(f"temporary-{number}", embedding_function=None)
        made.add(ids=["one"], embeddings=[[1.0, 2.0]])
        if number >= 2:
            client.delete_collection(f"temporary-{number - 2}")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "merge":
        merge(sys.argv[2])
    else:
        make(sys.argv[2])
