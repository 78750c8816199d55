"""vexctl bench engine: it measures whoever is there, names who is not, and scores rightly."""

from __future__ import annotations

import importlib.metadata
import json
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError
from typer.testing import CliRunner

from vexfs_chroma import _engine
from vexfs_chroma._bench import _engine_bench, _engine_task, _indexes, _task, _vectors
from vexfs_chroma._bench._progress import Progress
from vexfs_chroma._bench._results import HIGHER, Report
from vexfs_chroma._cli._app import app
from vexfs_chroma._engine._searcher import Searcher

DUMMY = """
import time
import numpy as np
from vexfs_chroma._bench._indexes._graphs import Exact
from vexfs_chroma._bench._indexes._base import SkippedError

class Dummy(Exact):
    knobs = ()
    note = "finds half of what there is when told 10"

    def set_knob(self, value):
        self.most = 5 if value <= 10 else 10

    def rows_of(self, answer):
        return super().rows_of(answer)[: self.most]

class Broken(Exact):
    def build(self, vectors):
        raise RuntimeError("no such instruction")

class Absent(Exact):
    def __init__(self, setup):
        super().__init__(setup)
        raise SkippedError("not for this space")

class Slow(Exact):
    def build(self, vectors):
        time.sleep(60)

class Killed(Exact):
    def build(self, vectors):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def dummies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers libraries that are found by processes that are started from now on."""
    (tmp_path / "bench_dummies.py").write_text(textwrap.dedent(DUMMY), "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("Dummy", "Broken", "Absent", "Slow", "Killed"):
        monkeypatch.setitem(_indexes.INDEXES, name.lower(), f"bench_dummies:{name}")


def plan(*peers: str, **given: object) -> _engine_bench.Plan:
    fields: dict[str, object] = {
        "sets": [_vectors.GENERATED],
        "peers": peers,
        "rows": 400,
        "dimension": 16,
        "queries": 20,
        "knobs": (10, 40),
        "repeats": 2,
        "seconds": 1.0,
        "timeout": 60.0,
    }
    return _engine_bench.Plan(**(fields | given))  # type: ignore[arg-type]


def measured(plan: _engine_bench.Plan, folder: Path) -> Report:
    folder.mkdir(exist_ok=True)
    report = Report("engine")
    _engine_bench.run(plan, folder, report, Progress())
    return report


def test_libraries_are_measured(dummies: None, tmp_path: Path) -> None:
    report = measured(plan("vexfs_chroma", "dummy", "exact", runs=2), tmp_path / "work")
    assert not report.failed
    assert not report.skipped
    (group,) = report.groups()
    assert group == "generated-16 x 400 (cosine)"
    qps = report.figure(group, "QPS at recall 0.99")
    assert set(qps.values) == {"vexfs_chroma", _engine_bench.ENGINE, "dummy", "exact"}
    assert all(len(runs) == 2 for runs in qps.values.values())
    assert qps.better == HIGHER
    recalls = {
        (curve.library, point["knob"]): point["recall"]
        for curve in report.curves
        for point in curve.points
    }
    assert recalls["dummy", 10] == 0.5
    assert recalls["dummy", 40] == 1
    assert recalls["exact", 1] == 1
    assert recalls["vexfs_chroma", 10] > 0.9
    built = report.figure(group, _engine_bench.BUILD)
    assert all(rate > 0 for runs in built.values.values() for rate in runs)
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts["QPS at recall 0.99 v hnswlib"] == "not measured"
    best = max(("dummy", "exact"), key=lambda peer: qps.median(peer) or 0)
    assert verdicts[f"QPS at recall 0.99 v the best peer ({best})"] in ("met", "not met")
    assert not list((tmp_path / "work").glob("index"))


def test_who_cannot_be_measured_is_named(dummies: None, tmp_path: Path) -> None:
    chosen = plan("broken", "absent", "killed", "exact")
    report = measured(chosen, tmp_path / "work")
    reasons = {key.split(",")[0]: reason for key, reason in report.skipped.items()}
    assert reasons == {
        "broken": "RuntimeError: no such instruction",
        "absent": "not for this space",
        "killed": "ended by signal 9",
    }
    assert report.libraries(report.groups()[0]) == ["exact"]
    report = measured(plan("slow", timeout=2.0), tmp_path / "work")
    assert list(report.skipped.values()) == ["took longer than 2 s"]


def test_ours_that_fails_is_a_failure(
    dummies: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_indexes.INDEXES, "vexfs_chroma", "bench_dummies:Broken")
    report = measured(plan("vexfs_chroma"), tmp_path / "work")
    assert list(report.failed.values()) == ["RuntimeError: no such instruction"]
    assert not report.skipped


@pytest.mark.parametrize("name", sorted(set(_indexes.INDEXES) - {"lancedb", "milvus-lite"}))
@pytest.mark.parametrize("space", ["cosine", "l2"])
def test_every_library_that_is_installed_finds_the_nearest(
    name: str, space: str, tmp_path: Path
) -> None:
    try:
        _indexes.find(_indexes.INDEXES[name]).version()
    except importlib.metadata.PackageNotFoundError as error:  # no process is needed to tell
        pytest.skip(str(error))
    vectors = _vectors.prepare(
        _vectors.GENERATED, tmp_path, rows=500, dimension=16, space=space, n_queries=20
    )
    data = {"name": vectors.name, "space": space, "folder": str(tmp_path)}
    data |= {"rows": vectors.rows, "dimension": vectors.dimension}
    work = tmp_path / "index"
    work.mkdir()
    arguments = {
        "place": _indexes.INDEXES[name],
        "folder": str(work),
        "data": data,
        "k": 10,
        "n_queries": 20,
        "knobs": [100],
        "repeats": 1,
        "seconds": 1.0,
        "m": 16,
        "ef_construction": 100,
    }
    try:
        found = _task.run_task(_engine_bench.TASK, arguments, tmp_path, timeout=120)
    except _task.TaskFailedError as error:
        if name == "vexfs_chroma":
            raise
        pytest.skip(str(error))
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found["sweep"][-1]["recall"] >= 0.9
    assert len(found["sweep"][-1]["rates"]) == 1


# ---- vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["cosine", "l2"])
def test_truth_is_that_of_all_distances(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_vectors, "_BLOCK_BYTES", 4 * 30 * 70)  # several blocks
    vectors = _vectors.prepare(
        _vectors.GENERATED, tmp_path, rows=300, dimension=8, space=space, n_queries=30
    )
    base, queries = vectors.base().astype(float), vectors.queries().astype(float)
    squares = ((base[None] - queries[:, None]) ** 2).sum(axis=2)
    distances = squares if space == "l2" else squares / 2  # of unit vectors
    kth = np.sort(distances, axis=1)[:, 9]
    assert np.allclose(vectors.farthest(), kth, atol=1e-6)
    nearest = np.argsort(distances, axis=1)[:, :10].tolist()
    score = lambda found: _vectors.recall(  # noqa: E731
        vectors, vectors.base(), vectors.queries(), found, 10
    )
    assert score(nearest) == 1
    assert score([rows[:5] for rows in nearest]) == 0.5
    assert score([[rows[0]] * 10 for rows in nearest]) == pytest.approx(0.1)
    farthest = np.argsort(-distances, axis=1)[:, :10].tolist()
    assert score(farthest) == 0
    assert score([[] for _ in nearest]) == 0


def test_generated_rows_are_the_same_whatever_their_number(tmp_path: Path) -> None:
    few, many = _vectors.Generator(24).rows(100, 3), _vectors.Generator(24).rows(100, 3)
    assert np.array_equal(few, many)
    assert not np.array_equal(few, _vectors.Generator(24).rows(100, 4))
    assert np.allclose(np.linalg.norm(few, axis=1), 1, atol=1e-5)
    spectrum = np.linalg.svd(few - few.mean(axis=0), compute_uv=False)
    assert spectrum[0] > 3 * spectrum[-1]  # directions differ


def test_fewer_rows_than_wanted(tmp_path: Path) -> None:
    vectors = _vectors.prepare(_vectors.GENERATED, tmp_path, rows=4, dimension=8, n_queries=3)
    found = [[0, 1, 2, 3]] * 3
    assert _vectors.recall(vectors, vectors.base(), vectors.queries(), found, 10) == 1


def test_rounds_are_as_many_as_there_is_time_for() -> None:
    setup = _indexes.Setup("l2", 8, 50, "")
    index = _indexes.find(_indexes.INDEXES["exact"])(setup)
    rows = _vectors.Generator(8).rows(50, 0)
    index.build(rows)
    assert len(_engine_task.search(index, rows[:5], 3, 4, 100.0)["rates"]) == 4
    assert len(_engine_task.search(index, rows[:5], 3, 4, 0.0)["rates"]) == 1


def test_searcher_finds_what_query_finds() -> None:
    rows = _vectors.Generator(8).rows(200, 0)
    database, id = _engine.Database(None, index_rows=1), uuid.uuid4()
    database.create_collection(id, "cosine")
    collection = database.open_collection(id)
    collection.write("add", [str(row) for row in range(200)], rows, None, None, None)
    collection.wait_for_index()
    with Searcher(collection) as searcher:
        for query in rows[:10]:
            ids, distances = searcher.nearest(query, 7)
            found = collection.query(query[None], 7)
            assert ids == found.ids
            assert found.distances is not None
            assert distances.tolist() == found.distances.tolist()
        with pytest.raises(InvalidArgumentError, match="dimension"):
            searcher.nearest(rows[0, :4].copy(), 7)
    database.close()


def test_a_quicker_point_with_more_recall_counts() -> None:
    points = [(0.90, 100.0), (0.96, 50.0), (0.97, 60.0), (0.995, 10.0)]
    assert _engine_bench.reachable(0.95, points) == 60
    assert _engine_bench.reachable(0.91, points) == pytest.approx(100 * 0.5 ** (1 / 6))
    assert _engine_bench.reachable(0.996, points) is None
    assert _engine_bench.reachable(0.95, [(0.99, 20.0)]) == 20


# ---- the command ---------------------------------------------------------------------------------


def test_command(dummies: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXFS_DATA", raising=False)
    out = tmp_path / "figures.json"
    line = ["bench", "engine", "--quick", "--rows", "300", "--dim", "16"]
    done = CliRunner().invoke(
        app, [*line, "--peers", "vexfs_chroma,dummy,broken", "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "QPS at" in done.output
    assert "skipped: broken" in done.output
    plain = json.loads(out.read_text("utf-8"))
    assert Report.load(out).as_json() == plain
    assert plain["versions"].keys() == {"vexfs_chroma", "dummy"}
    assert plain["conditions"]["M"] == 16
    figures = {figure["name"]: figure for figure in plain["figures"]}
    assert figures["QPS at recall 0.95"]["medians"]["dummy"] > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--peers", "nobody"], "no libraries nobody; there are vexfs_chroma, hnswlib"),
        (["--data", "moon"], "no data sets moon; there are wordnet"),
        (["--data", "sift"], "needs VEXFS_DATA"),
        (["--space", "l1"], "--space must be cosine or l2"),
        (["--json", "no/such/place.json"], "there is no such directory"),
    ],
)
def test_wrong_usage_is_explained(
    arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VEXFS_DATA", raising=False)
    done = CliRunner().invoke(app, ["bench", "engine", "--quick", *arguments])
    assert done.exit_code == 3
    assert text in done.output
