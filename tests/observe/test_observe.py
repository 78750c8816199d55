"""What a process counts: cells, operations, slow operations, figures, Prometheus' text."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError

import vexfs_chroma
from vexfs_chroma import _engine
from vexfs_chroma._observe import _cells, _facts, _figures, _http, _observer, _slow

MAKER = Path(__file__).parents[2] / "tools" / "make_grafana.py"
SECRET = "a-value-that-nobody-may-see"


opened: list[Any] = []


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An observer of this test's own; slow is what takes no time at all."""
    for name in (_slow.MILLISECONDS, _slow.LOG, _cells.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_observer, "_observer", None)
    monkeypatch.setattr(_cells, "own", [])
    yield monkeypatch
    for client in opened:  # all tests of the process share what is in memory
        client.delete_collection("observed")
        client.close()
    opened.clear()


def filled() -> tuple[Any, Any]:
    client = vexfs_chroma.EphemeralClient()
    opened.append(client)
    collection = client.create_collection("observed", embedding_function=None)
    vectors = np.eye(20, dtype=np.float32)
    texts = [SECRET] * 20
    collection.add(
        ids=[f"id-{SECRET}-{n}" for n in range(20)],
        embeddings=vectors,
        documents=texts,
        metadatas=[{"group": SECRET, "n": n} for n in range(20)],
    )
    return client, collection


# ---- cells ---------------------------------------------------------------------------------------


def test_cells_are_read_by_others(tmp_path: Path) -> None:
    cells = _cells.Cells(["a", "b.c", "naïve"], tmp_path)
    cells.values[0] = 2**64 - 1
    cells.values[2] = 7
    (found,) = _cells.read_directory(tmp_path)
    assert found.values == {"a": 2**64 - 1, "naïve": 7} == cells.read()
    assert (found.pid, found.alive) == (os.getpid(), True)
    assert _cells.summed([found.values, {"naïve": 1, "d": 2}])["naïve"] == 8


def test_files_that_are_no_cells_are_left_out(tmp_path: Path) -> None:
    cells = _cells.Cells(["name"], tmp_path)
    assert cells.path is not None
    whole = cells.path.read_bytes()
    cells.path.unlink()
    random = np.random.default_rng(3)
    place = tmp_path / "wrong.cells"
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            data[int(random.integers(len(data) - 8))] = int(random.integers(256))
        place.write_bytes(bytes(data)[: int(random.integers(len(data) + 1))])
        for found in _cells.read_directory(tmp_path):  # damage may leave a valid file
            assert all(isinstance(value, int) for value in found.values.values())
    deep = b"[" * 100_000
    place.write_bytes(_cells._HEAD.pack(b"VEXFSMET", 1, len(deep)) + deep)
    assert _cells.read_directory(tmp_path) == []


# ---- what the engine counts ----------------------------------------------------------------------


