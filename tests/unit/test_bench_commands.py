"""vexctl bench api and scenarios, baselines, plots: end to end with few rows."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vexfs_chroma._bench import (
    _api_bench,
    _baseline,
    _data,
    _plots,
    _scenario_task,
    _scenarios,
    _show,
    _task,
    _truth,
    _vectors,
)
from vexfs_chroma._bench._peers import PERSISTENT
from vexfs_chroma._bench._progress import Progress
from vexfs_chroma._bench._results import HIGHER, LOWER, Check, Curve, Report
from vexfs_chroma._bench._steps import Sizes
from vexfs_chroma._cli._app import app

SIZES = Sizes(queries=20, filtered=5, repeats=2, writes=60, singles=3)


@pytest.fixture(autouse=True)
def generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXFS_DATA", raising=False)


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


# ---- api -----------------------------------------------------------------------------------------


@pytest.fixture
def few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each starts with the import of chromadb."""
    steps = [step for (step,) in _api_bench.STEPS[PERSISTENT]]
    monkeypatch.setitem(_api_bench.STEPS, PERSISTENT, [steps[:1], steps[1:]])
    monkeypatch.setattr(_api_bench, "_IMPORTS", 1)


def test_api(few_processes: None, tmp_path: Path) -> None:
    plan = _api_bench.Plan(rows=600, runs=1, sizes=SIZES, marks=(300, 300, 20))
    report = Report("api")
    _api_bench.run(plan, tmp_path, report, Progress())
    assert not report.failed
    assert not report.skipped
    figures = {figure.name: figure for figure in report.figures if figure.group == "api"}
    for name in (*_api_bench.AT_LEAST, *_api_bench.AT_MOST, _api_bench.IMPORT):
        assert set(figures[name].values) == {"vexfs_chroma", "chromadb"}, name
    assert figures["bulk add, rows/s"].better == HIGHER
    assert figures["query, p95 ms"].better == LOWER
    assert figures["rank < 0.1 n (10 %), recall@10"].median("vexfs_chroma") == 1
    assert figures["count, rank < 0.5 n (50 %), ms"].median("vexfs_chroma") is not None
    assert all(check.measured is not None for check in report.checks), report.checks
    assert {"met", "not met"} >= set(verdicts(report).values())
    assert verdicts(report)["errors"] == "met"
    marks = {figure.name for figure in report.figures if figure.group == "absolute marks"}
    assert {"batch insert, vectors/s", "engine search, p99 ms", "memory, MB"} <= marks
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "task.json", "task.result"]


def test_ranks_have_exact_shares() -> None:
    rows = _api_bench.with_ranks(_data.generate(1000, dimension=8, n_queries=5))
    truth = _truth.compute(rows, 5, 5)
    shares = {filter.name: filter.share for filter in truth.rows.filters}
    assert shares["rank = n"] == 0.001
    assert [shares[f"rank < {share:g} n"] for share in _api_bench.SHARES] == [*_api_bench.SHARES]


def test_targets_of_the_api() -> None:
    report = Report("api")
    for name, ours, theirs in (
        ("bulk add, rows/s", 5000, 100),
        ("query, p50 ms", 0.2, 1.0),
        ("one (0.05 %), p50 ms", 0.5, 6.0),
        ("half (50 %), p50 ms", 0.3, 2.0),
        ("some (5 %), p50 ms", 1.0, 20.0),
        ("text (1 %), p50 ms", 1.0, 20.0),
        ("import, ms", 131, 100),
    ):
        for library, value in (("vexfs_chroma", ours), ("chromadb", theirs)):
            report.add("api", name, "", _api_bench._direction(name), library, value)
    filters = [
        _data.Filter("one", {"a": 1}, None, 0.0005),
        _data.Filter("half", {"a": 1}, None, 0.5),
        _data.Filter("some", {"a": 1}, None, 0.05),
        _data.Filter("text", None, {"$contains": "a"}, 0.01),
    ]
    _api_bench.compare(report, filters, 100_000)
    found = verdicts(report)
    assert found["bulk add, rows/s v chromadb"] == "met"  # 50x
    assert found["query, p50 ms v chromadb"] == "not met"  # 0.2x
    assert found["one (0.05 %), p50 ms v our own query, p50 ms"] == "not met"  # 2.5x of 2x
    assert found["half (50 %), p50 ms v our own query, p50 ms"] == "met"  # 1.5x of 2x
    assert found["some (5 %), p50 ms v our own query, p50 ms"] == "met"  # 5x of 6x
    assert found["half (50 %), p50 ms v chromadb"] == "not met"  # 0.15x of 0.1x
    assert found["text (1 %), p50 ms v chromadb"] == "met"  # 0.05x
    assert found["import, more than chromadb"] == "not met"  # 31 ms
    assert found["disk, MB v chromadb"] == "not measured"


