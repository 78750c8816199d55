"""A real Prometheus: it checks the text, scrapes a server, and answers questions about it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_kit import DEFAULT, Server, free_port, run_server

pytest.importorskip("prometheus_client")

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs the program prometheus"
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs the program promtool (of prometheus)"
)


def ask_a_few_times(server: Server) -> None:
    made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
    path = f"{DEFAULT}/collections/{made['id']}"
    server.call("POST", path + "/add", {"ids": ["a", "b"], "embeddings": [[1, 2], [2, 1]]})
    for _ in range(7):
        server.call("POST", path + "/query", {"query_embeddings": [[1, 2]]})


@needs_promtool
def test_the_text_is_clean(server: Server) -> None:
    ask_a_few_times(server)
    text = server.call("GET", "/metrics").body
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@contextlib.contextmanager
def run_prometheus(place: Path, target: Server) -> Iterator[str]:
    """A Prometheus that scrapes a server every second; its URL."""
    address = f"127.0.0.1:{free_port()}"
    config = place / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: vexfs\n"
        f"    static_configs: [{{targets: ['{target.host}:{target.port}']}}]\n"
    )
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={place / 'series'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    with (place / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=place)
        try:
            yield f"http://{address}"
        finally:
            process.kill()
            process.wait()


def instant(url: str, query: str) -> list[dict[str, Any]]:
    """What an instant query finds; nothing while Prometheus starts."""
    address = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found
    except OSError:
        return []


@needs_prometheus
def test_a_server_is_scraped(tmp_path: Path) -> None:
    queries = 'vexfs_operations_total{operation="query",status="ok"}'
    with run_server(tmp_path, "--workers", "2") as server:
        ask_a_few_times(server)
        with run_prometheus(tmp_path, server) as url:
            deadline = time.monotonic() + 120
            while not (found := instant(url, queries)):
                assert time.monotonic() < deadline, (tmp_path / "prometheus.log").read_text()
                time.sleep(0.1)
            (one,) = found
            assert one["metric"]["job"] == "vexfs"
            assert float(one["value"][1]) == 7
            quantile = instant(
                url, "histogram_quantile(0.5, vexfs_operation_duration_seconds_bucket)"
            )
            medians = {one["metric"]["operation"]: float(one["value"][1]) for one in quantile}
            assert 0 < medians["query"] < 30
            (up,) = instant(url, "max_over_time(up[1m])")
            assert up["value"][1] == "1"
