"""vexctl stats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal
from rich.table import Table

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._shown import busy

if TYPE_CHECKING:
    from vexfs_chroma._stats import CollectionStats, DatabaseStats, DiskUsage

_PATH = typer.Argument(
    ..., metavar="PATH", readable=False, help="The database; it is only read, and not locked."
)
_JSON = typer.Option(False, "--json", help="Print a JSON object with everything there is.")


def stats(path: Path = _PATH, as_json: bool = _JSON) -> None:
    """Show what a database consists of: records, files, bytes, graphs.

    Exit code 1 when the files of a collection are gone.
    """
    from vexfs_chroma._stats import stats as look

    with explained():
        with busy("reading"):
            found = look(path)
        if as_json:
            typer.echo(json.dumps(found.as_dict(), indent=2))
        else:
            _show(found)
    finish(ok=not found.missing)


def _show(found: DatabaseStats) -> None:
    out.print(
        f"{found.path}: {len(found.collections)} collections, {found.rows} records, "
        f"{decimal(found.disk.total)}, format {found.format_version}",
        markup=False,
    )
    contents = Table("collection", box=None, pad_edge=False)
    for column in (
        "records",
        "dim",
        "space",
        "in files",
        "dead",
        "in log",
        "codes",
        "graph",
        "search memory",
        "lsn",
    ):
        contents.add_column(column, justify="right")
    contents.add_column("last flush", justify="right")
    disk = Table("bytes", box=None, pad_edge=False)
    for column in (*_KINDS, "total", "shared"):
        disk.add_column(column, justify="right")
    for collection in found.collections:
        contents.add_row(_name(collection), *_contents(collection))
        disk.add_row(_name(collection), *_bytes(collection.disk, collection.shared_bytes))
    disk.add_row("catalog", *[""] * len(_KINDS), decimal(found.disk.catalog))
    disk.add_row("all", *_bytes(found.disk, found.shared_bytes))
    if found.collections:
        out.print(contents)
    out.print(disk)
    for name in found.missing:
        out.print(f"{name}: the files of this collection are gone", markup=False)
    for id in found.unlisted:
        out.print(f"{id}: no catalog entry names this collection", markup=False)


def _contents(collection: CollectionStats) -> list[str]:
    return [
        str(collection.rows),
        str(collection.dimension or "-"),
        collection.space,
        str(collection.file_rows - collection.dead_rows),
        str(collection.dead_rows),
        str(collection.unflushed_rows),
        collection.quantization or "-",
        f"{collection.graph_coverage:.0%}" if collection.graph_rows else "-",
        decimal(collection.search_bytes) if collection.search_bytes else "-",
        str(collection.lsn),
        "-" if collection.manifest_age is None else _ago(collection.manifest_age),
    ]


_KINDS = ("vectors", "payloads", "dead rows", "logs", "graphs", "left over")


def _bytes(disk: DiskUsage, shared: int) -> list[str]:
    kinds = (disk.vectors, disk.payloads, disk.tombstones, disk.logs, disk.graphs, disk.leftovers)
    return [decimal(n) if n else "-" for n in (*kinds, disk.total, shared)]


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _name(collection: CollectionStats) -> str:
    parts = [collection.tenant, collection.database, collection.name]
    if parts[:2] == ["default_tenant", "default_database"]:
        parts = parts[2:]
    return "/".join(parts)
