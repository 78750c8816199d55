"""vexctl bench."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vexfs_chroma._cli._exit import PROBLEM, WIDE, err, explained
from vexfs_chroma._signals import as_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from vexfs_chroma._bench._progress import Progress
    from vexfs_chroma._bench._results import Report

app = typer.Typer(
    no_args_is_help=True,
    help="Measure vexfs_chroma beside other libraries, in one run on this machine.",
)

_QUICK = typer.Option(False, "--quick", help="Few rows, one run: about a minute.")
_RUNS = typer.Option(None, "--runs", min=1, help="How often everything is measured.")
_PEERS = typer.Option(None, "--peers", metavar="NAMES", help="Some of the libraries, by commas.")
_JSON = typer.Option(None, "--json", metavar="FILE", help="Also write all figures to this file.")
_PLOTS = typer.Option(
    None, "--plots", metavar="DIR", help="Also write plots (PNG) and a page (HTML) there."
)
_BASELINE = typer.Option(
    None,
    "--baseline",
    metavar="FILE",
    help="Compare with an earlier --json FILE; exit code 1 when something got worse.",
)
_SAVE = typer.Option(
    None, "--save-baseline", metavar="FILE", help="Write the figures for a later --baseline."
)
_ROWS = typer.Option(None, "--rows", min=1, help="At most so many rows.")
_DIM = typer.Option(None, "--dim", min=2, help="Generated rows of so many dimensions.")
_SPACE = typer.Option("cosine", "--space", help="Of generated rows: cosine or l2.")
_SCENARIOS = typer.Option(
    None, "--scenarios", metavar="NAMES", help="Some of them, by commas; all when not given."
)
_SIZES = typer.Option(
    None, "--sizes", metavar="NUMBERS", help="Rows at which growth is measured: 10000,100000."
)
_FULL = typer.Option(False, "--full", help="Also 1,000,000 rows: growth and load take long.")
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
    plots: Path | None = _PLOTS,
    baseline: Path | None = _BASELINE,
    save_baseline: Path | None = _SAVE,
) -> None:
    """Compare the index: recall and queries per second, building, memory; one thread.

    Data: the sets of VEXFS_DATA, all rows, or generated rows (50,000 x 384 unless told otherwise).
    """
    from vexfs_chroma._bench import _engine_bench, _indexes, _vectors

    with explained():
        names = [_vectors.GENERATED] if dim or quick else _vectors.available()
        sets = chosen(data, [*_vectors.SETS, _vectors.GENERATED], "data sets")
        if sets is None:
            sets = names if names == [_vectors.GENERATED] else list(_vectors.SETS)
        if space not in ("cosine", "l2"):
            raise ValueError(f"--space must be cosine or l2, not {space!r}")
        plan = _engine_bench.Plan(
            sets=sets,
            peers=chosen(peers, list(_indexes.INDEXES), "libraries") or list(_indexes.INDEXES),
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
    with bench("engine", Outputs(json, plots, baseline, save_baseline)) as (
        report,
        folder,
        progress,
    ):
        _engine_bench.run(plan, folder, report, progress)


@app.command()
def api(
    rows: int | None = _ROWS,
    quick: bool = _QUICK,
    runs: int | None = _RUNS,
    peers: str | None = _PEERS,
    json: Path | None = _JSON,
    plots: Path | None = _PLOTS,
    baseline: Path | None = _BASELINE,
    save_baseline: Path | None = _SAVE,
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
            peers=chosen(peers, known, "libraries") or [_api_bench.OURS, _api_bench.THEIRS],
            rows=count,
            runs=runs or (1 if quick else 3),
            sizes=few if quick else Sizes(),
            marks=(count, count, 1000) if quick else (100_000, 100_000, 10_000),
        )
    with bench("api", Outputs(json, plots, baseline, save_baseline)) as (
        report,
        folder,
        progress,
    ):
        _api_bench.run(plan, folder, report, progress)


@app.command()
def scenarios(
    scenarios: str | None = _SCENARIOS,
    sizes: str | None = _SIZES,
    rows: int | None = _ROWS,
    dim: int | None = _DIM,
    full: bool = _FULL,
    quick: bool = _QUICK,
    runs: int | None = _RUNS,
    peers: str | None = _PEERS,
    json: Path | None = _JSON,
    plots: Path | None = _PLOTS,
    baseline: Path | None = _BASELINE,
    save_baseline: Path | None = _SAVE,
) -> None:
    """Run workloads of applications: searching, mixes of operations, growth, threads, a load.

    Libraries: vexfs_chroma, unless --peers names chromadb, too.  --rows is the most of any
    scenario, --dim that of growth and load.
    """
    from vexfs_chroma._bench import _scenarios
    from vexfs_chroma._bench._peers import PEERS, VECTORS_ONLY

    with explained():
        known = [name for name, peer in PEERS.items() if peer.storage != VECTORS_ONLY]
        all_names = list(_scenarios.SCENARIOS)
        usual = _scenarios.ALL_SIZES if full else _scenarios.FEW_SIZES
        plan = _scenarios.Plan(
            names=chosen(scenarios, all_names, "scenarios") or all_names,
            peers=chosen(peers, known, "libraries") or [_scenarios.OURS],
            sizes=_numbers(sizes, "--sizes") or usual,
            most_rows=rows or (12_000 if quick else None),
            load_rows=1_000_000 if full else 100_000,
            dimension=dim,
            runs=runs or 1,
            queries=100 if quick else 1000,
            operations=200 if quick else 5000,
            seconds=0.5 if quick else 5.0,
        )
    outputs = Outputs(json, plots, baseline, save_baseline)
    with bench("scenarios", outputs) as (report, folder, progress):
        _scenarios.run(plan, folder, report, progress)


def _numbers(given: str | None, option: str) -> list[int] | None:
    """Positive numbers separated by commas; underscores are allowed."""
    if given is None:
        return None
    try:
        found = [int(part) for part in given.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} must be numbers separated by commas, not {given!r}") from error
    if min(found) < 1:
        raise ValueError(f"{option} must be positive, not {given!r}")
    return found


def chosen(given: str | None, known: list[str], what: str) -> list[str] | None:
    """Names separated by commas; None where nothing was given.  A wrong one raises ValueError."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        raise ValueError(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return names


