"""`vexctl bench engine`: our index beside other libraries', one thread, one query at a time."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench import _task, _vectors
from vexfs_chroma._bench._graph import rate_at
from vexfs_chroma._bench._indexes import EF_CONSTRUCTION, EFS, INDEXES, OURS, SLOW, M
from vexfs_chroma._bench._results import HIGHER, LOWER, NEITHER, Curve, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._progress import Progress

K = 10
TARGETS = (0.95, 0.99)
TASK = "vexfs_chroma._bench._engine_task:run"
HNSWLIB = "hnswlib"
BUILD = "build, rows per CPU second"
ENGINE = f"{OURS} (C)"
"""Not a library: our rates by the engine's own clock."""
NOTES = (
    "QPS: 1 / mean time of the library's call from Python, one float32 query at a time; of a few",
    "  rounds over all queries the quickest; one thread, the process may use one CPU",
    f"{ENGINE}: the same by the engine's own clock of microseconds: without Python and binding",
    "QPS at a recall: between the two points of the sweep around it, log(QPS) linear in recall; a",
    "  sweep that begins above it counts with its first point, and so does a quicker one beyond",
    "recall@10 against exact neighbours by float64 distance: of equally near rows any counts",
    "(recall 0.95), (recall 0.99): at the least effort of the sweep that reaches this recall",
    "build: from float32 rows in memory until all are searchable; CPU seconds of all threads;",
    "  ours includes the log, the files and their syncs",
    "RSS growth: of the process while building and searching; size: of what the library saves",
    "fraction of the limit (ours): (distances x bytes of a code / 18.5 GB/s) / engine's time",
)


@dataclass(slots=True, frozen=True)
class Plan:
    """What is measured."""

    sets: Sequence[str]
    peers: Sequence[str]
    rows: int | None = None
    dimension: int = 384
    space: str = "cosine"
    runs: int = 1
    queries: int = 1000
    slow_queries: int = 100
    knobs: Sequence[int] = EFS
    repeats: int = 5
    seconds: float = 2.0  # for the rounds of one point
    timeout: float = 1800.0  # for one library
    pin: bool = True


