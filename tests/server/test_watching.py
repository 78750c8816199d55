"""vexctl metrics, memory, cache, slow-log, profile, contention, bottlenecks, performance, ..."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_kit import DEFAULT, Server, run_server
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma._cli._app import app
from vexfs_chroma._observe import _contention, _rules


def run(*arguments: Any, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)], env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server that was asked something, all of it slow."""
    place = tmp_path_factory.mktemp("busy")
    with run_server(place, variables={"VEXFS_SLOW_MS": "0"}) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        server.call("POST", path + "/add", {"ids": ["a", "b"], "embeddings": [[1, 2], [2, 1]]})
        for _ in range(5):
            server.call("POST", path + "/query", {"query_embeddings": [[1, 2]]})
        yield server, path


def test_what_a_server_tells(busy: tuple[Server, str], tmp_path: Path) -> None:
    server, _ = busy
    code, out, _ = run("metrics", "show", "--url", server.url, "--json")
    found = {one["operation"]: one for one in json.loads(out)["operations"]}
    assert (code, found["query"]["count"], found["add"]["count"]) == (0, 5, 1)
    assert found["query"]["slow"] == 5
    code, out, _ = run("memory", "stats", "--url", server.url, "--json")
    assert code == 0
    assert json.loads(out)["processes"][0]["pid"] == server.process.pid
    code, out, _ = run("cache", "stats", "--url", server.url, "--json")
    told = json.loads(out)
    assert {"code_rows", "caches"} <= set(told["kept_bytes"])
    assert set(told["hit_rates"]) == {"blocks", "filters"}
    code, out, _ = run("slow-log", "analyze", "--url", server.url, "--json")
    found = {one["operation"]: one for one in json.loads(out)}
    assert found["query"]["repeats"] == 5
    assert found["query"]["collection"] == "things"
    assert found["query"]["database"] == "default_database"
    for command in (["metrics", "show"], ["memory", "stats"], ["cache", "stats"]):
        code, out, _ = run(*command, "--url", server.url)
        assert code == 0
        assert out.strip()
    code, out, _ = run("slow-log", "analyze", "--url", server.url, "--limit", 1)
    assert (code, out.count(" ms  ")) == (0, 1)
    file = tmp_path / "slow.jsonl"
    record = {"operation": "get", "ms": 200.0, "tenant": "t", "database": "d", "collection": "c"}
    file.write_text(json.dumps(record) + "\n")
    assert "200.0 ms  get of t/d/c, 1 times" in run("slow-log", "analyze", "--file", file)[1]


def test_a_profile_is_of_the_time_it_looks_at(busy: tuple[Server, str], tmp_path: Path) -> None:
    server, path = busy
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            server.call("POST", path + "/query", {"query_embeddings": [[1, 2], [2, 1]]})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        code, out, _ = run("profile", "--url", server.url, "--time", 1, "--json")
        file = tmp_path / "report.json"
        done, _, _ = run(
            "performance", "report", "--url", server.url, "--time", 1, "--output", file
        )
    finally:
        over.set()
        thread.join()
    found = json.loads(out)
    assert (code, done) == (0, 0)
    (query,) = found["operations"]  # what was added before is not part of it
    assert query["operation"] == "query"
    assert query["per_second"] > 0
    assert found["queries"]["vectors"] == 2 * query["count"]
    assert set(found["queries"]["stage_ms"]) == {"select", "search", "fetch", "around"}

    code, out, _ = run("performance", "compare", file, file, "--json")
    assert code == 0
    slower = copy.deepcopy(json.loads(file.read_text()))
    slower["operations"][0]["p50_ms"] *= 2
    other = tmp_path / "slower.json"
    other.write_text(json.dumps(slower))
    code, out, _ = run("performance", "compare", file, other, "--json")
    assert code == 1
    assert [one["figure"] for one in json.loads(out) if one["worse"]] == ["p50_ms"]
    assert run("performance", "compare", other, file)[0] == 0
    other.write_text("{}")
    assert run("performance", "compare", file, other)[0] == 3