def test_what_was_kept_is_a_hit(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("kept", embedding_function=None)
        rows = 3000  # whose matches are worth keeping
        collection.add(
            ids=[str(n) for n in range(rows)],
            embeddings=np.ones((rows, 2), dtype=np.float32),
            documents=[f"text {n} " * 20 for n in range(rows)],
        )
        client.vacuum()

        def counted(call: Any) -> dict[str, int]:
            before = _engine.stats()
            call()
            return {name: value - before[name] for name, value in _engine.stats().items()}

        def matching() -> None:
            collection.get(where_document={"$regex": "t [0-9]*7 "}, include=[])

        def nearest() -> None:
            collection.query(query_embeddings=[[1.0, 1.0]], include=["documents"])

        first, again = counted(matching), counted(matching)
        assert (first["filter_hits"], first["filter_misses"]) == (0, 1)
        assert (again["filter_hits"], again["filter_misses"]) == (1, 0)
        first, again = counted(nearest), counted(nearest)
        assert first["block_misses"] > 0
        assert again["block_misses"] == 0
        assert again["block_hits"] == first["block_hits"] + first["block_misses"]
        written = counted(lambda: collection.delete(ids=["0"]))
        assert written["wal_syncs"] >= 1
        assert written["wal_sync_us"] > 0


# ---- operations ----------------------------------------------------------------------------------


def test_operations_are_counted(fresh: pytest.MonkeyPatch) -> None:
    _, collection = filled()
    for _ in range(3):
        collection.query(query_embeddings=np.eye(20, dtype=np.float32)[:2], n_results=4)
    collection.get(ids=["nothing"])
    collection.update(ids=["nothing"], metadatas=[{"a": 1}])
    collection.upsert(ids=["x"], embeddings=[[1.0] * 20])
    collection.delete(ids=["x"])
    collection.count()
    with pytest.raises(Exception, match="dimension"):
        collection.query(query_embeddings=[[1.0]])
    found = {entry["operation"]: entry for entry in _figures.operations(_facts.counters()[0], 10.0)}
    counts = {name: entry["count"] for name, entry in found.items()}
    assert counts == {
        "add": 1,
        "update": 1,
        "upsert": 1,
        "delete": 1,
        "get": 1,
        "count": 1,
        "query": 4,
    }
    assert found["query"]["errors"] == 1
    assert found["query"]["per_second"] == 0.4
    assert 0 < found["query"]["p50_ms"] <= found["query"]["p99_ms"]
    queries = _figures.queries(_facts.counters()[0])
    assert queries is not None
    assert queries["vectors"] == 6
    assert queries["read_rows"] == 20  # too few for a graph: every row is read
    assert queries["by_graph"] == 0
    assert sum(queries["stage_share"].values()) == pytest.approx(1, abs=0.01)
    counters = _facts.counters()[0]
    assert counters["engine.distances"] > 0
    assert sum(_figures.histogram(counters, "query").values()) == 4


def test_searches_are_operations(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv(_slow.MILLISECONDS, "0")
    client, collection = filled()
    search = vexfs_chroma.Search().where(vexfs_chroma.K("group") == SECRET)
    collection.search(search.rank(vexfs_chroma.Knn(query=[0.5] * 20)).limit(2))
    counters = _facts.counters()[0]
    assert counters["op.search.count"] == 1
    (record,) = [one for one in client.slow_operations() if one["operation"] == "search"]
    assert record["searches"] == 1
    assert SECRET not in json.dumps(record)


def test_no_count_is_lost_between_threads(fresh: pytest.MonkeyPatch) -> None:
    observer = _observer.observer()

    def work() -> None:
        for n in range(2000):
            observer.done("get", 1000 * n, None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = observer.read()
    assert found["op.get.count"] == 8000
    assert sum(_figures.histogram(found, "get").values()) == 8000
    assert found["op.get.ns"] == 4 * sum(1000 * n for n in range(2000))


def test_times_of_any_length_have_a_bucket(fresh: pytest.MonkeyPatch) -> None:
    observer = _observer.observer()
    for ns in (0, 1, 10**6, 10**18):
        observer.done("get", ns, None)
    buckets = _figures.histogram(observer.read(), "get")
    assert sum(buckets.values()) == 4
    assert min(buckets) == 0
    middle = _figures.quantile_ms(buckets, 0.75)
    assert middle is not None
    assert 1.0 <= middle <= 1.25
    assert _figures.quantile_ms({}, 0.5) is None


def test_what_happened_between_two_looks() -> None:
    before = {"op.get.count": 5, "op.get.ns": 10, "engine.heap_bytes": 100}
    now = {"op.get.count": 7, "op.get.ns": 40, "engine.heap_bytes": 90}
    assert _figures.difference(before, now) == {
        "op.get.count": 2,
        "op.get.ns": 30,
        "engine.heap_bytes": -10,
    }
    restarted = {"op.get.count": 1, "op.get.ns": 4}
    assert _figures.difference(before, restarted) == restarted


CHILD = """
import os, sys, vexfs_chroma
from vexfs_chroma._observe import _facts
client = vexfs_chroma.EphemeralClient()
collection = client.create_collection("abc", embedding_function=None)
collection.add(ids=["1"], embeddings=[[1, 2]])
_facts.counters()
pid = os.fork()
if pid == 0:
    counters = _facts.counters()[0]
    collection.count()
    collection.count()
    _facts.counters()
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_processes_are_summed_dead_ones_too(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A forked child has cells of its own, and what the parent did is not counted twice."""
    environment = {**os.environ, _cells.VARIABLE: str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", CHILD], env=environment, check=True, timeout=120)
    fresh.setenv(_cells.VARIABLE, str(tmp_path))
    counters, processes = _facts.counters()
    assert counters["op.add.count"] == 2
    assert counters["op.count.count"] == 4
    assert [process["pid"] for process in processes] == [os.getpid()]
    own = _observer.observer().read()
    assert counters["engine.heap_bytes"] == own["engine.heap_bytes"]  # what the dead had is gone
    if sys.platform == "linux":
        assert processes[0]["resident_bytes"] > 0
        assert processes[0]["cpu_seconds"] > 0


# ---- slow operations -----------------------------------------------------------------------------


def test_slow_operations_tell_shapes_and_no_values(
    fresh: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh.setenv(_slow.MILLISECONDS, "0")
    fresh.setenv(_slow.LOG, str(tmp_path / "slow.jsonl"))
    client, collection = filled()
    heard: list[dict[str, Any]] = []
    stop = client.on_slow_operation(heard.append)
    where = {"$and": [{"group": {"$eq": SECRET}}, {"n": {"$in": [1, 2]}}]}
    for _ in range(2):
        collection.query(
            query_embeddings=[[0.25] * 20],
            n_results=3,
            where=where,
            where_document={"$contains": SECRET},
        )
    collection.get(ids=[f"id-{SECRET}-1"], where={"group": SECRET})
    collection.delete(where={"group": {"$in": [SECRET]}})
    stop()
    collection.count()
    kept = client.slow_operations()
    assert SECRET not in json.dumps(kept, default=str)
    assert SECRET not in (tmp_path / "slow.jsonl").read_text()
    assert [record["operation"] for record in heard] == ["query", "query", "get", "delete"]
    (query,) = [record for record in kept if record["operation"] == "query"]
    assert query["repeats"] == 2
    assert query["where"] == {"$and": [{"group": {"$eq": "str"}}, {"n": {"$in": "2 x int"}}]}
    assert query["where_document"] == {"$contains": "str"}
    assert query["collection"] == "observed"
    assert query["plan"]["why"] == "no graph yet"
    assert (query["k"], query["vectors"]) == (3, 1)
    (get,) = [record for record in kept if record["operation"] == "get"]
    assert get["ids"] == 1
    (add,) = [record for record in kept if record["operation"] == "add"]
    assert (add["rows"], add["dimension"]) == (20, 20)
    again = _slow.slowest_in([tmp_path / "slow.jsonl"])
    assert {record["operation"] for record in again} >= {"add", "query", "get", "delete", "count"}


def test_a_listener_that_fails_fails_nothing(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv(_slow.MILLISECONDS, "0")
    client, collection = filled()

    def listener(_: Any) -> None:
        raise RuntimeError("no")

    client.on_slow_operation(listener)
    assert collection.count() == 20
    for wrong in (None, 5, "print"):
        with pytest.raises(InvalidArgumentError, match="listener must be callable, got"):
            client.on_slow_operation(wrong)


def test_errors_of_slow_operations(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv(_slow.MILLISECONDS, "0")
    client, collection = filled()
    with pytest.raises(Exception, match="dimension"):
        collection.query(query_embeddings=[[1.0]])
    assert any("error" in record for record in client.slow_operations())


def test_the_slowest_of_many_are_kept(fresh: pytest.MonkeyPatch) -> None:
    log = _slow.SlowLog()
    for n in range(200):
        log.add({"operation": "get", "ms": float(n % 100), "limit": n % 100})
    kept = log.slowest()
    assert [record["ms"] for record in kept] == [float(n) for n in range(99, 99 - _slow.KEPT, -1)]
    assert all(record["repeats"] == 2 for record in kept)
    log.clear()
    assert log.slowest() == []


def test_thresholds(fresh: pytest.MonkeyPatch) -> None:
    for text, ns in (("", 100_000_000), ("2.5", 2_500_000), ("0", 0)):
        fresh.setenv(_slow.MILLISECONDS, text)
        assert _slow.threshold_ns() == ns
    fresh.setenv(_slow.MILLISECONDS, "off")
    assert _slow.threshold_ns() > 10**18
    for wrong in ("soon", "-1", "nan", "inf"):
        fresh.setenv(_slow.MILLISECONDS, wrong)
        with pytest.raises(InvalidArgumentError, match="VEXFS_SLOW_MS must be milliseconds or off"):
            _slow.threshold_ns()


def test_wrong_variables_are_told_at_the_opening(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not after an operation that was done."""
    fresh.setenv(_slow.MILLISECONDS, "soon")
    with pytest.raises(InvalidArgumentError, match="VEXFS_SLOW_MS must be"):
        vexfs_chroma.PersistentClient(path=tmp_path / "database")
    fresh.delenv(_slow.MILLISECONDS)
    fresh.setenv(_cells.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InvalidArgumentError, match=r"VEXFS_METRICS_DIR.*no directory"):
        vexfs_chroma.PersistentClient(path=tmp_path / "database")


def test_logs_are_renamed_when_they_are_large(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "log"
    for n in range(50):
        _slow._append(file, {"operation": "get", "ms": float(n)}, 200)
    assert file.stat().st_size < 300
    assert (tmp_path / "log.1").stat().st_size < 300
    (tmp_path / "log").write_text('{"operation": "get"}\n[]\nnot json\n{"operation": 1, "ms": 1}\n')
    assert _slow.slowest_in([file]) == []


def test_shapes_are_bounded() -> None:
    deep: Any = {"a": 1}
    for _ in range(50):
        deep = {"$and": [deep, deep]}
    assert len(json.dumps(_slow.shape(deep))) < 10_000
    wide = {f"key{n}": n for n in range(1000)}
    assert len(_slow.shape(wide)) == 17
    assert _slow.shape([]) == "0"
    assert _slow.shape([1, "a", 2.5]) == "3 x float|int|str"


# ---- Prometheus ----------------------------------------------------------------------------------


def samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_metrics_are_what_was_counted(fresh: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prometheus_client")
    client, collection = filled()
    for _ in range(5):
        collection.query(query_embeddings=[[0.5] * 20], n_results=2)
    found = samples(client.metrics_text())
    assert found['vexfs_operations_total{operation="query",status="ok"}'] == 5
    assert found["vexfs_query_vectors_total"] == 5
    assert found["vexfs_query_read_rows_total"] == 100
    assert found["vexfs_records"] >= 20
    assert found["vexfs_processes"] == 1
    times = "vexfs_operation_duration_seconds"
    edges = [
        (float(name.partition('le="')[2].partition('"')[0].replace("+Inf", "inf")), value)
        for name, value in found.items()
        if name.startswith(f"{times}_bucket") and 'operation="query"' in name
    ]
    assert edges == sorted(edges)
    assert edges[-1] == (float("inf"), 5)
    assert [value for _, value in edges] == sorted(value for _, value in edges)
    assert found[f'{times}_count{{operation="query"}}'] == 5
    mean = found[f'{times}_sum{{operation="query"}}'] / 5
    assert 0 < mean < 60


def test_promtool_has_no_complaint(fresh: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prometheus_client")
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    client, collection = filled()
    collection.query(query_embeddings=[[0.5] * 20], n_results=2)
    http = _http.HttpCounters(["query", "get"])
    for status in (200, 404, 503):
        http.observe(_Request(), _Response(status), 0.01)
    text = client.metrics_text()
    assert 'vexfs_http_requests_total{route="unmatched",status="5xx"} 1.0' in text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


class _Request:
    route = None
    body = b"12345"


class _Response:
    body = b"1234567"

    def __init__(self, status: int) -> None:
        self.status = status


def test_requests_are_counted_by_route(fresh: pytest.MonkeyPatch) -> None:
    http = _http.HttpCounters(["query", "query", "get"])
    for status in (200, 200, 404, 999):
        http.observe(_Request(), _Response(status), 0.004)
    found = _figures.requests(http.cells.read())
    assert list(found) == ["unmatched"]
    assert found["unmatched"]["statuses"] == {"2xx": 2, "4xx": 1, "5xx": 1}
    assert found["unmatched"]["received"] == 20
    assert found["unmatched"]["sent"] == 28
    assert sum(found["unmatched"]["buckets"].values()) == 4


def test_the_dashboard_asks_for_metrics_that_there_are(fresh: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prometheus_client")
    spec = importlib.util.spec_from_file_location("make_grafana", MAKER)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert json.loads(maker.FILE.read_text("utf-8")) == maker.dashboard(), f"run {MAKER}"
    client, _ = filled()
    http = _http.HttpCounters(["query"])
    http.observe(_Request(), _Response(200), 0.01)
    known = {name.partition("{")[0] for name in samples(client.metrics_text())}
    asked = set(re.findall(r"vexfs_\w+", json.dumps(maker.PANELS)))
    assert len(asked) > 15
    assert asked <= known


def test_a_program_answers_prometheus(fresh: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prometheus_client")
    client, collection = filled()
    collection.count()
    with client.start_metrics_exporter(port=0) as exporter:
        assert exporter.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(exporter.url, timeout=10) as answer:
            assert answer.headers["content-type"].startswith("text/plain")
            found = samples(answer.read().decode())
        port = int(exporter.url.split(":")[2].partition("/")[0])
        with pytest.raises(OSError, match="in use"):
            client.start_metrics_exporter(port=port)
    for wrong in ({"port": "9464"}, {"port": -1}, {"port": 65536}, {"port": None}, {"host": 5}):
        with pytest.raises(InvalidArgumentError, match=f"{next(iter(wrong))} must be"):
            client.start_metrics_exporter(**wrong)
    assert found['vexfs_operations_total{operation="count",status="ok"}'] == 1
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(exporter.url, timeout=10)
