"""What the tests of the graph share: collections with one, brute force in float64, recall.

Recall is counted by distance: a row found counts when it is no farther than the k-th nearest,
so that rows at equal distances may stand for each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vexfs_chroma import _engine

SEED = 20261129
NEVER = 2**32 - 1  # rows of a graph: build nothing more
Vectors = NDArray[np.float32]
Exact = NDArray[np.float64]


# ---- brute force -------------------------------------------------------------------------------


def distances(space: str, rows: NDArray[Any], queries: NDArray[Any]) -> tuple[Exact, Exact]:
    """Of every query to every row in float64; and the scale that rounding is relative to."""
    x, q = np.asarray(rows, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    dot = q @ x.T
    x2, q2 = (x * x).sum(1)[None, :], (q * q).sum(1)[:, None]
    if space == "l2":
        return np.maximum(x2 + q2 - 2 * dot, 0), x2 + q2
    lengths = np.sqrt(x2 * q2)
    if space == "ip":
        return 1 - dot, 1 + lengths
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0, 1 - dot / lengths, 1.0), np.ones_like(dot)


def slack(distance: Any, scale: Any) -> Any:
    """How far a float32 distance may be from the true one."""
    return 1e-5 * np.abs(distance) + 2e-6 * scale


# ---- collections -------------------------------------------------------------------------------


@dataclass
class Live:
    """A collection of the engine and the vectors that must be in it, by id."""

    space: str
    database: _engine.Database
    collection: _engine.Collection
    vectors: dict[str, Vectors] = field(default_factory=dict)

    def write(
        self,
        op: str,
        ids: Sequence[str],
        vectors: Vectors,
        metadatas: Sequence[dict[str, Any]] | None = None,
        batch: int = 10_000,
    ) -> None:
        for at in range(0, len(ids), batch):
            part = slice(at, at + batch)
            self.collection.write(
                op, ids[part], vectors[part], None, metadatas[part] if metadatas else None, None
            )
        for one, vector in zip(ids, vectors, strict=True):
            if op == "upsert" or (op == "add") != (one in self.vectors):
                self.vectors[one] = vector

    def delete(self, ids: Iterable[str]) -> None:
        ids = list(ids)
        assert self.collection.delete(ids, None) == len(ids)
        for one in ids:
            del self.vectors[one]

    def settle(self, timeout: float = 300) -> None:
        """Everything is in files and in the graph, and every node of it can be reached."""
        self.collection.flush()
        self.collection.wait_for_index(timeout)
        assert self.collection.check_index().unreachable == 0

    def build_from(self, rows: int) -> None:
        """How many rows have a graph built from now on; NEVER: build nothing more."""
        self.collection.set_index(max_neighbors=16, ef_construction=100, ef_search=100, rows=rows)

    def matrix(self) -> tuple[list[str], Vectors]:
        return list(self.vectors), np.array(list(self.vectors.values()), dtype=np.float32)

    def close(self) -> None:
        self.database.close()


def make(space: str, path: Path | None = None, *, index_rows: int = 1, **options: Any) -> Live:
    """An empty collection whose graph is built from `index_rows` rows on, in memory or on disk.

    By one thread unless told otherwise: the same rows in the same files have the same graph.
    """
    options = {"durability": "off", "index_rows": index_rows, "index_threads": 1, **options}
    database = _engine.Database(None if path is None else str(path), **options)
    name = uuid.uuid4()
    database.create_collection(name, space)
    return Live(space, database, database.open_collection(name))


def clusters(n: int, dimension: int, seed: int = SEED, centres: int = 60) -> Vectors:
    random = np.random.default_rng(seed)
    middles = random.standard_normal((centres, dimension))
    noise = 0.4 * random.standard_normal((n, dimension))
    return (middles[random.integers(0, centres, n)] + noise).astype(np.float32)


# ---- what was found ----------------------------------------------------------------------------


def split(found: _engine.Rows) -> list[list[str]]:
    ends = np.cumsum(found.counts)
    return [found.ids[end - n : end] for n, end in zip(found.counts, ends, strict=True)]


def check_answers(
    space: str, found: _engine.Rows, queries: Vectors, ids: Sequence[str], rows: Vectors, k: int
) -> float:
    """The answers have min(k, rows) different rows of `ids` each (`rows` are their vectors), at the
    distances that they say, nearest first.  Returns the recall.
    """
    wanted = min(k, len(ids))
    assert found.counts == [wanted] * len(queries)
    if wanted == 0:
        return 1.0
    assert found.distances is not None
    place = {one: at for at, one in enumerate(ids)}
    hits = 0
    for at in range(0, len(queries), 100):
        exact, scale = distances(space, rows, queries[at : at + 100])
        nearest = np.partition(exact, wanted - 1, axis=1)[:, wanted - 1]
        for i in range(len(exact)):
            part = slice((at + i) * wanted, (at + i + 1) * wanted)
            columns = [place[one] for one in found.ids[part]]
            assert len(set(columns)) == wanted
            said, true = found.distances[part].astype(np.float64), exact[i, columns]
            error = slack(true, scale[i, columns])
            assert (np.abs(said - true) <= error).all(), (said, true)
            assert (np.diff(said) >= 0).all(), said
            hits += int((true <= nearest[i] + error).sum())
    return hits / (wanted * len(queries))


def recall(live: Live, queries: Vectors, k: int = 10, **how: Any) -> float:
    """Of the collection as it is, over all its rows; `how` goes to Collection.query()."""
    ids, rows = live.matrix()
    found = live.collection.query(queries, k, **how)
    return check_answers(live.space, found, queries, ids, rows, k)


def misses(live: Live, batch: int = 2000, **how: Any) -> list[str]:
    """Rows for whose own vector nothing as near as themselves is found at k = 1."""
    ids, rows = live.matrix()
    missed = []
    for at in range(0, len(ids), batch):
        names, vectors = ids[at : at + batch], rows[at : at + batch]
        found = live.collection.query(vectors, 1, **how)
        assert found.counts == [1] * len(names)
        got = np.array([live.vectors[one] for one in found.ids])
        own, scale = paired_distances(live.space, vectors, vectors)
        other, _ = paired_distances(live.space, got, vectors)
        far = other > own + slack(own, scale)
        missed += [
            one
            for one, answer, is_far in zip(names, found.ids, far, strict=True)
            if is_far and answer != one
        ]
    return missed


def paired_distances(space: str, rows: Vectors, queries: Vectors) -> tuple[Exact, Exact]:
    """As distances(), of row i to query i."""
    x, q = rows.astype(np.float64), queries.astype(np.float64)
    dot, x2, q2 = (x * q).sum(1), (x * x).sum(1), (q * q).sum(1)
    if space == "l2":
        return ((x - q) ** 2).sum(1), x2 + q2
    lengths = np.sqrt(x2 * q2)
    if space == "ip":
        return 1 - dot, 1 + lengths
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0, 1 - dot / lengths, 1.0), np.ones_like(dot)


def check_walks(live: Live, queries: Vectors) -> None:
    """Single queries without a filter go by the graph, which has all rows, and none gives up."""
    for query in queries:
        plan = live.collection.explain(query[None, :], 10)
        assert (plan.why, plan.read_again, plan.read_rows) == ("graph", 0, 0), plan
    assert plan.graph_rows == plan.rows == len(live.vectors)
