"""The index beside hnswlib's: building, and queries per second at equal recall.

Vectors only, the same M, ef_construction and sweep of ef; all queries in one call, hnswlib with
one thread for them.  We are measured through the public interface, storing ids and vectors (in
files and synced, if the peer is persistent) on top of what hnswlib does.
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
from vexfs_chroma._bench._steps import Result, Session
from vexfs_chroma._bench._truth import K

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ONE_THREAD = "build (hnswlib: 1 thread), rows/s"
ALL_CORES = "build (hnswlib: all cores), rows/s"
INDEX_ALONE = "index alone (hnswlib: 1 thread), rows/s"
SINGLE = f"one query at ef {EF_SEARCH}, p50 ms"
BUILDING = "threads while building"
SEARCHING = "threads while searching"
TARGETS = (0.95, 0.99)


@dataclass(slots=True, frozen=True)
class Point:
    """One measurement of a sweep."""

    ef: int
    qps: float
    recall: float


def qps_at(recall: float, points: Sequence[Point]) -> float | None:
    """Queries per second at a recall, between the two points around it.

    The logarithm of QPS is taken as linear in recall.  A sweep that begins above the recall has at
    least the QPS of its first point; one that ends below never reaches it: None.
    """
    ordered = sorted(points, key=lambda point: point.recall)
    above = [point for point in ordered if point.recall >= recall]
    below = [point for point in ordered if point.recall < recall]
    if not above:
        return None
    high = max((p for p in above if p.recall == above[0].recall), key=lambda point: point.qps)
    if not below:
        return high.qps
    low = below[-1]
    part = (recall - low.recall) / (high.recall - low.recall)
    return math.exp(math.log(low.qps) + part * (math.log(high.qps) - math.log(low.qps)))


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
            BUILDING: indexing.threads(),
        }
    )

    def set_ef(ef: int) -> None:
        rows.modify(configuration={"hnsw": {"ef_search": ef}})

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
    result = Result({ONE_THREAD: one_rate, INDEX_ALONE: one_rate, BUILDING: one.threads()})

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
    timer = _Timer()
    for ef in sizes.efs:
        set_ef(ef)
        times = []
        for _ in range(sizes.graph_repeats):
            wall = timer.wall
            answer = timer.run(lambda: find(queries))
            times.append(timer.wall - wall)
        result.answers[point_name(ef)] = ids_of(answer)
        result.sweep[ef] = len(queries) / sorted(times)[len(times) // 2]
    result.figures[SEARCHING] = timer.threads()


def point_name(ef: int) -> str:
    """The name of the answers with this ef."""
    return f"ef {ef}"
