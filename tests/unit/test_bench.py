"""The benchmark: it finds its figures, and scores answers rightly."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vexfs_chroma._bench import _child, _data, _graph, _report, _run, _truth
from vexfs_chroma._bench._peers import PEERS
from vexfs_chroma._bench._steps import Result, Sizes

SIZES = Sizes(
    queries=20, filtered=5, repeats=2, writes=40, graph_queries=20, graph_repeats=1, efs=(10, 50)
)


@pytest.fixture(scope="module")
def rows() -> _data.Rows:
    return _data.generate(400, dimension=16, n_queries=40)


@pytest.fixture(scope="module")
def truth(rows: _data.Rows) -> _truth.Truth:
    return _truth.compute(rows, SIZES.graph_queries, SIZES.filtered)


@pytest.fixture
def stored(rows: _data.Rows, truth: _truth.Truth, tmp_path: Path) -> Path:
    _data.save(rows, tmp_path / "data")  # after the truth, which fills in the shares
    return tmp_path / "data"


# ---- recall --------------------------------------------------------------------------------------


def hand_made() -> _truth.Truth:
    """Directions on a circle: rows 1 and 2 are equally far from the query, which is row 0's own."""
    degrees = np.radians([0, 20, -20, 60, 90, 180])
    vectors = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    rows = _data.Rows(
        name="circle",
        ids=[f"r{i}" for i in range(6)],
        vectors=3 * vectors,  # cosine: lengths do not count
        documents=["red wine", "wine", "red", "wine cellar", "water", "wine glass"],
        metadatas=[{"n": i, "odd": i % 2 == 1} for i in range(6)],
        queries=vectors[:1],
        filters=[
            _data.Filter("odd", {"odd": {"$eq": True}}),
            _data.Filter("wine", {"n": {"$gte": 1}}, {"$contains": "wine"}),
            _data.Filter("nothing", {"n": {"$gt": 9}}),
        ],
    )
    return _truth.compute(rows, 1, 1)


def test_recall_counts_ties_and_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_truth, "K", 2)
    truth = hand_made()
    score = lambda name, *ids: truth.recall(name, [list(ids)], k=2)  # noqa: E731
    assert score("query", "r0", "r1") == score("query", "r0", "r2") == 1  # a tie: any will do
    assert score("query", "r1", "r2") == 1  # by distance: neither is farther than the second
    assert score("query", "r0", "r3") == 0.5
    assert score("query", "r0") == 0.5
    assert score("query", "r0", "r0") == 0.5  # once is once
    assert score("query", "r3", "r0") == 0.5
    assert score("odd", "r1", "r3") == 1
    assert score("odd", "r0", "r1") == 0.5  # r0 is near but not odd
    assert score("wine", "r1", "r3") == 1
    assert score("wine", "r1", "r5") == 0.5
    assert score("nothing") == 1
    assert score("nothing", "r0") == 0
    assert [filter.share for filter in truth.rows.filters] == [0.5, 0.5, 0]


def test_fewer_rows_than_wanted() -> None:
    truth = hand_made()  # k is 10, there are 6 rows
    assert truth.recall("query", [[f"r{i}" for i in range(6)]]) == 1
    assert truth.recall("query", [["r5", "r4", "r3"]]) == 0.5
    assert truth.recall("odd", [["r1", "r3"]]) == pytest.approx(2 / 3)


def test_truth_is_kept(rows: _data.Rows, truth: _truth.Truth, tmp_path: Path) -> None:
    cache = tmp_path / "truth.npz"
    made, read = (_truth.compute(rows, 20, 5, cache) for _ in range(2))
    for name, distances in truth.farthest.items():
        assert np.array_equal(made.farthest[name], distances)
        assert np.array_equal(read.farthest[name], distances)
    base, query = _truth.unit(rows.vectors), _truth.unit(rows.queries[:1])[0]
    assert truth.farthest["query"][0] == pytest.approx(np.sort(1 - base @ query)[9])


# ---- steps ---------------------------------------------------------------------------------------


def run_job(peer: str, steps: list[str], path: Path, data: Path) -> Result:
    job = _child.Job(peer, steps, str(path), str(data), SIZES)
    assert _child.Job.from_json(job.to_json()) == job
    result = _child.run(job)
    assert _child.result_from_json(_child.result_to_json(result)) == result
    assert all(math.isfinite(value) for value in result.figures.values())
    return result