@app.command()
def server(
    rows: str = typer.Option(
        "10000,100000", metavar="NUMBERS", help="Records at which everything is measured."
    ),
    connections: str = typer.Option("1,8,32", metavar="NUMBERS", help="Connections at once."),
    rounds: int = typer.Option(3, min=1, help="How often everything is measured."),
    seconds: float = typer.Option(3.0, min=0.1, help="Of each measurement."),
    adds: int | None = typer.Option(
        None, min=1, help="Batches of a measurement of adds at most, so that all do the same."
    ),
    workers: int = typer.Option(1, min=1, help="Processes of our server."),
    json: Path | None = _JSON,
) -> None:
    """Compare `vexctl serve` with `chroma run`: requests per second, latency, CPU."""
    from vexfs_chroma._bench import server as bench

    arguments = [f"--rows={rows}", f"--connections={connections}", f"--rounds={rounds}"]
    arguments += [f"--seconds={seconds}", f"--workers={workers}"]
    arguments += [] if adds is None else [f"--adds={adds}"]
    with explained(), as_interrupts():
        bench.main(arguments if json is None else [*arguments, f"--json={json}"])


@dataclass(slots=True, frozen=True)
class Outputs:
    """What is to be made of the figures besides tables."""

    json: Path | None = None
    plots: Path | None = None
    baseline: Path | None = None
    save_baseline: Path | None = None

    def check(self) -> Report | None:
        """Raise for what cannot be done, before anything is measured; returns the baseline."""
        from vexfs_chroma._bench import _plots
        from vexfs_chroma._bench._results import Report

        for path in (self.json, self.save_baseline):
            if path is not None and not path.absolute().parent.is_dir():
                raise FileNotFoundError(f"{path} cannot be written: there is no such directory")
        if self.plots is not None:
            _plots.check_libraries()
        return None if self.baseline is None else Report.load(self.baseline)

    def write(self, report: Report, ours: str) -> None:
        """All files."""
        from vexfs_chroma._bench import _plots

        for path in (self.json, self.save_baseline):
            if path is not None:
                report.save(path)
        if self.plots is not None:
            for path in _plots.write(report, self.plots, ours):
                err.print(f"written: {path}", markup=False)


@contextlib.contextmanager
def bench(command: str, outputs: Outputs) -> Iterator[tuple[Report, Path, Progress]]:
    """A report to fill, a folder that is removed, and progress; shows and writes what is there.

    Exit code 1 when something of ours could not be measured, or is worse than the baseline.
    """
    from rich.console import Console

    from vexfs_chroma._bench import _report, _show
    from vexfs_chroma._bench._indexes import OURS
    from vexfs_chroma._bench._progress import Progress
    from vexfs_chroma._bench._results import Report

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    report = Report(command, machine=_report.machine())
    with explained(), as_interrupts():
        before = outputs.check()
        with tempfile.TemporaryDirectory(prefix="vexfs-bench-") as name, Progress(err) as progress:
            yield report, Path(name), progress
        _show.show(report, console, OURS)
        outputs.write(report, OURS)
        worse = before is not None and _regressed(report, before, console)
    if report.failed or worse:
        raise typer.Exit(PROBLEM)


def _regressed(report: Report, before: Report, console: Console) -> bool:
    """Show what changed since the baseline; whether something of ours got worse."""
    from vexfs_chroma._bench import _baseline
    from vexfs_chroma._bench._engine_bench import ENGINE
    from vexfs_chroma._bench._indexes import OURS

    ours = (OURS, ENGINE)
    changes = _baseline.compare(report, before, ours)
    console.print(_baseline.table(changes))
    drift = _baseline.drift(report, before, ours)
    if drift is not None:
        console.print(f"other libraries: {drift:.2f} times better than in the baseline (median)")
    if report.machine.get("cpu") != before.machine.get("cpu"):
        console.print(f"the baseline is of another processor: {before.machine.get('cpu')}")
    worse = [change for change in changes if change.verdict == _baseline.REGRESSION]
    console.print(f"{len(worse)} of {len(changes)} figures are worse than in the baseline")
    return bool(worse)
