"""vexctl memory: the memory of a server."""

from __future__ import annotations

import json

import typer
from rich.filesize import decimal

from vexfs_chroma._cli._asking import AS_JSON, URL, facts_of, group, show_table
from vexfs_chroma._cli._exit import explained

app = group("The memory of a server.")


@app.command("stats")
def show_memory(url: str = URL, as_json: bool = AS_JSON) -> None:
    """Show the memory of a server: of its processes, and by what it is in the one that answers."""
    with explained():
        found = facts_of(url)
        if as_json:
            plain = {name: found[name] for name in ("processes", "memory")}
            typer.echo(json.dumps(plain, indent=2))
            return
        show_table(
            ("process", "resident", "CPU seconds", "open files"),
            [
                (
                    str(one["pid"]),
                    "-" if one["resident_bytes"] is None else decimal(one["resident_bytes"]),
                    "-" if one["cpu_seconds"] is None else f"{one['cpu_seconds']:,.1f}",
                    str(one["open_files"] or "-"),
                )
                for one in found["processes"]
            ],
        )
        parts = {name: size for name, size in found["memory"].items() if size}
        show_table(("memory", ""), [(k.replace("_", " "), decimal(v)) for k, v in parts.items()])
