"""search() and fork() over HTTP: as on the directory itself, which this process has open, too."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb import K, Knn, ReadLevel, Rrf, Search
from chromadb.errors import InvalidArgumentError
from chromadb.execution.expression import Val
from server_kit import client_of, run_server

import vexfs_chroma
from vexfs_chroma import Bm25

DAY = datetime(2026, 11, 29, 21, 13, tzinfo=timezone.utc)
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


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with (
        run_server(tmp_path) as server,
        client_of(vexfs_chroma.HttpClient, server) as client,
    ):
        made = client.create_collection("things", embedding_function=None)
        made.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], metadatas=[{"at": DAY}, {"n": 1}])
        assert made.search(Search().where(K("at") == DAY))["ids"] == [["a"]]
        assert made.search(Search().where(K("at") > DAY.date()))["ids"] == [["a"]]
        assert made.search(Search().where(K("n").is_in((np.int64(1), 2))))["ids"] == [["b"]]
        huge, wrong = 2**70, Decimal(1)
        with pytest.raises(TypeError, match=r"range: where\.n\.\$in\[1\] cannot be sent, got"):
            made.get(where={"n": {"$in": [1, huge]}})
        with pytest.raises(TypeError, match=r"ids\[1\] cannot be sent, got '.ud800'"):
            made.add(ids=["c", "\ud800"], embeddings=[[1, 2], [3, 4]])
        with pytest.raises(TypeError, match=r": limit cannot be sent, got Decimal\('1'\)"):
            made.get(limit=wrong)
        with pytest.raises(TypeError, match=r"searches\[1\]\.filter\.n\.\$eq cannot be sent"):
            made.search([Search(), Search().where(K("n") == wrong)])
        assert made.count("index_only") == made.count(ReadLevel.INDEX_ONLY) == 2
        assert made.search(Search(), read_level="index_only")["ids"] == [["a", "b"]]
        for call in (made.count, lambda level: made.search(Search(), read_level=level)):
            for level in (None, 5, "log_only"):
                with pytest.raises(InvalidArgumentError, match="read_level must be one of 'index"):
                    call(level)
        with pytest.raises(TypeError, match=r"Dict key must be str: metadata cannot be sent, got"):
            client._server._make_request("post", "/x", json={"metadata": {1: "a" * 1000}})


def test_infinities_are_sent(tmp_path: Path) -> None:
    def far(default: Any) -> list[Any]:
        near = Knn(query=[1.0], limit=1, default=default, return_rank=True)
        return [
            Rrf([near, Knn(query=[3.0], return_rank=True)]),
            Bm25("tea", limit=1, default=default) + near,
            near * Knn(query=[2.0], limit=2),
            Knn(query=[2.0]) + Val(default),
        ]

    with run_server(tmp_path) as server, vexfs_chroma.PersistentClient(tmp_path / "data") as local:
        made = local.create_collection("things", embedding_function=None)
        made.add(ids=["a", "b", "c"], embeddings=[[1], [2], [3]], documents=["tea", "x", "tea"])
        with client_of(vexfs_chroma.HttpClient, server) as client:
            remote = client.get_collection("things", embedding_function=None)
            for default in (float("inf"), float("-inf"), np.float32("inf")):
                for rank in far(default):
                    search = Search().rank(rank).select(K.SCORE)
                    expected, found = made.search(search), remote.search(search)
                    assert found["ids"] == expected["ids"]
                    for ours, theirs in zip(found["scores"][0], expected["scores"][0], strict=True):
                        assert ours == (pytest.approx(theirs) if math.isfinite(theirs) else None)
            for rank in far(float("nan")):
                with pytest.raises(InvalidArgumentError, match="NaN in an expression cannot be"):
                    remote.search(Search().rank(rank))
            for collection in (made, remote):
                for wrong in (float("nan"), float("inf"), 2.0):
                    with pytest.raises(InvalidArgumentError, match="limit must be an integer of 1"):
                        collection.search(Search().limit(wrong))
                    with pytest.raises(TypeError, match="argument 'limit': 'float' object cannot"):
                        collection.get(order_by="n", limit=wrong)
                    with pytest.raises(TypeError, match="argument 'offset': 'float' object cannot"):
                        collection.get(descending=True, offset=wrong)


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
