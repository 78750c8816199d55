"""The parent: every job in a fresh process, the libraries in turn; and their scores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from vexfs_chroma._bench import _measure
from vexfs_chroma._bench._child import Job, result_from_json
from vexfs_chroma._bench._graph import Point, point_name, summary
from vexfs_chroma._bench._peers import EPHEMERAL, PERSISTENT, Peer
from vexfs_chroma._bench._truth import RECALL, UNFILTERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vexfs_chroma._bench._steps import Result, Sizes
    from vexfs_chroma._bench._truth import Truth


@dataclass(slots=True)
class Done:
    """One finished job."""

    run: int
    peer: str
    steps: list[str]
    seconds: float
    load_average: float  # of the machine, when it began
    error: str = ""


@dataclass(slots=True)
class Findings:
    """All that was measured: per peer and figure, one value per run."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    graph: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    sweeps: dict[str, list[list[Point]]] = field(default_factory=dict)
    jobs: list[Done] = field(default_factory=list)


def steps_of(peer: Peer) -> list[list[str]]:
    """The jobs of a peer: the steps that run in one process."""
    graph = [["graph"]] if peer.ours or peer.storage not in (PERSISTENT, EPHEMERAL) else []
    if peer.storage == PERSISTENT:
        return [["load"], ["reopen"], ["query"], ["filtered"], ["read"], ["write"], *graph]
    if peer.storage == EPHEMERAL:
        return [["load", "query", "filtered", "read", "write"], *graph]
    return graph


def in_turn(peers: Sequence[Peer]) -> Iterator[tuple[Peer, list[str]]]:
    """The first job of each peer, the second one of each, and so on; the graphs last, together."""
    plans = {peer: steps_of(peer) for peer in peers}
    for graph in (False, True):
        wanted = [[(peer, s) for s in plans[peer] if (s == ["graph"]) == graph] for peer in peers]
        for jobs in zip_longest(*wanted):
            yield from (job for job in jobs if job is not None)


@dataclass(slots=True)
class Runner:
    """Runs jobs on one data set, in a temporary folder."""

    truth: Truth
    folder: Path
    sizes: Sizes
    say: Callable[[str], None]
    findings: Findings = field(default_factory=Findings)

    def run_all(self, peers: Sequence[Peer], runs: int) -> Findings:
        """`runs` times all jobs of all peers."""
        for run in range(runs):
            for peer, steps in in_turn(peers):
                self._run(run, peer, steps)
            for path in self.folder.glob("database-*"):
                shutil.rmtree(path)
        return self.findings

    def _run(self, run: int, peer: Peer, steps: list[str]) -> None:
        graph = steps == ["graph"]
        database = self.folder / f"database-{peer.name}{'-graph' if graph else ''}"
        job = Job(peer.name, steps, str(database), str(self.folder / "data"), self.sizes)
        done = Done(run, peer.name, steps, 0.0, os.getloadavg()[0])
        started = time.perf_counter()
        try:
            result = self._in_child(job)
        except subprocess.CalledProcessError as error:
            done.error = error.stderr.strip()[-2000:] or f"ended with {error.returncode}"
        else:
            if "load" in steps and peer.storage == PERSISTENT:
                result.figures["disk, MB"] = _measure.disk_mb(database)
            self._take(peer, result, graph=graph)
        done.seconds = time.perf_counter() - started
        self.findings.jobs.append(done)
        outcome = (
            f"FAILED: {done.error.splitlines()[-1]}" if done.error else f"{done.seconds:.1f} s"
        )
        self.say(f"run {run + 1}: {peer.name}, {', '.join(steps)}: {outcome}")

    def _in_child(self, job: Job) -> Result:
        file = self.folder / "job.json"
        file.write_text(job.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "vexfs_chroma._bench._child", str(file)]
        environment = os.environ | {"ANONYMIZED_TELEMETRY": "False"}
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return result_from_json(file.with_suffix(".result").read_text(encoding="utf-8"))

    def _take(self, peer: Peer, result: Result, *, graph: bool) -> None:
        if graph:
            points = score_sweep(self.truth, result)
            self.findings.sweeps.setdefault(peer.name, []).append(points)
            result.figures |= summary(points)
        else:
            result.figures |= score(self.truth, result)
        table = self.findings.graph if graph else self.findings.figures
        for name, value in result.figures.items():
            table.setdefault(peer.name, {}).setdefault(name, []).append(value)


def score(truth: Truth, result: Result) -> dict[str, float]:
    """The recall of all answers, by the names of figures."""
    labels = {filter.name: filter.label for filter in truth.rows.filters} | {UNFILTERED: UNFILTERED}
    return {
        f"{labels[name]}{RECALL}": truth.recall(name, answers)
        for name, answers in result.answers.items()
    }


def score_sweep(truth: Truth, result: Result) -> list[Point]:
    """The points of a sweep, with their recall."""
    return [
        Point(ef, rate, cpu_rate, truth.recall(UNFILTERED, result.answers[point_name(ef)]))
        for ef, rate, cpu_rate in result.sweep
    ]
