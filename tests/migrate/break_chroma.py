"""Kills a Chroma writer in a loop until Chroma can no longer use its directory.

    python tests/migrate/break_chroma.py DIRECTORY [--rounds 40] [--seed 0] [--space cosine]

DIRECTORY gets `chroma/`, broken or not, and `acknowledged.txt`: the numbers of the batches that
Chroma had confirmed before its process was killed.  The last line printed says how it ended.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

WRITER = """
import json, os, sys
import numpy as np
from chromadb.api.client import Client
from chromadb.config import Settings

path, log, start, space = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
settings = Settings(
    chroma_api_impl="chromadb.api.rust.RustBindingsAPI", is_persistent=True,
    persist_directory=path, anonymized_telemetry=False,
)
collection = Client(settings=settings).get_or_create_collection(
    "notes", embedding_function=None, configuration={"hnsw": {"space": space}}
)
with open(log, "a") as acknowledged:
    for batch in range(start, start + 1000):
        rng = np.random.default_rng(batch)
        vectors = rng.normal(size=(200, 32)).astype(np.float32)
        ids = [f"{batch}-{i}" for i in range(200)]
        collection.upsert(
            ids=ids, embeddings=vectors, documents=[f"document {id}" for id in ids],
            metadatas=[{"batch": batch, "i": i} for i in range(200)],
        )
        print(batch, file=acknowledged, flush=True)
"""
READER = """
import sys
import numpy as np
from chromadb.api.client import Client
from chromadb.config import Settings

settings = Settings(
    chroma_api_impl="chromadb.api.rust.RustBindingsAPI", is_persistent=True,
    persist_directory=sys.argv[1], anonymized_telemetry=False,
)
try:
    collection = Client(settings=settings).get_collection("notes", embedding_function=None)
    collection.count()
    collection.get(limit=5, include=["embeddings", "documents"])
    collection.query(query_embeddings=np.zeros((1, 32), np.float32), n_results=3)
except Exception as error:
    print(str(error)[:300])
    sys.exit(3)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--space", default="l2")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    print(run(options.directory, options.rounds, options.seed, options.space))


def run(directory: Path, rounds: int, seed: int, space: str) -> str:
    """Kill the writer until Chroma gives up; how it ended."""
    path, log = directory / "chroma", directory / "acknowledged.txt"
    rng = random.Random(seed)
    for round in range(1, rounds + 1):
        kill_writer(path, log, space, rng.uniform(0.1, 2.5))
        error = error_of_reader(path)
        if error is not None:
            return f"broken after {round} kills: {error}"
    return f"still usable after {rounds} kills"


def kill_writer(path: Path, log: Path, space: str, seconds: float) -> None:
    """Let it write for some seconds from its first batch on."""
    before = acknowledged(log)
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            WRITER,
            str(path),
            str(log),
            str(max(before, default=-1) + 1),
            space,
        ],
        stderr=subprocess.DEVNULL,
    )
    while acknowledged(log) == before and writer.poll() is None:
        time.sleep(0.02)
    time.sleep(seconds)
    writer.kill()  # if it has not crashed
    writer.wait()


def acknowledged(log: Path) -> list[int]:
    """The batches that Chroma confirmed."""
    return [int(batch) for batch in log.read_text().split()] if log.exists() else []


def error_of_reader(path: Path) -> str | None:
    """What Chroma says about the directory, or None when it works."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode == 0:
        return None
    return done.stdout.strip() or f"exit code {done.returncode}"


if __name__ == "__main__":
    main()
