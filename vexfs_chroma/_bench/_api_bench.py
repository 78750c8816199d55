"""`vexctl bench api`: the interface of Chroma's clients, ours beside chromadb's."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _data, _marks, _measure, _report, _task, _truth
from vexfs_chroma._bench._child import Job
from vexfs_chroma._bench._peers import EPHEMERAL, HNSW, PEERS, PERSISTENT
from vexfs_chroma._bench._results import HIGHER, LOWER, NEITHER, Report
from vexfs_chroma._bench._run import score
from vexfs_chroma._bench._steps import Result, Sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._progress import Progress

OURS, THEIRS = "vexfs_chroma", "chromadb"
TASK = "vexfs_chroma._bench._api_task:run"
MARKS = "vexfs_chroma._bench._marks:run"
GROUP, ABSOLUTE = "api", "absolute marks"
IMPORT = "import, ms"
QUERY = "query, p50 ms"
SHARES = (0.001, 0.01, 0.1, 0.5, 0.99)
_IMPORTS = 5  # of each library, of which the median counts
_FEW = 1000  # matches, at most, of a filter that is to be about as quick as none

NOTES = (
    "bulk add: batches of 5,000 records with documents and metadata until acknowledged; durable",
    "  in both; first add until indexed: until a query of everything is answered by the index",
    "query: one at a time, k 10, with documents, metadata and distances, as is the default",
    "rank < n: a random number that every record has, so the share is exact and uncorrelated",
    "count: by get(ids only) where count() takes no filter; open: Client() to the first result",
    "import: of the package in a new interpreter; RSS growth: of adding, indexing and querying",
)

Steps = list[str]
STEPS: dict[str, list[Steps]] = {
    PERSISTENT: [
        ["load"],
        ["reopen"],
        ["query"],
        ["filtered"],
        ["selected"],
        ["read"],
        ["single adds"],
        ["write"],
    ],
    EPHEMERAL: [["load", "query", "filtered", "selected", "read", "single adds", "write"]],
}


@dataclass(slots=True, frozen=True)
class Plan:
    """What is measured."""

    peers: Sequence[str] = (OURS, THEIRS)
    rows: int = 100_000
    runs: int = 3
    sizes: Sizes = field(default_factory=Sizes)
    marks: tuple[int, int, int] = (100_000, 100_000, 10_000)  # see _marks.run; (): none
    timeout: float = 3600.0


def run(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    """Measure everything into `report`."""
    report.notes += NOTES
    peers = [name for name in plan.peers if _there(name, report)]
    progress.say("preparing records, queries, exact neighbours")
    rows = with_ranks(_data.load(plan.rows))
    truth = _truth.compute(rows, plan.sizes.queries, plan.sizes.filtered)
    _data.save(rows, folder / "data")
    report.conditions |= {
        "data": rows.name,
        "rows": len(rows.ids),
        "dimension": int(rows.vectors.shape[1]),
        "hnsw": HNSW,
        **dataclasses.asdict(plan),
    }
    plans = {name: STEPS[PEERS[name].storage] for name in peers}
    longest = max((len(steps) for steps in plans.values()), default=0)
    with_marks = bool(plan.marks) and OURS in peers
    per_run = sum(map(len, plans.values())) + len(peers) + with_marks
    progress.start(plan.runs * per_run)
    measure = _Measure(plan, folder, report, progress, truth)
    for _ in range(plan.runs):
        for name in peers:
            measure.imports(name)
        for number in range(longest):
            for name in peers:
                if number < len(plans[name]):
                    measure.steps(name, plans[name][number])
        for name in peers:
            shutil.rmtree(folder / name, ignore_errors=True)
        if with_marks:
            measure.marks()
    compare(report, truth.rows.filters, len(rows.ids))
    if with_marks:
        report.notes += _marks.NOTES
        compare_marks(report)


def _there(name: str, report: Report) -> bool:
    if PEERS[name].installed():
        report.versions[name] = PEERS[name].version()
        return True
    report.skipped[name] = "it is not installed"
    return False


def with_ranks(rows: _data.Rows) -> _data.Rows:
    """The same with a number in every record, and filters on it of known shares."""
    n = len(rows.ids)
    ranks = np.random.default_rng(_data.SEED).permutation(n).tolist()
    metadatas = [{**given, "rank": rank} for given, rank in zip(rows.metadatas, ranks, strict=True)]
    filters = [_data.Filter("rank = n", {"rank": {"$eq": n // 2}})]
    filters += [
        _data.Filter(f"rank < {share:g} n", {"rank": {"$lt": round(share * n)}}) for share in SHARES
    ]
    return dataclasses.replace(rows, metadatas=metadatas, filters=[*filters, *rows.filters])


@dataclass(slots=True)
class _Measure:
    """The jobs of one command."""

    plan: Plan
    folder: Path
    report: Report
    progress: Progress
    truth: _truth.Truth

    def imports(self, name: str) -> None:
        with self.progress.step(f"{name}: import") as step:
            times = [_import_ms(PEERS[name].module) for _ in range(_IMPORTS)]
            self._add(name, {IMPORT: statistics.median(times)})
            step.outcome = f"{statistics.median(times):.0f} ms"

    def steps(self, name: str, steps: Steps) -> None:
        database = self.folder / name
        job = Job(name, steps, str(database), str(self.folder / "data"), self.plan.sizes)
        with self.progress.step(f"{name}: {', '.join(steps)}") as step:
            found = self._task(name, steps[0], TASK, {"job": dataclasses.asdict(job)})
            if found is None:
                step.outcome = "FAILED"
                return
            result = Result(**found)
            if "load" in steps and PEERS[name].storage == PERSISTENT:
                result.figures["disk, MB"] = _measure.disk_mb(database)
            self._add(name, result.figures | score(self.truth, result))

    def marks(self) -> None:
        rows, memory_rows, queries = self.plan.marks
        place = self.folder / "marks"
        place.mkdir()
        with self.progress.step(ABSOLUTE) as step:
            sizes = {"rows": rows, "memory_rows": memory_rows, "queries": queries}
            found = self._task(OURS, ABSOLUTE, MARKS, {"folder": str(place), **sizes})
            for figure, value in (found or {}).items():
                self.report.add(ABSOLUTE, figure, "", _direction(figure), OURS, value)
            step.outcome = "" if found else "FAILED"
        shutil.rmtree(place, ignore_errors=True)

    def _task(self, name: str, what: str, function: str, arguments: dict[str, Any]) -> Any:
        try:
            return _task.run_task(function, arguments, self.folder, timeout=self.plan.timeout)
        except _task.TaskFailedError as error:
            failed = self.report.failed if PEERS[name].ours else self.report.skipped
            failed[f"{name}, {what}"] = str(error)
            return None

    def _add(self, name: str, figures: dict[str, float]) -> None:
        for figure, value in figures.items():
            self.report.add(GROUP, figure, "", _direction(figure), name, value)


def _direction(figure: str) -> str:
    if figure.startswith((_marks.INSERT, _marks.SEARCH, _marks.METADATA)):
        return HIGHER
    return {"higher": HIGHER, "lower": LOWER}.get(_report.better(figure), NEITHER)


def _import_ms(module: str) -> float:
    """In a new interpreter that has imported nothing else."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) * 1e3


