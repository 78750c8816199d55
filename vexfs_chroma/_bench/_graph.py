"""The index beside hnswlib's: building, and queries per second at equal recall.

Vectors only, the same M, ef_construction and sweep of ef; all queries in one call, hnswlib with
one thread for them; the best of a few repetitions.  We are measured through the public interface
and store ids and vectors, too (in files and synced, if the peer is persistent).

Rates per CPU second count the time of all threads of the process: they tell how much work it is,
however many threads share it and whatever else the machine is doing.
"""

from __future__ import annotations

import math
import operator
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench import _measure
from vexfs_chroma._bench._data import BATCH
from vexfs_chroma._bench._peers import (
    EF_CONSTRUCTION,
    EF_SEARCH,
    PERSISTENT,
    M,
    create,
    open_client,
)
from vexfs_chroma._bench._steps import WARM_UP, Result, Session
from vexfs_chroma._bench._truth import K

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ONE_THREAD = "build (hnswlib: 1 thread), rows/s"
ALL_CORES = "build (hnswlib: all cores), rows/s"
INDEX_ALONE = "index alone (hnswlib: 1 thread), rows/s"
BUILD_CPU = "build, rows per CPU second"
SINGLE = f"one query at ef {EF_SEARCH}, p50 ms"
BUILDING = "threads while building"
SEARCHING = "threads while searching"
TARGETS = (0.95, 0.99)


@dataclass(slots=True, frozen=True)
class Point:
    """One measurement of a sweep."""

    ef: int
    rate: float  # queries per second
    cpu_rate: float  # queries per CPU second
    recall: float


def rate_at(recall: float, points: Sequence[tuple[float, float]]) -> float | None:
    """The rate at a recall, between the two points (recall, rate) around it.

    The logarithm of the rate is taken as linear in recall.  A sweep that begins above the recall
    has at least the rate of its first point; one that ends below never reaches it: None.
    """
    above = [point for point in points if point[0] >= recall]
    below = [point for point in points if point[0] < recall]
    if not above:
        return None
    first = min(above)[0]
    high = max(rate for at, rate in above if at == first)
    if not below:
        return high
    last, low = max(below)
    part = (recall - last) / (first - last)
    return math.exp(math.log(low) + part * (math.log(high) - math.log(low)))


def summary(points: Sequence[Point]) -> dict[str, float]:
    """The figures of a sweep: rates at the recalls that it reaches."""
    figures: dict[str, float | None] = {}
    for target in TARGETS:
        walls = [(point.recall, point.rate) for point in points]
        cpus = [(point.recall, point.cpu_rate) for point in points]
        figures[f"QPS at recall {target}"] = rate_at(target, walls)
        figures[f"queries per CPU second at recall {target}"] = rate_at(target, cpus)
    return {name: value for name, value in figures.items() if value is not None}


def graph(session: Session) -> Result:
    """Build and sweep."""
    return _ours(session) if session.peer.ours else _hnswlib(session)


@dataclass(slots=True)
class _Timer:
    """Wall and processor time of what is done with it; threads are their quotient."""

    wall: float = 0.0
    cpu: float = 0.0

    def run(self, call: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        return result

    def threads(self) -> float:
        return self.cpu / self.wall


def _ours(session: Session) -> Result:
    vectors, ids = session.stored.vectors(), session.stored.ids()
    before = _measure.memory()
    session.client = open_client(session.peer, session.path)
    rows = session.rows = create(session.client)

    def add() -> None:
        for at in range(0, len(ids), BATCH):
            rows.add(ids=ids[at : at + BATCH], embeddings=vectors[at : at + BATCH])

    adding, indexing = _Timer(), _Timer()
    adding.run(add)
    indexing.run(rows.wait_for_index)
    both = len(ids) / (adding.wall + indexing.wall)
    result = Result(
        {
            ONE_THREAD: both,
            ALL_CORES: both,
            INDEX_ALONE: len(ids) / indexing.wall,
            BUILD_CPU: len(ids) / (adding.cpu + indexing.cpu),
            BUILDING: indexing.threads(),
        }
    )

    def set_ef(ef: int) -> None:
        rows.modify(configuration={"hnsw": {"ef_search": ef}})
        rows.wait_for_index()  # a changed collection is opened again

    def find(queries: NDArray[Any]) -> Any:
        return rows.query(query_embeddings=queries, n_results=K, include=["distances"])

    _sweep(session, result, set_ef, find, operator.itemgetter("ids"))
    result.figures |= _measure.growth(before)
    if session.peer.storage == PERSISTENT:
        session.close()
        result.figures["disk, MB"] = _measure.disk_mb(Path(session.path))
    return result


def _hnswlib(session: Session) -> Result:
    module, vectors, ids = session.peer.load(), session.stored.vectors(), session.stored.ids()
    before = _measure.memory()

    def build(threads: int) -> tuple[Any, _Timer]:
        timer = _Timer()
        index = module.Index(space="cosine", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), M=M, ef_construction=EF_CONSTRUCTION)
        timer.run(lambda: index.add_items(vectors, num_threads=threads))
        return index, timer

    index, one = build(1)
    one_rate = len(ids) / one.wall
    result = Result({ONE_THREAD: one_rate, INDEX_ALONE: one_rate})
    result.figures |= {BUILD_CPU: len(ids) / one.cpu, BUILDING: one.threads()}

    def find(queries: NDArray[Any]) -> Any:
        return index.knn_query(queries, k=K, num_threads=1)

    def ids_of(answer: Any) -> list[list[str]]:
        return [[ids[label] for label in labels] for labels in answer[0]]

    _sweep(session, result, index.set_ef, find, ids_of)
    result.figures |= _measure.growth(before)
    _, every = build(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else -1)
    result.figures[ALL_CORES] = len(ids) / every.wall
    return result


def _sweep(
    session: Session,
    result: Result,
    set_ef: Callable[[int], object],
    find: Callable[[NDArray[Any]], Any],
    ids_of: Callable[[Any], list[list[str]]],
) -> None:
    sizes = session.sizes
    queries = session.stored.queries()[: sizes.graph_queries]
    set_ef(EF_SEARCH)
    find(queries)
    result.figures[SINGLE] = _measure.median_ms(
        [partial(find, vector) for vector in queries[: sizes.queries, None]]
    )
    total = _Timer()
    for ef in sizes.efs:
        set_ef(ef)
        find(queries[:WARM_UP])
        timers = [_Timer() for _ in range(sizes.graph_repeats)]
        for timer in timers:
            answer = timer.run(lambda: find(queries))
            total.wall, total.cpu = total.wall + timer.wall, total.cpu + timer.cpu
        result.answers[point_name(ef)] = ids_of(answer)
        wall, cpu = min(timer.wall for timer in timers), min(timer.cpu for timer in timers)
        result.sweep.append((ef, len(queries) / wall, len(queries) / cpu))
    result.figures[SEARCHING] = total.threads()


def point_name(ef: int) -> str:
    """The name of the answers with this ef."""
    return f"ef {ef}"
