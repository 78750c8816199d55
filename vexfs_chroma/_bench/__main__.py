"""``python -m vexfs_chroma._bench``: vexfs_chroma beside chromadb and hnswlib, in one run on this
machine.

Every measurement of a library runs in a process of its own, the libraries in turn, `--runs`
times; tables show medians.  What is on disk is durable in both: chromadb syncs its SQLite log, we
sync ours (durability "full").  Data: WordNet where VEXFS_DATA names it, else generated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from vexfs_chroma._bench import _data, _report, _truth
from vexfs_chroma._bench._peers import PEERS, Peer
from vexfs_chroma._bench._run import Runner
from vexfs_chroma._bench._steps import Sizes

WIDTH = 120  # where the output is no terminal
QUICK_ROWS = 12_000  # enough for a graph
QUICK = Sizes(
    queries=100,
    filtered=10,
    repeats=3,
    writes=1000,
    graph_queries=200,
    graph_repeats=3,
    efs=(10, 20, 40, 80, 150, 300),
)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="vexfs_chroma._bench",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--rows", type=int, help="how many (default 50,000)")
    parser.add_argument("--runs", type=int, help="how often everything is measured (default 3)")
    parser.add_argument("--peers", default=",".join(PEERS), help="some of: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROWS:,} rows, 1 run, fewer queries"
    )
    return parser.parse_args()


def chosen_peers(names: str, console: Console) -> list[Peer]:
    """Those that are asked for and installed."""
    unknown = sorted(set(names.split(",")) - set(PEERS))
    if unknown:
        raise SystemExit(f"unknown peers {', '.join(unknown)}; there are {', '.join(PEERS)}")
    peers = []
    for name in names.split(","):
        if PEERS[name].installed():
            peers.append(PEERS[name])
        else:
            console.print(f"{name} is skipped: it is not installed")
    return peers


def main() -> int:
    """Measure and report; 1 if something could not be measured."""
    given = options()
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    facts = _report.machine()
    sizes = QUICK if given.quick else Sizes()
    runs = given.runs or (1 if given.quick else 3)
    peers = chosen_peers(given.peers, console)
    rows = _data.load(given.rows or (QUICK_ROWS if given.quick else 50_000))
    with tempfile.TemporaryDirectory(prefix="vexfs-bench-") as name:
        folder = Path(name)
        n_queries = max(sizes.queries, sizes.graph_queries)
        truth = _truth.compute(rows, n_queries, sizes.filtered, folder / "truth.npz")
        _data.save(rows, folder / "data")
        runner = Runner(truth, folder, sizes, lambda line: console.print(line, markup=False))
        findings = runner.run_all(peers, runs)
    report = _report.as_json(findings, facts, rows, sizes, peers)
    versions = ", ".join(f"{module} {version}" for module, version in report["versions"].items())
    console.print(f"\n{len(rows.ids):,} rows: {rows.name}; medians of {runs} runs")
    loads = [job.load_average for job in findings.jobs]
    busy = f"load {facts['load average'][0]:.1f} at the start, up to {max(loads, default=0):.1f}"
    console.print(f"{facts['cpu']}, {facts['cores']} cores, {busy}", highlight=False)
    console.print(f"{versions}, Python {facts['python']}", highlight=False)
    for table in _report.tables(findings):
        console.print(table)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 1 if any(job.error for job in findings.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
