"""vexctl import: other formats into a vexfs database."""

from __future__ import annotations

from pathlib import Path

import typer

from vexfs_chroma._cli._exit import explained, finish
from vexfs_chroma._cli._shown import AS_JSON, CopyProgress, show_report

app = typer.Typer(help="Copy data into a vexfs database.", no_args_is_help=True)

_CHROMA = typer.Argument(
    ..., metavar="DIR", readable=False, help="Chroma's directory, the one with chroma.sqlite3."
)
_FILES = typer.Argument(
    ...,
    metavar="DIR",
    readable=False,
    help="The directory of the export, the one with manifest.json.",
)
_TO = typer.Option(
    ...,
    "--to",
    metavar="PATH",
    readable=False,
    help="The database; made if it does not exist.",
)
_TENANT = typer.Option(None, "--tenant", help="Only this tenant.  Can be repeated.")
_DATABASE = typer.Option(None, "--database", help="Only this database.  Can be repeated.")
_COLLECTION = typer.Option(None, "--collection", help="Only this collection.  Can be repeated.")
_CONFLICT = typer.Option(
    "fail", "--on-conflict", help="Collections that are there already: fail, skip or replace."
)
_BATCH = typer.Option(2000, "--batch", min=1, help="Records read and written at a time.")
_DRY_RUN = typer.Option(False, "--dry-run", help="Read everything, write nothing.")
_REPORT = typer.Option(
    None, "--report", metavar="FILE", help="Write a JSON line for every record that is lost."
)


@app.command("chroma")
def chroma(
    directory: Path = _CHROMA,
    to: Path = _TO,
    tenant: list[str] | None = _TENANT,
    database: list[str] | None = _DATABASE,
    collection: list[str] | None = _COLLECTION,
    on_conflict: str = _CONFLICT,
    batch: int = _BATCH,
    dry_run: bool = _DRY_RUN,
    report: Path | None = _REPORT,
    as_json: bool = AS_JSON,
) -> None:
    """Copy a directory that Chroma 0.4 to 1.5 wrote, also one that it cannot open any more.

    Reads the files themselves and writes nothing beside them.  Stop programs that use them first.
    Exit code 1 when a record was lost; --report has each of them, with what is left of it.
    """
    from vexfs_chroma._migrate import import_chroma

    _check_conflict(on_conflict)
    with explained():
        with CopyProgress() as progress:
            done = import_chroma(
                directory,
                to,
                tenants=tenant,
                databases=database,
                collections=collection,
                on_conflict=on_conflict,
                batch=batch,
                dry_run=dry_run,
                report=report,
                progress=progress,
            )
        show_report(done, "imported", as_json=as_json)
    finish(ok=done.ok)


def _check_conflict(value: str) -> None:
    if value not in {"fail", "skip", "replace"}:
        raise typer.BadParameter("must be fail, skip or replace", param_hint="--on-conflict")


@app.command("files")
def files(
    directory: Path = _FILES,
    to: Path = _TO,
    on_conflict: str = _CONFLICT,
    batch: int = _BATCH,
    as_json: bool = AS_JSON,
) -> None:
    """Copy what `vexctl export jsonl`, `npz` or `parquet` wrote."""
    from vexfs_chroma._migrate import import_files

    _check_conflict(on_conflict)
    with explained():
        with CopyProgress() as progress:
            done = import_files(
                directory, to, on_conflict=on_conflict, batch=batch, progress=progress
            )
        show_report(done, "imported", as_json=as_json)
    finish(ok=done.ok)
