"""How much the contract suite has compared, in this process or in all that ran a share of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Tally:
    """What a run compared, printed at its end."""

    calls: int = 0
    raised: int = 0
    deviations: dict[str, int] = field(default_factory=dict)

    def count_deviation(self, name: str, times: int = 1) -> None:
        self.deviations[name] = self.deviations.get(name, 0) + times

    def as_dict(self) -> dict[str, Any]:
        """What `add` takes, of types that one process can send to another."""
        return asdict(self)

    def add(self, other: dict[str, Any]) -> None:
        self.calls += other["calls"]
        self.raised += other["raised"]
        for name, times in other["deviations"].items():
            self.count_deviation(name, times)

    def __str__(self) -> str:
        listed = ", ".join(f"{k}: {v}" for k, v in sorted(self.deviations.items())) or "none"
        return f"{self.calls} calls compared, {self.raised} raised; listed deviations: {listed}"


TALLY = Tally()
