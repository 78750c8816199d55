"""A writer is killed (SIGKILL) at a random moment, again and again on one database.

After each kill the database must open, hold every batch that was acknowledged, and hold the batch
that was under way either wholly or not at all.  The next writer goes on from there, so later
rounds recover what earlier recoveries left.

    make crash                    100 rounds
    VEXFS_CRASH_ROUNDS=1000 VEXFS_CRASH_SEED=5 pytest -m crash tests/crash
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workload import Stored, apply, batch, last_acknowledged, open_collection

SEED = int(os.environ.get("VEXFS_CRASH_SEED", "1"))
ROUNDS = int(os.environ.get("VEXFS_CRASH_ROUNDS") or 100)
WRITER = Path(__file__).with_name("workload.py")


def kill_writer(path: Path, log: Path, first: int, chance: random.Random) -> str:
    """Start a writer, kill it; how."""
    settings = {"VEXFS_MEMTABLE_ROWS": chance.choice(["40", "400"])}
    if chance.random() < 0.5:  # files are merged all the time
        settings["VEXFS_CRASH_VACUUM"] = "1"
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(log), str(SEED), str(first)],
        stdout=subprocess.PIPE,
        env={**os.environ, **settings},
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"opening\n"
    # One kill in four hits the opening (recovery itself), the others the writing.
    delay = chance.uniform(0, 0.03) if chance.random() < 0.25 else chance.uniform(0.03, 0.8)
    time.sleep(delay)
    assert writer.poll() is None, "the writer stopped by itself; its standard error says why"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    return f"killed {delay * 1000:.0f} ms after it began to open, with {settings}"


def read(path: Path) -> Stored:
    client, collection = open_collection(str(path))
    found = collection.get(include=["embeddings", "documents", "metadatas"])
    assert collection.count() == len(found["ids"])
    columns = (found[name] for name in ("ids", "embeddings", "documents", "metadatas"))
    stored = {
        one: (np.asarray(vector).tolist(), document, metadata)
        for one, vector, document, metadata in zip(*columns, strict=True)
    }
    for one in list(stored)[:: max(1, len(stored) // 5)]:  # what is stored is also found
        near = collection.query(query_embeddings=[stored[one][0]], n_results=1)
        assert near["distances"][0][0] == 0
    client.close()
    return stored


def run(directory: Path, rounds: int) -> None:
    chance = random.Random(SEED)
    path, log = directory / "database", directory / "acknowledged"
    expected: Stored = {}
    applied = 0  # batches in `expected`
    for number in range(rounds):
        how = kill_writer(path, log, applied, chance)
        acknowledged = last_acknowledged(log) + 1
        while applied < acknowledged:
            apply(expected, batch(SEED, applied))
            applied += 1
        stored = read(path)
        under_way = dict(expected)
        apply(under_way, batch(SEED, applied))
        where = f"seed {SEED} round {number} ({how}), {acknowledged} batches acknowledged"
        if list(stored.items()) != list(expected.items()):  # items: their order counts too
            whole = list(stored.items()) == list(under_way.items())
            assert whole, f"{where}: a batch is missing, torn or invented"
            expected, applied = under_way, applied + 1
            log.write_text(f"{applied - 1}\n")  # it is there, so the next writer must not repeat it
        print(f"{where}: {len(stored)} records")
    assert applied > rounds, "the writers wrote too little for the kills to mean anything"


def test_kill_smoke(tmp_path: Path) -> None:
    run(tmp_path, 10)


@pytest.mark.crash
@pytest.mark.timeout(0)
def test_kill_many_times(tmp_path: Path) -> None:
    run(tmp_path, ROUNDS)
