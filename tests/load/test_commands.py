"""vexctl load-test and regression-test, with Locust and a database on disk: checks, not times."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from vexfs_chroma._bench._results import LOWER, Report
from vexfs_chroma._cli import _load_options
from vexfs_chroma._cli._app import app
from vexfs_chroma._load import _report
from vexfs_chroma._load._result import Result

RIGHT = """
[mixed]
all.error_rate.at_most = 0
query.recall.at_least = 0.99
filtered.recall.at_least = 0.99
upsert.count.at_least = 1
"""


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


def common(place: Path, levels: str) -> list[str]:
    slo = place / "slo.toml"
    slo.write_text(levels, "utf-8")
    options = {
        "--scenario": "mixed",
        "--target": "inproc",
        "--scale": "0.01",
        "--time": "2",
        "--slo": slo,
        "--output": place / "out",
        "--data": place / "data",
    }
    return [str(part) for option in options.items() for part in option] + ["--json"]


def test_a_run_and_a_comparison(place: Path) -> None:
    if importlib.util.find_spec("locust") is None:  # not imported: it patches the process
        pytest.skip("Locust is not installed")
    baseline = place / "baseline.json"
    code, out, _ = run("load-test", "run", *common(place, RIGHT), "--save-baseline", baseline)
    found = json.loads(out)
    (result,) = found["results"]
    assert (code, found["ok"]) == (0, True), result["levels"]
    assert result["target"] == "inproc"
    assert result["figures"]["run"]["verified"] > 0
    assert result["figures"]["run"]["wrong"] == result["figures"]["run"]["lost"] == 0
    assert result["fill_rows_per_second"] > 0
    if sys.platform == "linux":
        peak = max(number for _, number in result["descriptors"])
        assert result["figures"]["run"]["descriptors_peak"] == peak > 0
    names = {path.name for path in (place / "out").iterdir()}
    assert {"report.html", "figures.csv", "timeline.csv", "results.json"} <= names
    folder = place / "out" / "mixed-inproc"
    assert {"result.json", "locust.html", "locust_stats.csv", "locust.log"} <= {
        path.name for path in folder.iterdir()
    }
    assert "all service levels met" in (place / "out" / "report.html").read_text("utf-8")

    # The same again, on the rows that are there, beside a baseline that was far better.
    report = Report.load(baseline)
    for figure in report.figures:
        factor = 0.001 if figure.better == LOWER else 1.0
        figure.values = {name: [factor * n for n in runs] for name, runs in figure.values.items()}
    report.save(baseline)
    code, out, _ = run("regression-test", "run", "--baseline", baseline, *common(place, RIGHT))
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    assert found["results"][0]["ok"]
    assert found["results"][0]["fill_rows_per_second"] is None
    verdicts = {change["name"]: change["verdict"] for change in found["changes"]}
    assert verdicts["query p50_ms"] == verdicts["upsert p95_ms"] == "regression"
    assert verdicts["query, recall@10"] == "same"


def test_what_the_command_line_may_not_say(place: Path) -> None:
    for wrong in (
        ["--scenario", "no"],
        ["--target", "redis"],
        ["--target", ","],
        ["--scale", "0"],
        ["--time", "soon"],
        ["--shape", "flat"],
        ["--rate", "-1"],
    ):
        code, _, err = run("load-test", "run", "--output", place / "never", *wrong)
        assert code == 2, wrong
        assert "Error" in err or "Invalid" in err
    for wrong in (["--slo", place / "none.toml"], ["--scenario", "fault", "--target", "inproc"]):
        code, _, err = run("load-test", "run", "--output", place / "never", *wrong)
        assert code == 3, wrong
        assert err.startswith("vexctl: ")
    code, _, err = run(
        "load-test", "run", "--target", "http://127.0.0.1:9", "--output", place / "n"
    )
    assert (code, "no server answers" in err) == (4, True)
    code, _, _ = run("regression-test", "run", "--baseline", place / "none.json")
    assert code == 3
    assert not (place / "never").exists()


def test_options_of_one_name_are_one(place: Path) -> None:
    """In all three commands: type, default, help; but for what stress-test runs by itself."""
    groups = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found: dict[str, dict[str, Any]] = {}
    facts = ("default", "required", "metavar", "help", "name", "opts")
    for group in ("load-test", "stress-test", "regression-test"):
        for parameter in groups[group].commands["run"].params:
            about = {name: repr(getattr(parameter, name, None)) for name in facts}
            found.setdefault(parameter.opts[0], {})[group] = about
    assert found.pop("--scenario")["stress-test"]["default"] == "'ramp,fault'"
    assert found["--baseline"]["regression-test"]["required"] == "True"
    for name, declared in found.items():
        first, *others = declared.values()
        assert all(other == first for other in others), name
    assert len(found["--seed"]) == len(found["--json"]) == 3


def test_the_list_of_scenarios() -> None:
    code, out, _ = run("load-test", "list", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["rag"]["rows"] == 50_000
    assert {"subject": "query", "figure": "p95_ms", "sense": "at_most", "limit": 50.0} in found[
        "rag"
    ]["levels"]
    code, out, _ = run("load-test", "list")
    assert "query.p95_ms <= 50" in out


def test_durations() -> None:
    for text, seconds in (("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2.5", 2.5)):
        assert _load_options.seconds_of(text) == seconds
    assert _load_options.seconds_of(None) is None


def test_a_page_with_everything_in_it(tmp_path: Path) -> None:
    result = Result(
        scenario={"name": "fault", "rows": 10, "dimension": 2, "title": "a <title>"},
        target="vexfs",
        seed=1,
        scale=1.0,
        started=100.0,
        seconds=2.0,
        figures={"all": {"count": 3.0, "p50_ms": 0.25}, "run": {"lost": 1.0}},
        timeline=[
            {"second": 0.0, "answered": 2.0, "failed": 0.0, "p50_ms": 1.0, "p99_ms": 2.0},
            {"second": 1.0, "answered": 0.0, "failed": 1.0},
            {"second": 2.0, "answered": 1.0, "failed": 0.0, "p50_ms": 1.0, "p99_ms": 2.0},
        ],
        examples={"lost": "v1-1 <is> gone"},
        events=[{"at": 101.0, "what": "killed", "why": ""}],
        memory=[[0.0, 1e6], [1.0, 2e6]],
        descriptors=[[0.0, 20], [1.0, 21]],
        levels=[{"ok": False, "text": "run.lost <= 0: 1"}],
        stages=[{"users": 1, "per_second": 10.0, "p99_ms": 1.0}],
    )
    page, figures, timeline = _report.write([result], tmp_path)
    text = page.read_text("utf-8")
    assert "1 service levels missed" in text
    assert "a &lt;title&gt;" in text
    assert "v1-1 &lt;is&gt; gone" in text
    assert "1.0 s: server killed" in text
    assert text.count("<svg") == 4
    assert "open descriptors" in text
    assert "M52.0" in text
    assert "fault,vexfs,all,p50_ms,0.25" in figures.read_text("utf-8")
    assert "fault,vexfs,1.0,0.0,1.0,," in timeline.read_text("utf-8")


@pytest.mark.slow
def test_a_killed_server_loses_nothing(place: Path) -> None:
    """Two kills (kill -9) under a mix of operations, by users over HTTP."""
    for module in ("locust", "httptools"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    options = ["--scenario", "fault", "--target", "vexfs", "--scale", "0.01", "--time", "8"]
    places = ["--output", place / "fault", "--data", place / "data"]
    code, out, err = run("stress-test", "run", *options, *places, "--json")
    (result,) = json.loads(out)["results"]
    assert code == 0, (result["levels"], err)
    assert result["figures"]["run"]["kills"] == 2
    assert result["figures"]["run"]["lost"] == result["figures"]["run"]["wrong"] == 0
    assert result["figures"]["run"]["verified"] > 0
