"""Writers of transactions over two collections are killed: the two never differ."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest

import vexfs_chroma

SEED = 20261130
SPAWN = multiprocessing.get_context("spawn")
KILLS = 12
WAIT = 60


def write(path: Path, turn: int, pipe: Any) -> None:
    """Adds a record to both collections, and takes the one before from both; tells each."""
    client = vexfs_chroma.PersistentClient(path)
    both = [
        client.get_or_create_collection(name, embedding_function=None) for name in ("one", "two")
    ]
    pipe.send(-1)
    for number in range(100_000):
        with client.transaction():
            for collection in both:
                collection.delete(ids=[f"{turn}-{number - 3}"])
                collection.add(ids=[f"{turn}-{number}"], embeddings=[[float(number), 1.0]])
        pipe.send(number)


def held(client: Any) -> list[list[str]]:
    both = [client.get_collection(name, embedding_function=None) for name in ("one", "two")]
    return [collection.get(include=[])["ids"] for collection in both]


@pytest.mark.parametrize("looks", ["after", "meanwhile"])
def test_killed_in_between(tmp_path: Path, looks: str) -> None:
    choose = random.Random(SEED)
    reader = vexfs_chroma.PersistentClient(tmp_path) if looks == "meanwhile" else None
    for turn in range(KILLS):
        pipe, theirs = SPAWN.Pipe()
        writer = SPAWN.Process(target=write, args=(tmp_path, turn, theirs), daemon=True)
        writer.start()
        theirs.close()
        assert pipe.poll(WAIT)
        pipe.recv()
        time.sleep(choose.uniform(0, 0.05))
        writer.kill()
        writer.join()
        last = -1
        try:
            while pipe.poll(0):
                last = pipe.recv()
        except EOFError:
            pass
        client = reader or vexfs_chroma.PersistentClient(tmp_path)
        if reader is not None:  # whose writes finish what was begun
            client.get_collection("one", embedding_function=None).delete(ids=["nothing"])
        one, two = held(client)
        assert one == two, (SEED, turn)
        expected = [
            [f"{turn}-{n}" for n in range(max(0, at - 2), at + 1)] for at in (last, last + 1)
        ]
        assert [id for id in one if id.startswith(f"{turn}-")] in expected, (SEED, turn, last)
        assert not (tmp_path / "transaction").exists()
        if reader is None:
            client.close()
    if reader is not None:
        reader.close()