def test_metrics_are_watched_and_exported(busy: tuple[Server, str], tmp_path: Path) -> None:
    server, path = busy
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.01):
            server.call("GET", path + "/count")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        watch = ("metrics", "watch", "--url", server.url, "--every", 1, "--count", 2)
        code, out, _ = run(*watch, "--json")
        looks = [json.loads(line) for line in out.splitlines()]
        shown = run(*watch)
    finally:
        over.set()
        thread.join()
    assert (code, len(looks)) == (0, 2)
    for look in looks:
        (count,) = look["operations"]  # of this time alone
        assert (count["operation"], look["rows"], look["processes"]) == ("count", 2, 1)
        assert count["per_second"] == pytest.approx(count["count"] / look["seconds"])
    assert shown[0] == 0
    assert shown[1].count("1 collections, 2 records; 1 processes") == 2

    file = tmp_path / "metrics.prom"
    assert run("metrics", "export", "--url", server.url, "--output", file)[:2] == (0, "")
    assert "# TYPE vexfs_operations_total counter\n" in file.read_text()
    assert list(tmp_path.iterdir()) == [file]
    code, out, _ = run("metrics", "export", "--url", server.url, "--json")
    assert (code, json.loads(out)["database"]["rows"]) == (0, 2)


def test_what_requests_wait_for(tmp_path: Path) -> None:
    """All requests that need a thread are counted, with times that add up."""
    with run_server(tmp_path, "--workers", "2", variables={"VEXFS_SLOW_MS": "off"}) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        for n in range(20):
            body = {"ids": [f"{n}"], "embeddings": [[1, 2]]}
            assert server.call("POST", path + "/add", body).status == 201
        counters = server.call("GET", "/vexfs/facts").json["counters"]
        code, out, _ = run("contention", "analyze", "--url", server.url, "--time", 0.7, "--json")
        shown = run("contention", "analyze", "--url", server.url, "--time", 0.2)
    assert counters["wait.write.count"] == 21
    assert 0 < counters["wait.write.cpu_ns"] <= counters["wait.write.wall_ns"]
    assert (
        counters["wait.write.wall_ns"]
        <= counters["http.add.ns"] + (counters["http.create_collection.ns"])
    )
    found = json.loads(out)
    assert code == (1 if found["problems"] else 0)
    assert "write" not in found["requests"]  # there were none in this time
    assert found["event_loop_late_ms"] >= 0
    assert found["processes"] == 2
    assert "event loop" in shown[1]


def test_contention_names_its_figures() -> None:
    counters = {"loop.checks": 10, "loop.late_ns": 10 * 50_000_000, "engine.wal_syncs": 90}
    counters |= {"engine.lease_wait_us": 700_000, "engine.wal_sync_us": 2_000_000}
    counters |= {"op.add.count": 60, "op.delete.count": 40}
    for kind, queue, wall, cpu in (("read", 2, 20, 8), ("write", 30, 40, 2)):
        times = {"queue_ns": queue, "wall_ns": wall, "cpu_ns": cpu}
        counters |= {f"wait.{kind}.{name}": 100 * ms * 10**6 for name, ms in times.items()}
        counters[f"wait.{kind}.count"] = 100
    before = {
        "processes": [
            {"pid": 1, "cpu_seconds": 5.0, "run_delay_seconds": 1.0},
            {"pid": 2, "cpu_seconds": 5.0, "run_delay_seconds": 9.0},
            {"pid": 3, "cpu_seconds": 0.0, "run_delay_seconds": None},
        ]
    }
    now = {
        "cpus": 4,
        "processes": [
            {"pid": 1, "cpu_seconds": 9.0, "run_delay_seconds": 31.0},
            {"pid": 2, "cpu_seconds": 5.0, "run_delay_seconds": 1.0},  # threads ended
            {"pid": 3, "cpu_seconds": 0.0, "run_delay_seconds": None},
            {"pid": 4, "cpu_seconds": 99.0, "run_delay_seconds": 99.0},  # is new
        ],
    }
    found = _contention.contention(before, now, counters, 10.0)
    assert found["running_cpus"] == pytest.approx(0.4)
    assert found["waiting_for_cpus"] == pytest.approx(3.0)
    assert found["event_loop_late_ms"] == 50
    write = found["requests"]["write"]
    assert (write["thread_ms"], write["running_ms"], write["waiting_ms"]) == (30, 2, 38)
    problems = _contention.problems(found)
    assert problems[0].name == "processors"
    assert {one.advice for one in problems[1:]} == {"processors first, see above"}
    told = {one.name: one.evidence for one in problems}
    assert told == {
        "threads for requests that write": "30.0 ms in the queue, 43% of their time",
        "reads that wait": "threads run for 8.0 ms and wait for 12.0, 55% of the time of requests",
        "writes that wait": (
            "threads run for 2.0 ms and wait for 38.0, 54% of the time of requests; of a write: "
            "other processes 7.0 ms, other writers 0.0 ms, syncs 20.0 ms; 0.90 syncs for each"
        ),
        "processors": (
            "3.0 threads were ready and had no processor, on average; "
            "0.4 of 4 processors were busy with the server"
        ),
        "the event loop": "its timers are 50 ms late: whatever comes in waits as long",
    }
    enough = _contention.problems(found | {"waiting_for_cpus": 0.1})
    assert {one.name for one in enough} == set(told) - {"processors"}
    assert not [one for one in enough if "processors first" in one.advice]
    idle = _contention.contention(now, now, {}, 10.0)
    assert (idle["requests"], idle["event_loop_late_ms"]) == ({}, None)
    assert _contention.problems(idle) == []


