"""vexctl performance: figures of a server over some time, and two of them side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from vexfs_chroma._cli._asking import (
    AS_JSON,
    TIME,
    URL,
    as_ms,
    figures_of,
    group,
    show_operations,
    show_queries,
    show_table,
    window,
)
from vexfs_chroma._cli._exit import explained, finish

app = group("Figures of a server over some time, and two of them side by side.")

_OUTPUT = typer.Option(None, "--output", help="Write it to this file, as JSON.")
_BEFORE = typer.Argument(..., help="What `report --output` wrote, earlier ...")
_AFTER = typer.Argument(..., help="... and later.")
_TOLERANCE = typer.Option(0.25, "--tolerance", min=0.0, help="A share that is noise.")
_FORMAT = "vexctl performance 1"


@app.command("report")
def report(
    url: str = URL,
    seconds: float = TIME,
    output: Path | None = _OUTPUT,
    as_json: bool = AS_JSON,
) -> None:
    """Tell what a server does in the next seconds, for people or for `compare`."""
    with explained():
        _, facts, counters, passed = window(url, seconds)
        found = {"format": _FORMAT, "version": facts["version"], **figures_of(counters, passed)}
        if output is not None:
            output.write_text(json.dumps(found, indent=2), "utf-8")
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        show_operations(found["operations"])
        show_queries(found["queries"])


@app.command("compare")
def compare(
    before: Path = _BEFORE,
    after: Path = _AFTER,
    tolerance: float = _TOLERANCE,
    as_json: bool = AS_JSON,
) -> None:
    """Compare two reports.  Exit code 1 when an operation takes longer than before."""
    with explained():
        old, new = _operations_of(before), _operations_of(after)
        changes = [
            {
                "operation": name,
                "figure": figure,
                "before": old[name][figure],
                "after": new[name][figure],
                "worse": new[name][figure] > old[name][figure] * (1 + tolerance),
            }
            for name in old
            if name in new
            for figure in ("mean_ms", "p50_ms", "p95_ms")
        ]
        if not changes:
            raise ValueError("the two reports have no operation in common")
        if as_json:
            typer.echo(json.dumps(changes, indent=2))
        else:
            show_table(
                ("operation", "figure", "before", "after", ""),
                [
                    (
                        one["operation"],
                        one["figure"],
                        as_ms(one["before"]),
                        as_ms(one["after"]),
                        "worse" if one["worse"] else "",
                    )
                    for one in changes
                ],
            )
    finish(ok=not any(one["worse"] for one in changes))


def _operations_of(file: Path) -> dict[str, dict[str, Any]]:
    try:
        plain = json.loads(file.read_text("utf-8"))
        made_by = plain["format"]
        found = {one["operation"]: one for one in plain["operations"]}
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is no report; `vexctl performance report --output FILE` writes one"
        ) from error
    if made_by != _FORMAT:
        raise ValueError(f"{file} has the format {made_by!r}, not {_FORMAT!r}")
    return found
