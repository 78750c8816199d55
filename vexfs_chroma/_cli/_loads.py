"""What load-test, stress-test and regression-test have in common."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vexfs_chroma._cli._exit import err, explained
from vexfs_chroma._cli._shown import StepProgress

if TYPE_CHECKING:
    from rich.console import Console

    from vexfs_chroma._load._result import Result
    from vexfs_chroma._load._run import Plan

_WIDTH = 150  # where the output is no terminal
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?\Z")

SCENARIO = typer.Option("rag", "--scenario", metavar="NAMES", help="By commas; `all`.")
TARGET = typer.Option(
    "vexfs",
    "--target",
    metavar="TARGETS",
    help="By commas: vexfs and chroma (servers that are started here), inproc (the embedded "
    "client), or the URL of a server.",
)
SCALE = typer.Option(1.0, "--scale", help="A part of the rows: 0.05 on small machines.")
TIME = typer.Option(None, "--time", metavar="TIME", help="Of every run: 90, 90s, 10m, 8h.")
USERS = typer.Option(None, "--users", min=1, help="At the same time.")
SEED = typer.Option(1, "--seed", min=0, help="Of the queries and operations.")
RUNS = typer.Option(1, "--runs", min=1, help="How often everything is run, in turn.")
PROCESSES = typer.Option(1, "--processes", min=1, help="That the users are spread over.")
SLO = typer.Option(None, "--slo", metavar="FILE", help="Service levels (TOML); else the usual.")
OUTPUT = typer.Option(
    Path("load-results"), "--output", metavar="DIR", help="Gets reports: HTML, CSV, JSON, logs."
)
DATA = typer.Option(
    None, "--data", metavar="DIR", help="Rows and databases, for the next run; OUTPUT/data if not."
)
AS_JSON = typer.Option(False, "--json", help="Print all results as JSON.")
SAVE = typer.Option(None, "--save-baseline", metavar="FILE", help="Keep the figures for later.")


def console() -> Console:
    """The terminal, or a wide page where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_WIDTH)


def seconds_of(text: str | None) -> float | None:
    """90, 90s, 10m, 1h30m in seconds.  Raises typer.BadParameter for what is no time."""
    if text is None:
        return None
    found = _DURATION.match(text.strip())
    hours, minutes, seconds = found.groups() if found else (None, None, None)
    total = 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds or 0)
    if total <= 0:
        raise typer.BadParameter(f"--time must be like 90, 90s, 10m, 1h30m, not {text!r}")
    return total


def plan_of(
    scenario: str,
    target: str,
    scale: float,
    time: str | None,
    users: int | None,
    rate: float | None,
    seed: int,
    runs: int,
    processes: int,
    shape: str | None,
    slo: Path | None,
    output: Path,
    data: Path | None,
) -> Plan:
    """What the options ask for; wrong ones end the command with exit code 2."""
    from vexfs_chroma._load import _run, _scenarios, _shapes, _targets

    if (rate is not None and rate < 0) or not 0 < scale <= 100:
        raise typer.BadParameter("--rate must be at least 0, --scale above 0 and at most 100")
    targets = [name.strip() for name in target.split(",") if name.strip()]
    try:
        chosen = _scenarios.chosen(scenario)
        for name in targets or [""]:
            _targets.check_target(name)
        if shape is not None:
            _shapes.stages(shape, 1, 1.0)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return _run.Plan(
        scenarios=chosen,
        targets=targets,
        output=output,
        data=data or output / "data",
        scale=scale,
        seconds=seconds_of(time),
        users=users,
        rate=rate,
        seed=seed,
        runs=runs,
        processes=processes,
        shape=shape,
        slo=slo,
    )


def run(plan: Plan, *, as_json: bool, quiet: bool = False) -> list[Result]:
    """Run it; show and write what came out."""
    from vexfs_chroma._load import _report
    from vexfs_chroma._load import _run as runner

    screen, quiet = console(), quiet or as_json
    with explained():
        with StepProgress() as progress:
            results = runner.run(
                plan,
                progress,
                lambda result: None if quiet else _report.show(result, screen),
            )
        runner.save_all(results, plan.output / "results.json")
        written = _report.write(results, plan.output)
    if as_json:
        typer.echo((plan.output / "results.json").read_text("utf-8"))
    elif not quiet:
        table = _report.side_by_side(results)
        if table is not None:
            screen.print(table)
    for path in written:
        err.print(f"written: {path}", markup=False)
    return results
