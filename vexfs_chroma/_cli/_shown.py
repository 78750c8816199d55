"""Progress bars; the report of an import or an export as a table."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from vexfs_chroma._cli._exit import err, out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID
    from typing_extensions import Self

    from vexfs_chroma._migrate import CollectionReport, MigrationReport

_MOST_NOTES = 20


class CopyProgress:
    """A bar for each collection.  Call it with a report and the number of records done."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._of: CollectionReport | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, collection: CollectionReport, done: int) -> None:
        if collection is not self._of or self._task is None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._of = collection
            self._task = self._progress.add_task(_name(collection), total=collection.rows)
        self._progress.update(self._task, completed=done)


class StepProgress:
    """A bar for each step of a job.  Call it with the step, how far it is, and how far it goes."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Show that something is being done, on a terminal, where nobody knows how far it is."""
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield


AS_JSON = typer.Option(False, "--json", help="Print what came over, and what did not, as JSON.")


def show_report(report: MigrationReport, verb: str, *, as_json: bool) -> None:
    """Print what came over, and everything that did not."""
    if as_json:
        typer.echo(report.to_json())
        return
    table = Table("collection", box=None, pad_edge=False)
    for column in ("source", verb, "verified", "no vector", "refused"):
        table.add_column(column, justify="right")
    table.add_column("")
    for collection in report.collections:
        numbers = (
            collection.rows,
            collection.copied,
            "-" if collection.counted is None else collection.counted,
            collection.without_vector,
            collection.refused,
        )
        state = "skipped: it is there" if collection.skipped else ""
        if not collection.ok:
            state = "PROBLEM"
        table.add_row(_name(collection), *map(str, numbers), state)
    out.print(table)
    for collection in report.collections:
        _show_notes(collection)
    for text in report.damage[:_MOST_NOTES]:
        out.print(f"damage: {text}", markup=False)
    if len(report.damage) > _MOST_NOTES:
        out.print(f"damage: {len(report.damage) - _MOST_NOTES} more of these")
    what = "would be " if report.dry_run else ""
    lost = f"{report.lost} lost"
    if report.damage:  # which nobody can count
        lost += ", and what only the damaged parts held"
    out.print(f"{report.copied} of {report.rows} records {what}{verb}, {lost}")


def _show_notes(collection: CollectionReport) -> None:
    name = _name(collection)
    if collection.error is not None:
        out.print(f"{name}: {collection.error}", markup=False)
    if collection.direction_only:
        out.print(
            f"{name}: {collection.direction_only} vectors came over with length 1, "
            "as their own length is lost",
            markup=False,
        )
    if collection.incomplete:
        out.print(
            f"{name}: {collection.incomplete} records came over with a part of their metadata, "
            "the rest is damaged or cannot be stored",
            markup=False,
        )
    for note in collection.notes[:_MOST_NOTES]:
        out.print(f"{name}: {note}", markup=False)


def _name(collection: CollectionReport) -> str:
    parts = [collection.tenant, collection.database, collection.name]
    if parts[:2] == ["default_tenant", "default_database"]:
        parts = parts[2:]
    return "/".join(parts)
