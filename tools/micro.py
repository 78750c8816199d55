"""Run the micro-benchmarks of csrc/tests/micro and show them in tables, beside SimSIMD and NumKong.

`make micro` builds the three programs first.  `--json FILE` keeps the figures.  They are medians of
seven runs of one moment: compare lines of one run only, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BUILDS = ("plain", "lto", "pgo")
SUITES = ("kernels", "layout", "memory", "snapshots", "blocks", "engine")
ROWS = 500
CALLS = 200
REPEATS = 7

Figure = dict[str, Any]


def measured(build: str, suites: list[str]) -> list[Figure]:
    """What one build prints."""
    program = Path("build") / f"micro_{build}"
    done = subprocess.run([str(program), *suites], check=True, capture_output=True, text=True)
    figures = []
    for line in done.stdout.splitlines():
        suite, name, value, unit = line.split("\t")
        figures.append({"suite": suite, "name": name, "value": float(value), "unit": unit})
    return figures


def nanoseconds(call: Any) -> float:
    """Per row, of a call that computes ROWS distances."""
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        took.append((time.perf_counter() - began) / CALLS / ROWS * 1e9)
    return statistics.median(took)


def of_library(module: str) -> list[Figure]:
    """Distances of one query to ROWS rows by a library, as far as it is installed."""
    try:
        library = __import__(module)
    except ImportError:
        print(f"{module} is not installed: left out", file=sys.stderr)
        return []
    random = np.random.default_rng(1)
    figures = []
    for dimension in (128, 384, 768):
        rows = random.random((ROWS, dimension), dtype=np.float32)
        codes = random.integers(-128, 128, (ROWS, dimension), dtype=np.int8)
        calls = {
            "l2 float32": (rows, "sqeuclidean"),
            "dot float32": (rows, "dot"),
            "dot of 8-bit codes": (codes, "dot"),
        }
        for what, (data, metric) in calls.items():
            query = data[:1]

            def call(query: Any = query, data: Any = data, metric: str = metric) -> Any:
                return library.cdist(query, data, metric)

            try:
                call()
            except Exception as error:  # noqa: BLE001  (what it does not offer is no reason to stop)
                print(f"{module}: {what}: {error}", file=sys.stderr)
                continue
            name = f"{what} {dimension}-d {module}"
            figures.append(
                {"suite": "kernels", "name": name, "value": nanoseconds(call), "unit": "ns"}
            )
    return figures


def show(figures: list[Figure], others: dict[str, list[Figure]]) -> None:
    """One table per suite; of `engine`, the builds side by side."""
    for suite in SUITES:
        rows = [figure for figure in figures if figure["suite"] == suite]
        if not rows:
            continue
        print(f"\n{suite}")
        for row in rows if suite != "kernels" else sorted(rows, key=lambda row: row["name"]):
            line = f"  {row['name']:<44} {row['value']:>12,.1f} {row['unit']}"
            for build, found in others.items():
                for other in found:
                    if (other["suite"], other["name"]) == (suite, row["name"]):
                        line += f"   {build} {other['value'] / row['value']:.2f}x"
            print(line)


def main() -> None:
    """Parse the command line, run, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all, if none is named")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    chosen = parser.parse_args()
    suites: list[str] = chosen.suites or list(SUITES)
    figures = measured("plain", suites)
    others: dict[str, list[Figure]] = {}
    if "engine" in suites:
        others = {build: measured(build, ["engine"]) for build in BUILDS[1:]}
    if "kernels" in suites:
        for module in ("simsimd", "numkong"):
            figures += of_library(module)
    show(figures, others)
    if chosen.json:
        chosen.json.write_text(json.dumps({"plain": figures, **others}, indent=1))


if __name__ == "__main__":
    main()
