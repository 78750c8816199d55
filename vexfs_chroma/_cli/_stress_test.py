"""vexctl stress-test: more and more users; killed servers."""

from __future__ import annotations

from pathlib import Path

import typer

from vexfs_chroma._cli._exit import finish
from vexfs_chroma._cli._loads import (
    AS_JSON,
    DATA,
    OUTPUT,
    PROCESSES,
    SCALE,
    SEED,
    SLO,
    TARGET,
    TIME,
    USERS,
    plan_of,
    run,
)

app = typer.Typer(no_args_is_help=True, help="More and more users; killed servers.")

_STRESS = typer.Option("ramp,fault", "--scenario", metavar="NAMES", help="By commas.")


@app.command("run")
def run_stress(
    scenario: str = _STRESS,
    target: str = TARGET,
    scale: float = SCALE,
    time: str | None = TIME,
    users: int | None = USERS,
    seed: int = SEED,
    processes: int = PROCESSES,
    slo: Path | None = SLO,
    output: Path = OUTPUT,
    data: Path | None = DATA,
    as_json: bool = AS_JSON,
) -> None:
    """Find where more users bring no more, and kill the server (kill -9) under load.

    Exit code 1 when something acknowledged was lost, an answer was wrong, or a level was missed.
    """
    plan = plan_of(
        scenario, target, scale, time, users, None, seed, 1, processes, None, slo, output, data
    )
    results = run(plan, as_json=as_json)
    finish(ok=all(result.ok for result in results))
