"""The recall of queries as they come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from server_kit import DEFAULT, Server, run_server

ROWS, DIMENSION, K = 2000, 24, 7
SMALL_GRAPHS = {"VEXFS_INDEX_ROWS": "500"}


def counters(server: Server) -> dict[str, int]:
    found: dict[str, int] = server.call("GET", "/vexfs/facts").json["counters"]
    return found


def filled(server: Server, rows: int) -> str:
    made = server.call("POST", DEFAULT + "/collections", {"name": f"of-{rows}"}).json
    path = f"{DEFAULT}/collections/{made['id']}"
    vectors = np.random.default_rng(1).standard_normal((rows, DIMENSION)).astype(np.float32)
    body = {"ids": [str(i) for i in range(rows)], "embeddings": vectors.tolist()}
    assert server.call("POST", path + "/add", body).status == 201
    while not server.call("POST", path + "/vexfs/build_index", {}, timeout=60).json["done"]:
        time.sleep(0.05)
    return path


def ask(server: Server, path: str, n: int, **more: Any) -> None:
    queries = np.random.default_rng(2).standard_normal((n, DIMENSION))
    for query in queries.tolist():
        body = {"query_embeddings": [query, query], "n_results": K, **more}
        assert server.call("POST", path + "/query", body).status == 200


def settled(server: Server) -> dict[str, int]:
    """The counters, when the sampler has done what it was given."""
    before = counters(server)
    while True:
        time.sleep(0.3)
        now = counters(server)
        if now.get("op.query.count") == before.get("op.query.count"):
            return now
        before = now


def test_queries_of_graphs_are_answered_again(tmp_path: Path) -> None:
    config = "[server]\nrecall_samples = 60000\n"
    with run_server(tmp_path, "--workers", "2", config=config, variables=SMALL_GRAPHS) as server:
        small, large = filled(server, 100), filled(server, ROWS)
        ask(server, small, 20)
        assert "recall.samples" not in settled(server)  # all records were read: nothing to learn
        ask(server, large, 40, where_document=None)
        found = settled(server)
        assert 0 < found["recall.samples"] <= 40
        assert found["recall.expected"] == K * found["recall.samples"]
        assert 0.9 * found["recall.expected"] < found["recall.found"] <= found["recall.expected"]
        text = server.call("GET", "/metrics").body.decode()
        assert f"vexfs_recall_samples_total {found['recall.samples']}.0" in text
        assert server.call("POST", large + "/query", {"query_embeddings": [[1, 2]]}).status == 400
        assert settled(server)["recall.samples"] == found["recall.samples"]


def test_sampling_can_be_turned_off(tmp_path: Path) -> None:
    config = "[server]\nrecall_samples = 0\n"
    with run_server(tmp_path, config=config, variables=SMALL_GRAPHS) as server:
        ask(server, filled(server, ROWS), 10)
        found = settled(server)
        assert found["op.query.count"] == 10
        assert "recall.samples" not in found
