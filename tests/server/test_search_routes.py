"""search() and fork() over HTTP: as on the directory itself, which this process has open, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb import K, Knn, Rrf, Search
from server_kit import client_of, run_server

import vexfs_chroma

MAKERS = (chromadb.HttpClient, vexfs_chroma.HttpClient)


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def test_search(tmp_path: Path) -> None:
    vectors = np.random.default_rng(11).random((40, 6), dtype=np.float32)
    with run_server(tmp_path) as server, vexfs_chroma.PersistentClient(tmp_path / "data") as local:
        made = local.create_collection("things", embedding_function=None)
        made.add(
            ids=[f"id{i}" for i in range(40)],
            embeddings=vectors,
            documents=[f"text {i}" for i in range(40)],
            metadatas=[{"n": i, "kind": "ab"[i % 2]} for i in range(40)],
        )
        near, other = (
            Knn(query=vectors[3].tolist()),
            Knn(query=vectors[7].tolist(), return_rank=True),
        )
        searches = [
            Search().rank(near).limit(5).select(K.DOCUMENT, K.SCORE),
            Search().where(K("n") > 20).rank(near * 0.5 + 1).limit(4, offset=1).select_all(),
            Search().where(K("kind") == "a").limit(3).select("n", K.METADATA),
            Search()
            .rank(Rrf([Knn(query=vectors[3].tolist(), return_rank=True), other]))
            .limit(3)
            .select(K.SCORE),
        ]
        expected = made.search(searches)
        for make in MAKERS:
            with client_of(make, server) as client:
                remote = client.get_collection("things", embedding_function=None)
                found = remote.search(searches)
                for key in ("ids", "documents", "metadatas"):
                    assert plain(found[key]) == plain(expected[key]), key
                for ours, theirs in zip(found["scores"], expected["scores"], strict=True):
                    assert plain(ours) == (theirs if theirs is None else pytest.approx(theirs))
                with pytest.raises(chromadb.errors.InvalidArgumentError):
                    remote.search(Search().rank(Knn(query=[1.0, 2.0])))
        path = f"/api/v2/tenants/default_tenant/databases/default_database/collections/{made.id}"
        for payload in ({}, {"rank": {"$x": 1}}, {"filter": 5}, {"limit": "x"}, {"select": []}):
            answer = server.call("POST", path + "/search", {"searches": [payload]})
            assert answer.status in (200, 400, 422), (payload, answer)


def test_fork(tmp_path: Path) -> None:
    with run_server(tmp_path, "--workers", "2") as server:
        for i, make in enumerate(MAKERS):
            with client_of(make, server) as client:
                made = client.create_collection(f"source{i}", embedding_function=None)
                made.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], documents=["x", "y"])
                forked = made.fork(f"forked{i}")
                forked.delete(ids=["a"])
                made.add(ids=["c"], embeddings=[[5, 6]])
                assert (made.count(), forked.count()) == (3, 1)
                assert forked.get()["documents"] == ["y"]
                assert made.fork_count() == forked.fork_count() == 1
                with pytest.raises(Exception, match="already exists"):
                    made.fork(f"forked{i}")
