"""vexctl slow-log: slow operations of a server, or of a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from vexfs_chroma._cli._asking import AS_JSON, URL, ask, group
from vexfs_chroma._cli._exit import explained, out

app = group("Slow operations.")

_LOG = typer.Option(None, "--file", help="A log that VEXFS_SLOW_LOG named, not a server.")
_LIMIT = typer.Option(20, "--limit", min=1, help="So many of the slowest.")


@app.command("analyze")
def analyze_slow(
    url: str = URL,
    file: Path | None = _LOG,
    limit: int = _LIMIT,
    as_json: bool = AS_JSON,
) -> None:
    """Show the slowest operations, each kind of them once, with what took the time."""
    from vexfs_chroma._observe._slow import slowest_in

    with explained():
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"{file} is no file")
        found = ask(url, "/vexfs/slow-log") if file is None else slowest_in([file])
        if file is not None and not found and file.stat().st_size:
            raise ValueError(f"{file} has no line of a slow log, which VEXFS_SLOW_LOG={file} makes")
        if as_json:
            typer.echo(json.dumps(found[:limit], indent=2, default=str))
            return
        places = ("tenant", "database", "collection")
        hidden = ("at", "pid", "operation", "ms", "repeats", "plan", *places)
        for one in found[:limit]:
            about = {name: value for name, value in one.items() if name not in hidden and value}
            out.print(
                f"{one['ms']:,.1f} ms  {one['operation']} of {_place(one)}, "
                f"{one.get('repeats', 1)} times: {json.dumps(about, default=str)}",
                markup=False,
            )
            plan = one.get("plan")
            if plan:
                out.print(
                    f"    {plan['why']}: {plan['select_us'] / 1000:.2f} ms selecting, "
                    f"{plan['search_us'] / 1000:.2f} searching, {plan['fetch_us'] / 1000:.2f} "
                    f"fetching; {plan['read_rows']:,} rows read of {plan['rows']:,}",
                    markup=False,
                )
        if not found:
            out.print("nothing was slow")


def _place(one: dict[str, Any]) -> str:
    """The collection, with its database unless that is the default one."""
    place = [str(one.get(name)) for name in ("tenant", "database", "collection")]
    is_default = place[:2] in (["default_tenant", "default_database"], ["None", "None"])
    return place[2] if is_default else "/".join(place)
