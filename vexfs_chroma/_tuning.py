"""What `ef` costs and brings: queries by the graph at several values of it, and exact ones.

The collection's own records are the queries.  A few of them are searched for exactly and then at
every `ef`, before the next few are, so that a measurement that is stopped early is smaller, not
lopsided.  Nothing of it is counted among the operations.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vexfs_chroma import _engine
from vexfs_chroma._recall import count_hits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from vexfs_chroma._api import VexfsAPI

_BLOCK = 10
_SHARES = {"min": 0, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}


class Searched(msgspec.Struct, frozen=True):
    """The same queries, done in one way.  Times are of the engine and of this process alone."""

    ef: int | None
    """As asked for; None: exact."""
    walked_ef: int
    """Candidates of the walks: `ef`, or what k needs; 0 where none was made."""
    recall: float
    """The share of the nearest that was found, 0 to 1."""
    worst: float
    """The recall of the query that found the least."""
    perfect: int
    """Queries that found all of theirs."""
    ms: dict[str, float]
    """Milliseconds of a query: mean, min, max, and percentiles."""
    walk_distances: float
    """Approximate distances in the graph, for each query."""
    exact_distances: float
    read_rows: float
    """Records that were read one after the other, for each query."""
    plans: dict[str, int]
    """Queries by how they were answered: "graph", or why not by it."""


class Tuning(msgspec.Struct, frozen=True):
    """What a measurement found."""

    rows: int
    dimension: int
    k: int
    seed: int
    queries: int
    """That were done."""
    complete: bool
    """Whether these are all that were asked for; False: the time was over."""
    seconds: float
    collection_ef: int
    """What queries of this collection use: its `ef_search`."""
    exact: Searched | None
    """None: there was nothing to search for."""
    graph: list[Searched]
    """One for each `ef`."""


def measure(
    api: VexfsAPI,
    id: UUID,
    *,
    queries: int,
    k: int,
    efs: Sequence[int],
    seed: int = 0,
    seconds: float = 15.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Tuning:
    """Search for records of a collection exactly and at each `ef`; 0 stands for the collection's.

    Args:
        api: The database.
        id: The collection.
        queries: How many records to search for, at least 1; all where there are fewer.
        k: How many of the nearest, at least 1.
        efs: Candidates of walks, each at least 0.
        seed: Of the sample: the same gives the same records of the same collection.
        seconds: After so many no further query is begun.
        stopped: Asked before every query; True ends the measurement.

    Raises:
        NotFoundError: There is no such collection.
    """
    begun = time.perf_counter()
    with api._using(id) as collection:
        engine, own_ef = collection.engine, int(collection.graph["ef_search"])
        info = engine.info()
        rows = engine.count()
        offsets = np.random.default_rng(seed).permutation(rows)[:queries].tolist()
        exact, graph = _Column(None), [_Column(ef or own_ef) for ef in efs]
        done, is_over = 0, False
        while offsets and not is_over:
            block: list[tuple[Any, _engine.Rows]] = []
            while offsets and len(block) < _BLOCK:
                is_over = stopped() or time.perf_counter() - begun > seconds
                if is_over:
                    break
                offset = offsets.pop()
                query = engine.get(None, None, offset=offset, limit=1, vectors=True).vectors
                if query is not None and len(query):  # it may be deleted meanwhile
                    block.append((query, exact.search(engine, query, k, None)))
            for query, _ in block:  # exact search drove the graph out of the processor's caches
                engine.query(query, k)
            for column in graph:
                for query, truth in block:
                    column.search(engine, query, k, truth)
            done += len(block)
    return Tuning(
        rows=rows,
        dimension=info.dimension,
        k=k,
        seed=seed,
        queries=done,
        complete=not is_over,
        seconds=round(time.perf_counter() - begun, 3),
        collection_ef=own_ef,
        exact=exact.summary() if done else None,
        graph=[column.summary() for column in graph] if done else [],
    )


class _Column:
    """One way to search, over all queries."""

    def __init__(self, ef: int | None) -> None:
        self._ef = ef
        self._cell = _engine.PlanCell()
        self._ms: list[float] = []
        self._recalls: list[float] = []
        self._sums = dict.fromkeys(("walk_distances", "exact_distances", "read_rows"), 0)
        self._plans: dict[str, int] = {}
        self._walked_ef = 0

    def search(
        self,
        engine: _engine.Collection,
        query: NDArray[np.float32],
        k: int,
        truth: _engine.Rows | None,
    ) -> _engine.Rows:
        """Do one query, and compare what it finds with the truth; without one it is exact."""
        begun = time.perf_counter_ns()
        found = engine.query(query, k, exact=self._ef is None, ef=self._ef or 0, plan=self._cell)
        self._ms.append((time.perf_counter_ns() - begun) / 1e6)
        against = found if truth is None else truth
        if against.ids:
            hits = count_hits(found.ids, found.distances, against.ids, _distances(against))
            self._recalls.append(hits / len(against.ids))
        plan = self._cell.read()
        for name in self._sums:
            self._sums[name] += getattr(plan, name)
        self._plans[plan.why] = self._plans.get(plan.why, 0) + 1
        self._walked_ef = max(self._walked_ef, plan.ef)
        return found

    def summary(self) -> Searched:
        """What the queries came to; there was one at least."""
        n = len(self._ms)
        ms: dict[str, Any] = {"mean": round(sum(self._ms) / n, 4)}
        values = np.percentile(self._ms, list(_SHARES.values()), method="inverted_cdf")
        ms |= {name: round(float(v), 4) for name, v in zip(_SHARES, values, strict=True)}
        recalls = self._recalls or [1.0]
        return Searched(
            ef=self._ef,
            walked_ef=self._walked_ef,
            recall=sum(recalls) / len(recalls),
            worst=min(recalls),
            perfect=sum(recall == 1 for recall in recalls),
            ms=ms,
            plans=self._plans,
            **{name: total / n for name, total in self._sums.items()},
        )


def _distances(rows: _engine.Rows) -> NDArray[np.float32]:
    assert rows.distances is not None
    return rows.distances
