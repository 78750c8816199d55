"""vexctl check and vexctl repair: whether a database is sound, and making it so again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vexfs_chroma._cli._exit import err, explained, finish, out

if TYPE_CHECKING:
    from rich.progress import TaskID
    from typing_extensions import Self

    from vexfs_chroma._integrity import CheckReport, Finding, RepairReport

# Whether it can be read is the job's to say: with a reason, and as a failure.
_PATH = typer.Argument(..., metavar="PATH", readable=False, help="The database.")
_DEEP = typer.Option(False, "--deep", help="Read every byte and compare all records.")
_JSON = typer.Option(False, "--json", help="Print the report as one JSON object.")
_DRY_RUN = typer.Option(False, "--dry-run", help="Find out what would be lost; change nothing.")
_REPORT = typer.Option(None, "--report", metavar="FILE", help="Write a JSON line for every loss.")

_MOST = 20


def check(path: Path = _PATH, deep: bool = _DEEP, json: bool = _JSON) -> None:
    """Look for damage; change nothing.  Programs that use the database go on.

    Exit code 1 when something is damaged.
    """
    from vexfs_chroma._integrity import check

    with explained():
        with _Bar() as bar:
            report = check(path, deep, progress=bar)
        if json:
            typer.echo(report.to_json())
        else:
            _show_check(report)
    finish(ok=report.ok)


def repair(
    path: Path = _PATH,
    dry_run: bool = _DRY_RUN,
    report: Path | None = _REPORT,
    json: bool = _JSON,
) -> None:
    """Make a damaged database sound again, with all of it that can be read.

    Nobody else may use it meanwhile.  Nothing is removed: what is damaged goes to PATH/quarantine.
    Exit code 1 when something is lost.
    """
    from vexfs_chroma._integrity import repair

    with explained():
        with _Bar() as bar:
            done = repair(path, dry_run=dry_run, report=report, progress=bar)
        if json:
            typer.echo(done.to_json())
        else:
            _show_repair(done)
    finish(ok=done.ok)


class _Bar:
    """A progress bar that names what is being read."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._name = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        if self._task is None or name != self._name:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._name, self._task = name, self._progress.add_task(name, total=total)
        self._progress.update(self._task, completed=done, total=total)


def _show_check(report: CheckReport) -> None:
    for findings in (report.damage, report.notices):
        for finding in findings[:_MOST]:
            _show_finding(finding)
        if len(findings) > _MOST:
            out.print(f"{len(findings) - _MOST} more of these (--json has all)")
    depth = "every byte" if report.deep else "structures"
    out.print(
        f"{report.collections} collections, {report.rows} records; {depth} of {report.files} files "
        f"checked, {report.bytes} bytes: "
        + ("sound" if report.ok else f"{len(report.damage)} damaged places")
    )


def _show_finding(finding: Finding) -> None:
    where = f"{finding.file}, offset {finding.offset}" if finding.offset else finding.file
    of = f" [{finding.collection}]" if finding.collection else ""
    out.print(f"{finding.severity}{of}: {where}: {finding.what}", markup=False)
    if finding.advice:
        out.print(f"    {finding.advice}", markup=False)


def _show_repair(done: RepairReport) -> None:
    if not done.changed:
        out.print("the database is sound; nothing was changed")
        return
    would = "would be " if done.dry_run else ""
    anew = [name for name in done.repaired if name != "transaction"]
    if anew:
        out.print(f"{would}made anew: {', '.join(anew)}", markup=False)
    if "transaction" in done.repaired:
        out.print(f"{would}given up: the transaction that was under way")
    out.print(f"{done.kept} records of these are {'readable' if done.dry_run else 'kept'}")
    for loss in done.losses[:_MOST]:
        record = "" if loss.id is None else f" {loss.id!r}"
        number = "" if loss.count == 1 else f" ({loss.count or 'nobody knows how many'})"
        of = f" [{loss.collection}]" if loss.collection else ""
        what = f"{loss.what}{record}{number}: {loss.file}: {loss.why}"
        out.print(f"lost{of}: {what}", markup=False)
    if len(done.losses) > _MOST:
        out.print(f"... {len(done.losses) - _MOST} more of these (--report FILE has all)")
    for what, count in sorted(done.lost.items()):
        out.print(f"{would}lost: {what}: {count}", markup=False)
    if done.quarantine is not None:
        out.print(f"what was damaged is in {done.quarantine}", markup=False)
    if done.after is not None:
        out.print("the database is sound now" if done.after.ok else "the database is still damaged")
        _show_check(done.after)
