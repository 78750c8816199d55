"""A child of the benchmark: `python -m vexfs_chroma._bench._child JOB` runs the steps that the file
JOB names, with one library, and writes what they found beside it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench import _graph, _measure, _steps
from vexfs_chroma._bench._data import Stored
from vexfs_chroma._bench._peers import PEERS
from vexfs_chroma._bench._steps import Result, Session, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS: dict[str, Callable[[Session], Result]] = {
    "load": _steps.load,
    "reopen": _steps.reopen,
    "query": _steps.query,
    "filtered": _steps.filtered,
    "read": _steps.read,
    "write": _steps.write,
    "single adds": _steps.single_adds,
    "selected": _steps.selected,
    "graph": _graph.graph,
}


@dataclass(slots=True)
class Job:
    """What a child is to do."""

    peer: str
    steps: list[str]
    path: str  # of the database
    data: str  # where the rows are
    sizes: Sizes

    def to_json(self) -> str:
        """As text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `to_json` made."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "sizes": sizes_of(fields["sizes"])})


def sizes_of(fields: dict[str, Any]) -> Sizes:
    """Sizes that went through JSON."""
    return Sizes(**{**fields, "efs": tuple(fields["efs"])})


def result_to_json(result: Result) -> str:
    """As text."""
    return json.dumps(dataclasses.asdict(result))


def result_from_json(text: str) -> Result:
    """What `result_to_json` made."""
    fields: dict[str, Any] = json.loads(text)
    fields["sweep"] = [tuple(point) for point in fields["sweep"]]
    return Result(**fields)


def run(job: Job) -> Result:
    """The steps, one after the other, in this process."""
    peer = PEERS[job.peer]
    peer.load()
    session = Session(peer, job.path, Stored(Path(job.data)), job.sizes, _measure.memory())
    result = Result()
    try:
        for step in job.steps:
            found = STEPS[step](session)
            result.figures |= found.figures
            result.answers |= found.answers
            result.sweep += found.sweep
    finally:
        session.close()
    return result


def main() -> int:
    """Do the job in the file that the command line names."""
    file = Path(sys.argv[1])
    result = run(Job.from_json(file.read_text(encoding="utf-8")))
    file.with_suffix(".result").write_text(result_to_json(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
