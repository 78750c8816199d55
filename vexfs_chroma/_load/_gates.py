"""Service levels: what a load test must reach, and the verdict.

A file of levels (TOML) has a table for each scenario:

    [rag]
    query.p95_ms.at_most = 50
    query.recall.at_least = 0.95
    all.error_rate.at_most = 0

The first word is a kind of operation, `all` for all of them, or `run` for what is about the whole
run; the second is a figure of it.  A level whose figure was not measured is missed.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vexfs_chroma._load._scenarios import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_FILE = Path(__file__).with_name("slo.toml")
AT_LEAST, AT_MOST = "at_least", "at_most"
_TIMES = ("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")
_RATES = ("per_second", "vectors_per_second", "error_rate", "recall")
FIGURES = frozenset({"count", "errors", *_RATES, *_TIMES})
_FAULTS = ("wrong", "lost", "unfinished", "failed", "kills", "outage_s")
_RESOURCES = ("memory_growth", "descriptors_growth", "descriptors_peak")
_KNEE = ("knee_users", "knee_per_second")
RUN_FIGURES = frozenset({*_FAULTS, "p99_drift", *_RESOURCES, *_KNEE})
_SUBJECTS = (*KINDS, "all", "run")


@dataclass(slots=True, frozen=True)
class Level:
    """One figure, and its limit."""

    subject: str
    figure: str
    sense: str
    limit: float

    @property
    def name(self) -> str:
        """As it is written in the file."""
        return f"{self.subject}.{self.figure}"


@dataclass(slots=True, frozen=True)
class Judged:
    """A level, what was measured, and whether that is good enough."""

    name: str
    sense: str
    limit: float
    measured: float | None
    ok: bool

    def __str__(self) -> str:
        sign = ">=" if self.sense == AT_LEAST else "<="
        found = "not measured" if self.measured is None else f"{self.measured:,.6g}"
        return f"{self.name} {sign} {self.limit:,.10g}: {found}"


def load_levels(path: Path, scenarios: Iterable[str]) -> dict[str, list[Level]]:
    """The levels of each scenario in a file.  Raises ValueError for whatever is not a level."""
    try:
        plain = msgspec.toml.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    known = list(scenarios)
    found: dict[str, list[Level]] = {}
    for name, table in plain.items():
        if name not in known:
            raise ValueError(f"{path}: no scenario {name!r}{_nearest(name, known)}")
        found[name] = list(_levels(table, f"{path}: {name}"))
    return found


def _levels(table: Any, where: str) -> Iterable[Level]:
    for subject, figures in _tables(table, where):
        if subject not in _SUBJECTS:
            raise ValueError(f"{where}: no kind {subject!r}{_nearest(subject, _SUBJECTS)}")
        names = RUN_FIGURES if subject == "run" else FIGURES
        for figure, limits in _tables(figures, f"{where}.{subject}"):
            place = f"{where}.{subject}.{figure}"
            if figure not in names:
                raise ValueError(f"{place}: no such figure{_nearest(figure, names)}")
            for sense, limit in _tables(limits, place):
                if sense not in (AT_LEAST, AT_MOST):
                    raise ValueError(f"{place}: {AT_LEAST} or {AT_MOST}, not {sense!r}")
                if type(limit) not in (int, float) or not math.isfinite(limit):
                    raise ValueError(f"{place}.{sense} must be a number, not {limit!r}")
                yield Level(subject, figure, sense, float(limit))


def _tables(found: Any, where: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(found, dict):
        raise ValueError(f"{where} must be a table, not {found!r}")  # noqa: TRY004 - of a file
    items: Iterable[tuple[str, Any]] = found.items()
    return items


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"


def judge(levels: Iterable[Level], figures: Mapping[str, Mapping[str, float]]) -> list[Judged]:
    """Every level beside what was measured: figures by subject and name."""
    return [_judged(level, figures.get(level.subject, {}).get(level.figure)) for level in levels]


def _judged(level: Level, measured: float | None) -> Judged:
    ok = False
    if measured is not None and not math.isnan(measured):
        ok = measured >= level.limit if level.sense == AT_LEAST else measured <= level.limit
    return Judged(level.name, level.sense, level.limit, measured, ok)
