"""`vexctl bench text`: full text, sparse and hybrid search, ours beside other libraries'."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _data, _sparse, _task
from vexfs_chroma._bench._indexes import find
from vexfs_chroma._bench._results import HIGHER, LOWER, NEITHER, Report
from vexfs_chroma._bench._texts import (
    DENSE,
    HYBRID,
    LIBRARIES,
    OURS,
    SLOW,
    SPARSE,
    TEXT,
    Asked,
    Given,
)
from vexfs_chroma._bench._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._bench._progress import Progress

WORDS, BOTH, VECTORS = "full text", "full text and vectors", "sparse vectors"
LIBRARY = "vexfs_chroma._bench._text_task:Library"
SCORES = "vexfs_chroma._bench._text_task:compare_scores"
ASKED = {
    WORDS: [(TEXT, 10)],
    BOTH: [(m, n) for n in (10, 100) for m in (TEXT, DENSE, HYBRID)],
    VECTORS: [(SPARSE, 10), (SPARSE, 100)],
}
"""What is asked in each group, and how many results are wanted; see _texts."""

NEEDED = {WORDS: TEXT, BOTH: HYBRID, VECTORS: SPARSE}
"""Which libraries are in a group: those that can be asked this."""

FLOAT_ERROR = 1e-5
_COMPARED = 300  # queries whose scores are compared
_WORDS_MOST = 6

NOTES = (
    "queries: one to six words of a random gloss, any of which may match, and a gloss's vector;",
    "  the best 10 (or 100): the numbers that rows were added with, and scores, nothing else; the",
    "  time from Python, with making the query (parsing, tokenizing) and reading these numbers",
    "all libraries are asked in turn, in processes of their own, each on one CPU with one thread;",
    "  percentiles of a round over all queries, medians of the rounds; before the first, all are",
    "  asked once; slow libraries get fewer queries; CPU: of all threads, mean of a query;",
    "  core CPU: of the compiled part alone, the query made before and what was found not read",
    "hybrid 10: the best 10 by reciprocal rank fusion of 10 + 10 results; hybrid 100: of 100 + 100",
    "full text: documents alone (where a vector is needed: one of one element, without a graph);",
    "  full text and vectors: documents, vectors by a graph, and sparse ones if a library has them",
    "add: until the library says that it has it; add and index: until nothing is left to be done;",
    "  disk: all files with whatever they hold",
)


@dataclass(slots=True, frozen=True)
class Plan:
    """What is measured."""

    peers: Sequence[str] = tuple(LIBRARIES)
    rows: int | None = None
    runs: int = 5  # rounds
    queries: int = 300
    slow_queries: int = 50
    seed: int = _data.SEED
    timeout: float = 900.0  # of one call


def run(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    """Measure everything into `report`.  A library that cannot be measured is named there."""
    report.notes += NOTES
    progress.say("preparing documents, vectors, queries")
    given, asked = prepare(plan)
    report.conditions |= dataclasses.asdict(plan) | {"documents": len(given.documents)}
    progress.start(len(ASKED) * (len(plan.peers) + plan.runs + 1) + 1)
    data = folder / "data"
    data.write_bytes(pickle.dumps((Given(given.documents), asked), protocol=5))
    _compare_scores(data, folder, report, progress)
    _Group(plan, WORDS, data, folder, report, progress).measure()
    data.write_bytes(pickle.dumps((Given(given.documents, given.vectors), asked), protocol=5))
    _Group(plan, BOTH, data, folder, report, progress).measure()
    exact = _write_sparse(given, asked, data)
    _Group(plan, VECTORS, data, folder, report, progress, exact).measure()
    compare(report)


def _write_sparse(given: Given, asked: list[Asked], data: Path) -> _sparse.Exact:
    """Sparse vectors alone, and queries that meet enough of them; what these should find."""
    stored = given.sparse or []
    most = min(len(stored), max(limit for _, limit in ASKED[VECTORS]))
    exact = _sparse.Exact(stored, [one.sparse or ([], []) for one in asked])
    met = exact.keep(most)
    alone = Given([""] * len(stored), sparse=stored)
    data.write_bytes(pickle.dumps((alone, [asked[i] for i in met]), protocol=5))
    return exact


def prepare(plan: Plan) -> tuple[Given, list[Asked]]:
    """WordNet's glosses and their vectors under VEXFS_DATA, else generated ones; and queries."""
    rows = _data.load(plan.rows or 120_000)
    where, texts = os.environ.get("VEXFS_DATA"), rows.documents
    if where:  # the texts that the query vectors are of
        texts = [r["document"] for r in _data.loader(Path(where)).query_records(_data.WORDNET)]
    choose = random.Random(plan.seed)
    queries = []
    for text in texts[: min(plan.queries, len(rows.queries))]:
        words = re.findall(r"\w+", text)
        n = min(len(words), choose.randint(1, _WORDS_MOST))
        queries.append(" ".join(choose.sample(words, n)))
    counts = _sparse.Counts(rows.documents)
    stored = [(vector.indices, vector.values) for vector in counts.vectors(counts.mean_length)]
    wanted = _sparse.Counts(queries).vectors(1.0, b=0.0)
    return Given(rows.documents, rows.vectors, stored), [
        Asked(text, np.ascontiguousarray(vector), (sparse.indices, sparse.values))
        for text, vector, sparse in zip(queries, rows.queries, wanted, strict=False)
    ]


