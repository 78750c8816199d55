"""Parts of the load tests: recorder, service levels, shapes, rows and truth, results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from load_kit import DIMENSION, ROWS, K, make_world, small_scenario

from vexfs_chroma._buckets import bucket_end, bucket_of
from vexfs_chroma._load import _gates, _result, _run, _scenarios, _shapes, _targets, _world
from vexfs_chroma._load._recorder import Histogram, Recorder
from vexfs_chroma._load._shapes import Stage, Step

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc")

# ---- recorder ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 7])
def test_buckets_follow_each_other_and_are_narrow(bits: int) -> None:
    last = -1
    for ns in [*range(5000), *(2**n + d for n in range(13, 45) for d in (-1, 0, 1, 12345))]:
        bucket = bucket_of(ns, bits)
        assert ns <= bucket_end(bucket, bits) <= ns * (1 + 2**-bits)
        if ns < 5000:
            assert last <= bucket <= last + 1
            last = bucket
    assert bucket_of(-5, bits) == 0


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_those_of_the_times(seed: int) -> None:
    times = np.random.default_rng(seed).lognormal(13, 1.5, 5000).astype(np.int64)
    histogram = Histogram()
    for ns in times.tolist():
        histogram.add(ns)
    ordered = np.sort(times)
    for share in (0.001, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = ordered[int(np.ceil(share * len(times))) - 1]
        assert exact <= histogram.quantile_ns(share) <= exact * (1 + 1 / 128)
    assert histogram.quantile_ns(1.0) == times.max()
    assert histogram.summary_ms()["mean_ms"] == pytest.approx(times.mean() / 1e6)


def test_recorders_of_processes_are_merged() -> None:
    one, two, all_of_it = Recorder(), Recorder(), Recorder()
    for n in range(600):
        recorder = (one, two)[n % 2]
        for target in (recorder, all_of_it):
            if n % 50 == 0:
                target.failed("query", "wrong", f"message {n}", at=100 + n // 100)
                continue
            slot = target.slot("query", at=100 + n // 100)
            slot.times.add(1000 * n)
            slot.vectors += 1
            slot.wanted += 10
            slot.hits += 9
    one.counters["lost"] += 2
    merged = Recorder()
    merged.merge(Recorder.from_json(json.loads(json.dumps(one.take()))))
    merged.merge(Recorder.from_json(json.loads(json.dumps(two.take()))))
    assert not one.slots
    assert merged.span() == all_of_it.span() == (100, 106)
    assert merged.counters["lost"] == 2
    assert merged.examples == {"wrong": "query: message 0"}
    for start, end in ((100, 106), (102, 103)):
        found = merged.between(start, end).summary(end - start)
        assert found == all_of_it.between(start, end).summary(end - start)
        assert found["recall"] == pytest.approx(0.9)
    assert merged.between(100, 101).summary(1.0)["errors"] == 2
    assert merged.between(100, 106, ["upsert"]).count == 0
    assert len(list(merged.course())) == 6


def test_long_runs_share_slots() -> None:
    recorder = Recorder(width=10)
    for at in (1003.5, 1009.9, 1010.0):
        recorder.slot("query", at).times.add(5)
    assert [(second, len(slot.times)) for second, slot in recorder.course()] == [
        (1000, 2),
        (1010, 1),
    ]


# ---- service levels ------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    file = folder / "slo.toml"
    file.write_text(text, "utf-8")
    return file


def test_levels_are_met_or_missed(tmp_path: Path) -> None:
    text = """
    [rag]
    query.p95_ms.at_most = 50
    query.recall.at_least = 0.95
    run.lost.at_most = 0
    upsert.p99_ms.at_most = 10
    """
    levels = _gates.load_levels(write(tmp_path, text), ["rag"])["rag"]
    figures = {"query": {"p95_ms": 50.0, "recall": 0.949}, "run": {"lost": 0.0}}
    found = {judged.name: judged for judged in _gates.judge(levels, figures)}
    assert found["query.p95_ms"].ok
    assert not found["query.recall"].ok
    assert found["run.lost"].ok
    assert not found["upsert.p99_ms"].ok
    assert "not measured" in str(found["upsert.p99_ms"])
    nan = _gates.judge(levels[:1], {"query": {"p95_ms": float("nan")}})
    assert not nan[0].ok


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[rga]\n", "did you mean 'rag'"),
        ("[rag]\nqeury.p95_ms.at_most = 1", "did you mean 'query'"),
        ("[rag]\nquery.p95.at_most = 1", "did you mean 'p95_ms'"),
        ("[rag]\nquery.lost.at_most = 1", "no such figure"),
        ("[rag]\nquery.p95_ms.most = 1", "at_least or at_most"),
        ("[rag]\nquery.p95_ms.at_most = '1'", "must be a number"),
        ("[rag]\nquery.p95_ms.at_most = true", "must be a number"),
        ("[rag]\nquery.p95_ms.at_most = nan", "must be a number"),
        ("[rag]\nquery.p95_ms = 50", "must be a table"),
        ("rag = 1", "must be a table"),
        ("[rag", "not TOML"),
    ],
)
def test_files_of_levels_are_checked(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _gates.load_levels(write(tmp_path, text), ["rag", "semantic"])


def test_every_scenario_has_levels() -> None:
    levels = _gates.load_levels(_gates.DEFAULT_FILE, _scenarios.SCENARIOS)
    assert set(levels) == set(_scenarios.SCENARIOS)
    for name, found in levels.items():
        kinds = {*_scenarios.SCENARIOS[name].mix, _scenarios.OWN, "all", "run"}
        assert {level.subject for level in found} <= kinds
    # The file beside the locustfile is the one that is used.
    beside = Path(__file__).parents[2] / "loadtests" / "slo.toml"
    assert beside.read_bytes() == _gates.DEFAULT_FILE.read_bytes()


# ---- shapes --------------------------------------------------------------------------------------


def test_shapes() -> None:
    assert _shapes.stages("steady", 8, 60) == [Stage(8, 60)]
    ramp = _shapes.stages("ramp", 10, 50)
    assert [stage.users for stage in ramp] == [1, 2, 4, 8, 10]
    spike = _shapes.stages("spike", 16, 10)
    assert [stage.users for stage in spike] == [2, 16, 2]
    for plan in (ramp, spike):
        assert sum(stage.seconds for stage in plan) == pytest.approx(50 if plan is ramp else 10)
    assert _shapes.stage_at(ramp, 0) == ramp[0]
    assert _shapes.stage_at(ramp, 10) == ramp[1]
    assert _shapes.stage_at(ramp, 50) is None
    for wrong in (("flat", 1, 1), ("ramp", 0, 1), ("ramp", 1, 0), ("ramp", 1, float("nan"))):
        with pytest.raises(ValueError, match=r"must be positive|no shape"):
            _shapes.stages(*wrong)


def test_knee() -> None:
    steps = [Step(1, 100, 1), Step(2, 190, 1), Step(4, 300, 2), Step(8, 310, 5), Step(16, 305, 20)]
    assert _shapes.knee(steps) == steps[2]
    assert _shapes.knee(steps[:3]) == steps[2]  # more users brought more up to the end
    assert _shapes.knee([]) is None


# ---- rows and truth ------------------------------------------------------------------------------


def test_worlds_are_the_same_again(tmp_path: Path) -> None:
    one, two = make_world(tmp_path / "a"), make_world(tmp_path / "b")
    assert np.array_equal(one.vectors, two.vectors)
    assert np.array_equal(one.near, two.near)
    assert one.collection_name == two.collection_name
    kept = (one.folder / "base.npy").stat().st_mtime_ns
    again = make_world(tmp_path / "a")
    assert (again.folder / "base.npy").stat().st_mtime_ns == kept
    other = _world.World(tmp_path / "a", small_scenario(), seed=2)
    assert np.array_equal(other.vectors, one.vectors)
    assert not np.array_equal(other.queries, one.queries)
    assert other.collection_name != one.collection_name


def test_truth_is_brute_force(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    groups = np.arange(ROWS) % _world.GROUPS
    for number in range(0, _world.QUERIES, 37):
        found = _world.distances(world.vectors, world.queries[number])
        assert np.allclose(world.near[number], np.sort(found)[:K], atol=1e-12)
        among = found[groups == world.group_of_query(number)]
        assert np.allclose(world.near_in_group[number], np.sort(among)[:K], atol=1e-12)


def test_rows_of_users_follow_from_id_and_version(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    row, again = world.own_row("v1-1", 1), world.own_row("v1-1", 1)
    assert np.array_equal(row.vector, again.vector)
    assert (row.metadata, row.text) == (again.metadata, again.text)
    assert np.linalg.norm(row.vector) == pytest.approx(1, abs=1e-6)
    other = world.own_row("v1-1", 2)
    assert not np.allclose(row.vector, other.vector)
    assert row.text != other.text
    assert _world.distances(world.vectors, row.vector).min() < 0.5  # among the base rows
    assert make_world(tmp_path, documents=False).own_row("v1-1", 1).text is None
    assert row.vector.shape == (DIMENSION,)


# ---- results -------------------------------------------------------------------------------------


def test_results_have_figures_stages_and_a_verdict(tmp_path: Path) -> None:
    recorder = Recorder()
    for second in range(100, 120):
        for n in range(10 if second < 110 else 20):
            slot = recorder.slot("query", second + 0.5)
            slot.times.add(1_000_000 * (n + 1))
            slot.vectors += 1
            slot.wanted, slot.hits = slot.wanted + 10, slot.hits + 10
    recorder.failed("query", "unavailable", "gone", 105)
    for at in (120, 121, 122):  # nothing is answered
        recorder.failed("query", "unavailable", "gone", at)
    marks = [(100.2, 1), (110.0, 2), (120.0, 0)]
    result = _result.make(recorder, marks, small_scenario(), "inproc", 1, 1.0)
    assert result.seconds == 18  # the first two are for warming up
    assert result.figures["query"]["per_second"] == pytest.approx((80 + 200) / 18)
    assert result.figures["query"]["errors"] == 4  # of the whole run
    assert result.figures["run"]["outage_s"] == 3
    assert [(stage["users"], stage["per_second"]) for stage in result.stages] == [(1, 10), (2, 20)]
    assert result.figures["run"]["knee_users"] == 2
    assert result.figures["run"]["p99_drift"] == pytest.approx(2, rel=0.02)
    assert len(result.timeline) == 23
    file = tmp_path / "slo.toml"
    file.write_text("[mixed]\nquery.per_second.at_least = 10\n")
    result.judge(file)
    assert result.ok
    result.figures["run"]["lost"] = 1.0  # no file of levels is needed for that
    result.judge(file)
    assert not result.ok
    result.save(tmp_path / "result.json")
    again = _result.Result.load(tmp_path / "result.json")
    assert again.as_json() == json.loads(json.dumps(result.as_json()))
    (tmp_path / "other.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="no result of a load test"):
        _result.Result.load(tmp_path / "other.json")


# ---- memory and descriptors ----------------------------------------------------------------------


def samples_of(sizes: list[tuple[int, int]]) -> list[_targets.Sample]:
    return [_targets.Sample(float(at), *size) for at, size in enumerate(sizes)]


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    start, early, between, late = [(900, 99)] * 2, (100, 20), [(500, 55)] * 3, (150, 26)
    found = _targets.resource_figures(
        samples_of([*start, early, (100, 22), *between, (120, 24), late])
    )
    assert found == {
        "memory_growth": (120 + 150) / 200,
        "descriptors_growth": (24 + 26 - 20 - 22) / 2,
        "descriptors_peak": 99,
    }
    fewer = _targets.resource_figures(samples_of([(8, 8), (8, 8), (8, 5), (8, 3)]))
    assert fewer["descriptors_growth"] == -5
    assert _targets.resource_figures(samples_of([(8, 8)] * 3)) == {"descriptors_peak": 8}
    assert _targets.resource_figures([]) == {}
    assert set(found) <= _gates.RUN_FIGURES


LEAKS = """
import os, sys
for line in sys.stdin:
    for _ in range(int(line)):
        os.open(os.devnull, os.O_RDONLY)
    print("opened", flush=True)