def test_what_fails_is_named(
    few_processes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_api_bench, "TASK", "vexfs_chroma._bench._api_task:no_such_function")
    plan = _api_bench.Plan(peers=["vexfs_chroma"], rows=100, runs=1, sizes=SIZES, marks=())  # type: ignore[arg-type]
    report = Report("api")
    _api_bench.run(plan, tmp_path, report, Progress())
    assert "no_such_function" in report.failed["vexfs_chroma, load"]


# ---- scenarios -----------------------------------------------------------------------------------


WIDTH = 24


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of few dimensions, in which recall says the same: making wide ones takes longest."""
    found = {
        name: [dataclasses.replace(one, dimension=WIDTH) for one in group]
        for name, group in _scenarios.SCENARIOS.items()
    }
    monkeypatch.setattr(_scenarios, "SCENARIOS", found)


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first scenario runs in a process of its own, as all do; the others in this one."""
    run_task, calls = _task.run_task, itertools.count()

    def run(function: str, arguments: dict[str, Any], folder: Path, **options: Any) -> Any:
        if next(calls) == 0:
            return run_task(function, arguments, folder, **options)
        module, _, name = function.partition(":")
        found = getattr(importlib.import_module(module), name)
        return json.loads(json.dumps(found(**json.loads(json.dumps(arguments)))))

    monkeypatch.setattr(_task, "run_task", run)


def test_sizes_of_the_scenarios() -> None:
    plan = _scenarios.Plan(most_rows=60_000)
    sized = [
        _scenarios._sized(plan, one) for name in plan.names for one in _scenarios.SCENARIOS[name]
    ]
    assert [one.title() for one in sized] == [
        "rag (50,000 x 768)",
        "semantic (60,000 x 384)",
        "similarity (25,000 x 1024)",
        "recommendations (60,000 x 256)",
        "mix 95/5 (50,000 x 384)",
        "mix 70/20/10 (50,000 x 384)",
        "mix 30/70 (50,000 x 384)",
        "growth (60,000 x 128)",
        "threads (60,000 x 384)",
        "load (60,000 x 128)",
    ]


def test_scenarios(narrow: None, one_process: None, tmp_path: Path) -> None:
    plan = _scenarios.Plan(
        most_rows=250, load_rows=200, sizes=(100, 200), queries=20, operations=40, seconds=0.1
    )
    report = Report("scenarios")
    _scenarios.run(plan, tmp_path, report, Progress())
    assert not report.failed
    groups = report.groups()
    assert groups[0] == f"rag (250 x {WIDTH})"
    assert report.median(f"rag (250 x {WIDTH})", "query, recall@5", "vexfs_chroma") == 1
    name = "queries in batches of 100, recall@10"
    assert report.median(f"similarity (250 x {WIDTH})", name, "vexfs_chroma") == 1
    for group, kinds in (("mix 95/5", 2), ("mix 70/20/10", 3), ("mix 30/70", 2)):
        names = [figure.name for figure in report.figures if figure.group.startswith(group)]
        assert sum(name.endswith("p99 ms") for name in names) == kinds, names
    grown = ("200 rows: query, p99 ms", "100 rows: add (last tenth of a load), rows/s")
    for name in (*grown, "100 rows: add at rest, rows/s", "200 rows: add at rest, rows/s"):
        assert report.median(f"growth (200 x {WIDTH})", name, "vexfs_chroma"), name
    assert report.median(f"threads (250 x {WIDTH})", "engine, 2 threads, QPS", "vexfs_chroma")
    assert report.median(f"load (220 x {WIDTH})", "query during the load, p99 ms", "vexfs_chroma")
    found = verdicts(report)
    assert found["query, p99 ms"] in ("met", "not met")
    assert found["query, mean ms at 1,000,000 v 100,000 rows"] == "not measured"
    assert found["engine: two threads v one"] in ("met", "not met")


def test_growth_is_compared_between_its_largest_sizes() -> None:
    report, group = Report("scenarios"), "growth (1,000,000 x 128)"
    for size, mean, rate in ((100_000, 0.2, 1000.0), (1_000_000, 0.29, 700.0)):
        report.add(group, f"{size:,} rows: query, mean ms", "", LOWER, "vexfs_chroma", mean)
        for how in ("at rest", "(last tenth of a load)"):
            name = f"{size:,} rows: add {how}, rows/s"
            report.add(group, name, "", HIGHER, "vexfs_chroma", rate)
    _scenarios._compare(report, _scenarios.Scenario("growth", "growth", 1_000_000, 128))
    assert [check.verdict for check in report.checks] == ["met", "not met", "not met"]