def _compare_scores(data: Path, folder: Path, report: Report, progress: Progress) -> None:
    name = "scores v bm25s on the same tokens, relative difference"
    with progress.step("scores v bm25s") as step:
        measured: float | None = None
        try:
            arguments = {"data": str(data), "n": _COMPARED}
            found = _task.run_task(SCORES, arguments, folder)
            measured = found["difference"]
            step.outcome = f"{found['scores']:.0f} scores"
            report.conditions["scores compared"] = found["scores"]
        except _task.TaskFailedError as error:
            step.outcome = f"skipped: {error}"
            report.skipped["bm25s, scores"] = str(error)
    report.check(WORDS, name, measured, FLOAT_ERROR, at_least=False, unit="")


@dataclass(slots=True)
class _Group:
    """All libraries on the same data."""

    plan: Plan
    name: str
    data: Path
    folder: Path
    report: Report
    progress: Progress
    exact: _sparse.Exact | None = None  # what sparse searches should find

    def measure(self) -> None:
        with ExitStack() as stack:
            workers = {}
            for peer in self.plan.peers:
                if NEEDED[self.name] not in _modes(peer):
                    continue
                with self.progress.step(f"{self.name}: {peer}, add and index") as step:
                    worker = self._start(peer, stack)
                    step.outcome = "skipped" if worker is None else ""
                if worker is not None:
                    workers[peer] = worker
            for number in range(-1, self.plan.runs):
                with self.progress.step(f"{self.name}: round {number + 1}"):
                    self._ask(workers, counts=number >= 0)
        for peer in self.plan.peers:
            shutil.rmtree(self.folder / peer, ignore_errors=True)

    def _start(self, peer: str, stack: ExitStack) -> Worker | None:
        place = self.folder / peer
        place.mkdir()
        arguments = {"place": LIBRARIES[peer], "folder": str(place), "data": str(self.data)}
        environment = dict(_task.ONE_THREAD)
        if self.name != BOTH:
            environment["VEXFS_INDEX_ROWS"] = "0"
        try:
            worker = stack.enter_context(
                Worker(LIBRARY, arguments, environment=environment, timeout=self.plan.timeout)
            )
            built = worker.call("build")
            mode, limit = ASKED[self.name][0]
            first = worker.call("first", mode=mode, limit=limit)
        except _task.TaskFailedError as error:
            self._failed(peer, error)
            return None
        self.report.versions[peer] = built["version"]
        self.report.conditions.setdefault("notes", {})[peer] = built["note"]
        for figure, value in built["figures"].items():
            better = HIGHER if figure.endswith("rows/s") else LOWER
            self.report.add(self.name, figure, "", better, peer, value)
        self.report.add(self.name, "first query, ms", "", LOWER, peer, first)
        return worker

    def _ask(self, workers: dict[str, Worker], *, counts: bool) -> None:
        """One round: every question to every library."""
        for mode, limit in ASKED[self.name]:
            ours: list[list[int]] = []
            for peer, worker in list(workers.items()):
                if mode not in _modes(peer):
                    continue
                n = self.plan.slow_queries if peer in SLOW else self.plan.queries
                try:
                    found = worker.call("measure", mode=mode, limit=limit, n=n)
                except _task.TaskFailedError as error:
                    self._failed(peer, error)
                    del workers[peer]
                    continue
                ours = found["found"] if peer == OURS else ours
                if counts:
                    self._add(peer, f"{mode} {limit}", found, ours)
                    if self.exact is not None:
                        recall = self.exact.recall(limit, found["found"])
                        name = f"{mode} {limit}, recall"
                        self.report.add(self.name, name, "", HIGHER, peer, recall)

    def _add(self, peer: str, asked: str, found: dict[str, Any], ours: list[list[int]]) -> None:
        for figure in ("p50", "p95", "CPU", "core CPU"):
            if figure not in found:
                continue
            self.report.add(self.name, f"{asked}, {figure} ms", "", LOWER, peer, found[figure])
        shared = [
            len(set(a) & set(b)) / len(a) for a, b in zip(ours, found["found"], strict=False) if a
        ]
        if shared:
            name = f"{asked}, results of ours"
            self.report.add(self.name, name, "", NEITHER, peer, float(np.mean(shared)))

    def _failed(self, peer: str, error: Exception) -> None:
        failed = self.report.failed if peer == OURS else self.report.skipped
        failed[f"{peer}, {self.name}"] = str(error)


def _modes(peer: str) -> Sequence[str]:
    """What a library can be asked.  Its class imports the library when it is made, not before."""
    kind: Any = find(LIBRARIES[peer])
    modes: Sequence[str] = kind.modes
    return modes


# ---- targets -------------------------------------------------------------------------------------


def compare(report: Report) -> None:
    """Ours against the best of the others; hybrid searches against their parts."""
    for group, asked in ASKED.items():
        for mode, limit in asked:
            name = f"{mode} {limit}, p50 ms"
            figure = report.figure(group, name)
            medians = {peer: figure.median(peer) for peer in figure.values}
            mine = medians.pop(OURS, None)
            others = {peer: value for peer, value in medians.items() if value is not None}
            best = min(others, key=others.__getitem__, default=None)
            factor = None if mine is None or best is None else others[best] / mine
            report.check(group, f"{name} v the best other's ({best})", factor, 1.0)
    for limit in (10, 100):
        parts = [report.median(BOTH, f"{mode} {limit}, p50 ms", OURS) for mode in (DENSE, TEXT)]
        whole = report.median(BOTH, f"{HYBRID} {limit}, p50 ms", OURS)
        there = [part for part in parts if part is not None]
        ratio = whole / sum(there) if whole is not None and len(there) == len(parts) else None
        name = f"{HYBRID} {limit}, p50 v {DENSE} + {TEXT}"
        report.check(BOTH, name, ratio, 1.5, at_least=False)
