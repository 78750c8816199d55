"""How many users there are, and when: steady, ramp, spike, soak."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

RAMP = (1, 2, 4, 8, 16, 32, 64)


@dataclass(slots=True, frozen=True)
class Stage:
    """So many users, for so long."""

    users: int
    seconds: float


def _steady(users: int, seconds: float) -> list[Stage]:
    return [Stage(users, seconds)]


def _ramp(users: int, seconds: float) -> list[Stage]:
    steps = [step for step in RAMP if step < users] + [users]
    return [Stage(step, seconds / len(steps)) for step in steps]


def _spike(users: int, seconds: float) -> list[Stage]:
    few = max(1, users // 8)
    return [Stage(few, 0.4 * seconds), Stage(users, 0.2 * seconds), Stage(few, 0.4 * seconds)]


SHAPES = {"steady": _steady, "ramp": _ramp, "spike": _spike}


def stages(shape: str, users: int, seconds: float) -> list[Stage]:
    """The stages of a shape: at most `users`, `seconds` in all.

    steady: all the time the same.  ramp: 1, 2, 4, ... users, each for the same time.  spike: few
    users, then all, then few.
    """
    if shape not in SHAPES:
        raise ValueError(f"no shape {shape!r}; there are {', '.join(SHAPES)}")
    if users < 1 or not seconds > 0:
        raise ValueError(f"users and seconds must be positive, not {users} and {seconds}")
    return SHAPES[shape](users, seconds)


def stage_at(plan: list[Stage], seconds: float) -> Stage | None:
    """The stage after so many seconds; None when all are over."""
    for stage in plan:
        if seconds < stage.seconds:
            return stage
        seconds -= stage.seconds
    return None


@dataclass(slots=True, frozen=True)
class Step:
    """What was measured with so many users."""

    users: int
    per_second: float
    p99_ms: float


def knee(steps: list[Step], gain: float = 1.1) -> Step | None:
    """Where more users stop to bring more: the last step before throughput grows by less than
    `gain` times, while users are doubled.
    """
    for step, after in itertools.pairwise(steps):
        if after.per_second < gain * step.per_second:
            return step
    return steps[-1] if steps else None
