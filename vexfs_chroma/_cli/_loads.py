"""Running what load-test, stress-test and regression-test are told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from vexfs_chroma._cli._exit import WIDE, err, explained
from vexfs_chroma._cli._shown import StepProgress
from vexfs_chroma._signals import as_interrupts

if TYPE_CHECKING:
    from rich.console import Console

    from vexfs_chroma._load._result import Result
    from vexfs_chroma._load._run import Plan


def console() -> Console:
    """The terminal, or a wide page where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def run(plan: Plan, *, as_json: bool, quiet: bool = False) -> list[Result]:
    """Run it; show and write what came out."""
    from vexfs_chroma._load import _report
    from vexfs_chroma._load import _run as runner

    screen, quiet = console(), quiet or as_json
    with explained(), as_interrupts():
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