# ---- targets -------------------------------------------------------------------------------------

AT_LEAST = {  # times chromadb's rate, or how many times shorter
    "bulk add, rows/s": 50.0,
    "single adds, rows/s": 20.0,
    "100 queries at once, QPS": 10.0,
    "get 100 by id, ms": 5.0,
    "update metadata, rows/s": 8.0,
    "delete, rows/s": 20.0,
}
AT_MOST = {  # of chromadb's
    QUERY: 0.15,
    "open to first result, ms": 0.02,
    "RSS growth, MB": 0.3,
    "disk, MB": 0.75,
}


def compare(report: Report, filters: Sequence[_data.Filter], rows: int) -> None:
    """Ours against chromadb's, and queries with filters against our own without."""
    for name, limit in AT_LEAST.items():
        factor = _figure(report, name).factor(OURS, THEIRS)
        report.check(GROUP, f"{name} v {THEIRS}", factor, limit)
    for name, limit in AT_MOST.items():
        _part(report, name, limit)
    imports = _figure(report, IMPORT)
    ours, theirs = imports.median(OURS), imports.median(THEIRS)
    more = None if ours is None or theirs is None else ours - theirs
    report.check(GROUP, f"import, more than {THEIRS}", more, 30.0, at_least=False, unit="ms")
    plain = _figure(report, QUERY).median(OURS)
    for filter in filters:
        name = f"{filter.label}, p50 ms"
        text = filter.where_document is not None
        _part(report, name, 0.05 if text else 0.1)
        mine = _figure(report, name).median(OURS)
        if not text:
            easy = filter.share * rows <= _FEW or filter.share >= 0.5
            ratio = mine / plain if mine and plain else None
            limit = 2.0 if easy else 6.0
            report.check(GROUP, f"{name} v our own {QUERY}", ratio, limit, at_least=False)


def _part(report: Report, name: str, limit: float) -> None:
    factor = _figure(report, name).factor(OURS, THEIRS)
    part = None if factor is None else 1 / factor
    report.check(GROUP, f"{name} v {THEIRS}", part, limit, at_least=False)


def _figure(report: Report, name: str) -> Any:
    return report.figure(GROUP, name, "", _direction(name))


def compare_marks(report: Report) -> None:
    """The absolute figures."""
    for name, limit, at_least, unit in (
        (_marks.INSERT, 110_000.0, True, "vectors/s"),
        (_marks.METADATA, 122_000.0, True, "rows/s"),
        (_marks.SEARCH, 179_000.0, True, "queries/s"),
        (_marks.SEARCH_RECALL, 0.95, True, ""),
        (_marks.ENGINE_P95, 0.1, False, "ms"),
        (_marks.ENGINE_P99, 0.2, False, "ms"),
        (_marks.MEMORY, 300.0, False, "MB"),
    ):
        measured = report.median(ABSOLUTE, name, OURS)
        report.check(ABSOLUTE, name, measured, limit, at_least=at_least, unit=unit)
    report.check(ABSOLUTE, "errors", float(len(report.failed)), 0.0, at_least=False, unit="")
