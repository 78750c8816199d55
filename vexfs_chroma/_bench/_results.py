"""What a benchmark found: figures, curves, checks against targets; kept as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
HIGHER, LOWER, NEITHER = "higher", "lower", ""
_RECALL = ", recall@"  # the name of a figure is what was asked, this, and k


def recall_of(name: str) -> str | None:
    """What a figure is the recall of; None where it is something else."""
    asked, found, _ = name.rpartition(_RECALL)
    return asked if found else None


@dataclass(slots=True)
class Figure:
    """One quantity, of every library that has it: one value for each run."""

    group: str
    name: str
    unit: str
    better: str  # HIGHER, LOWER, or NEITHER
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, library: str) -> float | None:
        """Of the runs; None where the library has no such figure."""
        runs = self.values.get(library)
        return statistics.median(runs) if runs else None

    def factor(self, ours: str, theirs: str) -> float | None:
        """How many times better ours is."""
        a, b = self.median(ours), self.median(theirs)
        if a is None or b is None or not self.better or a <= 0 or b <= 0:
            return None
        return a / b if self.better == HIGHER else b / a


@dataclass(slots=True)
class Curve:
    """Recall against queries per second, by effort."""

    group: str
    library: str
    knob: str
    points: list[dict[str, float]] = field(default_factory=list)  # knob, recall, rate, p95, ...


@dataclass(slots=True)
class Check:
    """A figure, or a ratio of two, against its target."""

    group: str
    name: str
    target: str  # in words
    measured: float | None  # None: nothing to compare with was measured
    limit: float
    at_least: bool  # else at most
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """Tell "met", "not met" or "not measured"."""
        if self.measured is None or math.isnan(self.measured):
            return "not measured"
        good = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "met" if good else "not met"


@dataclass(slots=True)
class Report:
    """All that one command found, and under which conditions."""

    command: str
    conditions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what the figures mean
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # library: reason
    failed: dict[str, str] = field(default_factory=dict)  # of ours: what went wrong

    def figure(self, group: str, name: str, unit: str = "", better: str = NEITHER) -> Figure:
        """The figure of that name, which is made where there is none."""
        for figure in self.figures:
            if figure.group == group and figure.name == name:
                return figure
        self.figures.append(Figure(group, name, unit, better))
        return self.figures[-1]

    def add(
        self, group: str, name: str, unit: str, better: str, library: str, value: float
    ) -> None:
        """One value of one run."""
        self.figure(group, name, unit, better).values.setdefault(library, []).append(value)

    def median(self, group: str, name: str, library: str) -> float | None:
        """Of a figure, if it was measured."""
        return self.figure(group, name).median(library)

    def check(
        self,
        group: str,
        name: str,
        measured: float | None,
        limit: float,
        *,
        at_least: bool = True,
        unit: str = "x",
    ) -> None:
        """Compare with a target."""
        sign = ">=" if at_least else "<="
        target = f"{sign} {limit:,.10g}{unit if unit == 'x' else f' {unit}' if unit else ''}"
        self.checks.append(Check(group, name, target, measured, limit, at_least, unit))

    def libraries(self, group: str) -> list[str]:
        """Those with figures in a group, in the order in which they were measured."""
        names = (name for figure in self.figures if figure.group == group for name in figure.values)
        return list(dict.fromkeys(names))

    def groups(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(figure.group for figure in self.figures if figure.values))

    def as_json(self) -> dict[str, Any]:
        """As plain values; medians and verdicts are there for those who read only."""
        plain = dataclasses.asdict(self)
        for figure, entry in zip(self.figures, plain["figures"], strict=True):
            entry["medians"] = {library: figure.median(library) for library in figure.values}
        for check, entry in zip(self.checks, plain["checks"], strict=True):
            entry["verdict"] = check.verdict
        return {"format": FORMAT, **plain}

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.as_json(), indent=1), "utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Report:
        """What `save` wrote.  Raises ValueError when it is something else."""
        try:
            plain = json.loads(path.read_text("utf-8"))
            if plain["format"] != FORMAT:
                raise ValueError(f"{path} has format {plain['format']}, this is {FORMAT}")
            report = cls(plain["command"])
            for name in ("conditions", "machine", "versions", "notes", "skipped", "failed"):
                setattr(report, name, plain[name])
            report.figures = [_made(Figure, entry) for entry in plain["figures"]]
            report.curves = [_made(Curve, entry) for entry in plain["curves"]]
            report.checks = [_made(Check, entry) for entry in plain["checks"]]
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} is no result of vexctl bench or load-test; --save-baseline writes one"
            ) from error
        return report


def _made(kind: type[Any], entry: dict[str, Any]) -> Any:
    """An object from its fields; what is derived from them is left out."""
    return kind(**{name: entry[name] for name in kind.__dataclass_fields__})
