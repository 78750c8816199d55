"""vexctl bench."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vexfs_chroma._cli._exit import PROBLEM, err, explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vexfs_chroma._bench._progress import Progress
    from vexfs_chroma._bench._results import Report

app = typer.Typer(
    no_args_is_help=True,
    help="Measure vexfs_chroma beside other libraries, in one run on this machine.",
)

_WIDTH = 150  # where the output is no terminal
_QUICK = typer.Option(False, "--quick", help="Few rows, one run: about a minute.")
_RUNS = typer.Option(None, "--runs", min=1, help="How often everything is measured.")
_PEERS = typer.Option(None, "--peers", metavar="NAMES", help="Some of the libraries, by commas.")
_JSON = typer.Option(None, "--json", metavar="FILE", help="Also write all figures to this file.")
_ROWS = typer.Option(None, "--rows", min=1, help="At most so many rows.")
_DIM = typer.Option(None, "--dim", min=2, help="Generated rows of so many dimensions.")
_SPACE = typer.Option("cosine", "--space", help="Of generated rows: cosine or l2.")
_DATA = typer.Option(
    None, "--data", metavar="NAMES", help="wordnet, fashion, sift (of VEXFS_DATA), generated."
)


@app.command()
def engine(
    data: str | None = _DATA,
    rows: int | None = _ROWS,
    dim: int | None = _DIM,
    space: str = _SPACE,
    quick: bool = _QUICK,
    runs: int | None = _RUNS,
    peers: str | None = _PEERS,
    json: Path | None = _JSON,
) -> None:
    """Compare the index: recall and queries per second, building, memory; one thread.

    Data: the sets of VEXFS_DATA, all rows, or generated rows (50,000 x 384 unless told otherwise).
    """
    from vexfs_chroma._bench import _engine_bench, _indexes, _vectors

    with explained():
        names = [_vectors.GENERATED] if dim or quick else _vectors.available()
        sets = _chosen(data, [*_vectors.SETS, _vectors.GENERATED], "data sets")
        if sets is None:
            sets = names if names == [_vectors.GENERATED] else list(_vectors.SETS)
        if space not in ("cosine", "l2"):
            raise ValueError(f"--space must be cosine or l2, not {space!r}")
        plan = _engine_bench.Plan(
            sets=sets,
            peers=_chosen(peers, list(_indexes.INDEXES), "libraries") or list(_indexes.INDEXES),
            rows=rows or (12_000 if quick else None),
            dimension=dim or (64 if quick else 384),
            space=space,
            runs=runs or 1,
            queries=200 if quick else 1000,
            slow_queries=20 if quick else 100,
            knobs=(10, 20, 40, 80, 160) if quick else _indexes.EFS,
            repeats=3 if quick else 5,
            seconds=0.5 if quick else 2.0,
            timeout=120 if quick else 1800,
        )
    with _bench("engine", json) as (report, folder, progress):
        _engine_bench.run(plan, folder, report, progress)


@app.command()
def api(
    rows: int | None = _ROWS,
    quick: bool = _QUICK,
    runs: int | None = _RUNS,
    peers: str | None = _PEERS,
    json: Path | None = _JSON,
) -> None:
    """Compare the clients: adding, queries, filters, reads, writes, opening, memory, disk.

    100,000 records with documents and metadata: WordNet where VEXFS_DATA names it, else generated.
    Libraries: vexfs_chroma and chromadb, and both with -ephemeral.
    """
    from vexfs_chroma._bench import _api_bench
    from vexfs_chroma._bench._peers import PEERS, VECTORS_ONLY
    from vexfs_chroma._bench._steps import Sizes

    with explained():
        known = [name for name, peer in PEERS.items() if peer.storage != VECTORS_ONLY]
        few = Sizes(queries=100, filtered=10, repeats=3, writes=1000, singles=50)
        count = rows or (12_000 if quick else 100_000)
        plan = _api_bench.Plan(
            peers=_chosen(peers, known, "libraries") or [_api_bench.OURS, _api_bench.THEIRS],
            rows=count,
            runs=runs or (1 if quick else 3),
            sizes=few if quick else Sizes(),
            marks=(count, count, 1000) if quick else (100_000, 100_000, 10_000),
        )
    with _bench("api", json) as (report, folder, progress):
        _api_bench.run(plan, folder, report, progress)


def _chosen(given: str | None, known: list[str], what: str) -> list[str] | None:
    """Names separated by commas; None where nothing was given.  A wrong one raises ValueError."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        raise ValueError(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return names


@contextlib.contextmanager
def _bench(command: str, json: Path | None) -> Iterator[tuple[Report, Path, Progress]]:
    """A report to fill, a folder that is removed, and progress; shows and writes what is there.

    Exit code 1 when something of ours could not be measured.
    """
    from rich.console import Console

    from vexfs_chroma._bench import _report, _show
    from vexfs_chroma._bench._indexes import OURS
    from vexfs_chroma._bench._progress import Progress
    from vexfs_chroma._bench._results import Report

    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    report = Report(command, machine=_report.machine())
    with explained(), tempfile.TemporaryDirectory(prefix="vexfs-bench-") as name:
        if json is not None and not json.absolute().parent.is_dir():
            raise FileNotFoundError(f"{json} cannot be written: its directory does not exist")
        with Progress(err) as progress:
            yield report, Path(name), progress
        _show.show(report, console, OURS)
        if json is not None:
            report.save(json)
    if report.failed:
        raise typer.Exit(PROBLEM)
