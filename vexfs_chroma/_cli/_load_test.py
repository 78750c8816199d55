"""vexctl load-test: workloads that check every answer."""

from __future__ import annotations

import json

import typer

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._load_options import LoadOptions, taking
from vexfs_chroma._cli._loads import run

app = typer.Typer(no_args_is_help=True, help="Run workloads that check every answer.")

_JSON = typer.Option(False, "--json", help="Print all results as JSON.")


@app.command("run")
@taking(
    "scenario target scale time users rate seed runs processes shape slo output data save_baseline"
)
def run_load(asked: LoadOptions) -> None:
    """Run scenarios, and compare with their service levels.

    Exit code 1 when a level was missed.
    """
    from vexfs_chroma._load._compare import as_report

    results = run(asked.plan(), as_json=asked.as_json)
    if asked.save_baseline is not None:
        with explained():
            as_report(results).save(asked.save_baseline)
    finish(ok=all(result.ok for result in results))


@app.command("list")
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
