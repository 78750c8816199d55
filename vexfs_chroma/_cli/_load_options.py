"""The options of load-test, stress-test and regression-test, which take most of them alike."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from vexfs_chroma._load._run import Plan

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?\Z")


@dataclass(frozen=True)
class LoadOptions:
    """What a command was given; options that it does not take are at their defaults."""

    baseline: Path | None = None
    scenario: str = "rag"
    target: str = "vexfs"
    scale: float = 1.0
    time: str | None = None
    users: int | None = None
    rate: float | None = None
    seed: int = 1
    runs: int = 1
    processes: int = 1
    shape: str | None = None
    slo: Path | None = None
    output: Path = Path("load-results")
    data: Path | None = None
    save_baseline: Path | None = None
    as_json: bool = False

    def plan(self) -> Plan:
        """What is asked for; wrong options end the command with exit code 2."""
        from vexfs_chroma._load import _run, _scenarios, _shapes, _targets

        if (self.rate is not None and not 0 <= self.rate < inf) or not 0 < self.scale <= 100:
            raise typer.BadParameter("--rate must be at least 0, --scale above 0 and at most 100")
        targets = [name.strip() for name in self.target.split(",") if name.strip()]
        try:
            chosen = _scenarios.chosen(self.scenario)
            for name in targets or [""]:
                _targets.check_target(name)
            if self.shape is not None:
                _shapes.stages(self.shape, 1, 1.0)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return _run.Plan(
            scenarios=chosen,
            targets=targets,
            output=self.output,
            data=self.data or self.output / "data",
            scale=self.scale,
            seconds=seconds_of(self.time),
            users=self.users,
            rate=self.rate,
            seed=self.seed,
            runs=self.runs,
            processes=self.processes,
            shape=self.shape,
            slo=self.slo,
        )


_DECLARED: dict[str, dict[str, Any]] = {
    "baseline": {"default": ..., "metavar": "FILE", "help": "What --save-baseline wrote."},
    "scenario": {"metavar": "NAMES", "help": "By commas; `all`."},
    "target": {
        "metavar": "TARGETS",
        "help": "By commas: vexfs and chroma (servers that are started here), inproc (the embedded "
        "client), or the URL of a server.",
    },
    "scale": {"help": "A part of the rows: 0.05 on small machines."},
    "time": {"metavar": "TIME", "help": "Of every run: 90, 90s, 10m, 8h."},
    "users": {"min": 1, "help": "At the same time."},
    "rate": {"help": "Operations per second of all users; 0: no pauses."},
    "seed": {"min": 0, "help": "Of the queries and operations."},
    "runs": {"min": 1, "help": "How often everything is run, in turn."},
    "processes": {"min": 1, "help": "That the users are spread over."},
    "shape": {"help": "steady, ramp or spike."},
    "slo": {"metavar": "FILE", "help": "Service levels (TOML); else the usual."},
    "output": {"metavar": "DIR", "help": "Gets reports: HTML, CSV, JSON, logs."},
    "data": {
        "metavar": "DIR",
        "help": "Rows and databases, for the next run; OUTPUT/data if not.",
    },
    "save_baseline": {"metavar": "FILE", "help": "Keep the figures for later."},
    "as_json": {"help": "Print all results as JSON."},
}


def taking(
    names: str, **changed: dict[str, Any]
) -> Callable[[Callable[[LoadOptions], None]], Callable[..., None]]:
    """Make a command of a function of LoadOptions.

    Args:
        names: The options that it takes, separated by blanks; all take --json.
        changed: What is declared otherwise for this command, of an option; `default` among it.
    """
    wanted = {*names.split(), "as_json"}

    def decorate(function: Callable[[LoadOptions], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            function(replace(LoadOptions(), **given))

        types, parameters = get_type_hints(LoadOptions), []
        for field in fields(LoadOptions):
            if field.name not in wanted:
                continue
            declared = {"default": field.default, **_DECLARED[field.name]}
            declared |= changed.get(field.name, {})
            flag = "--json" if field.name == "as_json" else f"--{field.name.replace('_', '-')}"
            option = typer.Option(declared.pop("default"), flag, **declared)
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=option,
                    annotation=types[field.name],
                )
            )
        # What Typer reads a command from.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate


def seconds_of(text: str | None) -> float | None:
    """90, 90s, 10m, 1h30m in seconds.  Raises typer.BadParameter for what is no time."""
    if text is None:
        return None
    found = _DURATION.match(text.strip())
    hours, minutes, seconds = found.groups() if found else (None, None, None)
    total = 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds or 0)
    if total <= 0:
        raise typer.BadParameter(f"--time must be like 90, 90s, 10m, 1h30m, not {text!r}")
    return total