def test_a_mix_is_what_it_says(tmp_path: Path) -> None:
    vectors = _vectors.prepare(
        _vectors.GENERATED, tmp_path / "data", rows=140, dimension=8, n_queries=5
    )
    data = {"name": vectors.name, "space": vectors.space, "folder": str(vectors.folder)}
    data |= {"rows": vectors.rows, "dimension": vectors.dimension}
    shares = {_scenario_task.INSERT: 0.5, _scenario_task.UPDATE: 0.5}
    figures = _scenario_task.mix(
        "vexfs_chroma", str(tmp_path / "db"), data, rows=100, shares=shares, operations=40
    )
    assert figures["operations, operations/s"] > 0
    assert "search, p50 ms" not in figures
    world = _scenario_task.open_client(_scenario_task.PEERS["vexfs_chroma"], str(tmp_path / "db"))
    collection = world.get_collection("bench", embedding_function=None)
    got = collection.get(include=["embeddings"])
    there = {id: row.tolist() for id, row in zip(got["ids"], got["embeddings"], strict=True)}
    assert len(there) > 100
    base = vectors.base()
    inserted = [id for id in there if int(id.split("-")[1]) >= 100]
    assert len(inserted) == len(there) - 100
    assert all(there[id] == base[int(id.split("-")[1])].tolist() for id in inserted)
    changed = [i for i in range(100) if there[f"row-{i}"] != base[i].tolist()]
    assert changed
    world.close()


# ---- results, baselines --------------------------------------------------------------------------


def report_of(**figures: list[float]) -> Report:
    report = Report("engine", machine={"cpu": "one", "cores": 2, "python": "3"})
    for name, runs in figures.items():
        for value in runs:
            better = LOWER if name.startswith("p99") else HIGHER
            report.add("set", name, "", better, "ours", value)
    return report


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ([100, 101, 102], [94, 95, 96], "regression"),
        ([100, 101, 102], [97, 98, 99], "same"),
        ([100, 101, 102], [107, 108, 109], "better"),
        ([80, 100, 120], [75, 76, 77], "same"),  # the runs lie 40 % apart
        ([100, 100, 100], [70, 76, 110], "same"),  # these, too
        ([100], [88], "same"),  # once is not enough to tell
        ([100], [86], "regression"),
    ],
)
def test_verdicts(before: list[float], now: list[float], verdict: str) -> None:
    (change,) = _baseline.compare(report_of(qps=now), report_of(qps=before), ["ours"])
    assert change.verdict == verdict
    assert change.now == statistics.median(now)
    inverse = [1 / value for value in now], [1 / value for value in before]
    (change,) = _baseline.compare(report_of(p99=inverse[0]), report_of(p99=inverse[1]), ["ours"])
    assert change.verdict == verdict


def test_recall_may_hardly_fall() -> None:
    name = {"query, recall@10": [0.990]}
    fallen = {"query, recall@10": [0.987]}
    (change,) = _baseline.compare(report_of(**fallen), report_of(**name), ["ours"])
    assert change.verdict == "regression"


def test_baselines_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="has no figure of these"):
        _baseline.compare(report_of(qps=[1]), report_of(other=[1]), ["ours"])
    with pytest.raises(ValueError, match="is of `vexctl bench api`"):
        _baseline.compare(report_of(qps=[1]), Report("api"), ["ours"])


def test_drift_is_that_of_the_others() -> None:
    before, now = report_of(qps=[100]), report_of(qps=[100])
    assert _baseline.drift(now, before, ["ours"]) is None
    before.add("set", "qps", "", HIGHER, "theirs", 100)
    now.add("set", "qps", "", HIGHER, "theirs", 50)
    assert _baseline.drift(now, before, ["ours"]) == 0.5


def test_checks() -> None:
    assert Check("g", "n", "", 3.0, 3.0, True).verdict == "met"
    assert Check("g", "n", "", 2.9, 3.0, True).verdict == "not met"
    assert Check("g", "n", "", 3.0, 3.0, False).verdict == "met"
    assert Check("g", "n", "", None, 3.0, True).verdict == "not measured"
    assert Check("g", "n", "", float("nan"), 3.0, True).verdict == "not measured"


def test_files_that_are_no_reports(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for text in ("{", "[]", "{}", '{"format": 1}', '{"format": 99}'):
        file.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=r"x\.json"):
            Report.load(file)


