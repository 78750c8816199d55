"""The facts in the text format of Prometheus.

Names have the prefix vexfs_, base units, and _total for what only grows.  prometheus-client
renders; what it would count itself is counted in cells, which all processes of a server share.

    prometheus_client.REGISTRY.register(Collector(client))     among the metrics of a program
    metrics_text(client)                                       on its own
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from vexfs_chroma._observe import _facts, _figures, _http, _observer, _waits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

_EDGES = range(14, 36, 1)
"""Of the buckets that are told: powers of two of nanoseconds, from 16 us to 34 s."""
_ENGINE = {
    "distances": ("distances", "Distances computed."),
    "wal_bytes": ("wal_written_bytes", "Bytes written to logs."),
    "wal_syncs": ("wal_syncs", "Syncs of logs."),
    "segments_written": ("segments_written", "Segment files written."),
    "segment_bytes": ("segment_written_bytes", "Bytes of segment files written."),
    "blocks_read": ("blocks_read", "Blocks of documents and metadata decoded."),
    "compactions": ("compactions", "Merges of files."),
    "compacted_bytes": ("compacted_bytes", "Bytes of files that merges made."),
    "rows_fetched": ("rows_fetched", "Vectors read from files without a mapping."),
    "graphs_unloaded": ("graphs_unloaded", "Graphs that were unloaded."),
    "given_back_bytes": ("given_back_bytes", "Bytes of mapped files that were given back."),
    "damaged_parts": ("damaged_parts", "Damaged derived parts that were done without."),
    "block_hits": ("block_hits", "Blocks that scattered reads found decoded."),
    "block_misses": ("block_misses", "Blocks that scattered reads had to decode."),
    "filter_hits": ("filter_hits", "Filters over files whose matches were still known."),
    "filter_misses": ("filter_misses", "Filters over files whose matches had to be found."),
}
_ENGINE_US = {
    "lease_wait_us": ("lease_wait_seconds", "Writes that waited for other processes."),
    "writer_wait_us": ("writer_wait_seconds", "Writes that waited for others of the collection."),
    "wal_sync_us": ("wal_sync_seconds", "Syncs of logs."),
}
_ENGINE_NOW = {
    "heap_bytes": ("heap_bytes", "Small allocations of the engine."),
    "bulk_bytes": ("bulk_bytes", "Large allocations of the engine."),
    "mapped_bytes": ("mapped_bytes", "Files that are mapped."),
}
_QUERIES = {
    "vectors": ("query_vectors", "Query vectors."),
    "walk_distances": ("query_walk_distances", "Distances that walks through graphs computed."),
    "walk_hops": ("query_walk_hops", "Records whose neighbours walks looked at."),
    "exact_distances": ("query_exact_distances", "Exact distances of what walks found."),
    "read_rows": ("query_read_rows", "Records read one after the other."),
}
_RECALL = {
    "samples": ("recall_samples", "Queries that were answered again, exactly."),
    "expected": ("recall_expected_records", "The nearest records of these, n_results each."),
    "found": ("recall_found_records", "Of these, what the queries found."),
}
_COLLECTIONS = {
    "rows": ("records", "Records."),
    "unflushed_rows": ("unflushed_records", "Records in logs and memory, not in files yet."),
    "unflushed_bytes": ("unflushed_bytes", "Their memory."),
    "dead_rows": ("dead_rows", "Deleted or replaced rows of files, which wait for a merge."),
    "file_rows": ("file_rows", "Rows of embeddings in files."),
    "graph_rows": ("graph_rows", "Of these, rows in stored graphs."),
    "vector_files": ("vector_files", "Files of embeddings."),
    "payload_files": ("payload_files", "Files of documents and metadata."),
}
_PROCESSES = {
    "resident_bytes": ("process_resident_bytes", "Resident memory of all server processes."),
    "open_files": ("process_open_files", "Open files of all server processes."),
}


class Collector:
    """Tells prometheus-client everything, whenever it is asked.  Takes a client of ours."""

    def __init__(self, client: Any) -> None:
        self._api = getattr(client, "_server", client)

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        found = _facts.facts(self._api)
        counters = found["counters"]
        info = GaugeMetricFamily(
            "vexfs_build_info", "Version and kernels.", labels=("version", "simd")
        )
        info.add_metric((found["version"], found["simd"]), 1)
        yield info
        yield from _operations(counters)
        yield from _of_queries(counters)
        yield from _requests(counters)
        yield from _of_waits(counters)
        for prefix, table in (("engine", _ENGINE), ("query", _QUERIES), ("recall", _RECALL)):
            for name, (metric, text) in table.items():
                yield _counter(metric, text, counters.get(f"{prefix}.{name}", 0))
        for name, (metric, text) in _ENGINE_US.items():
            yield _counter(metric, text, counters.get(f"engine.{name}", 0) / 1e6)
        for name, (metric, text) in _ENGINE_NOW.items():
            yield _gauge(metric, text, counters.get(f"engine.{name}", 0))
        yield from _database(found["database"])
        yield _by_kind("memory_bytes", "Memory of the process that answers.", found["memory"])
        yield from _processes(found["processes"])


def metrics_text(client: Any) -> bytes:
    """All metrics of a client, and of the processes that share its counters."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(client))
    return generate_latest(registry)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"vexfs_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"vexfs_{name}", text, value=value)


