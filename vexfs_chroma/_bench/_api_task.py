"""The part of the benchmark of the client interface that runs in a process of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from vexfs_chroma._bench import _child


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Some steps with one library; see _child."""
    made = _child.Job(**{**job, "sizes": _child.sizes_of(job["sizes"])})
    return dataclasses.asdict(_child.run(made))
