"""A report beside an earlier one: what became better or worse, beyond what runs differ among
themselves.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from vexfs_chroma._bench._results import HIGHER, recall_of
from vexfs_chroma._bench._show import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._results import Figure, Report

REGRESSION, SAME, BETTER = "regression", "same", "better"
_LEAST_BAND = 0.05  # of figures that were measured more than once
_ONCE_BAND = 0.15  # of those that were not: nothing tells how much they vary
_RECALL_BAND = 0.002
_STYLES = {REGRESSION: "red", SAME: "", BETTER: "green"}


@dataclass(slots=True, frozen=True)
class Change:
    """A figure then and now."""

    group: str
    name: str
    before: float
    now: float
    ratio: float  # how many times better it is now
    band: float  # a ratio within 1 / (1 + band) and 1 + band is the same

    @property
    def verdict(self) -> str:
        """REGRESSION, SAME or BETTER."""
        if self.ratio > 1 + self.band:
            return BETTER
        return REGRESSION if self.ratio < 1 / (1 + self.band) else SAME


def compare(report: Report, baseline: Report, libraries: Sequence[str]) -> list[Change]:
    """The figures that both have of the first of `libraries` that has them.

    Raises ValueError when the reports have nothing in common.
    """
    if report.command != baseline.command:
        raise ValueError(
            f"the baseline is of `vexctl bench {baseline.command}`, not of {report.command}"
        )
    earlier = {(figure.group, figure.name): figure for figure in baseline.figures}
    changes = []
    for figure in report.figures:
        before = earlier.get((figure.group, figure.name))
        for library in libraries:
            change = _change(figure, before, library) if before and figure.better else None
            if change is not None:
                changes.append(change)
    if not changes:
        raise ValueError("the baseline has no figure of these: was it measured with other rows?")
    return changes


def _change(figure: Figure, before: Figure, library: str) -> Change | None:
    now, then = figure.median(library), before.median(library)
    if now is None or then is None or now <= 0 or then <= 0:
        return None
    ratio = now / then if figure.better == HIGHER else then / now
    band = max(_band(figure, library), _band(before, library))
    return Change(figure.group, _name(figure, library), then, now, ratio, band)


def _name(figure: Figure, library: str) -> str:
    return f"{figure.name}, {library}" if len(figure.values) > 1 else figure.name


def _band(figure: Figure, library: str) -> float:
    """How far the runs lie apart, relative to their median, and at least as much as is usual."""
    runs = figure.values[library]
    if recall_of(figure.name):
        return max(_RECALL_BAND, max(runs) - min(runs))
    if len(runs) < 2:
        return _ONCE_BAND
    return max(_LEAST_BAND, (max(runs) - min(runs)) / statistics.median(runs))


def drift(report: Report, baseline: Report, ours: Sequence[str]) -> float | None:
    """How many times better the others are than they were: it tells about the machine.

    None when there are no others.
    """
    others = {library for figure in report.figures for library in figure.values} - set(ours)
    earlier = {(figure.group, figure.name): figure for figure in baseline.figures}
    ratios = []
    for figure in report.figures:
        before = earlier.get((figure.group, figure.name))
        for library in others if before is not None and figure.better else ():
            change = _change(figure, before, library) if before is not None else None
            if change is not None:
                ratios.append(change.ratio)
    return statistics.median(ratios) if ratios else None


def table(changes: Sequence[Change]) -> Table:
    """For people."""
    shown = Table(title="Compared with the baseline", title_justify="left")
    for column in ("", "figure"):
        shown.add_column(column)
    for column in ("before", "now", "times better", "noise"):
        shown.add_column(column, justify="right")
    shown.add_column("verdict")
    for change in changes:
        cells = (number(change.before), number(change.now), f"{change.ratio:.2f}x")
        band, style = f"{change.band:.1%}", _STYLES[change.verdict]
        shown.add_row(
            escape(change.group), escape(change.name), *cells, band, change.verdict, style=style
        )
    return shown
