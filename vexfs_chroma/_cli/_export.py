"""vexctl export: a vexfs database into other formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vexfs_chroma._cli._exit import explained, finish
from vexfs_chroma._cli._shown import AS_JSON, CopyProgress, show_report

if TYPE_CHECKING:
    from vexfs_chroma._migrate import MigrationReport

app = typer.Typer(help="Copy a vexfs database into other formats.", no_args_is_help=True)

_DIRECTORY = typer.Argument(..., metavar="DIR", readable=False, help="A new directory.")
_FROM = typer.Option(
    ..., "--from", metavar="PATH", readable=False, help="The database; it is only read."
)
_TENANT = typer.Option(None, "--tenant", help="Only this tenant.  Can be repeated.")
_DATABASE = typer.Option(None, "--database", help="Only this database.  Can be repeated.")
_COLLECTION = typer.Option(None, "--collection", help="Only this collection.  Can be repeated.")
_BATCH = typer.Option(1000, "--batch", min=1, help="Records read and written at a time.")


@app.command("chroma")
def chroma(
    directory: Path = _DIRECTORY,
    source: Path = _FROM,
    tenant: list[str] | None = _TENANT,
    database: list[str] | None = _DATABASE,
    collection: list[str] | None = _COLLECTION,
    batch: int = _BATCH,
    as_json: bool = AS_JSON,
) -> None:
    """Write a Chroma directory, by chromadb itself."""
    from vexfs_chroma._migrate import export_chroma

    _export(export_chroma, directory, source, tenant, database, collection, batch, as_json=as_json)


@app.command("jsonl")
def jsonl(
    directory: Path = _DIRECTORY,
    source: Path = _FROM,
    tenant: list[str] | None = _TENANT,
    database: list[str] | None = _DATABASE,
    collection: list[str] | None = _COLLECTION,
    batch: int = _BATCH,
    as_json: bool = AS_JSON,
) -> None:
    """Write one file per collection, with one JSON object per record."""
    from vexfs_chroma._migrate import export_jsonl

    _export(export_jsonl, directory, source, tenant, database, collection, batch, as_json=as_json)


@app.command("npz")
def npz(
    directory: Path = _DIRECTORY,
    source: Path = _FROM,
    tenant: list[str] | None = _TENANT,
    database: list[str] | None = _DATABASE,
    collection: list[str] | None = _COLLECTION,
    batch: int = _BATCH,
    as_json: bool = AS_JSON,
) -> None:
    """Write one file per collection that numpy reads."""
    from vexfs_chroma._migrate import export_npz

    _export(export_npz, directory, source, tenant, database, collection, batch, as_json=as_json)


@app.command("parquet")
def parquet(
    directory: Path = _DIRECTORY,
    source: Path = _FROM,
    tenant: list[str] | None = _TENANT,
    database: list[str] | None = _DATABASE,
    collection: list[str] | None = _COLLECTION,
    batch: int = _BATCH,
    as_json: bool = AS_JSON,
) -> None:
    """Write one Parquet file per collection.  Needs pyarrow."""
    from vexfs_chroma._migrate import export_parquet

    _export(export_parquet, directory, source, tenant, database, collection, batch, as_json=as_json)


def _export(
    export: Callable[..., MigrationReport],
    directory: Path,
    source: Path,
    tenants: list[str] | None,
    databases: list[str] | None,
    collections: list[str] | None,
    batch: int,
    *,
    as_json: bool,
) -> None:
    with explained():
        with CopyProgress() as progress:
            done = export(
                source,
                directory,
                tenants=tenants,
                databases=databases,
                collections=collections,
                batch=batch,
                progress=progress,
            )
        show_report(done, "exported", as_json=as_json)
    finish(ok=done.ok)
