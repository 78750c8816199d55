"""vexctl metrics: the counters of a server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.filesize import decimal
from rich.live import Live

from vexfs_chroma._cli._asking import (
    AS_JSON,
    URL,
    facts_of,
    fetch,
    figures_of,
    group,
    operations_table,
    show_operations,
    show_queries,
)
from vexfs_chroma._cli._exit import explained, out

if TYPE_CHECKING:
    from collections.abc import Iterator

app = group("Counters of a server.")

_EVERY = typer.Option(2.0, "--every", min=0.1, help="Seconds between two looks.")
_COUNT = typer.Option(0, "--count", min=0, help="So many looks; 0: until Ctrl-C.")
_OUTPUT = typer.Option(None, "--output", help="Write it to this file, whole or not at all.")
_FACTS = typer.Option(False, "--json", help="The same as JSON, with more about each collection.")


@app.command("show")
def show_metrics(url: str = URL, as_json: bool = AS_JSON) -> None:
    """Show what a server did since it was started."""
    with explained():
        found = facts_of(url)
        figures = figures_of(found["counters"], None)
        if as_json:
            typer.echo(json.dumps(figures | {"counters": found["counters"]}, indent=2))
            return
        show_operations(figures["operations"])
        show_queries(figures["queries"])
        database = found["database"]
        out.print(
            f"{len(database['collections'])} collections, {database['rows']:,} records, "
            f"{decimal(database['disk']['total'])}; {len(found['processes'])} processes"
        )


@app.command("watch")
def watch(
    url: str = URL, every: float = _EVERY, count: int = _COUNT, as_json: bool = AS_JSON
) -> None:
    """Show what a server does, again and again, each time since the last look.

    --json prints one object in a line for each look.  Ctrl-C ends it; that is no error.
    """
    with explained():
        looks = _looks(url, every, count)
        try:
            if as_json:
                for look in looks:
                    typer.echo(json.dumps(look))
            else:
                _show_live(looks)
        except KeyboardInterrupt:
            return


def _looks(url: str, every: float, count: int) -> Iterator[dict[str, Any]]:
    """What was done between two looks, `count` times."""
    from vexfs_chroma._observe import _figures

    before, done = facts_of(url), 0
    while not count or done < count:
        time.sleep(every)
        now = facts_of(url)
        counted = _figures.difference(before["counters"], now["counters"])
        database = now["database"]
        yield {
            "at": now["at"],
            **figures_of(counted, now["at"] - before["at"]),
            "waiting": now["waiting"],
            "rows": database["rows"],
            "collections": len(database["collections"]),
            "resident_bytes": sum(one["resident_bytes"] or 0 for one in now["processes"]),
            "processes": len(now["processes"]),
        }
        before, done = now, done + 1


def _show_live(looks: Iterator[dict[str, Any]]) -> None:
    """A table that changes in its place; where that is no terminal, one below the other."""
    if not out.is_terminal:
        for look in looks:
            out.print(_shown(look))
        return
    with Live(console=out, auto_refresh=False) as live:
        for look in looks:
            live.update(_shown(look), refresh=True)


def _shown(look: dict[str, Any]) -> Group:
    line = (
        f"{time.strftime('%H:%M:%S', time.localtime(look['at']))}  "
        f"{look['collections']} collections, {look['rows']:,} records; {look['processes']} "
        f"processes, {decimal(look['resident_bytes'])} resident; {look['waiting']} requests wait"
    )
    if not look["operations"]:
        return Group(line, "nothing was done")
    return Group(line, operations_table(look["operations"]))


@app.command("export")
def export(url: str = URL, output: Path | None = _OUTPUT, as_json: bool = _FACTS) -> None:
    """Print all metrics in Prometheus' text format, or write them to a file.

    The file takes the place of an older one at once, as collectors of text files want it.
    """
    with explained():
        text = fetch(url, "/vexfs/facts" if as_json else "/metrics").decode("utf-8")
        if as_json:
            text = json.dumps(json.loads(text), indent=2) + "\n"
        if output is None:
            typer.echo(text, nl=False)
            return
        part = output.with_name(output.name + ".part")
        part.write_text(text, "utf-8")
        part.replace(output)
