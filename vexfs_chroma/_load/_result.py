"""What a load test found: figures, the verdict on them, the course of it; kept as JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench._report import machine
from vexfs_chroma._load import _actor, _gates, _scenarios, _shapes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vexfs_chroma._load._recorder import Recorder, Slot
    from vexfs_chroma._load._scenarios import Scenario

FORMAT = 1
_WARM_UP_S = 2  # not in the figures, where there is more than four times as much; else a second
_SETTLE = 0.2  # of a stage with other users than before


@dataclass(slots=True)
class Result:
    """One scenario on one target."""

    scenario: dict[str, Any]
    target: str
    seed: int
    scale: float
    started: float
    seconds: float
    """What the figures are about; warming up is not."""
    figures: dict[str, dict[str, float]]
    """By kind of operation, "all" and "run"."""
    stages: list[dict[str, float]] = field(default_factory=list)
    """What was measured with each number of users, where there was more than one."""
    timeline: list[dict[str, float]] = field(default_factory=list)
    """By second (or some seconds, of a long run): operations, failures, percentiles."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first message of each kind of failure."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What was done to the server, and when."""
    memory: list[list[float]] = field(default_factory=list)
    """Resident bytes of the server: [time, bytes]."""
    descriptors: list[list[float]] = field(default_factory=list)
    """Open descriptors of the server: [time, number]."""
    fill_rows_per_second: float | None = None
    levels: list[dict[str, Any]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no level was missed."""
        return all(level["ok"] for level in self.levels)

    def judge(self, file: Path | None = None) -> None:
        """Compare with the levels of the scenario, in a file or the usual ones."""
        path = file or _gates.DEFAULT_FILE
        name = self.scenario["name"]
        levels = _gates.load_levels(path, _scenarios.SCENARIOS).get(name, [])
        always = [_gates.Level("run", figure, _gates.AT_MOST, 0.0) for figure in _NEVER]
        stated = {level.name for level in levels}
        levels = [*levels, *(level for level in always if level.name not in stated)]
        self.levels = [
            dataclasses.asdict(judged) | {"text": str(judged)}
            for judged in _gates.judge(levels, self.figures)
        ]

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {"format": FORMAT, "ok": self.ok, **dataclasses.asdict(self)}

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.as_json(), indent=1), "utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Result:
        """What save() wrote.  Raises ValueError when it is something else."""
        try:
            plain = json.loads(path.read_text("utf-8"))
            if plain.pop("format") != FORMAT:
                raise ValueError(f"{path} has another format than this release writes")
            plain.pop("ok")
            return cls(**plain)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no result of a load test: {error!r}") from error


_NEVER = ("wrong", "failed", "lost", "unfinished")
"""What no run may have, whatever the file of levels says (it may allow more, expressly)."""


def make(
    recorder: Recorder,
    marks: Sequence[tuple[float, int]],
    scenario: Scenario,
    target: str,
    seed: int,
    scale: float,
) -> Result:
    """The figures of a run.  `marks` tell when there were how many users, the last one the end."""
    first, last = recorder.span()
    begin, end = (marks[0][0], marks[-1][0]) if marks else (float(first), float(last))
    warm = _WARM_UP_S if end - begin >= 4 * _WARM_UP_S else min(1, int((end - begin) / 3))
    start, stop = int(begin) + warm, max(int(end), int(begin) + warm + 1)
    figures = {}
    for kind in ["all", *recorder.kinds()]:
        kinds = None if kind == "all" else [kind]
        measured, whole = recorder.between(start, stop, kinds), recorder.between(first, last, kinds)
        figures[kind] = measured.summary(stop - start) | _failures(whole)
    steps = _stages(recorder, marks)
    run = _run_figures(recorder, start, stop) | _knee_figures(steps)
    return Result(
        scenario=dataclasses.asdict(scenario),
        target=target,
        seed=seed,
        scale=scale,
        started=begin,
        seconds=float(stop - start),
        figures=figures | {"run": run},
        stages=[dataclasses.asdict(step) for step in steps] if len(steps) > 1 else [],
        timeline=_timeline(recorder, begin),
        examples=recorder.examples,
        machine=machine(),
    )


def _failures(slot: Slot) -> dict[str, float]:
    """Of the whole run: no failure is excused by coming early or late."""
    failed = sum(slot.failed.values())
    rate = failed / slot.count if slot.count else 0.0
    return {"count": float(slot.count), "errors": float(failed), "error_rate": rate}


def _run_figures(recorder: Recorder, start: int, stop: int) -> dict[str, float]:
    whole = recorder.between(*recorder.span())
    figures = {
        "wrong": float(whole.failed[_actor.WRONG]),
        "failed": float(whole.failed[_actor.ERROR]),
        "lost": float(recorder.counters["lost"]),
        "verified": float(recorder.counters["verified"]),
        "unfinished": float(recorder.counters["unfinished"]),
        "outage_s": _outage(recorder),
    }
    quarter = (stop - start) / 4
    early = recorder.between(start, start + quarter).times.quantile_ns(0.99)
    late = recorder.between(stop - quarter, stop).times.quantile_ns(0.99)
    if early and late:
        figures["p99_drift"] = late / early
    return figures


def _outage(recorder: Recorder) -> float:
    """The longest time in which something failed and nothing was answered, in whole slots."""
    longest = now = 0
    for _, slot in recorder.course():
        now = now + recorder.width if slot.failed and not len(slot.times) else 0
        longest = max(longest, now)
    return float(longest)


def _stages(recorder: Recorder, marks: Sequence[tuple[float, int]]) -> list[_shapes.Step]:
    steps = []
    for (start, users), (end, _) in itertools.pairwise(marks):
        first, last = int(start + _SETTLE * (end - start)) + 1, int(end)
        if last > first:
            slot = recorder.between(first, last)
            rate = len(slot.times) / (last - first)
            steps.append(_shapes.Step(users, rate, slot.times.quantile_ns(0.99) / 1e6))
    return steps


def _knee_figures(steps: list[_shapes.Step]) -> dict[str, float]:
    found = _shapes.knee(steps) if len(steps) > 1 else None
    if found is None:
        return {}
    return {"knee_users": float(found.users), "knee_per_second": found.per_second}


def _timeline(recorder: Recorder, begin: float) -> list[dict[str, float]]:
    lines = []
    for second, slot in recorder.course():
        line = {
            "second": float(second - int(begin)),
            "answered": float(len(slot.times)),
            "failed": float(sum(slot.failed.values())),
        }
        if len(slot.times):
            for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                line[name] = slot.times.quantile_ns(share) / 1e6
        lines.append(line)
    return lines
