"""`vexctl bench scenarios`: workloads of applications, by the client interface."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench import _report, _task, _vectors
from vexfs_chroma._bench._peers import HNSW, PEERS
from vexfs_chroma._bench._results import HIGHER, LOWER, NEITHER, Report
from vexfs_chroma._bench._scenario_task import INSERT, SEARCH, UPDATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._progress import Progress

OURS = "vexfs_chroma"
_MODULE = "vexfs_chroma._bench._scenario_task"
FEW_SIZES, ALL_SIZES = (10_000, 100_000), (10_000, 100_000, 1_000_000)
_RATES = ("QPS", "rows/s", "operations/s")

NOTES = (
    "rows: generated, clustered, anisotropic unit vectors (seeded); cosine, Chroma's usual graph;",
    "  PersistentClient, durable; every scenario in a fresh process and database",
    "rag, semantic: records with documents of 60 words and metadata, which queries return",
    "similarity: vectors and metadata, 100 queries in one call; recommendations: one at a time",
    "mixes: operations of one record in random order; search / insert / update, where an update",
    "  replaces vector, document and metadata of a random record",
    "growth: one collection, batches of 5,000; the last 50,000 rows of a size, or half of them,",
    "  are added at rest, when those before them are indexed; these are loaded without a pause",
    "threads: queries of all threads, one at a time in each: by the client, and by the engine",
    "load: one thread adds batches of 1,000 while another one asks, in the same process",
)


@dataclass(slots=True, frozen=True)
class Scenario:
    """One workload."""

    name: str
    function: str
    rows: int
    dimension: int
    arguments: dict[str, Any] = field(default_factory=dict)
    k: int = 10
    spare: int = 0  # rows that are not there at the beginning

    def title(self) -> str:
        """With its size."""
        return f"{self.name} ({self.rows:,} x {self.dimension})"


def _searching(name: str, rows: int, dimension: int, k: int, **given: bool) -> Scenario:
    arguments = {"k": k, "documents": False, "batch": False} | given
    return Scenario(name, "searches", rows, dimension, arguments, k)


def _mix(search: int, insert: int, update: int = 0) -> Scenario:
    shares = {SEARCH: search / 100, INSERT: insert / 100, UPDATE: update / 100}
    name = "/".join(str(part) for part in (search, insert, update) if part)
    given = {"shares": {kind: share for kind, share in shares.items() if share}}
    return Scenario(f"mix {name}", "mix", 50_000, 384, given)


SCENARIOS = {
    "rag": [_searching("rag", 50_000, 768, 5, documents=True)],
    "semantic": [_searching("semantic", 100_000, 384, 10, documents=True)],
    "similarity": [_searching("similarity", 25_000, 1024, 10, batch=True)],
    "recommendations": [_searching("recommendations", 200_000, 256, 10)],
    "mixes": [_mix(95, 5), _mix(70, 20, 10), _mix(30, 70)],
    "growth": [Scenario("growth", "growth", 0, 128)],
    "threads": [Scenario("threads", "threads", 100_000, 384)],
    "load": [Scenario("load", "load", 110_000, 128)],
}
"""By the names by which they are chosen."""


@dataclass(slots=True, frozen=True)
class Plan:
    """What is measured."""

    names: Sequence[str] = tuple(SCENARIOS)
    peers: Sequence[str] = (OURS,)
    sizes: Sequence[int] = FEW_SIZES
    most_rows: int | None = None  # of any scenario
    load_rows: int = 100_000
    dimension: int | None = None  # of growth and load; None: 128
    runs: int = 1
    queries: int = 1000
    operations: int = 5000
    seconds: float = 5.0  # of every number of threads
    timeout: float = 7200.0


def run(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    """Measure everything into `report`."""
    report.notes += NOTES
    report.conditions |= dataclasses.asdict(plan) | {"hnsw": HNSW}
    peers = []
    for name in plan.peers:
        if PEERS[name].installed():
            report.versions[name] = PEERS[name].version()
            peers.append(name)
        else:
            report.skipped[name] = "it is not installed"
    chosen = [_sized(plan, one) for name in plan.names for one in SCENARIOS[name]]
    progress.start(len(chosen) * len(peers) * plan.runs)
    for scenario in chosen:
        place = folder / "data"
        progress.say(f"preparing {scenario.title()}")
        vectors = _vectors.prepare(
            _vectors.GENERATED,
            place,
            rows=scenario.rows + scenario.spare,
            dimension=scenario.dimension,
            n_queries=plan.queries,
            k=scenario.k,
        )
        for _ in range(plan.runs):
            for peer in peers:
                with progress.step(f"{scenario.title()}: {peer}") as step:
                    step.outcome = _measure(plan, scenario, vectors, peer, folder, report)
        shutil.rmtree(place)
        _compare(report, scenario)


def _sized(plan: Plan, scenario: Scenario) -> Scenario:
    """With the rows and what else the command line decides."""
    most = plan.most_rows or 10**9
    rows, given = min(scenario.rows, most), dict(scenario.arguments)
    dimension, spare = scenario.dimension, 0
    if scenario.function in ("growth", "load"):
        dimension = plan.dimension or dimension
    if scenario.function == "growth":
        given["sizes"] = sorted({min(size, most) for size in plan.sizes})
        rows = given["sizes"][-1]
    elif scenario.function == "load":
        given["before"] = min(plan.load_rows // 10, most // 2)
        rows = min(plan.load_rows + given["before"], most)
    elif scenario.function == "mix":
        given |= {"rows": rows, "operations": plan.operations}
        spare = plan.operations
    elif scenario.function == "threads":
        given |= {"counts": [1, 2], "seconds": plan.seconds}
    return dataclasses.replace(
        scenario, rows=rows, dimension=dimension, arguments=given, spare=spare
    )


def _measure(
    plan: Plan,
    scenario: Scenario,
    vectors: _vectors.Vectors,
    peer: str,
    folder: Path,
    report: Report,
) -> str:
    database = folder / "database"
    data = dataclasses.asdict(vectors) | {"folder": str(vectors.folder)}
    arguments = {"peer": peer, "path": str(database), "data": data, **scenario.arguments}
    function = f"{_MODULE}:{scenario.function}"
    try:
        figures = _task.run_task(function, arguments, folder, timeout=plan.timeout)
    except _task.TaskFailedError as error:
        failed = report.failed if PEERS[peer].ours else report.skipped
        failed[f"{peer}, {scenario.title()}"] = str(error)
        return f"FAILED: {error}"
    finally:
        shutil.rmtree(database, ignore_errors=True)
    for name, value in figures.items():
        report.add(scenario.title(), name, "", _direction(name), peer, value)
    return ""


def _direction(name: str) -> str:
    if name.endswith(_RATES):
        return HIGHER
    if name.endswith(" ms"):
        return LOWER
    return {"higher": HIGHER, "lower": LOWER}.get(_report.better(name), NEITHER)


# ---- targets -------------------------------------------------------------------------------------

_GROWN = (1_000_000, 100_000)
_GROWTH = (
    ("query, mean ms", 1.5, False),
    ("add at rest, rows/s", 0.8, True),
    ("add (last tenth of a load), rows/s", 0.8, True),
)


def _compare(report: Report, scenario: Scenario) -> None:
    group = scenario.title()
    if scenario.name == "recommendations":
        p99 = report.median(group, "query, p99 ms", OURS)
        report.check(group, "query, p99 ms", p99, 100.0, at_least=False, unit="ms")
    if scenario.function == "threads":
        for layer in ("engine", "client"):
            one, two = (report.median(group, f"{layer}, {n} threads, QPS", OURS) for n in (1, 2))
            report.check(group, f"{layer}: two threads v one", _quotient(two, one), 1.85)
    if scenario.function == "growth":
        for name, limit, at_least in _GROWTH:
            now, then = (report.median(group, f"{n:,} rows: {name}", OURS) for n in _GROWN)
            title = f"{name} at {_GROWN[0]:,} v {_GROWN[1]:,} rows"
            report.check(group, title, _quotient(now, then), limit, at_least=at_least)
    if scenario.function == "load":
        busy = report.median(group, "query during the load, p99 ms", OURS)
        idle = report.median(group, "idle query, p99 ms", OURS)
        title = "query p99 during the load v idle"
        report.check(group, title, _quotient(busy, idle), 5.0, at_least=False)


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
