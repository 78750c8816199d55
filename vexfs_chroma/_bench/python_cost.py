"""What a call of the Python API costs: `python -m vexfs_chroma._bench.python_cost`.

Generated rows, one thread, beside chromadb, both databases on disk and durable, medians of a few
repetitions, in one process.  `--only us` leaves chromadb out, `--profile NAME` shows where our time
goes in the step of that name, `--start` measures imports and the first result in fresh processes.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], object]

DIMENSION, BATCH, MANY = 128, 10_000, 384


def numbered(n: int, start: int = 0) -> list[str]:
    """`n` ids."""
    return [f"row-{i}" for i in range(start, start + n)]


def documents(n: int) -> list[str]:
    """`n` short texts."""
    words = [
        "a",
        "small",
        "dog",
        "ran",
        "over",
        "the",
        "red",
        "hill",
        "and",
        "saw",
        "two",
        "old",
        "trees",
        "near",
        "water",
    ]
    return [" ".join(words[(i + j * j) % len(words)] for j in range(15)) for i in range(n)]


def metadatas(n: int, turn: int = 0) -> list[dict[str, Any]]:
    """`n` maps of three values."""
    return [{"topic": f"t{i % 50}", "page": i + turn, "score": i / 7 + turn} for i in range(n)]


class Side:
    """The calls on one library; every step does its work anew."""

    def __init__(self, name: str, path: str, rows: int) -> None:
        self.name = name
        self._rows = rows
        self._library: Any = __import__("chromadb" if name == "chromadb" else "vexfs_chroma")
        self.client = self._library.PersistentClient(path=path)
        self._random = np.random.default_rng(20261129)
        self._turn = itertools.count(1)
        self.vectors = self._random.standard_normal((rows, DIMENSION), dtype=np.float32)
        self.base = self._new()
        for at in range(0, rows, 5000):
            part = slice(at, at + 5000)
            count = len(self.vectors[part])
            self.base.add(
                ids=numbered(count, at),
                embeddings=self.vectors[part],
                documents=documents(count),
                metadatas=metadatas(count),
            )
        if name != "chromadb":
            self.base.wait_for_index()
        self.writes = self._new()
        self.small = self._new()

    def _new(self) -> Any:
        return self.client.create_collection(f"cost-{next(self._turn)}", embedding_function=None)

    # -- steps: prepare(), then the timed call -----------------------------------------------------

    def add(self, n: int, dimension: int, *, texts: bool) -> Step:
        """A batch of new rows, as an array."""
        start = next(self._turn) * BATCH
        block = self._random.standard_normal((n, dimension), dtype=np.float32)
        given: dict[str, Any] = {"ids": numbered(n, start), "embeddings": block}
        if texts:
            given |= {"documents": documents(n), "metadatas": metadatas(n)}
        target = self.writes if dimension == DIMENSION else self._new()
        return lambda: target.add(**given)

    def add_single(self) -> Step:
        """One new row with document and metadata, a list of floats."""
        given: dict[str, Any] = {
            "ids": [f"single-{next(self._turn)}"],
            "embeddings": [self._random.standard_normal(DIMENSION).tolist()],
            "documents": ["a small dog"],
            "metadatas": [{"topic": "t1", "page": 2}],
        }
        return lambda: self.small.add(**given)

    def query(self, n: int, kind: str, include: list[str] | None) -> Step:
        """The nearest 10 of each of n vectors."""
        at = next(self._turn) * 37 % (self._rows - n)
        rows = self.vectors[at : at + n] + np.float32(0.01)
        given: dict[str, Any] = {"query_embeddings": rows if kind == "array" else rows.tolist()}
        if include is not None:
            given["include"] = include
        return lambda: self.base.query(n_results=10, **given)

    def get(self, n: int, include: list[str]) -> Step:
        """Rows by id."""
        ids = numbered(n, next(self._turn) * 31 % (self._rows - n + 1))
        return lambda: self.base.get(ids=ids, include=include)

    def update(self, n: int) -> Step:
        """New metadata for rows by id."""
        turn = next(self._turn)
        ids, given = numbered(n, turn * 31 % (self._rows - n + 1)), metadatas(n, turn)
        return lambda: self.base.update(ids=ids, metadatas=given)

    def delete(self, n: int) -> Step:
        """Rows by id."""
        target = self._new()
        ids = numbered(n)
        for at in range(0, n, 5000):
            block = self._random.standard_normal((len(ids[at : at + 5000]), 8), dtype=np.float32)
            target.add(ids=ids[at : at + 5000], embeddings=block)
        return lambda: target.delete(ids=ids)

    def count(self) -> Step:
        """All rows, counted."""
        step: Step = self.base.count
        return step

    def count_where(self) -> Step:
        """The ids that a filter selects."""
        return lambda: self.base.get(where={"topic": "t7"}, include=[])

    def close(self) -> None:
        """Close the client."""
        self.client.close()


def steps() -> dict[str, tuple[Callable[[Side], Step], int, int]]:
    """Name -> what to prepare, the rows or queries of a call, repetitions."""
    text = ["documents", "metadatas"]
    return {
        "add 5,000 x 128, ids only": (lambda s: s.add(5000, 128, texts=False), 5000, 7),
        "add 5,000 x 384, text": (lambda s: s.add(5000, MANY, texts=True), 5000, 3),
        "add 1": (lambda s: s.add_single(), 1, 200),
        "query 1, default": (lambda s: s.query(1, "list", None), 1, 200),
        "query 1, distances": (lambda s: s.query(1, "array", ["distances"]), 1, 200),
        "query 100 lists, default": (lambda s: s.query(100, "list", None), 100, 10),
        "query 100, distances": (lambda s: s.query(100, "array", ["distances"]), 100, 10),
        "query 1,000, distances": (lambda s: s.query(1000, "array", ["distances"]), 1000, 5),
        "query 1,000 lists, default": (lambda s: s.query(1000, "list", None), 1000, 3),
        "get 1": (lambda s: s.get(1, text), 1, 200),
        "get 100": (lambda s: s.get(100, text), 100, 30),
        "get 5,000": (lambda s: s.get(5000, text), 5000, 5),
        "get 5,000, metadata": (lambda s: s.get(5000, ["metadatas"]), 5000, 5),
        "get 5,000, embeddings": (lambda s: s.get(5000, ["embeddings"]), 5000, 5),
        "update 1,000 metadata": (lambda s: s.update(1000), 1000, 7),
        "update 5,000 metadata": (lambda s: s.update(5000), 5000, 5),
        "delete 5,000": (lambda s: s.delete(5000), 5000, 3),
        "count": (lambda s: s.count(), 1, 200),
        "get where, ids": (lambda s: s.count_where(), 1, 50),
    }


def seconds(prepare: Callable[[Side], Step], side: Side, times: int) -> float:
    """The median time of a call."""
    taken = []
    for _ in range(times):
        call = prepare(side)
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


# -- fresh processes ------------------------------------------------------------------------------

_IMPORT = """
import time
import chromadb
started = time.process_time()
import vexfs_chroma
print((time.process_time() - started) * 1e3)
"""
_FIRST = """
import sys, time
import {library} as chromadb
started = time.perf_counter()
client = chromadb.PersistentClient(path=sys.argv[1])
collection = client.get_collection("first", embedding_function=None)
found = collection.query(query_embeddings=[[0.5] * 128], n_results=10)
print(time.perf_counter() - started)
"""


def child(cache: str, code: str, *arguments: str) -> str:
    """What a fresh interpreter printed.

    Compiled modules are kept in `cache`, as those of an installed package are beside them.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout


