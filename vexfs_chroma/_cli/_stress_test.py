"""vexctl stress-test: more and more users; killed servers."""

from __future__ import annotations

import typer

from vexfs_chroma._cli._exit import finish
from vexfs_chroma._cli._load_options import LoadOptions, taking
from vexfs_chroma._cli._loads import run

app = typer.Typer(no_args_is_help=True, help="More and more users; killed servers.")


@app.command("run")
@taking(
    "scenario target scale time users seed processes slo output data",
    scenario={"default": "ramp,fault", "help": "By commas."},
)
def run_stress(asked: LoadOptions) -> None:
    """Find where more users bring no more, and kill the server (kill -9) under load.

    Exit code 1 when something acknowledged was lost, an answer was wrong, or a level was missed.
    """
    results = run(asked.plan(), as_json=asked.as_json)
    finish(ok=all(result.ok for result in results))
