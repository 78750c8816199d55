"""vexctl bottlenecks: what costs a server its time."""

from __future__ import annotations

import dataclasses
import json

import typer

from vexfs_chroma._cli._asking import AS_JSON, TIME, URL, group, window
from vexfs_chroma._cli._exit import explained, finish, out

app = group("What costs a server its time.")


@app.command("identify")
def identify(url: str = URL, seconds: float = TIME, as_json: bool = AS_JSON) -> None:
    """Tell what costs time and space, with the figures that speak for it.

    Exit code 1 when there is something.
    """
    from vexfs_chroma._observe._rules import bottlenecks

    with explained():
        _, facts, counters, _ = window(url, seconds)
        found = bottlenecks(facts, counters)
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        for one in () if as_json else found:
            out.print(f"{one.name}: {one.evidence}\n    {one.advice}", markup=False)
        if not found and not as_json:
            out.print("nothing stands out")
    finish(ok=not found)