@pytest.mark.parametrize(
    "peer", ["vexfs_chroma", "vexfs_chroma-ephemeral", "chromadb", "chromadb-ephemeral"]
)
def test_figures(peer: str, stored: Path, truth: _truth.Truth, tmp_path: Path) -> None:
    figures: dict[str, float] = {}
    for steps in _run.steps_of(PEERS[peer]):
        if steps != ["graph"]:
            result = run_job(peer, steps, tmp_path / "database", stored)
            figures |= result.figures | _run.score(truth, result)
    expected = {
        *("bulk add, rows/s", "first add until indexed, s", "query, p50 ms", "query, p99 ms"),
        *("query, recall@10", "100 queries at once, QPS", "get 100 by id, ms"),
        *("update metadata, rows/s", "update vectors, rows/s", "delete, rows/s"),
        *(f"{filter.label}, p50 ms" for filter in truth.rows.filters),
    }
    expected -= {"100 queries at once, QPS"}  # there are 40
    assert expected <= set(figures)
    assert ("open to first result, ms" in figures) == (PEERS[peer].storage == "persistent")
    assert all(
        value == 1 for name, value in figures.items() if "recall" in name and "vexfs" in peer
    )
    assert all(value >= 0.9 for name, value in figures.items() if "recall" in name)
    assert all(_report.better(name) for name in figures if not name.startswith("RSS"))


@pytest.mark.parametrize("peer", ["vexfs_chroma", "vexfs_chroma-ephemeral", "hnswlib"])
def test_graphs(peer: str, stored: Path, truth: _truth.Truth, tmp_path: Path) -> None:
    if peer == "hnswlib":
        pytest.importorskip("hnswlib")
    result = run_job(peer, ["graph"], tmp_path / "database", stored)
    points = _run.score_sweep(truth, result)
    assert [point.ef for point in points] == [10, 50]
    assert points[1].recall >= 0.95
    assert {_graph.ONE_THREAD, _graph.ALL_CORES, _graph.INDEX_ALONE} <= set(result.figures)
    assert "QPS at recall 0.95" in _graph.summary(points)


# ---- report --------------------------------------------------------------------------------------


def test_rates_at_a_recall() -> None:
    points = [(0.9, 1000.0), (0.98, 100.0), (0.94, 400.0), (0.96, 100.0)]
    assert _graph.rate_at(0.94, points) == pytest.approx(400)
    assert _graph.rate_at(0.95, points) == pytest.approx(200)  # half way between 400 and 100
    assert _graph.rate_at(0.5, points) == 1000
    assert _graph.rate_at(0.99, points) is None


def test_better_is_said_of_every_unit() -> None:
    assert _report.better("bulk add, rows/s") == "higher"
    assert _report.better("QPS at recall 0.95") == "higher"
    assert _report.better("tag (0.5 %), p50 ms") == "lower"
    assert _report.better("disk, MB") == "lower"
    assert not _report.better("threads while building")
    assert _report.factor("disk, MB", 2.0, 10.0) == 5
    assert _report.factor("delete, rows/s", 10.0, 2.0) == 5
    assert _report.factor("query, recall@10", 1.0, 0.5) is None


def test_jobs_take_turns() -> None:
    turns = [(peer.name, steps[0]) for peer, steps in _run.in_turn(list(PEERS.values()))]
    assert turns[:2] == [("vexfs_chroma", "load"), ("chromadb", "load")]
    assert [peer for peer, step in turns if step == "graph"] == [
        *("vexfs_chroma", "vexfs_chroma-ephemeral", "hnswlib")
    ]
    assert turns[-1] == ("hnswlib", "graph")


def test_the_cpu_of_servers_is_that_of_all_their_processes() -> None:
    from vexfs_chroma._bench.server import _used

    class Busy:
        def cpu_seconds(self) -> list[float]:
            return [1.5, 5.0, 3.0]

    cpu, busiest = _used(Busy(), [1.0, 2.0, 2.0], 1000)  # type: ignore[arg-type]
    assert cpu == pytest.approx((0.5 + 3 + 1) * 1000)
    assert busiest == pytest.approx(0.75)
    assert _used(Busy(), [1.5, 5.0, 3.0], 1) == (0.0, 1.0)  # type: ignore[arg-type]


def test_load_ends_with_the_requests() -> None:
    from vexfs_chroma._bench.server import _generate

    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked.append(line)
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async def load() -> list[float]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            named = SimpleNamespace(port=port, name="canned")
            requests = (b"%d\n" % i for i in range(50))
            return await _generate(named, requests, 3, seconds=60)  # type: ignore[arg-type]

    assert len(asyncio.run(load())) == 50
    assert sorted(asked, key=int) == [b"%d\n" % i for i in range(50)]


def test_a_server_rests_when_it_uses_no_more_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from vexfs_chroma._bench import server as bench

    class Building:
        left, used = 5, 0.0

        def cpu_seconds(self) -> list[float]:
            return [1.0, self.used]

        def work(self, seconds: float) -> None:
            self.used += seconds if self.left > 0 else 0.01
            self.left -= 1

    building = Building()
    monkeypatch.setattr("time.sleep", building.work)
    bench._rest(building)  # type: ignore[arg-type]
    assert building.left == -1
