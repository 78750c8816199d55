"""``python -m vexfs_chroma._bench``: vexfs_chroma beside chromadb, in one run on this machine.

Every measurement of a library runs in a process of its own, the two libraries in turn, `--runs`
times; the table shows medians and their ratio.  Both are durable: chromadb syncs its SQLite log,
we sync ours (durability "full").
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

LIBRARIES = ("vexfs_chroma", "chromadb")
BATCH = 5000  # chromadb refuses more than 5461 records at once
QUERIES = 200


def measure(library: str, step: str, path: str, n: int) -> dict[str, float]:
    """One step in a fresh process; what it printed."""
    command = [sys.executable, "-m", "vexfs_chroma._bench", "--step", step, library, path, str(n)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return result


def run_step(step: str, library: str, path: str, n: int) -> dict[str, float]:
    """What a child does: "load" fills a new database, "reopen" reads it in a fresh process."""
    module = __import__(library)
    if step == "load":
        return _load(module, path, n)
    started = time.perf_counter()
    client = module.PersistentClient(path)
    rows = client.get_collection("bench", embedding_function=None)
    query = [0.05] * 384
    rows.query(query_embeddings=[query], n_results=10)
    first = time.perf_counter() - started
    return {"open to first result, ms": first * 1e3} | _read(rows, n)


def _load(module: Any, path: str, n: int) -> dict[str, float]:
    from vexfs_chroma._bench import _data

    data = _data.load(n)
    client = module.PersistentClient(path)
    rows = client.create_collection(
        "bench", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    started = time.perf_counter()
    for at in range(0, len(data.ids), BATCH):
        part = slice(at, at + BATCH)
        rows.add(
            ids=data.ids[part],
            embeddings=data.vectors[part],
            documents=data.documents[part],
            metadatas=data.metadatas[part],
        )
    return {"bulk add, rows/s": len(data.ids) / (time.perf_counter() - started)}


def _read(rows: Any, n: int) -> dict[str, float]:
    from vexfs_chroma._bench import _data

    queries = _data.load(n).queries
    times = []
    for query in queries[:QUERIES]:
        started = time.perf_counter()
        rows.query(query_embeddings=[query], n_results=10)
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    rows.get(limit=1000, include=["documents", "metadatas"])
    page = time.perf_counter() - started
    return {"query p50, ms": statistics.median(times) * 1e3, "get 1,000 rows, ms": page * 1e3}


def compare(n: int, runs: int) -> dict[str, dict[str, list[float]]]:
    """All steps, the libraries in turn; results per measurement and library."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(runs):
        for library in LIBRARIES:
            with tempfile.TemporaryDirectory() as folder:
                path = f"{folder}/database"
                results = measure(library, "load", path, n)
                results["disk, MB"] = _disk_bytes(Path(path)) / 1e6
                measure(library, "reopen", path, n)  # warms the page cache for both alike
                results |= measure(library, "reopen", path, n)
            for name, value in results.items():
                found.setdefault(name, {}).setdefault(library, []).append(value)
    return found


def _disk_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def report(found: dict[str, dict[str, list[float]]], n: int, runs: int) -> None:
    """A table for people."""
    table = Table(title=f"{n:,} rows, medians of {runs} runs, {platform.machine()}")
    for column in ("", *LIBRARIES, "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in found.items():
        ours, theirs = (statistics.median(values[library]) for library in LIBRARIES)
        table.add_row(name, f"{ours:,.1f}", f"{theirs:,.1f}", f"{ours / theirs:.3f}")
    Console().print(table)


def main() -> int:
    """Run as parent (no --step) or as the child that measures one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--step", nargs=4, metavar=("STEP", "LIBRARY", "PATH", "ROWS"))
    options = parser.parse_args()
    if options.step:
        step, library, path, n = options.step
        print(json.dumps(run_step(step, library, path, int(n))))
        return 0
    found = compare(options.rows, options.runs)
    report(found, options.rows, options.runs)
    if options.json:
        figures = {"rows": options.rows, "runs": options.runs, "results": found}
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
