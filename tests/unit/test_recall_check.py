"""collection.recall_check(): what it counts, and that it notices a graph that finds too little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import RecallReport


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "500")
    settings = vexfs_chroma.Settings(allow_reset=True, anonymized_telemetry=False)
    with vexfs_chroma.EphemeralClient(settings) as made:
        made.reset()
        yield made
        made.reset()


def filled(client: Any, name: str, vectors: Any, **configuration: Any) -> Any:
    collection = client.create_collection(
        name, embedding_function=None, configuration={"hnsw": configuration}
    )
    collection.add(ids=[str(i) for i in range(len(vectors))], embeddings=vectors)
    collection.wait_for_index()
    return collection


def test_by_the_graph_and_without(client: Any) -> None:
    vectors = np.random.default_rng(1).random((3000, 24), np.float32)
    report = filled(client, "large", vectors).recall_check(n=200, k=5, seed=4)
    assert isinstance(report, RecallReport)
    assert (report.queries, report.k, report.seed, report.expected) == (200, 5, 4, 1000)
    assert report.answered_by == "graph"
    assert report.recall == report.found / 1000 > 0.95
    assert report.found_themselves == 200
    assert report.worst <= report.recall
    small = filled(client, "small", vectors[:50]).recall_check(k=100)
    assert (small.queries, small.expected, small.found) == (50, 50 * 50, 50 * 50)
    assert (small.recall, small.worst, small.perfect) == (1.0, 1.0, 50)
    assert small.answered_by != "graph"


def test_it_notices_what_is_not_found(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(2).standard_normal((1000, 16)).astype(np.float32)
    collection = filled(client, "poor", vectors)
    original = type(client._server).query_records

    def only_the_first(self: Any, *args: Any, exact: bool) -> Any:
        """Every second query by the graph finds one record."""
        found = original(self, *args, exact=exact)
        for row in range(0, 0 if exact else len(found["ids"]), 2):
            found["ids"][row], found["distances"][row] = ["none"], [1e9]
        return found

    monkeypatch.setattr(type(client._server), "query_records", only_the_first)
    report = collection.recall_check(n=100, k=10)
    assert report.answered_by == "graph"
    assert (report.found, report.expected, report.recall) == (500, 1000, 0.5)
    assert (report.perfect, report.worst, report.found_themselves) == (50, 0.0, 50)


def test_the_seed_decides(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(3).random((600, 8), np.float32)
    collection = filled(client, "seeds", vectors)
    asked: list[bytes] = []
    original = type(client._server).query_records

    def noted(self: Any, id: Any, queries: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(np.asarray(queries).tobytes())
        return original(self, id, queries, *args, **kwargs)

    monkeypatch.setattr(type(client._server), "query_records", noted)
    reports = [collection.recall_check(n=20, seed=seed) for seed in (1, 1, 2)]
    assert reports[0] == reports[1]
    assert asked[0] == asked[1] == asked[2] != asked[4]


def test_equal_records_count_as_found(client: Any) -> None:
    collection = filled(client, "equal", np.ones((800, 4), np.float32))
    report = collection.recall_check(n=30, k=3)
    assert (report.recall, report.found_themselves) == (1.0, 30)


def test_nothing_and_mistakes(client: Any) -> None:
    empty = client.create_collection("empty", embedding_function=None)
    report = empty.recall_check()
    assert (report.queries, report.recall, report.worst) == (0, 1.0, 1.0)
    for wrong in ({"n": 0}, {"k": 0}, {"seed": -1}, {"n": True}, {"k": 1.5}, {"n": "1"}):
        with pytest.raises(InvalidArgumentError, match="must be an int of at least"):
            empty.recall_check(**wrong)
    assert empty.recall_check(n=np.int64(3), k=np.int8(2), seed=np.uint32(1)).k == 2
    for wrong in ({"n": 2**32}, {"k": 2**32}, {"seed": 2**64}):
        with pytest.raises(InvalidArgumentError, match="must be an int of at most 4294967295"):
            empty.recall_check(**wrong)
    client.delete_collection("empty")
    with pytest.raises(NotFoundError):
        empty.recall_check()
