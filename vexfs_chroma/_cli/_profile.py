"""vexctl profile: what a server does in the next seconds."""

from __future__ import annotations

import json

import typer

from vexfs_chroma._cli._asking import (
    AS_JSON,
    TIME,
    URL,
    figures_of,
    show_operations,
    show_queries,
    window,
)
from vexfs_chroma._cli._exit import explained


def profile(url: str = URL, seconds: float = TIME, as_json: bool = AS_JSON) -> None:
    """Show what a server does in the next seconds: operations, and the stages of queries."""
    with explained():
        _, _, counters, passed = window(url, seconds)
        found = figures_of(counters, passed)
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        show_operations(found["operations"])
        show_queries(found["queries"])
