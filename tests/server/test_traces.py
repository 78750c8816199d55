"""Spans of requests, operations and stages of queries, as a collector gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from otlp_kit import Collector, Span, run_collector
from server_kit import API, DEFAULT, Server, client_of, run_server

import vexfs_chroma
from vexfs_chroma._observe import _trace

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
from opentelemetry.sdk.trace import TracerProvider

SECRET = "nobody-may-see-this"
CALLER = "0af7651916cd43dd8448eb211c80319c"
STAGES = ("engine.select", "engine.search", "engine.fetch")


def filled(server: Server) -> str:
    made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
    path = f"{DEFAULT}/collections/{made['id']}"
    rows = range(50)
    body = {
        "ids": [f"{SECRET}-{n}" for n in rows],
        "embeddings": [[n, 1.5] for n in rows],
        "documents": [SECRET for n in rows],
        "metadatas": [{"n": n, "text": SECRET} for n in rows],
    }
    assert server.call("POST", path + "/add", body).status == 201
    return path


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Collector:
    """What a collector has after some requests, from two workers."""
    place = tmp_path_factory.mktemp("traced")
    with run_collector() as collector:
        config = f'[otel]\nendpoint = "{collector.url}"\nservice_name = "searcher"\n'
        with run_server(place, "--workers", "2", config=config) as server:
            path = filled(server)
            where = {"text": SECRET}
            body = {"query_embeddings": [[1, 2], [3, 4]], "n_results": 2, "where": where}
            parent = f"00-{CALLER}-b7ad6b7169203331-01"
            answer = server.call("POST", path + "/query", body, {"traceparent": parent})
            assert answer.status == 200
            unsampled = f"00-{'1' * 32}-b7ad6b7169203331-00"
            server.call("POST", path + "/query", body, {"traceparent": unsampled})
            server.call("POST", path + "/query", body, {"traceparent": "00-nonsense"})
            wrong = server.call("POST", path + "/query", {"query_embeddings": [[1]]})
            missing = server.call("GET", "/no/such/page")
            server.call("GET", API + "/heartbeat?token=" + SECRET, headers={"x-request-id": "mine"})
            provider = TracerProvider()
            with (
                vexfs_chroma.start_tracing(provider=provider),
                client_of(vexfs_chroma.HttpClient, server) as client,
                provider.get_tracer("program").start_as_current_span("work") as work,
            ):
                client.get_collection("things").count()
            provider.shutdown()
        collector.wrong, collector.missing = wrong, missing  # type: ignore[attr-defined]
        collector.work = work.get_span_context()  # type: ignore[attr-defined]
    return collector


def the_query(told: Collector) -> tuple[Span, Span, list[Span]]:
    """Request, operation and stages of the query that has a parent."""
    (request,) = [s for s in told.spans if s.trace_id == CALLER and s.kind == 2]
    (operation,) = [s for s in told.spans if s.parent == request.id]
    stages = [s for s in told.spans if s.parent == operation.id]
    return request, operation, stages


def test_a_query_from_its_request_to_its_stages(told: Collector) -> None:
    request, operation, stages = the_query(told)
    route = API + "/tenants/{tenant}/databases/{database}/collections/{collection_id}/query"
    assert (request.name, request.parent) == ("POST " + route, "b7ad6b7169203331")
    assert request.service == "searcher"
    assert request.attributes["http.route"] == route
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["url.scheme"] == "http"
    assert request.attributes["vexfs.request_id"]
    assert (operation.name, operation.kind) == ("query things", 1)
    assert operation.attributes["db.system.name"] == "vexfs_chroma"
    assert operation.attributes["db.operation.name"] == "query"
    assert operation.attributes["db.collection.name"] == "things"
    assert operation.attributes["db.namespace"] == "default_tenant|default_database"
    assert operation.attributes["db.operation.batch.size"] == 2
    assert operation.attributes["vexfs.k"] == 2
    assert operation.attributes["vexfs.where"] == '{"text": "str"}'
    assert [stage.name for stage in sorted(stages, key=lambda s: s.start)] == list(STAGES)
    (search,) = [stage for stage in stages if stage.name == "engine.search"]
    assert search.attributes["vexfs.read_rows"] > 0


def test_times_lie_in_one_another(told: Collector) -> None:
    request, operation, stages = the_query(told)
    assert all(span.ns >= 0 for span in told.spans)
    assert sum(stage.ns for stage in stages) <= operation.ns <= request.ns
    for inner, outer in [(operation, request), *((stage, operation) for stage in stages)]:
        assert outer.start <= inner.start
        assert inner.end <= outer.end


def test_whose_traces_they_are(told: Collector) -> None:
    assert set(told.paths) == {"/v1/traces"}
    assert not [s for s in told.spans if s.trace_id == "1" * 32]  # the caller traces nothing
    for span in told.spans:
        parents = [s for s in told.spans if s.id == span.parent]
        assert all(parent.trace_id == span.trace_id for parent in parents)
    roots = [s for s in told.spans if not s.parent]
    assert all(s.kind == 2 for s in roots)
    (add,) = told.named("add things")
    assert add.attributes["db.operation.batch.size"] == 50


def test_a_client_passes_its_trace_on(told: Collector) -> None:
    work = told.work  # type: ignore[attr-defined]
    spans = [s for s in told.spans if s.trace_id == f"{work.trace_id:032x}"]
    requests = [s for s in spans if s.parent == f"{work.span_id:016x}"]
    assert [s.name for s in requests if s.name.endswith("/count")]
    (count,) = [s for s in spans if s.name == "count things"]
    assert count.parent in {s.id for s in requests}


def test_failures(told: Collector) -> None:
    (operation,) = [s for s in told.spans if s.failed]
    assert operation.attributes["error.type"] == "InvalidArgumentError"
    (request,) = [s for s in told.spans if s.id == operation.parent]
    assert request.attributes["http.response.status_code"] == 400
    assert request.trace_id == told.wrong.headers["chroma-trace-id"]  # type: ignore[attr-defined]
    (missing,) = told.named("GET")
    assert missing.attributes["http.response.status_code"] == 404
    assert missing.trace_id == told.missing.headers["chroma-trace-id"]  # type: ignore[attr-defined]


def test_no_span_tells_a_value(told: Collector) -> None:
    assert told.bodies
    assert not [body for body in told.bodies if SECRET.encode() in body]
    heartbeats = told.named(f"GET {API}/heartbeat")
    assert [span.attributes["vexfs.request_id"] for span in heartbeats] == ["mine"]


# -- in process ------------------------------------------------------------------------------------


def test_the_embedded_client_with_a_collector(tmp_path: Path) -> None:
    with run_collector() as collector, vexfs_chroma.PersistentClient(tmp_path / "data") as client:
        things = client.create_collection("things", embedding_function=None)
        things.add(ids=["a"], embeddings=[[1.0, 2.0]])
        with vexfs_chroma.start_tracing(collector.url):
            things.query(query_embeddings=[[1.0, 2.0]], n_results=1)
            with pytest.raises(RuntimeError, match="started already"):
                vexfs_chroma.start_tracing()
        things.query(query_embeddings=[[1.0, 2.0]], n_results=1)
    assert _trace.tracer is None
    (query,) = collector.named("query things")
    assert query.service == "vexfs_chroma"
    assert {s.name for s in collector.spans if s.parent == query.id} == set(STAGES)
    assert len(collector.spans) == 4


def test_the_embedded_client_with_the_programs_own_provider(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with vexfs_chroma.PersistentClient(tmp_path / "data") as client:
        things = client.create_collection("things", embedding_function=None)
        with vexfs_chroma.start_tracing(provider=provider):
            with provider.get_tracer("program").start_as_current_span("work"):
                things.add(ids=["a"], embeddings=[[1.0, 2.0]])
            assert things.count() == 1
    names = {span.name: span for span in exporter.get_finished_spans()}
    assert set(names) == {"work", "add things", "count things"}
    assert names["add things"].parent.span_id == names["work"].context.span_id
    assert names["count things"].parent is None
    provider.shutdown()


def test_tasks_are_parents_of_what_they_wait_for(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def work() -> None:
        async with await vexfs_chroma.AsyncClient(path=tmp_path / "data") as client:
            things = await client.create_collection("things", embedding_function=None)
            with provider.get_tracer("program").start_as_current_span("task"):
                await things.count()

    with vexfs_chroma.start_tracing(provider=provider):
        asyncio.run(work())
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans["count things"].parent.span_id == spans["task"].context.span_id
    provider.shutdown()


def test_shares_of_traces(tmp_path: Path) -> None:
    with run_collector() as collector, vexfs_chroma.EphemeralClient() as client:
        things = client.create_collection("traced", embedding_function=None)
        with vexfs_chroma.start_tracing(collector.url, sample=0.0):
            things.count()
        client.delete_collection("traced")
    assert collector.spans == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"endpoint": "collector:4318"}, "the endpoint must be"),
        ({"endpoint": "http://127.0.0.1:4318", "provider": object()}, "not both"),
        ({"sample": 1.5}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_traced(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vexfs_chroma.start_tracing(**arguments)  # type: ignore[arg-type]
    assert _trace.tracer is None


def test_slow_operations_tell_their_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from vexfs_chroma._observe import _observer

    with run_collector() as collector, vexfs_chroma.EphemeralClient() as client:
        monkeypatch.setattr(_observer.observer().slow, "threshold_ns", 0)
        things = client.create_collection("traced", embedding_function=None)
        with vexfs_chroma.start_tracing(collector.url):
            things.count()
        found = [one for one in client.slow_operations() if one.get("collection") == "traced"]
        client.delete_collection("traced")
    (span,) = collector.spans
    assert [one["trace_id"] for one in found] == [span.trace_id]
    monkeypatch.setattr(_trace.here, "trace_id", None)
    _observer.observer().slow.clear()


def test_without_traces_nothing_of_them_is_imported() -> None:
    code = (
        "import sys, vexfs_chroma; "
        "print('vexfs_chroma._observe._otel' in sys.modules, "
        "'opentelemetry.exporter.otlp.proto.http' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