"""


@pytest.fixture
def leaking() -> Iterator[subprocess.Popen[str]]:
    """Its child opens as many descriptors as it is told to."""
    command = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, LEAKS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        open_more(process, 0)
        yield process
        assert process.stdin is not None
        process.stdin.close()


def open_more(process: subprocess.Popen[str], number: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    print(number, file=process.stdin, flush=True)
    assert process.stdout.readline() == "opened\n"


@needs_proc
def test_descriptors_of_a_process_and_its_children_are_seen(
    leaking: subprocess.Popen[str],
) -> None:
    before = _targets.sample_of(leaking.pid)
    open_more(leaking, 30)
    with _targets.ResourceWatch(lambda: leaking.pid) as watch:
        pass  # there is a sample of the shortest run
    assert before is not None
    assert [sample.descriptors for sample in watch.samples] == [before.descriptors + 30]
    assert watch.samples[0].resident > 0
    with _targets.ResourceWatch(lambda: None) as watch:
        pass
    assert watch.samples == []
    assert _targets.sample_of(2**22 + 1) is None  # no process has such a number


@needs_proc
@pytest.mark.parametrize(("opened", "met"), [(0, True), (10, False)])
def test_a_server_that_leaks_descriptors_misses_the_level(
    leaking: subprocess.Popen[str], opened: int, met: bool
) -> None:
    samples = []
    for _ in range(8):
        open_more(leaking, opened)
        samples.append(_targets.sample_of(leaking.pid))
    assert judged_soak(samples, "descriptors_growth") == (4 * opened, met)


def test_a_leak_that_came_to_its_limit_misses_the_level_of_the_peak() -> None:
    samples = samples_of([(1, 27), *[(1, 1024)] * 11])
    assert judged_soak(samples, "descriptors_growth") == (0, True)
    assert judged_soak(samples, "descriptors_peak") == (1024, False)


def judged_soak(samples: list[Any], figure: str) -> tuple[float, bool]:
    result = _result.make(Recorder(), [], small_scenario(name="soak"), "vexfs", 1, 1.0)
    result.figures["run"] |= _targets.resource_figures(samples)
    result.judge()
    (level,) = [one for one in result.levels if one["name"] == f"run.{figure}"]
    return level["measured"], level["ok"]


def test_a_run_without_an_answer_meets_nothing() -> None:
    result = _result.make(Recorder(), [], small_scenario(), "inproc", 1, 1.0)
    result.judge()
    assert not result.ok


def test_what_cannot_be_run_is_refused_before(tmp_path: Path) -> None:
    fault = [_scenarios.SCENARIOS["fault"]]
    plan = _run.Plan(fault, ["inproc"], tmp_path, tmp_path)
    with pytest.raises(ValueError, match="kills the server"):
        plan.check()
    nobody = _run.Plan([small_scenario()], ["http://127.0.0.1:9"], tmp_path, tmp_path)
    with pytest.raises(_targets.NotReachableError, match="no server answers at"):
        nobody.check()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sh", "-c", "echo the port is taken; exit 3"]
    monkeypatch.setattr(_targets, "_command", lambda *_: command)
    server = _targets.Server("vexfs", tmp_path / "db", tmp_path / "log")
    with pytest.raises(_targets.NotReachableError, match="the port is taken"):
        server.start()
    assert server.pid is None
