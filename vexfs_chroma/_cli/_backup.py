"""vexctl backup and restore."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._shown import StepProgress

if TYPE_CHECKING:
    from vexfs_chroma._backup import BackupReport

_PATH = typer.Argument(
    ..., metavar="PATH", readable=False, help="The database; programs that use it go on."
)
_DEST = typer.Argument(..., metavar="DEST", readable=False, help="A new directory.")
_SRC = typer.Argument(..., metavar="SRC", readable=False, help="The backup; it is only read.")
_COPY = typer.Option(False, "--copy", help="Copy all files, share none with the original.")
_LINK = typer.Option(False, "--link", help="Share files with the backup where that is possible.")
_JSON = typer.Option(False, "--json", help="Print what was done as JSON.")
_BUSY = typer.Option(
    30.0, "--busy-timeout", min=0, metavar="SECONDS", help="How long to wait for other processes."
)


def backup(
    path: Path = _PATH,
    dest: Path = _DEST,
    copy: bool = _COPY,
    busy_timeout: float = _BUSY,
    as_json: bool = _JSON,
) -> None:
    """Back up a database while it is in use.

    The backup is a database itself.  Files that never change are shared with the original where the
    file system can, so they take no space.
    """
    from vexfs_chroma._backup import backup as make

    with explained(), StepProgress() as progress:
        done = make(path, dest, copy=copy, busy_timeout=busy_timeout, progress=progress)
    _show(done, as_json=as_json)


def restore(
    src: Path = _SRC, path: Path = _DEST, link: bool = _LINK, as_json: bool = _JSON
) -> None:
    """Make a database of a backup, after looking whether that is whole."""
    from vexfs_chroma._backup import restore as make

    with explained(), StepProgress() as progress:
        done = make(src, path, link=link, progress=progress)
    _show(done, as_json=as_json)


def _show(done: BackupReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done), indent=2))
    else:
        out.print(
            f"{done.target}: {done.collections} collections, {done.rows} records, "
            f"{decimal(done.copied_bytes)} copied, {decimal(done.linked_bytes)} shared",
            markup=False,
        )
        for name in done.missing:
            out.print(f"{name}: the files of this collection were lost before", markup=False)
    finish(ok=not done.missing)
