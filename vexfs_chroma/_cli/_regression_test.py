"""vexctl regression-test: load tests beside earlier ones."""

from __future__ import annotations

import json

import typer

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._load_options import LoadOptions, taking
from vexfs_chroma._cli._loads import console, run

app = typer.Typer(no_args_is_help=True, help="Load tests beside earlier ones.")


@app.command("run")
@taking("baseline scenario target scale time seed runs slo output data save_baseline")
def run_regression(asked: LoadOptions) -> None:
    """Run scenarios as load-test does, and compare with an earlier run.

    A figure counts as worse beyond what runs differ among themselves (5 % at least; 15 % of a
    single run; recall 0.002).  Exit code 1 when one is, or a service level was missed.
    """
    import dataclasses

    from vexfs_chroma._bench import _baseline
    from vexfs_chroma._bench._results import Report
    from vexfs_chroma._load._compare import as_report

    assert asked.baseline is not None
    with explained():
        before = Report.load(asked.baseline)
    plan = asked.plan()
    results = run(plan, as_json=False, quiet=asked.as_json)
    with explained():
        report = as_report(results)
        changes = _baseline.compare(report, before, [*plan.targets])
        if asked.save_baseline is not None:
            report.save(asked.save_baseline)
    worse = [change for change in changes if change.verdict == _baseline.REGRESSION]
    ok = not worse and all(result.ok for result in results)
    if asked.as_json:
        found = [dataclasses.asdict(change) | {"verdict": change.verdict} for change in changes]
        plain = {"ok": ok, "changes": found, "results": [result.as_json() for result in results]}
        typer.echo(json.dumps(plain, indent=2))
    else:
        console().print(_baseline.table(changes))
        if report.machine.get("cpu") != before.machine.get("cpu"):
            out.print(f"the baseline is of another processor: {before.machine.get('cpu')}")
        out.print(f"{len(worse)} of {len(changes)} figures are worse than in the baseline")
    finish(ok=ok)