def test_baseline_by_the_command(tmp_path: Path) -> None:
    base, out = tmp_path / "base.json", tmp_path / "out.json"
    line = ["bench", "engine", "--quick", "--rows", "200", "--dim", "8", "--peers", "vexfs_chroma"]
    done = CliRunner().invoke(app, [*line, "--save-baseline", str(base)])
    assert done.exit_code == 0, done.output
    plain = json.loads(base.read_text("utf-8"))
    for figure in plain["figures"]:  # whatever this machine does: all was much better, or worse
        factor = 1e6 if figure["better"] == HIGHER else 1e-6
        figure["values"] = {k: [v * factor for v in runs] for k, runs in figure["values"].items()}
    base.write_text(json.dumps(plain), "utf-8")
    done = CliRunner().invoke(app, [*line, "--baseline", str(base), "--json", str(out)])
    assert done.exit_code == 1, done.output
    assert "regression" in done.output
    assert out.exists()
    for figure in plain["figures"]:
        factor = 1e-12 if figure["better"] == HIGHER else 1e12
        figure["values"] = {k: [v * factor for v in runs] for k, runs in figure["values"].items()}
    base.write_text(json.dumps(plain), "utf-8")
    done = CliRunner().invoke(app, [*line, "--baseline", str(base)])
    assert done.exit_code == 0, done.output
    assert "0 of " in done.output
    base.write_text("{}", "utf-8")
    done = CliRunner().invoke(app, [*line, "--baseline", str(base)])
    assert done.exit_code == 3
    assert "is no result of vexctl bench" in done.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["api", "--peers", "hnswlib"], "no libraries hnswlib; there are vexfs_chroma, chromadb"),
        (["scenarios", "--scenarios", "x"], "no scenarios x; there are rag"),
        (["scenarios", "--sizes", "ten"], "--sizes must be numbers separated by commas"),
        (["scenarios", "--sizes", "0"], "--sizes must be positive"),
        (["api", "--baseline", "no-such.json"], "no-such.json"),
        (["api", "--save-baseline", "no/such.json"], "there is no such directory"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], text: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 3
    assert text in done.output


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_scenarios, "run", stop)
    done = CliRunner().invoke(app, ["bench", "scenarios", "--quick"])
    assert done.exit_code == 130
    assert "interrupted" in done.output


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    with Progress(Console(width=80)) as progress:
        progress.start(1)
        with progress.step("[this] one") as step:
            step.outcome = "went well"
    assert "[this] one: went well (" in capsys.readouterr().out


def test_a_task_that_ends_badly_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(_task.TaskFailedError, match="No module named 'no_such_module'"):
        _task.run_task("no_such_module:f", {}, tmp_path)


# ---- plots ---------------------------------------------------------------------------------------


def plotted() -> Report:
    report = report_of(qps=[100.0, 110.0])
    report.add("set", "qps", "", HIGHER, "<theirs>", 50.0)
    points = [{"knob": 10, "recall": 0.9, "rate": 200.0}, {"knob": 20, "recall": 0.99, "rate": 9.0}]
    report.curves = [Curve("set", "ours", "ef", points), Curve("set", "<theirs>", "ef", points[:1])]
    report.check("set", "qps v theirs", 2.1, 3.0)
    report.skipped["<gone>"] = "not & installed"
    report.notes.append("qps: more is better")
    return report


def test_plots(tmp_path: Path) -> None:
    for name in ("matplotlib", "plotly"):
        pytest.importorskip(name)
    written = _plots.write(plotted(), tmp_path / "new", "ours")
    names = [path.name for path in written]
    assert names == ["engine-set-recall.png", "engine-set.png", "engine.html"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written[:2])
    page = written[2].read_text("utf-8")
    assert "not met" in page
    assert "&lt;theirs&gt;" in page
    assert "&lt;gone&gt;: not &amp; installed" in page
    assert "http-equiv" not in page
    assert 'src="http' not in page  # nothing is fetched


def test_plots_without_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    missing = lambda name, *rest: None if name == "plotly" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    done = CliRunner().invoke(app, ["bench", "engine", "--quick", "--plots", str(tmp_path)])
    assert done.exit_code == 3
    assert "plotly: pip install 'vexfs-chroma[bench]'" in done.output


def test_tables_show_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    report = plotted()
    report.add("set", "filter [a], p50 ms", "", LOWER, "ours", 1.0)
    _show.show(report, Console(width=120), "ours")
    out = capsys.readouterr().out
    assert "filter [a], p50 ms" in out
    assert "2.10x" in out