def measure_start(folder: str, rows: int, times: int) -> None:
    """Import, and Client() to the first result, in fresh processes that take turns."""
    libraries, cache = ("chromadb", "vexfs_chroma"), f"{folder}/compiled"
    imports: list[float] = []
    firsts: dict[str, list[float]] = {name: [] for name in libraries}
    for name in libraries:
        library = __import__(name)
        client = library.PersistentClient(path=f"{folder}/{name}")
        collection = client.create_collection("first", embedding_function=None)
        random = np.random.default_rng(1)
        for at in range(0, rows, 5000):
            block = random.standard_normal((min(5000, rows - at), 128), dtype=np.float32)
            n = len(block)
            collection.add(numbered(n, at), block, metadatas(n), documents(n))
        if name == "vexfs_chroma":
            collection.wait_for_index()
        client.close()
        # Compiles what is to be compiled.
        child(cache, _FIRST.format(library=name), f"{folder}/{name}")
    for _ in range(times):
        imports.append(float(child(cache, _IMPORT)))
        for name in libraries:
            printed = child(cache, _FIRST.format(library=name), f"{folder}/{name}")
            firsts[name].append(float(printed) * 1e3)
    theirs, ours = (statistics.median(firsts[name]) for name in libraries)
    print(f"import after chromadb, ms of CPU   {statistics.median(imports):8.1f}")
    print(f"Client() to the first result, ms   {ours:8.1f}, {ours / theirs:.3f}x of {theirs:.1f}")


# -- the command ----------------------------------------------------------------------------------


def profile(side: Side, name: str) -> None:
    """Print where the time of our step goes."""
    prepare, _, times = steps()[name]
    calls = [prepare(side) for _ in range(times)]
    profiler = cProfile.Profile()
    profiler.enable()
    for call in calls:
        call()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--only", choices=["us"])
    parser.add_argument("--steps", default="", help="only steps that begin with this")
    parser.add_argument("--profile", choices=list(steps()), metavar="NAME")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--times", type=int, default=9, help="fresh processes of each library")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vexfs-cost-") as folder:
        if asked.start:
            measure_start(folder, asked.rows, asked.times)
            return 0
        ours = Side("vexfs_chroma", str(Path(folder, "ours")), asked.rows)
        if asked.profile:
            profile(ours, asked.profile)
            return 0
        theirs = None
        if asked.only is None:
            theirs = Side("chromadb", str(Path(folder, "theirs")), asked.rows)
        print(f"{asked.rows:,} x {DIMENSION} rows; us per call, rows or queries a second")
        print(f"{'':<28}{'us':>12}{'chromadb':>12}{'':>9}{'us, per s':>14}")
        for name, (prepare, rows, times) in steps().items():
            if not name.startswith(asked.steps):
                continue
            took = seconds(prepare, ours, times)
            line = f"{name:<28}{took * 1e6:>12,.1f}"
            if theirs is None:
                line += f"{'':>21}"
            else:
                other = seconds(prepare, theirs, max(2, times // 4))
                line += f"{other * 1e6:>12,.1f}{other / took:>8.1f}x"
            print(f"{line}{rows / took:>14,.0f}", flush=True)
        ours.close()
        if theirs is not None:
            theirs.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
