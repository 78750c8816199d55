"""Scenarios: what runs in a process of its own.  Each function is one scenario with one library."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _data, _measure, _vectors
from vexfs_chroma._bench._peers import PEERS, create, open_client, wait_until_indexed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vexfs_chroma._bench._indexes._base import Matrix

ADD = 5000  # chromadb refuses more than 5461 records at once
AT_ONCE = 100
_WORDS = 60  # of a document
SEARCH, INSERT, UPDATE = "search", "insert", "update"
_LOAD_BATCH = 1000
_AT_REST = 50_000  # rows, at most half of all


@dataclass(slots=True)
class World:
    """A collection, and what is in it and asked of it."""

    client: Any
    collection: Any
    peer: Any
    vectors: _vectors.Vectors
    base: Matrix
    queries: Matrix

    def records(self, at: int, end: int, *, documents: bool, prefix: str = "row") -> dict[str, Any]:
        """What `add` takes, for rows `at` to `end`."""
        numbers = range(at, end)
        given = {
            "ids": [f"{prefix}-{i}" for i in numbers],
            "embeddings": self.base[at:end],
            "metadatas": [{"source": f"file-{i % 1000}", "page": i % 50} for i in numbers],
        }
        return given | ({"documents": [_document(i) for i in numbers]} if documents else {})

    def fill(self, rows: int, *, documents: bool) -> float:
        """Add the first rows, have them indexed; returns the seconds that adding took."""
        seconds = 0.0
        for at in range(0, rows, ADD):
            records = self.records(at, min(at + ADD, rows), documents=documents)
            seconds += _measure.seconds(lambda given=records: self.collection.add(**given))  # type: ignore[misc]
        wait_until_indexed(self.peer, self.collection, self.queries[0])
        return seconds

    def search(self, query: Matrix, k: int, include: Sequence[str]) -> Any:
        """One query."""
        return self.collection.query(query_embeddings=[query], n_results=k, include=include)


def _document(i: int) -> str:
    return " ".join(f"w{(i * 7919 + j * 104729) % 5003}" for j in range(_WORDS))


def open_world(peer: str, path: str, data: dict[str, Any]) -> World:
    """An empty collection and the data for it."""
    vectors = _vectors.Vectors(**{**data, "folder": Path(data["folder"])})
    known = PEERS[peer]
    client = open_client(known, path)
    return World(client, create(client), known, vectors, vectors.mapped(), vectors.queries())


def _timed(calls: Sequence[Callable[[], Any]]) -> tuple[list[float], list[Any]]:
    """The seconds of each call, and what it returned."""
    times, answers = [], []
    for call in calls:
        started = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - started)
        answers.append(answer)
    return times, answers


def _percentiles(times: list[float], what: str = "query") -> dict[str, float]:
    return {f"{what}, p{p} ms": _measure.percentile_ms(times, p) for p in (50, 95, 99)}


def _recall(world: World, answers: Sequence[Sequence[str]], k: int) -> float:
    rows = [[int(id.rpartition("-")[2]) for id in ids] for ids in answers]
    return _vectors.recall(world.vectors, world.base, world.queries, rows, k)


def searches(
    peer: str, path: str, data: dict[str, Any], k: int, documents: bool, batch: bool
) -> dict[str, float]:
    """Fill, then ask all queries, one at a time or AT_ONCE in a call."""
    world = open_world(peer, path, data)
    adding = world.fill(world.vectors.rows, documents=documents)
    include = ["documents", "metadatas", "distances"] if documents else ["distances"]
    queries = world.queries
    for query in queries[-20:]:
        world.search(query, k, include)
    figures = {"add, rows/s": world.vectors.rows / adding}
    if batch:
        parts = [queries[at : at + AT_ONCE] for at in range(0, len(queries), AT_ONCE)]
        times, found = _timed(
            [
                lambda part=part: world.collection.query(  # type: ignore[misc]
                    query_embeddings=part, n_results=k, include=include
                )
                for part in parts
            ]
        )
        answers = list(itertools.chain.from_iterable(answer["ids"] for answer in found))
        asked = f"queries in batches of {AT_ONCE}"
        figures |= {f"{asked}, QPS": len(queries) / sum(times)}
        figures |= _percentiles(times, "batch")
    else:
        times, found = _timed([lambda q=q: world.search(q, k, include) for q in queries])  # type: ignore[misc]
        asked, answers = "query", [answer["ids"][0] for answer in found]
        figures |= _percentiles(times) | {"query, QPS": len(times) / sum(times)}
    figures[f"{asked}, recall@{k}"] = _recall(world, answers, k)
    world.client.close()
    return figures


def mix(
    peer: str, path: str, data: dict[str, Any], rows: int, shares: dict[str, float], operations: int
) -> dict[str, float]:
    """Operations in random order (seeded), one record each; `rows` are there before.

    The rows that are inserted follow them.
    """
    world = open_world(peer, path, data)
    world.fill(rows, documents=True)
    random = np.random.default_rng(_data.SEED)
    kinds = random.choice(list(shares), operations, p=list(shares.values()))
    chosen, others = (random.integers(0, rows, operations).tolist() for _ in range(2))
    fresh, times = itertools.count(rows), {kind: list[float]() for kind in shares}
    calls: dict[str, Callable[[int], Any]] = {
        SEARCH: lambda i: world.search(world.queries[i % len(world.queries)], 10, ["documents"]),
        INSERT: lambda _: world.collection.add(**_record(world, row := next(fresh), row)),
        UPDATE: lambda i: world.collection.update(**_record(world, chosen[i], others[i])),
    }
    started = time.perf_counter()
    for i, kind in enumerate(kinds):
        at = time.perf_counter()
        calls[kind](i)
        times[kind].append(time.perf_counter() - at)
    took = time.perf_counter() - started
    expected = rows + len(times.get(INSERT, ()))
    if world.collection.count() != expected:
        raise RuntimeError(f"{world.collection.count()} records are there, not {expected}")
    figures = {"operations, operations/s": operations / took}
    for kind, seconds in times.items():
        figures |= _percentiles(seconds, kind) if seconds else {}
    world.client.close()
    return figures


def _record(world: World, row: int, content: int) -> dict[str, Any]:
    """The record of a row with the content of one."""
    return world.records(content, content + 1, documents=True) | {"ids": [f"row-{row}"]}


def growth(peer: str, path: str, data: dict[str, Any], sizes: list[int]) -> dict[str, float]:
    """One collection that grows to each size, is indexed, and is asked; vectors and metadata.

    The last rows of each size are added when all before them are indexed: while the index is made
    on the same processors, what adding costs is not seen.
    """
    world, figures, there = open_world(peer, path, data), dict[str, float](), 0
    for size in sizes:
        name, started = f"{size:,} rows: ", time.perf_counter()
        loaded = max(there, size - min(_AT_REST, size // 2))
        load = _add(world, there, loaded)
        added = time.perf_counter()
        wait_until_indexed(world.peer, world.collection, world.queries[0])
        indexed = time.perf_counter()
        at_rest = _add(world, loaded, size)
        wait_until_indexed(world.peer, world.collection, world.queries[0])
        done = time.perf_counter()
        for query in world.queries[-20:]:
            world.search(query, 10, ["distances"])
        times, _ = _timed([lambda q=q: world.search(q, 10, ["distances"]) for q in world.queries])  # type: ignore[misc]
        figures[f"{name}add at rest, rows/s"] = _rate(at_rest)
        if load:
            tail = load[-max(1, len(load) // 10) :]
            figures[f"{name}add (last tenth of a load), rows/s"] = _rate(tail)
        figures[f"{name}wait for the index, s"] = indexed - added
        figures[f"{name}added and indexed, s"] = done - started
        figures |= {name + key: value for key, value in _percentiles(times).items()}
        figures[f"{name}query, mean ms"] = 1e3 * sum(times) / len(times)
        figures |= {f"{name}{key}": value for key, value in _measure.memory_now().items()}
        there = size
    world.client.close()
    return figures


def _add(world: World, first: int, end: int) -> list[tuple[int, float]]:
    """Add rows without a pause; how many each batch had, and its seconds."""
    batches = []
    for at in range(first, end, ADD):
        rows = min(ADD, end - at)
        records = world.records(at, at + rows, documents=False)
        took = _measure.seconds(lambda given=records: world.collection.add(**given))  # type: ignore[misc]
        batches.append((rows, took))
    return batches


def _rate(batches: Sequence[tuple[int, float]]) -> float:
    return sum(rows for rows, _ in batches) / sum(took for _, took in batches)


def threads(
    peer: str, path: str, data: dict[str, Any], counts: list[int], seconds: float
) -> dict[str, float]:
    """One query at a time in each of some threads: queries per second of all."""
    world = open_world(peer, path, data)
    world.fill(world.vectors.rows, documents=False)
    figures = {}
    for count in counts:
        rate = _in_threads(
            [lambda q: world.search(q, 10, ["distances"])] * count, world.queries, seconds
        )
        figures[f"client, {count} threads, QPS"] = rate
    world.client.close()
    return figures | (_engine_threads(world, counts, seconds) if world.peer.ours else {})


def _engine_threads(world: World, counts: list[int], seconds: float) -> dict[str, float]:
    """The same below the client: each thread has a searcher of its own."""
    import uuid

    from vexfs_chroma import _engine
    from vexfs_chroma._bench._peers import EF_CONSTRUCTION, EF_SEARCH, M
    from vexfs_chroma._engine._searcher import Searcher

    database, id = _engine.Database(None, index_rows=1), uuid.uuid4()
    database.create_collection(id, "cosine")
    collection = database.open_collection(id)
    collection.set_index(max_neighbors=M, ef_construction=EF_CONSTRUCTION, ef_search=EF_SEARCH)
    for at in range(0, world.vectors.rows, ADD):
        part = world.base[at : at + ADD]
        ids = [str(row) for row in range(at, at + len(part))]
        collection.write("add", ids, part, None, None, None)
    collection.wait_for_index()

    def searcher() -> Callable[[Any], Any]:
        made = Searcher(collection)

        def find(query: Any) -> Any:
            with made:
                return made.nearest(query, 10)

        return find

    figures = {
        f"engine, {count} threads, QPS": _in_threads(
            [searcher() for _ in range(count)], world.queries, seconds
        )
        for count in counts
    }
    database.close()
    return figures


def _in_threads(finders: Sequence[Callable[[Any], Any]], queries: Matrix, seconds: float) -> float:
    done, end = [0] * len(finders), time.perf_counter() + seconds
    gate = threading.Barrier(len(finders))

    def work(number: int, find: Callable[[Any], Any]) -> None:
        gate.wait()
        for query in itertools.cycle(np.roll(queries, 37 * number, axis=0)):
            if time.perf_counter() >= end:
                return
            find(query)
            done[number] += 1

    workers = [threading.Thread(target=work, args=given) for given in enumerate(finders)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds


def load(peer: str, path: str, data: dict[str, Any], before: int) -> dict[str, float]:
    """Queries while another thread of the process adds: all rows after the first `before`."""
    world = open_world(peer, path, data)
    world.fill(before, documents=False)
    for query in world.queries[-20:]:
        world.search(query, 10, ["distances"])
    idle, _ = _timed([lambda q=q: world.search(q, 10, ["distances"]) for q in world.queries])  # type: ignore[misc]
    failures: list[BaseException] = []
    rows, adding = world.vectors.rows, [0.0]

    def add() -> None:
        try:
            started = time.perf_counter()
            for at in range(before, rows, _LOAD_BATCH):
                end = min(at + _LOAD_BATCH, rows)
                world.collection.add(**world.records(at, end, documents=False))
            adding[0] = time.perf_counter() - started
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    writer, busy = threading.Thread(target=add), list[float]()
    writer.start()
    for query in itertools.cycle(world.queries):
        started = time.perf_counter()
        world.search(query, 10, ["distances"])
        busy.append(time.perf_counter() - started)
        if not writer.is_alive():
            break
    writer.join()
    if failures:
        raise failures[0]
    world.client.close()
    figures = _percentiles(idle, "idle query") | _percentiles(busy, "query during the load")
    return figures | {
        "load, rows/s": (rows - before) / adding[0],
        "queries during the load": len(busy),
    }
