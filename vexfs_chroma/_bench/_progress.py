"""How far a benchmark is: a bar on a terminal, a line for each step that is done."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from typing_extensions import Self


@dataclass(slots=True)
class Step:
    """A step that is under way; `outcome` is said when it is done."""

    outcome: str = ""


class Progress:
    """Shows steps on `console`, or nothing when that is None."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._bar: Bar | None = None
        if console is not None:
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, steps: int) -> None:
        """So many steps follow."""
        if self._bar is not None:
            self._bar.update(self._task, total=steps, completed=0)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._console is not None:
            self._console.print(text, markup=False)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """A step, which takes as long as the block."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        started, step = time.perf_counter(), Step()
        yield step
        if self._bar is not None:
            self._bar.advance(self._task)
        outcome = f": {step.outcome}" if step.outcome else ""
        self.say(f"{text}{outcome} ({time.perf_counter() - started:.1f} s)")