def _by_kind(name: str, text: str, parts: Mapping[str, Any]) -> Metric:
    family = GaugeMetricFamily(f"vexfs_{name}", text, labels=("kind",))
    for kind, value in parts.items():
        if isinstance(value, int) and kind not in ("total", "resident"):
            family.add_metric((kind,), value)
    return family


def _buckets(buckets: Mapping[int, int]) -> list[tuple[str, float]]:
    """Counts up to each edge, cumulated.  An edge is the end of a bucket of ours, but for 1 ns."""
    found, seen, numbers = [], 0, sorted(buckets)
    for edge in _EDGES:
        while numbers and _observer.bucket_end_ns(numbers[0]) < 1 << edge:
            seen += buckets[numbers.pop(0)]
        found.append((f"{(1 << edge) / 1e9:.9g}", float(seen)))
    return [*found, ("+Inf", float(seen + sum(buckets[n] for n in numbers)))]


def _operations(counters: Mapping[str, int]) -> Iterable[Metric]:
    count = CounterMetricFamily(
        "vexfs_operations", "Operations of the API.", labels=("operation", "status")
    )
    slow = CounterMetricFamily(
        "vexfs_slow_operations",
        "Operations that took VEXFS_SLOW_MS or more.",
        labels=("operation",),
    )
    times = HistogramMetricFamily(
        "vexfs_operation_duration_seconds", "Time of operations.", labels=("operation",)
    )
    for operation in _observer.OPERATIONS:
        count.add_metric((operation, "ok"), counters.get(f"op.{operation}.ok", 0))
        count.add_metric((operation, "error"), counters.get(f"op.{operation}.errors", 0))
        slow.add_metric((operation,), counters.get(f"op.{operation}.slow", 0))
        seconds = counters.get(f"op.{operation}.ns", 0) / 1e9
        buckets = _figures.histogram(counters, operation)
        times.add_metric((operation,), _buckets(buckets), sum_value=seconds)
    return [count, slow, times]


def _of_queries(counters: Mapping[str, int]) -> Iterable[Metric]:
    stages = CounterMetricFamily(
        "vexfs_query_stage_seconds", "Time of queries in the engine.", labels=("stage",)
    )
    for stage in _figures.STAGES:
        stages.add_metric((stage,), counters.get(f"query.{stage}_us", 0) / 1e6)
    plans = CounterMetricFamily(
        "vexfs_queries", "Queries by how they were answered.", labels=("plan",)
    )
    for plan in _figures.PLANS:
        plans.add_metric((plan,), counters.get(f"plan.{plan}", 0))
    return [stages, plans]


def _requests(counters: Mapping[str, int]) -> Iterable[Metric]:
    count = CounterMetricFamily(
        "vexfs_http_requests", "Requests, by route and class of status.", labels=("route", "status")
    )
    size = CounterMetricFamily(
        "vexfs_http_bytes", "Bytes of bodies.", labels=("route", "direction")
    )
    times = HistogramMetricFamily(
        "vexfs_http_request_duration_seconds", "Time of requests.", labels=("route",)
    )
    for route, found in _figures.requests(counters).items():
        for status in _http.CLASSES:
            if found["statuses"].get(status):
                count.add_metric((route, status), found["statuses"][status])
        size.add_metric((route, "received"), found["received"])
        size.add_metric((route, "sent"), found["sent"])
        times.add_metric((route,), _buckets(found["buckets"]), sum_value=found["ns"] / 1e9)
    return [count, size, times]


def _of_waits(counters: Mapping[str, int]) -> Iterable[Metric]:
    count = CounterMetricFamily(
        "vexfs_thread_requests", "Requests that had a thread of the server.", labels=("kind",)
    )
    seconds = CounterMetricFamily(
        "vexfs_thread_seconds",
        "Time of requests: in the queue for a thread, running in it, waiting in it.",
        labels=("kind", "state"),
    )
    for kind in _waits.KINDS:
        count.add_metric((kind,), counters.get(f"wait.{kind}.count", 0))
        for state, what in (("queue", "queue_ns"), ("running", "cpu_ns"), ("waiting", "rest_ns")):
            seconds.add_metric((kind, state), counters.get(f"wait.{kind}.{what}", 0) / 1e9)
    late = counters.get("loop.late_ns", 0) / 1e9
    return [
        count,
        seconds,
        _counter(
            "event_loop_checks", "Timers of event loops looked at.", counters.get("loop.checks", 0)
        ),
        _counter("event_loop_late_seconds", "By how much they were late.", late),
    ]


def _database(found: Mapping[str, Any]) -> Iterable[Metric]:
    collections = found["collections"]
    yield _gauge("collections", "Collections, of all tenants.", len(collections))
    for name, (metric, text) in _COLLECTIONS.items():
        yield _gauge(metric, text, sum(one[name] for one in collections))
    yield _by_kind("storage_bytes", "Bytes of files.", found["disk"])


def _processes(processes: Iterable[Mapping[str, Any]]) -> Iterable[Metric]:
    known = list(processes)
    yield _gauge("processes", "Processes that share these counters.", len(known))
    for name, (metric, text) in _PROCESSES.items():
        yield _gauge(metric, text, sum(one[name] or 0 for one in known))
    seconds = sum(one["cpu_seconds"] or 0.0 for one in known)
    # A process that ended takes its time with it, so that this may fall: a gauge.
    yield _gauge("process_cpu_seconds", "CPU time of all server processes that run.", seconds)
