"""vexctl regression-test: load tests beside earlier ones."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._loads import (
    AS_JSON,
    DATA,
    OUTPUT,
    RUNS,
    SAVE,
    SCALE,
    SCENARIO,
    SEED,
    SLO,
    TARGET,
    TIME,
    console,
    plan_of,
    run,
)

app = typer.Typer(no_args_is_help=True, help="Load tests beside earlier ones.")

_BASELINE = typer.Option(..., "--baseline", metavar="FILE", help="What --save-baseline wrote.")


@app.command("run")
def run_regression(
    baseline: Path = _BASELINE,
    scenario: str = SCENARIO,
    target: str = TARGET,
    scale: float = SCALE,
    time: str | None = TIME,
    seed: int = SEED,
    runs: int = RUNS,
    slo: Path | None = SLO,
    output: Path = OUTPUT,
    data: Path | None = DATA,
    save_baseline: Path | None = SAVE,
    as_json: bool = AS_JSON,
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
    plan = plan_of(
        scenario, target, scale, time, None, None, seed, runs, 1, None, slo, output, data
    )
    results = run(plan, as_json=False, quiet=as_json)
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
        console().print(_baseline.table(changes))
        if report.machine.get("cpu") != before.machine.get("cpu"):
            out.print(f"the baseline is of another processor: {before.machine.get('cpu')}")
        out.print(f"{len(worse)} of {len(changes)} figures are worse than in the baseline")
    finish(ok=ok)
