"""Writes docs/grafana.json: a dashboard of the server's metrics, to be imported into Grafana.

    python tools/make_grafana.py

A test compares the file with what this makes, and its metrics with those that there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "docs" / "grafana.json"
_RATE = "[$__rate_interval]"


def _quantile(share: float, metric: str, label: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {label}) (rate({metric}_bucket{_RATE})))"


_OPERATION = "vexfs_operation_duration_seconds"
_REQUEST = "vexfs_http_request_duration_seconds"

# Title, unit, and what is drawn, each with its legend.
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "Operations per second",
        "ops",
        {"{{operation}}": f"sum by (operation) (rate(vexfs_operations_total{_RATE}))"},
    ),
    ("Operations, p50", "s", {"{{operation}}": _quantile(0.5, _OPERATION, "operation")}),
    ("Operations, p99", "s", {"{{operation}}": _quantile(0.99, _OPERATION, "operation")}),
    (
        "Failed and slow operations per second",
        "ops",
        {
            "failed {{operation}}": "sum by (operation) "
            f'(rate(vexfs_operations_total{{status="error"}}{_RATE}))',
            "slow {{operation}}": f"sum by (operation) (rate(vexfs_slow_operations_total{_RATE}))",
        },
    ),
    (
        "Requests per second",
        "reqps",
        {
            "{{route}} {{status}}": "sum by (route, status) "
            f"(rate(vexfs_http_requests_total{_RATE}))"
        },
    ),
    ("Requests, p99", "s", {"{{route}}": _quantile(0.99, _REQUEST, "route")}),
    (
        "Threads of the server, by what requests do in them",
        "short",
        {"{{kind}} {{state}}": f"sum by (kind, state) (rate(vexfs_thread_seconds_total{_RATE}))"},
    ),
    (
        "Event loop, how late",
        "s",
        {
            "late": f"sum(rate(vexfs_event_loop_late_seconds_total{_RATE})) "
            f"/ sum(rate(vexfs_event_loop_checks_total{_RATE}))"
        },
    ),
    (
        "Time of a query vector, by stage",
        "s",
        {
            "{{stage}}": f"sum by (stage) (rate(vexfs_query_stage_seconds_total{_RATE})) "
            f"/ scalar(sum(rate(vexfs_query_vectors_total{_RATE})))"
        },
    ),
    (
        "Work of a query vector",
        "short",
        {
            name: f"sum(rate(vexfs_query_{metric}_total{_RATE})) "
            f"/ sum(rate(vexfs_query_vectors_total{_RATE}))"
            for name, metric in (
                ("distances in graphs", "walk_distances"),
                ("exact distances", "exact_distances"),
                ("rows read", "read_rows"),
            )
        },
    ),
    (
        "Recall of sampled queries",
        "percentunit",
        {
            "recall": "sum(increase(vexfs_recall_found_records_total[1h])) "
            "/ sum(increase(vexfs_recall_expected_records_total[1h]))"
        },
    ),
    (
        "Records",
        "short",
        {"records": "vexfs_records", "not in files": "vexfs_unflushed_records"},
    ),
    (
        "Rows of files",
        "short",
        {
            "in files": "vexfs_file_rows",
            "dead": "vexfs_dead_rows",
            "in graphs": "vexfs_graph_rows",
        },
    ),
    ("Files", "bytes", {"{{kind}}": "vexfs_storage_bytes"}),
    (
        "Memory",
        "bytes",
        {
            "resident, all processes": "vexfs_process_resident_bytes",
            "{{kind}}": "vexfs_memory_bytes",
        },
    ),
    (
        "Logs and merges, bytes per second",
        "Bps",
        {
            "log": f"rate(vexfs_wal_written_bytes_total{_RATE})",
            "segment files": f"rate(vexfs_segment_written_bytes_total{_RATE})",
            "by merges": f"rate(vexfs_compacted_bytes_total{_RATE})",
        },
    ),
    ("Syncs of logs per second", "ops", {"syncs": f"rate(vexfs_wal_syncs_total{_RATE})"}),
    (
        "What writes wait for, seconds per second",
        "s",
        {
            "other processes": f"rate(vexfs_lease_wait_seconds_total{_RATE})",
            "other writers": f"rate(vexfs_writer_wait_seconds_total{_RATE})",
            "syncs": f"rate(vexfs_wal_sync_seconds_total{_RATE})",
        },
    ),
    (
        "Hit rates of caches",
        "percentunit",
        {
            name: f"rate(vexfs_{metric}_hits_total{_RATE}) / "
            f"(rate(vexfs_{metric}_hits_total{_RATE}) + rate(vexfs_{metric}_misses_total{_RATE}))"
            for name, metric in (("decoded blocks", "block"), ("filters", "filter"))
        },
    ),
)


def dashboard() -> dict[str, Any]:
    """The whole document."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + at), "datasource": source, "expr": expr, "legendFormat": legend}
                for at, (legend, expr) in enumerate(lines.items())
            ],
        }
        for number, (title, unit, lines) in enumerate(PANELS)
    ]
    variable = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}
    return {
        "title": "vexfs_chroma",
        "uid": "vexfs-chroma",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": [variable]},
        "panels": panels,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n", "utf-8")
