"""An explicit-state model checker: every state that a model can reach, breadth first.

A model gives its initial states, the steps that are possible in a state, and a check that raises
Violation in a state that must not be.  States are hashable and compared by value, so each is
visited once; breadth first, so the way to a violation that is printed is a shortest one.  Nothing
is random.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


class Violation(AssertionError):
    """A state, or a step, breaks a promise."""


class Model(Protocol[State]):
    def initial(self) -> Iterable[State]: ...

    def canonical(self, state: State) -> State:
        """One of the states that are the same but for names."""

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Label and outcome of every step.  May raise Violation for a step that is one."""

    def check(self, state: State) -> None: ...


@dataclass
class Explored:
    """What `explore` found."""

    states: int
    steps: int
    depth: int
    violation: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.states:,} states, {self.steps:,} steps, depth {self.depth}"
        if self.violation is not None:
            lines = "\n".join(f"  {number}. {label}" for number, label in enumerate(self.trace, 1))
            text += f"\n{self.violation}, after\n{lines}"
        return text


def explore(model: Model[State], most: int = 50_000_000) -> Explored:
    """Visit all states, or stop at the first violation.  More than `most` states are an error."""
    came_from: list[tuple[int, str]] = []  # by number: the state before, the step between
    numbers: dict[State, int] = {}
    waiting: deque[tuple[int, int, State]] = deque()  # number, depth, state
    found = Explored(0, 0, 0)
    looking_at = 0

    def visit(state: State, before: int, depth: int, label: str) -> None:
        nonlocal looking_at
        number = len(numbers)
        if numbers.setdefault(model.canonical(state), number) != number:
            return
        if number == most:
            raise RuntimeError(f"the model has more than {most} states")
        came_from.append((before, label))
        found.states, found.depth = number + 1, depth
        waiting.append((number, depth, state))
        looking_at = number
        model.check(state)
        looking_at = before

    try:
        for state in model.initial():
            visit(state, -1, 0, "")
        while waiting:
            looking_at, depth, state = waiting.popleft()
            for label, after in model.steps(state):
                found.steps += 1
                visit(after, looking_at, depth + 1, label)
    except Violation as violation:
        found.violation = str(violation)
        while looking_at > 0:
            looking_at, label = came_from[looking_at]
            found.trace = (label, *found.trace)
    return found
