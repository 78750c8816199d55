"""Reports as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from vexfs_chroma._bench._results import HIGHER, LOWER, recall_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from vexfs_chroma._bench._results import Figure, Report

_ARROWS = {HIGHER: "more", LOWER: "less"}
_STYLES = {"met": "green", "not met": "red", "not measured": "yellow"}


def number(value: float | None) -> str:
    """A figure with three or four digits that count."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def show(report: Report, console: Console, ours: str) -> None:
    """Everything, in the order in which one wants to know it."""
    console.print()
    for line in head(report):
        console.print(line, markup=False, highlight=False)
    for group in report.groups():
        libraries = report.libraries(group)
        wide = len(libraries) > 4
        console.print(by_library(report, group) if wide else by_figure(report, group, ours))
    if report.checks:
        console.print(checks(report))
    for title, reasons in (("skipped", report.skipped), ("FAILED", report.failed)):
        for who, reason in reasons.items():
            console.print(f"{title}: {who}: {reason}", markup=False, highlight=False)
    for note in report.notes:
        console.print(note, markup=False, highlight=False)


def head(report: Report) -> Iterator[str]:
    """Where and with what it was measured."""
    machine = report.machine
    yield f"vexctl bench {report.command}: medians of {report.conditions.get('runs', 1)} runs"
    yield f"{machine.get('cpu')}, {machine.get('cores')} cores, Python {machine.get('python')}"
    if report.versions:
        yield ", ".join(f"{name} {version}" for name, version in report.versions.items())


def by_figure(report: Report, group: str, ours: str) -> Table:
    """A line for each figure, a column for each library, and how many times better ours is.

    Recall has columns of its own, in the lines of what it is the recall of.
    """
    libraries, figures = report.libraries(group), _of(report, group)
    recalls = {recall_of(figure.name): figure for figure in figures if recall_of(figure.name)}
    others = [library for library in libraries if not library.startswith(ours)]
    table = Table(title=group, title_justify="left")
    table.add_column("")
    table.add_column("better")
    for library in libraries:
        table.add_column(escape(library), justify="right")
    for library in others if ours in libraries else []:
        table.add_column(f"x {escape(library)}", justify="right")
    for library in libraries if recalls else []:
        table.add_column(f"recall {escape(library)}", justify="right")
    for figure in figures:
        if recall_of(figure.name):
            continue
        cells = [number(figure.median(library)) for library in libraries]
        factors = [figure.factor(ours, other) for other in others] if ours in libraries else []
        cells += ["" if factor is None else f"{number(factor)}x" for factor in factors]
        if recalls:
            of = recalls.get(figure.name.rpartition(", ")[0])
            found = [of.median(library) if of else None for library in libraries]
            cells += ["" if value is None else f"{value:.4f}" for value in found]
        table.add_row(escape(figure.name), _ARROWS.get(figure.better, ""), *cells)
    return table


def by_library(report: Report, group: str) -> Table:
    """A line for each library, a column for each figure that says who is better."""
    figures = [figure for figure in _of(report, group) if figure.better]
    table = Table(title=group, title_justify="left")
    table.add_column("", no_wrap=True)
    for figure in figures:
        table.add_column(escape(figure.name), justify="right")
    first = figures[0] if figures else None
    libraries = report.libraries(group)
    if first is not None:
        libraries.sort(key=lambda library: -(first.median(library) or 0))
    for library in libraries:
        table.add_row(escape(library), *(number(figure.median(library)) for figure in figures))
    return table


def checks(report: Report) -> Table:
    """Targets and verdicts."""
    table = Table(title="Targets", title_justify="left")
    for column in ("", "figure"):
        table.add_column(column)
    for column in ("measured", "target"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for check in report.checks:
        unit = check.unit if check.unit == "x" else f" {check.unit}" if check.unit else ""
        measured = "-" if check.measured is None else f"{number(check.measured)}{unit}"
        cells = (escape(check.group), escape(check.name), measured, check.target)
        table.add_row(*cells, check.verdict, style=_STYLES[check.verdict])
    return table


def _of(report: Report, group: str) -> list[Figure]:
    return [figure for figure in report.figures if figure.group == group and figure.values]
