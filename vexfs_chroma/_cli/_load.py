"""vexctl load-test, stress-test and regression-test."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vexfs_chroma._cli._exit import err, explained, finish, out
from vexfs_chroma._cli._shown import StepProgress

if TYPE_CHECKING:
    from rich.console import Console

    from vexfs_chroma._load._result import Result
    from vexfs_chroma._load._run import Plan

load_app = typer.Typer(no_args_is_help=True, help="Run workloads that check every answer.")
stress_app = typer.Typer(no_args_is_help=True, help="More and more users; killed servers.")
regression_app = typer.Typer(no_args_is_help=True, help="Load tests beside earlier ones.")

_WIDTH = 150  # where the output is no terminal
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?\Z")

_SCENARIO = typer.Option("rag", "--scenario", metavar="NAMES", help="By commas; `all`.")
_STRESS = typer.Option("ramp,fault", "--scenario", metavar="NAMES", help="By commas.")
_TARGET = typer.Option(
    "vexfs",
    "--target",
    metavar="TARGETS",
    help="By commas: vexfs and chroma (servers that are started here), inproc (the embedded "
    "client), or the URL of a server.",
)
_SCALE = typer.Option(1.0, "--scale", help="A part of the rows: 0.05 on small machines.")
_TIME = typer.Option(None, "--time", metavar="TIME", help="Of every run: 90, 90s, 10m, 8h.")
_USERS = typer.Option(None, "--users", min=1, help="At the same time.")
_RATE = typer.Option(None, "--rate", help="Operations per second of all users; 0: no pauses.")
_SEED = typer.Option(1, "--seed", min=0, help="Of the queries and operations.")
_RUNS = typer.Option(1, "--runs", min=1, help="How often everything is run, in turn.")
_PROCESSES = typer.Option(1, "--processes", min=1, help="That the users are spread over.")
_SHAPE = typer.Option(None, "--shape", help="steady, ramp or spike.")
_SLO = typer.Option(None, "--slo", metavar="FILE", help="Service levels (TOML); else the usual.")
_OUTPUT = typer.Option(
    Path("load-results"), "--output", metavar="DIR", help="Gets reports: HTML, CSV, JSON, logs."
)
_DATA = typer.Option(
    None, "--data", metavar="DIR", help="Rows and databases, for the next run; OUTPUT/data if not."
)
_JSON = typer.Option(False, "--json", help="Print all results as JSON.")
_BASELINE = typer.Option(..., "--baseline", metavar="FILE", help="What --save-baseline wrote.")
_SAVE = typer.Option(None, "--save-baseline", metavar="FILE", help="Keep the figures for later.")


@load_app.command("run")
def run_load(
    scenario: str = _SCENARIO,
    target: str = _TARGET,
    scale: float = _SCALE,
    time: str | None = _TIME,
    users: int | None = _USERS,
    rate: float | None = _RATE,
    seed: int = _SEED,
    runs: int = _RUNS,
    processes: int = _PROCESSES,
    shape: str | None = _SHAPE,
    slo: Path | None = _SLO,
    output: Path = _OUTPUT,
    data: Path | None = _DATA,
    save_baseline: Path | None = _SAVE,
    as_json: bool = _JSON,
) -> None:
    """Run scenarios, and compare with their service levels.

    Exit code 1 when a level was missed.
    """
    from vexfs_chroma._load._compare import as_report

    plan = _plan(
        scenario, target, scale, time, users, rate, seed, runs, processes, shape, slo, output, data
    )
    results = _run(plan, as_json=as_json)
    if save_baseline is not None:
        with explained():
            as_report(results).save(save_baseline)
    finish(ok=all(result.ok for result in results))


@load_app.command("list")
def list_scenarios(as_json: bool = _JSON) -> None:
    """List the scenarios, and their usual service levels."""
    import dataclasses

    from vexfs_chroma._load import _gates
    from vexfs_chroma._load._scenarios import SCENARIOS

    levels = _gates.load_levels(_gates.DEFAULT_FILE, SCENARIOS)
    if as_json:
        plain = {
            name: dataclasses.asdict(scenario)
            | {"levels": [dataclasses.asdict(level) for level in levels.get(name, [])]}
            for name, scenario in SCENARIOS.items()
        }
        typer.echo(json.dumps(plain, indent=2))
        return
    for name, scenario in SCENARIOS.items():
        out.print(f"{name}: {scenario.title}", markup=False)
        out.print(
            f"  {scenario.rows:,} x {scenario.dimension}, k = {scenario.k}, "
            f"{scenario.users} users, {scenario.seconds:g} s",
            markup=False,
        )
        for level in levels.get(name, []):
            sign = ">=" if level.sense == _gates.AT_LEAST else "<="
            out.print(f"  {level.name} {sign} {level.limit:g}", markup=False)


@stress_app.command("run")
def run_stress(
    scenario: str = _STRESS,
    target: str = _TARGET,
    scale: float = _SCALE,
    time: str | None = _TIME,
    users: int | None = _USERS,
    seed: int = _SEED,
    processes: int = _PROCESSES,
    slo: Path | None = _SLO,
    output: Path = _OUTPUT,
    data: Path | None = _DATA,
    as_json: bool = _JSON,
) -> None:
    """Find where more users bring no more, and kill the server (kill -9) under load.

    Exit code 1 when something acknowledged was lost, an answer was wrong, or a level was missed.
    """
    plan = _plan(
        scenario, target, scale, time, users, None, seed, 1, processes, None, slo, output, data
    )
    results = _run(plan, as_json=as_json)
    finish(ok=all(result.ok for result in results))


@regression_app.command("run")
def run_regression(
    baseline: Path = _BASELINE,
    scenario: str = _SCENARIO,
    target: str = _TARGET,
    scale: float = _SCALE,
    time: str | None = _TIME,
    seed: int = _SEED,
    runs: int = _RUNS,
    slo: Path | None = _SLO,
    output: Path = _OUTPUT,
    data: Path | None = _DATA,
    save_baseline: Path | None = _SAVE,
    as_json: bool = _JSON,
) -> None:
    """Run scenarios as load-test does, and compare with an earlier run.

    A figure counts as worse beyond what runs differ among themselves (5 % at least; 15 % of a
    single run; recall 0.002).  Exit code 1 when one is, or a service level was missed.
    """
    import dataclasses

    from vexfs_chroma._bench import _baseline
    from vexfs_chroma._bench._results import Report
    from vexfs_chroma._load._compare import as_report

    with explained():
        before = Report.load(baseline)
    plan = _plan(scenario, target, scale, time, None, None, seed, runs, 1, None, slo, output, data)
    results = _run(plan, as_json=False, quiet=as_json)
    with explained():
        report = as_report(results)
        changes = _baseline.compare(report, before, [*plan.targets])
        if save_baseline is not None:
            report.save(save_baseline)
    worse = [change for change in changes if change.verdict == _baseline.REGRESSION]
    ok = not worse and all(result.ok for result in results)
    if as_json:
        found = [dataclasses.asdict(change) | {"verdict": change.verdict} for change in changes]
        plain = {"ok": ok, "changes": found, "results": [result.as_json() for result in results]}
        typer.echo(json.dumps(plain, indent=2))
    else:
        _console().print(_baseline.table(changes))
        if report.machine.get("cpu") != before.machine.get("cpu"):
            out.print(f"the baseline is of another processor: {before.machine.get('cpu')}")
        out.print(f"{len(worse)} of {len(changes)} figures are worse than in the baseline")
    finish(ok=ok)


def _console() -> Console:
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


def _plan(
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


def _run(plan: Plan, *, as_json: bool, quiet: bool = False) -> list[Result]:
    """Run it; show and write what came out."""
    from vexfs_chroma._load import _report
    from vexfs_chroma._load import _run as runner

    console, quiet = _console(), quiet or as_json
    with explained():
        with StepProgress() as progress:
            results = runner.run(
                plan,
                progress,
                lambda result: None if quiet else _report.show(result, console),
            )
        runner.save_all(results, plan.output / "results.json")
        written = _report.write(results, plan.output)
    if as_json:
        typer.echo((plan.output / "results.json").read_text("utf-8"))
    elif not quiet:
        table = _report.side_by_side(results)
        if table is not None:
            console.print(table)
    for path in written:
        err.print(f"written: {path}", markup=False)
    return results