def run(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    """Measure everything into `report`.  A library that cannot be measured is named there."""
    report.notes += NOTES
    report.conditions |= dataclasses.asdict(plan) | {
        "M": M,
        "ef_construction": EF_CONSTRUCTION,
        "k": K,
        "configurations": {},
    }
    progress.start(len(plan.sets) * plan.runs * len(plan.peers))
    for name in plan.sets:
        vectors = _prepare(plan, name, folder / name, progress)
        group = f"{vectors.name} x {vectors.rows:,} ({vectors.space})"
        for number in range(plan.runs):
            for peer in plan.peers:
                with progress.step(f"{group}, run {number + 1}: {peer}") as step:
                    step.outcome = _measure(plan, group, vectors, peer, folder, report)
        _compare(report, group)
        shutil.rmtree(folder / name)


def _prepare(plan: Plan, name: str, folder: Path, progress: Progress) -> _vectors.Vectors:
    progress.say(f"preparing {name}: rows, queries, exact neighbours")
    return _vectors.prepare(
        name,
        folder,
        rows=plan.rows,
        dimension=plan.dimension,
        space=plan.space,
        n_queries=plan.queries,
        k=K,
    )


def _measure(
    plan: Plan, group: str, vectors: _vectors.Vectors, peer: str, folder: Path, report: Report
) -> str:
    """One library, once; returns the outcome in a few words."""
    place = folder / "index"
    place.mkdir()
    arguments = {
        "place": INDEXES[peer],
        "folder": str(place),
        "data": dataclasses.asdict(vectors) | {"folder": str(vectors.folder)},
        "k": K,
        "n_queries": plan.slow_queries if peer in SLOW else plan.queries,
        "knobs": list(plan.knobs),
        "repeats": plan.repeats,
        "seconds": plan.seconds,
        "m": M,
        "ef_construction": EF_CONSTRUCTION,
        "pin": plan.pin,
    }
    try:
        found = _task.run_task(
            TASK, arguments, folder, environment=_task.ONE_THREAD, timeout=plan.timeout
        )
        reason = found.get("skipped", "")
    except _task.TaskFailedError as error:
        found, reason = {}, str(error)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if reason:
        (report.failed if peer == OURS else report.skipped)[f"{peer}, {group}"] = reason
        return f"{'FAILED' if peer == OURS else 'skipped'}: {reason}"
    _take(report, group, vectors, peer, found)
    best = max(point["recall"] for point in found["sweep"])
    return f"built in {found['build s']:.1f} s, recall up to {best:.4f}"


def _take(
    report: Report, group: str, vectors: _vectors.Vectors, peer: str, found: dict[str, Any]
) -> None:
    """The figures of one run."""
    report.versions[peer] = found["version"]
    report.conditions["configurations"][peer] = found["note"]
    points = [
        {
            "knob": point["knob"],
            "recall": point["recall"],
            "rate": max(point["rates"]),
            **{name: point[name] for name in ("p50 us", "p95 us", "p99 us")},
            **point["extra"],
        }
        for point in found["sweep"]
    ]
    report.curves.append(Curve(group, peer, found["knob"], points))
    _rates(report, group, peer, [(point["recall"], point["rate"]) for point in points])
    if all("engine us" in point for point in points):
        inner = [(point["recall"], 1e6 / max(point["engine us"], 0.1)) for point in points]
        _rates(report, group, ENGINE, inner)
    for target in TARGETS:
        reached = [point for point in points if point["recall"] >= target]
        if not reached:
            continue
        first = min(reached, key=lambda point: point["knob"])
        where = f" (recall {target})"
        for part in ("p95 us", "p99 us"):
            report.add(group, part + where, "us", LOWER, peer, first[part])
        for part in ("distances", "hops", "fraction of the limit"):
            if part in first:
                report.add(group, part + where, "", NEITHER, peer, first[part])
        report.add(group, f"effort{where}", "", NEITHER, peer, first["knob"])
    rows = vectors.rows
    report.add(group, BUILD, "rows/s", HIGHER, peer, rows / max(found["build CPU s"], 1e-9))
    report.add(group, "build, rows/s", "rows/s", HIGHER, peer, rows / found["build s"])
    for name, value in found["memory"].items():
        report.add(group, name, "MB", LOWER, peer, value)
    if found["bytes"] is not None:
        report.add(group, "size, MB", "MB", LOWER, peer, found["bytes"] / 1e6)


def _rates(report: Report, group: str, peer: str, points: list[tuple[float, float]]) -> None:
    for target in TARGETS:
        rate = reachable(target, points)
        if rate is not None:
            report.add(group, _qps(target), "queries/s", HIGHER, peer, rate)


def reachable(recall: float, points: Sequence[tuple[float, float]]) -> float | None:
    """The rate at a recall: interpolated, or that of a point with more recall that is quicker."""
    between = rate_at(recall, points)
    if between is None:
        return None
    return max(between, *(rate for found, rate in points if found >= recall))


def _qps(target: float) -> str:
    return f"QPS at recall {target}"


def _compare(report: Report, group: str) -> None:
    """The targets: against hnswlib, and against the best of all others."""
    for target in TARGETS:
        figure = report.figure(group, _qps(target), "queries/s", HIGHER)
        report.check(group, f"{_qps(target)} v {HNSWLIB}", figure.factor(OURS, HNSWLIB), 3.0)
        best = _best_peer(report, group, _qps(target))
        name = f"{_qps(target)} v the best peer" + (f" ({best})" if best else "")
        report.check(group, name, figure.factor(OURS, best) if best else None, 1.3)
    build = report.figure(group, BUILD, "rows/s", HIGHER)
    report.check(group, f"{BUILD} v {HNSWLIB}", build.factor(OURS, HNSWLIB), 4.0)


def _best_peer(report: Report, group: str, name: str) -> str | None:
    """Who of the others is quickest."""
    figure = report.figure(group, name, "queries/s", HIGHER)
    others = {peer: figure.median(peer) or 0 for peer in figure.values}
    others = {peer: rate for peer, rate in others.items() if peer not in (OURS, ENGINE)}
    return max(others, key=lambda peer: others[peer]) if others else None
