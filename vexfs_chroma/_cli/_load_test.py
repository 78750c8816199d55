"""vexctl load-test: workloads that check every answer."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._loads import (
    AS_JSON,
    DATA,
    OUTPUT,
    PROCESSES,
    RUNS,
    SAVE,
    SCALE,
    SCENARIO,
    SEED,
    SLO,
    TARGET,
    TIME,
    USERS,
    plan_of,
    run,
)

app = typer.Typer(no_args_is_help=True, help="Run workloads that check every answer.")

_RATE = typer.Option(None, "--rate", help="Operations per second of all users; 0: no pauses.")
_SHAPE = typer.Option(None, "--shape", help="steady, ramp or spike.")


@app.command("run")
def run_load(
    scenario: str = SCENARIO,
    target: str = TARGET,
    scale: float = SCALE,
    time: str | None = TIME,
    users: int | None = USERS,
    rate: float | None = _RATE,
    seed: int = SEED,
    runs: int = RUNS,
    processes: int = PROCESSES,
    shape: str | None = _SHAPE,
    slo: Path | None = SLO,
    output: Path = OUTPUT,
    data: Path | None = DATA,
    save_baseline: Path | None = SAVE,
    as_json: bool = AS_JSON,
) -> None:
    """Run scenarios, and compare with their service levels.

    Exit code 1 when a level was missed.
    """
    from vexfs_chroma._load._compare import as_report

    plan = plan_of(
        scenario, target, scale, time, users, rate, seed, runs, processes, shape, slo, output, data
    )
    results = run(plan, as_json=as_json)
    if save_baseline is not None:
        with explained():
            as_report(results).save(save_baseline)
    finish(ok=all(result.ok for result in results))


@app.command("list")
def list_scenarios(as_json: bool = AS_JSON) -> None:
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
