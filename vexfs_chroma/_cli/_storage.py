"""vexctl storage: the files of a database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.filesize import decimal

from vexfs_chroma._cli._asking import AS_JSON, group
from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._shown import busy

if TYPE_CHECKING:
    from vexfs_chroma._stats import CollectionStats

app = group("The files of a database.")

_PATH = typer.Argument(..., metavar="PATH", readable=False, help="The database; it is only read.")


@app.command("analyze")
def analyze(path: Path = _PATH, as_json: bool = AS_JSON) -> None:
    """Tell where the bytes of a database are, and which could be had back.

    Exit code 1 when more than a third of the rows in the files of a collection is dead, or the
    files of a collection are gone.
    """
    from vexfs_chroma._stats import stats

    with explained():
        with busy("reading"):
            found = stats(path)
        lines = [_collection(one) for one in found.collections]
        if as_json:
            plain = {
                "disk": found.as_dict()["disk"],
                "collections": lines,
                "missing": found.missing,
            }
            typer.echo(json.dumps(plain, indent=2))
        else:
            out.print(f"{found.path}: {decimal(found.disk.total)}", markup=False)
            for line in lines:
                out.print(_text(line), markup=False)
            for name in found.missing:
                out.print(f"{name}: the files of this collection are gone", markup=False)
    finish(ok=not found.missing and not any(line["wasteful"] for line in lines))


def _collection(one: CollectionStats) -> dict[str, Any]:
    dead = one.dead_rows / one.file_rows if one.file_rows else 0.0
    raw = one.raw_document_bytes + one.raw_metadata_bytes
    stored = one.stored_document_bytes + one.stored_metadata_bytes
    return {
        "collection": one.name,
        "rows": one.rows,
        "bytes": one.disk.total,
        "bytes_per_row": one.disk.total / one.rows if one.rows else None,
        "vector_share": one.disk.vectors / one.disk.total if one.disk.total else 0.0,
        "dead_share": dead,
        "compression": raw / stored if stored else None,
        "unflushed_rows": one.unflushed_rows,
        "leftover_bytes": one.disk.leftovers,
        "wasteful": dead > 1 / 3 and one.dead_rows > 1000,
    }


def _text(line: dict[str, Any]) -> str:
    parts = [f"{line['rows']:,} records", decimal(line["bytes"])]
    if line["bytes_per_row"] is not None:
        parts.append(f"{line['bytes_per_row']:,.0f} bytes each")
    parts.append(f"{line['vector_share']:.0%} vectors")
    if line["compression"] is not None:
        parts.append(f"texts and metadata {line['compression']:.1f} times smaller than they are")
    if line["dead_share"]:
        parts.append(f"{line['dead_share']:.0%} of the rows in files dead")
    if line["leftover_bytes"]:
        parts.append(f"{decimal(line['leftover_bytes'])} left over")
    advice = "\n    client.vacuum() gives the space of dead rows back" if line["wasteful"] else ""
    return f"{line['collection']}: {', '.join(parts)}{advice}"