def test_bottlenecks_of_an_idle_server(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        url = ("--url", server.url, "--time", "0.2")
        assert run("bottlenecks", "identify", *url, "--json")[:2] == (0, "[]\n")
        assert "nothing stands out" in run("bottlenecks", "identify", *url)[1]


def test_where_no_server_is() -> None:
    for command in (
        ["metrics", "show"],
        ["metrics", "watch"],
        ["metrics", "export"],
        ["profile"],
        ["contention", "analyze"],
        ["bottlenecks", "identify"],
    ):
        code, _, err = run(*command, "--url", "http://127.0.0.1:9")
        assert (code, "no server answers at" in err) == (4, True)
    assert run("metrics", "show", "--url", "nonsense")[0] == 2
    assert run("slow-log", "analyze", "--file", "/no/such/file")[0] == 3


def test_rules_name_their_figures() -> None:
    counters = {
        "op.query.count": 100,
        "op.query.ns": 100 * 10_000_000,
        "op.query.slow": 50,
        "op.query.errors": 30,
        "op.query.bucket.50": 100,
        "op.add.count": 50,
        "op.add.ns": 1,
        "engine.wal_syncs": 50,
        "query.vectors": 100,
        "query.read_rows": 100 * 50_000,
        "query.select_us": 700_000,
        "query.search_us": 200_000,
        "plan.exact": 100,
    }
    collection = {"name": "c", "dead_rows": 30_000, "file_rows": 60_000, "graph_rows": 1000}
    facts = {
        "waiting": 3,
        "processes": [{"resident_bytes": 1_000_000}],
        "database": {"collections": [collection]},
    }
    found = {one.name: one.evidence for one in _rules.bottlenecks(facts, counters)}
    assert found["filters"].startswith("70% of the time of queries, 7.00 ms")
    assert found["rows are read one after the other"].startswith("50,000 rows")
    assert found["errors of query"] == "30 of 100"
    assert found["slow query"].startswith("50 of 100 slow")
    assert found["syncs of logs"] == "50 syncs for 50 writes"
    assert found["dead rows in c"] == "30,000 of 60,000 rows of files"
    assert found["no graph over c"].startswith("59,000 of 60,000")
    assert found["requests wait"].startswith("3 requests")
    assert _rules.bottlenecks({"processes": [], "database": {"collections": []}}, {}) == []


def test_storage_and_system(tmp_path: Path) -> None:
    path = tmp_path / "database"
    with vexfs_chroma.PersistentClient(path=path) as client:
        collection = client.create_collection("things", embedding_function=None)
        collection.add(ids=["a"], embeddings=[[1.0, 2.0]], documents=["text"])
    code, out, _ = run("storage", "analyze", path, "--json")
    (found,) = json.loads(out)["collections"]
    assert (code, found["rows"], found["wasteful"]) == (0, 1, False)
    assert found["bytes"] > 0
    assert "things: 1 records" in run("storage", "analyze", path)[1]
    assert run("storage", "analyze", tmp_path / "none")[0] == 3
    code, out, _ = run("system", "resources", "--path", tmp_path, "--json")
    assert (code, json.loads(out)["usable_cpus"] >= 1) == (0, True)
    assert json.loads(out)["free_bytes"] > 0
    assert "processors" in run("system", "resources")[1]
