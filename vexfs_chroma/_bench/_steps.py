"""What is measured of the libraries with Chroma's interface: every function is a step, which a
child runs alone or, where the data are in memory only, after those before it.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _measure
from vexfs_chroma._bench._data import SEED, Batch, Filter, Stored
from vexfs_chroma._bench._peers import COLLECTION, Peer, create, open_client, wait_until_indexed
from vexfs_chroma._bench._truth import UNFILTERED, K

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE_BATCH = 1000
PAGE = 1000
BY_IDS = 100
AT_ONCE = 100
WARM_UP = 20


@dataclass(slots=True)
class Sizes:
    """How much is measured."""

    queries: int = 500
    filtered: int = 50
    repeats: int = 10
    writes: int = 5000
    singles: int = 300
    graph_queries: int = 1000
    graph_repeats: int = 5
    efs: tuple[int, ...] = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600)


@dataclass(slots=True)
class Result:
    """Figures, ids found (scored by the parent), and a sweep: ef, rate, rate per CPU second."""

    figures: dict[str, float] = field(default_factory=dict)
    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    sweep: list[tuple[int, float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Session:
    """What the steps of one child share."""

    peer: Peer
    path: str
    stored: Stored
    sizes: Sizes
    before: dict[str, float]  # memory after the import
    client: Any = None
    rows: Any = None

    def open(self) -> Any:
        """The collection."""
        if self.rows is None:
            self.client = open_client(self.peer, self.path)
            self.rows = self.client.get_collection(COLLECTION, embedding_function=None)
        return self.rows

    def close(self) -> None:
        """End the use of the database."""
        if self.client is not None:
            self.client.close()
        self.client = self.rows = None


def load(session: Session) -> Result:
    """Add all records, wait until they are indexed, query, and see what memory that took."""
    stored, adding, n = session.stored, 0.0, 0
    queries = stored.queries()[: session.sizes.queries]
    session.client = open_client(session.peer, session.path)
    rows = session.rows = create(session.client)
    started = time.perf_counter()
    for number in range(stored.n_batches()):
        arguments = stored.batch(number).arguments()
        n += len(arguments["ids"])
        at = time.perf_counter()
        rows.add(**arguments)
        adding += time.perf_counter() - at
        del arguments
    wait_until_indexed(session.peer, rows, queries[0])
    indexed = time.perf_counter() - started
    if rows.count() != n:
        raise RuntimeError(f"{session.peer.name} has {rows.count()} records of {n}")
    for query in queries:
        rows.query(query_embeddings=[query], n_results=K)
    figures = {"bulk add, rows/s": n / adding, "first add until indexed, s": indexed}
    return Result(figures | _measure.growth(session.before))


def reopen(session: Session) -> Result:
    """Open a database and get one result."""
    query = session.stored.queries()[-1]

    def first_result() -> None:
        session.open().query(query_embeddings=[query], n_results=K)

    return Result({"open to first result, ms": _measure.seconds(first_result) * 1e3})


def query(session: Session) -> Result:
    """Queries one at a time, and some at once."""
    rows, queries = session.open(), session.stored.queries()
    _warm_up(session)
    times, found = [], []
    for vector in queries[: session.sizes.queries]:
        started = time.perf_counter()
        answer = rows.query(query_embeddings=[vector], n_results=K)
        times.append(time.perf_counter() - started)
        found.append(answer["ids"][0])
    some = queries[:AT_ONCE]
    at_once = _measure.median_ms(
        [lambda: rows.query(query_embeddings=some, n_results=K)] * session.sizes.repeats
    )
    figures = {
        "query, p50 ms": _measure.percentile_ms(times, 50),
        "query, p95 ms": _measure.percentile_ms(times, 95),
        "query, p99 ms": _measure.percentile_ms(times, 99),
        f"{len(some)} queries at once, QPS": len(some) / at_once * 1e3,
    }
    return Result(figures, {UNFILTERED: found})


def _warm_up(session: Session) -> None:
    queries, rows = session.stored.queries(), session.open()
    wait_until_indexed(session.peer, rows, queries[-1])
    for vector in queries[-WARM_UP:]:
        rows.query(query_embeddings=[vector], n_results=K)


def filtered(session: Session) -> Result:
    """Queries with every filter."""
    result = Result()
    _warm_up(session)
    for filter in session.stored.filters():
        times, found = _filtered(session, filter)
        result.figures[f"{filter.label}, p50 ms"] = _measure.percentile_ms(times, 50)
        result.answers[filter.name] = found
    return result


def _filtered(session: Session, filter: Filter) -> tuple[list[float], list[list[str]]]:
    rows, queries = session.open(), session.stored.queries()[: session.sizes.filtered]
    arguments = {"n_results": K, **filter.arguments()}
    rows.query(query_embeddings=queries[-1:], **arguments)
    times, found = [], []
    for vector in queries:
        started = time.perf_counter()
        answer = rows.query(query_embeddings=[vector], **arguments)
        times.append(time.perf_counter() - started)
        found.append(answer["ids"][0])
    return times, found


def read(session: Session) -> Result:
    """Records by id, and pages of them."""
    rows, ids, repeats = session.open(), session.stored.ids(), session.sizes.repeats
    random = np.random.default_rng(SEED)
    _warm_up(session)
    count, page = min(BY_IDS, len(ids)), min(PAGE, len(ids))
    chosen = [random.choice(len(ids), count, replace=False) for _ in range(repeats)]
    wanted = [[ids[i] for i in some] for some in chosen]
    offsets = random.integers(0, len(ids) - page + 1, repeats).tolist()
    by_ids = [partial(rows.get, ids=some) for some in wanted]
    pages = [partial(rows.get, limit=page, offset=at) for at in offsets]
    return Result(
        {
            f"get {count} by id, ms": _measure.median_ms(by_ids),
            f"get a page of {page:,}, ms": _measure.median_ms(pages),
        }
    )


def write(session: Session) -> Result:
    """Update, upsert, delete: batches of WRITE_BATCH records, acknowledged."""
    rows, ids = session.open(), session.stored.ids()
    source = session.stored.batch(0)
    count = min(session.sizes.writes, len(source.ids), len(ids) // 3)
    random = np.random.default_rng(SEED)
    chosen = [ids[i] for i in random.permutation(len(ids))[: 2 * count]]
    changed = source.part(0, count)
    changed.ids = chosen[:count]
    changed.metadatas = [{"mark": i} for i in range(count)]
    mixed = source.part(0, count)
    mixed.ids = [
        *chosen[count : count + count // 2],
        *(f"new-{i}" for i in range(count // 2, count)),
    ]
    steps: dict[str, tuple[Batch, Callable[[Batch], object]]] = {
        "update metadata": (changed, lambda b: rows.update(ids=b.ids, metadatas=b.metadatas)),
        "update vectors": (changed, lambda b: rows.update(ids=b.ids, embeddings=b.vectors)),
        "upsert (half new)": (mixed, lambda b: rows.upsert(**b.arguments())),
        "delete": (changed, lambda b: rows.delete(ids=b.ids)),
    }
    return Result({f"{name}, rows/s": _rate(*step) for name, step in steps.items()})


def single_adds(session: Session) -> Result:
    """Add records one at a time, each acknowledged."""
    rows, source = session.open(), session.stored.batch(0)
    count = min(session.sizes.singles, len(source.ids))
    _warm_up(session)
    started = time.perf_counter()
    for i in range(count):
        record = source.part(i, i + 1)
        record.ids = [f"single-{i}"]
        rows.add(**record.arguments())
    took = time.perf_counter() - started
    rows.delete(ids=[f"single-{i}" for i in range(count)])
    return Result({"single adds, rows/s": count / took})


def selected(session: Session) -> Result:
    """Count, and get the ids of, the records that a filter selects.

    Where `count` takes no filter, counting is getting the ids and counting those.
    """
    rows, figures = session.open(), dict[str, float]()
    _warm_up(session)
    counts = "where" in inspect.signature(rows.count).parameters
    for filter in session.stored.filters():
        given = filter.arguments()
        ids = partial(rows.get, include=[], **given)
        count = partial(rows.count, **given) if counts else ids
        for name, call in (("count", count), ("get ids", ids)):
            calls = [call] * session.sizes.repeats
            figures[f"{name}, {filter.label}, ms"] = _measure.median_ms(calls)
    return Result(figures)


def _rate(batch: Batch, call: Callable[[Batch], object]) -> float:
    """Records per second of `call` with parts of `batch`."""
    took = 0.0
    for at in range(0, len(batch.ids), WRITE_BATCH):
        part = batch.part(at, at + WRITE_BATCH)
        started = time.perf_counter()
        call(part)
        took += time.perf_counter() - started
    return len(batch.ids) / took
