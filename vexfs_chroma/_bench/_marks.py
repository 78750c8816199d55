"""Absolute figures of ours through Python, each defined in its name and note: a sanity line."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

import vexfs_chroma
from vexfs_chroma import _engine
from vexfs_chroma._bench import _measure, _vectors
from vexfs_chroma._bench._indexes._base import Matrix
from vexfs_chroma._bench._peers import COLLECTION, EF_CONSTRUCTION, EF_SEARCH, M
from vexfs_chroma._bench._truth import K
from vexfs_chroma._engine._searcher import Searcher

INSERT = "batch insert, vectors/s"
METADATA = "metadata reads and updates by id, rows/s"
SEARCH = "search in batches, queries/s"
SEARCH_EF = "search in batches, ef"
SEARCH_RECALL = "search in batches, recall@10"
ENGINE_P95, ENGINE_P99 = "engine search, p95 ms", "engine search, p99 ms"
MEMORY = "memory, MB"
ENOUGH = 0.95
EFS = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300)
DIMENSION, SMALL = 128, 10_000
BATCH, BY_IDS, AT_ONCE = 10_000, 1000, 1000

NOTES = (
    "batch insert: add() of batches of 10,000 x 128 ndarrays with ids, durable, until acknowledged",
    "metadata reads and updates: get(ids) then update(ids, metadatas), 1,000 records a call; rows",
    "  read and rows updated, together, per second",
    "search in batches: query() of 1,000 x 128 ndarrays over 10,000 records, ids and distances,",
    "  with the least ef of a few that has recall 0.95",
    "engine search: one query at a time over the same records, same ef, by a Searcher",
    "memory: growth of the process that adds 100,000 x 384 vectors, indexes and queries them",
)
"""What they mean."""


def run(folder: str, rows: int, memory_rows: int, queries: int) -> dict[str, float]:
    """All of them: `rows` to insert, `memory_rows` x 384 to hold."""
    figures = _memory(Path(folder) / "memory", memory_rows)
    client = vexfs_chroma.PersistentClient(str(Path(folder) / "marks"))
    make = _vectors.Generator(DIMENSION)
    try:
        figures |= _insert(client, make.rows(rows, 0))
        small = make.rows(min(SMALL, rows), 1)
        figures |= _small(client, small, make.rows(queries, 2))
        figures |= _engine_searches(small, make.rows(queries, 3), int(figures[SEARCH_EF]))
    finally:
        client.close()
    return figures


def _new(client: Any, name: str) -> Any:
    hnsw = {"space": "cosine", "max_neighbors": M, "ef_construction": EF_CONSTRUCTION}
    return client.create_collection(
        name, embedding_function=None, configuration={"hnsw": hnsw | {"ef_search": EF_SEARCH}}
    )


def _insert(client: Any, vectors: Matrix) -> dict[str, float]:
    collection = _new(client, "insert")
    batches = [
        ([f"row-{i}" for i in range(at, min(at + BATCH, len(vectors)))], vectors[at : at + BATCH])
        for at in range(0, len(vectors), BATCH)
    ]
    started = time.perf_counter()
    for ids, part in batches:
        collection.add(ids=ids, embeddings=part)
    took = time.perf_counter() - started
    if collection.count() != len(vectors):
        raise RuntimeError(f"{collection.count()} records of {len(vectors)} are there")
    client.delete_collection("insert")
    return {INSERT: len(vectors) / took}


def _small(client: Any, vectors: Matrix, queries: Matrix) -> dict[str, float]:
    collection = _new(client, COLLECTION)
    ids = [f"row-{i}" for i in range(len(vectors))]
    collection.add(ids=ids, embeddings=vectors, metadatas=[{"n": i} for i in range(len(ids))])
    collection.wait_for_index()
    seconds, handled = 0.0, 0
    for at in range(0, len(ids), BY_IDS):
        some = ids[at : at + BY_IDS]
        changed = [{"n": -i} for i in range(len(some))]
        started = time.perf_counter()
        found = collection.get(ids=some, include=["metadatas"])
        collection.update(ids=some, metadatas=changed)
        seconds += time.perf_counter() - started
        handled += 2 * len(found["ids"])
        now = collection.get(ids=some, include=["metadatas"])
        if now["metadatas"] != changed:
            raise RuntimeError("an update of metadata was acknowledged and is not there")
    collection.wait_for_index()
    return {METADATA: handled / seconds} | _batches(collection, vectors, queries)


def _batches(collection: Any, vectors: Matrix, queries: Matrix) -> dict[str, float]:
    """With the least ef that finds enough."""
    kth = _vectors.farthest(vectors, queries, "cosine", K)
    parts = [queries[at : at + AT_ONCE] for at in range(0, len(queries), AT_ONCE)]
    figures: dict[str, float] = {}
    for ef in EFS:
        collection.modify(configuration={"hnsw": {"ef_search": ef}})
        collection.wait_for_index()  # a changed collection is opened again
        collection.query(query_embeddings=parts[0], n_results=K, include=["distances"])
        answers: list[list[str]] = []
        started = time.perf_counter()
        for part in parts:
            found = collection.query(query_embeddings=part, n_results=K, include=["distances"])
            answers += found["ids"]
        took = time.perf_counter() - started
        rows = np.array([[int(id[len("row-") :]) for id in line] for line in answers])
        near = _vectors.distances(vectors, rows, queries, "cosine") <= kth[:, None] + 1e-6
        figures = {SEARCH: len(queries) / took, SEARCH_EF: ef, SEARCH_RECALL: float(near.mean())}
        if figures[SEARCH_RECALL] >= ENOUGH:
            break
    return figures


def _engine_searches(vectors: Matrix, queries: Matrix, ef: int) -> dict[str, float]:
    database, id = _engine.Database(None, index_rows=1), uuid.uuid4()
    database.create_collection(id, "cosine")
    collection = database.open_collection(id)
    collection.set_index(max_neighbors=M, ef_construction=EF_CONSTRUCTION, ef_search=ef)
    collection.write("add", [str(i) for i in range(len(vectors))], vectors, None, None, None)
    collection.wait_for_index()
    times = []
    with Searcher(collection) as searcher:
        for query in queries[:100]:
            searcher.nearest(query, K)
        for query in queries:
            started = time.perf_counter()
            searcher.nearest(query, K)
            times.append(time.perf_counter() - started)
    database.close()
    return {
        ENGINE_P95: _measure.percentile_ms(times, 95),
        ENGINE_P99: _measure.percentile_ms(times, 99),
    }


def _memory(path: Path, rows: int) -> dict[str, float]:
    """Growth of this process; the batches themselves come and go."""
    make, step = _vectors.Generator(384), 5000
    queries = make.rows(100, 1_000_000)
    make.rows(step, 0)  # what making rows needs is there before
    before = _measure.memory()
    client = vexfs_chroma.PersistentClient(str(path))
    collection = _new(client, "memory")
    for at in range(0, rows, step):
        ids = [f"row-{i}" for i in range(at, min(at + step, rows))]
        collection.add(ids=ids, embeddings=make.rows(len(ids), at))
    collection.wait_for_index()
    for query in queries:
        collection.query(query_embeddings=[query], n_results=K)
    grown = _measure.growth(before)
    client.close()
    return {MEMORY: grown["RSS growth, MB"]} if grown else {}
