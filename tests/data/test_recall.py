"""Recall on real data at Chroma's defaults, against hnswlib with the same parameters; every row
finds itself; and filters with their ground truth.

Needs the data sets of VEXFS_DATA and the extra `bench` (hnswlib).  Takes some minutes;
`make recall`, or `pytest -m slow tests/data/test_recall.py -s` to see the figures.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_kit import (
    NEVER,
    SEED,
    Live,
    Vectors,
    check_answers,
    clusters,
    distances,
    make,
    misses,
    slack,
)

from vexfs_chroma import _engine

K = 10
FLOOR = 0.985
BELOW_HNSWLIB = 0.002
BELOW_UNFILTERED = 0.005
M, EF_CONSTRUCTION, EF = 16, 100, 100  # Chroma's defaults
WORDNET = "wordnet-minilm-384-cosine"
DATA_SETS = [WORDNET, "fashion-mnist-784-euclidean", "sift-photo-200k-128-euclidean"]
GENERATED = ["generated l2", "generated cosine", "generated ip"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
needs_data = pytest.mark.skipif(
    "VEXFS_DATA" not in os.environ, reason="VEXFS_DATA names no data sets"
)


def loader() -> Any:
    folder = Path(os.environ["VEXFS_DATA"])
    spec = importlib.util.spec_from_file_location("vexfs_data_load", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(name: str) -> tuple[str, Vectors, Vectors]:
    """Space, rows and 1,000 queries."""
    if name in GENERATED:
        rows = clusters(41_000, 64, SEED)
        return name.split()[1], rows[1000:], rows[:1000]
    base, queries, _, metric, _, _ = loader().load(name, as_float32=True, with_metadata=False)
    space = "cosine" if metric == "cosine" else "l2"
    return space, *(np.ascontiguousarray(x, dtype=np.float32) for x in (base, queries[:1000]))


@dataclass
class Gate:
    """Figures, those that are not what they must be, and what hnswlib reaches on the same rows."""

    figures: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    hnswlib: dict[int, float] = field(default_factory=dict)

    def at_least(self, what: str, value: float, floor: float) -> None:
        self._note(f"{what}: {value:.4f} (must be {floor:.4f})", value >= floor)

    def none(self, what: str, found: list[str]) -> None:
        self._note(f"{what}: {len(found)} {found[:5]}", not found)

    def _note(self, line: str, good: bool) -> None:
        print(("  " if good else "! ") + line, flush=True)
        self.figures.append(line)
        if not good:
            self.failed.append(line)


def recall_of_hnswlib(space: str, rows: Vectors, queries: Vectors) -> float:
    hnswlib = pytest.importorskip("hnswlib", reason="needs the extra `bench`")
    index = hnswlib.Index(space, rows.shape[1])
    index.init_index(len(rows), M=M, ef_construction=EF_CONSTRUCTION, random_seed=SEED % 1000)
    index.add_items(rows)
    index.set_ef(EF)
    labels, _ = index.knn_query(queries, K)
    hits = 0
    for at in range(0, len(queries), 50):
        exact, scale = distances(space, rows, queries[at : at + 50])
        found = np.take_along_axis(exact, labels[at : at + 50].astype(np.int64), 1)
        kth = np.partition(exact, K - 1, axis=1)[:, K - 1 : K]
        hits += int((found <= kth + slack(kth, scale.mean(axis=1, keepdims=True))).sum())
    return hits / (K * len(queries))


def recall_of(live: Live, queries: Vectors) -> float:
    ids, rows = live.matrix()
    return check_answers(live.space, live.collection.query(queries, K), queries, ids, rows, K)


def measure(gate: Gate, live: Live, queries: Vectors, stage: str) -> None:
    _, rows = live.matrix()
    known = hash(rows.tobytes())
    if known not in gate.hnswlib:
        gate.hnswlib[known] = recall_of_hnswlib(live.space, rows, queries)
    floor = gate.hnswlib[known] - BELOW_HNSWLIB
    gate.at_least(
        stage, recall_of(live, queries), floor if live.space == "ip" else max(FLOOR, floor)
    )


def measure_self(gate: Gate, live: Live, stage: str) -> None:
    gate.none(f"{stage}: rows that do not find themselves", misses(live))


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=needs_data) for n in DATA_SETS), *GENERATED]
)
def test_recall(name: str, tmp_path: Path) -> None:
    space, rows, queries = load(name)
    n = len(rows)
    ids = [f"r{i}" for i in range(n)]
    half = n // 2
    gate = Gate()
    print(f"\n{name}: {n} rows")
    live = make(space, tmp_path, memtable_rows=n, memtable_bytes=1 << 33, index_threads=0)
    live.write("add", ids[:half], rows[:half])
    live.settle(1800)
    live.build_from(NEVER)
    live.write("add", ids[half:], rows[half:])
    live.collection.flush()
    info = live.collection.info()
    assert (info.indexed_rows, info.unindexed_rows) == (half, n - half)
    measure(gate, live, queries, "half of the rows in the graph")
    live.build_from(1)
    live.settle(1800)
    assert live.collection.info().indexed_rows == n
    measure(gate, live, queries, "all rows in the graph")
    measure_self(gate, live, "all rows in the graph")
    churn(gate, live, queries)
    live.close()
    assert gate.failed == []


def churn(gate: Gate, live: Live, queries: Vectors) -> None:
    """Delete half; give a tenth of the rest other vectors, those of deleted rows, ten times."""
    random = np.random.default_rng(SEED)
    ids = np.array(list(live.vectors))
    random.shuffle(ids)
    dead, here = ids[: len(ids) // 2].tolist(), ids[len(ids) // 2 :]
    spare = [live.vectors[one] for one in dead]
    live.delete(dead)
    measure(gate, live, queries, "half deleted")
    live.settle(1800)
    measure(gate, live, queries, "half deleted, settled")
    measure_self(gate, live, "half deleted, settled")
    tenth = min(len(here), len(spare)) // 10
    for turn in range(10):
        chosen = random.choice(here, tenth, replace=False).tolist()
        part = slice(turn * tenth, (turn + 1) * tenth)
        live.write("update", chosen, np.array(spare[part]))
        live.settle(1800)
        if turn in {0, 4}:
            measure_self(gate, live, f"a tenth updated {turn + 1} times")
    measure(gate, live, queries, "a tenth updated 10 times")
    measure_self(gate, live, "a tenth updated 10 times")
    live.collection.compact()
    live.settle(1800)
    measure(gate, live, queries, "vacuumed")
    measure_self(gate, live, "vacuumed")


# ---- filters -----------------------------------------------------------------------------------

_OPERATORS = {
    "$eq": _engine.F_EQ,
    "$ne": _engine.F_NE,
    "$gt": _engine.F_GT,
    "$gte": _engine.F_GE,
    "$lt": _engine.F_LT,
    "$lte": _engine.F_LE,
    "$in": _engine.F_IN,
    "$nin": _engine.F_NIN,
}


def as_filter(where: dict[str, Any]) -> _engine.Filter:
    ((key, value),) = where.items()
    if key in {"$and", "$or"}:
        return [_engine.F_AND if key == "$and" else _engine.F_OR, [as_filter(one) for one in value]]
    ((operator, operand),) = value.items()
    return [_OPERATORS[operator], key, operand]


@pytest.fixture(scope="module")
def wordnet() -> Iterator[tuple[Any, Live]]:
    data = loader()
    base, _, _, _, _, metadatas = data.load(WORDNET)
    live = make("cosine", memtable_rows=len(base), memtable_bytes=1 << 33, index_threads=0)
    live.write("add", [f"r{i}" for i in range(len(base))], base.astype(np.float32), metadatas)
    live.settle(1800)
    yield data, live
    live.close()


@needs_data
def test_filters_of_wordnet(wordnet: tuple[Any, Live]) -> None:
    data, live = wordnet
    _, queries, _, _, _, _ = data.load(WORDNET, with_metadata=False)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    _, rows = live.matrix()
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    gate = Gate()
    unfiltered = recall_of(live, queries)
    gate.at_least("without a filter", unfiltered, FLOOR)
    filters = data.load_filters(WORDNET)
    assert len(filters) == 12
    for one in filters:
        chosen = as_filter(one["where"])
        assert live.collection.count(None, chosen) == one["n_match"]
        asked = queries[one["query_rows"]]
        found = live.collection.query(asked, K, filter=chosen, metadatas=True)
        assert found.counts == [min(K, one["n_match"])] * len(asked)
        assert found.metadatas is not None
        assert all(m is not None and data.match(one["where"], m) for m in found.metadatas)
        assert found.distances is not None
        said = found.distances.reshape(len(asked), -1)
        assert (np.diff(said, axis=1) >= 0).all()
        places = np.array([int(name[1:]) for name in found.ids]).reshape(said.shape)
        q = asked.astype(np.float64) / np.linalg.norm(asked.astype(np.float64), axis=1)[:, None]
        true = 1 - np.einsum("qd,qkd->qk", q, unit[places])
        assert np.abs(said - true).max() <= 1e-5
        hits = (true <= one["gt_dist"][:, -1:].astype(np.float64) + 3e-6).mean()
        floor = max(FLOOR, unfiltered - BELOW_UNFILTERED)
        gate.at_least(f"{one['name']} ({one['n_match']} rows)", float(hits), floor)
    assert gate.failed == []
