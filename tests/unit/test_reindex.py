"""collection.reindex(): another distance, another graph, for records that are there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import ReadOnlyError, _engine
from vexfs_chroma._catalog import Catalog

VECTORS = np.random.default_rng(5).standard_normal((1200, 12)).astype(np.float32)
QUERY = VECTORS[3:4] * 2


def distances(space: str) -> Any:
    if space == "l2":
        return ((VECTORS - QUERY) ** 2).sum(axis=1)
    dots = VECTORS @ QUERY[0]
    if space == "ip":
        return 1 - dots
    return 1 - dots / (np.linalg.norm(VECTORS, axis=1) * np.linalg.norm(QUERY))


def check_space(collection: Any, space: str, **query: Any) -> None:
    found = collection.query(query_embeddings=QUERY, n_results=10, **query)
    expected = distances(space)
    assert found["ids"][0] == [str(i) for i in np.argsort(expected, kind="stable")[:10]]
    np.testing.assert_allclose(found["distances"][0], np.sort(expected)[:10], rtol=1e-4, atol=1e-5)
    assert collection.configuration["hnsw"]["space"] == space
    assert collection.stats()["space"] == space


@pytest.fixture(params=["memory", "disk"])
def client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "500")
    settings = vexfs_chroma.Settings(allow_reset=True, anonymized_telemetry=False)
    with (
        vexfs_chroma.EphemeralClient(settings)
        if request.param == "memory"
        else vexfs_chroma.PersistentClient(tmp_path / "database", settings)
    ) as made:
        made.reset()
        yield made
        made.reset()


def fill(client: Any, name: str = "source") -> Any:
    collection = client.create_collection(name, embedding_function=None)
    collection.add(ids=[str(i) for i in range(len(VECTORS))], embeddings=VECTORS)
    return collection


def test_every_space(client: Any) -> None:
    collection = fill(client)
    collection.wait_for_index()
    check_space(collection, "l2")
    for space in ("cosine", "ip", "cosine", "l2", "ip"):
        collection.reindex(space=space)
        check_space(collection, space)  # at once
        collection.wait_for_index()
        index = collection.stats()["index"]
        assert index["indexed_rows"] == len(VECTORS)
        assert collection.explain(query_embeddings=QUERY).strategy == "graph"
        check_space(collection, space, exact=True)
        assert collection.recall_check(n=50).recall > 0.9
        check_space(client.get_collection("source", embedding_function=None), space, exact=True)
    collection.add(ids=["new"], embeddings=[[0.0] * 12])
    assert collection.count() == len(VECTORS) + 1


def test_parameters_of_the_graph(client: Any) -> None:
    collection = fill(client)
    collection.wait_for_index()
    collection.reindex(max_neighbors=5, ef_construction=33)
    collection.wait_for_index()
    shown = client.get_collection("source", embedding_function=None).configuration["hnsw"]
    assert (shown["max_neighbors"], shown["ef_construction"], shown["space"]) == (5, 33, "l2")
    assert collection.configuration["hnsw"]["max_neighbors"] == 5
    with client._server._using(collection.id) as opened:
        assert opened.engine.check_index().m == 5
    collection.reindex()  # nothing but the graph
    collection.wait_for_index()
    assert collection.stats()["index"]["indexed_rows"] == len(VECTORS)


def test_mistakes(client: Any) -> None:
    collection = client.create_collection("empty", embedding_function=None)
    for wrong in (
        {"space": "l1"}, {"space": ""}, {"space": 1}, {"max_neighbors": 1},
        {"max_neighbors": 1025}, {"ef_construction": 0}, {"ef_construction": True},
        {"space": np.array(["l2", "ip"])},
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=f"{next(iter(wrong))} must be"):
            collection.reindex(**wrong)
    collection.reindex(space="ip", max_neighbors=np.int64(9), ef_construction=np.int32(70))
    hnsw = collection.configuration["hnsw"]
    assert (hnsw["space"], hnsw["max_neighbors"], hnsw["ef_construction"]) == ("ip", 9, 70)
    client.delete_collection("empty")
    with pytest.raises(NotFoundError):
        collection.reindex(space="l2")


def test_a_fork_has_a_space_of_its_own(client: Any) -> None:
    collection = fill(client)
    fork = collection.fork("copy")
    fork.reindex(space="cosine")
    check_space(fork, "cosine", exact=True)
    check_space(collection, "l2", exact=True)


def test_it_lasts_and_other_processes_see_it(tmp_path: Path) -> None:
    script = """if True:
        import sys, vexfs_chroma
        client = vexfs_chroma.PersistentClient(sys.argv[1])
        client.get_collection("source", embedding_function=None).reindex(space="ip")
    """
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = fill(client)
        collection.reindex(space="cosine")
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)
        found = collection.query(query_embeddings=QUERY, n_results=5)
        np.testing.assert_allclose(
            found["distances"][0], np.sort(distances("ip"))[:5], rtol=1e-4, atol=1e-5
        )
        check_space(client.get_collection("source", embedding_function=None), "ip", exact=True)
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True) as client:
        collection = client.get_collection("source", embedding_function=None)
        check_space(collection, "ip")
        with pytest.raises(ReadOnlyError):
            collection.reindex(space="l2")
    assert vexfs_chroma.check(tmp_path, deep=True).ok


def test_killed_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has the new space and the catalog has not: the next opening takes it back."""
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        fill(client)
    child = os.fork()
    if child == 0:
        original = _engine.Collection.reindex

        def killed(self: Any, space: str) -> None:
            original(self, space)
            os._exit(7)

        monkeypatch.setattr(_engine.Collection, "reindex", killed)
        client = vexfs_chroma.PersistentClient(tmp_path)
        client.get_collection("source", embedding_function=None).reindex(space="cosine")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        check_space(client.get_collection("source", embedding_function=None), "l2")


def test_a_failure_changes_nothing(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = fill(client)
    original = Catalog.update_collection

    def fails(self: Any, id: Any, **changes: Any) -> None:
        def late(schema: Any) -> Any:
            changes["change_schema"](schema)
            raise OSError("late")

        original(self, id, **(changes | {"change_schema": late}))

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "update_collection", fails)
        with pytest.raises(OSError, match="late"):
            collection.reindex(space="cosine", max_neighbors=7)
    check_space(collection, "l2", exact=True)
    assert collection.configuration["hnsw"]["max_neighbors"] == 16


def test_readers_and_writers_go_on(client: Any) -> None:
    collection = fill(client)
    collection.wait_for_index()
    sorted_by = {space: np.sort(distances(space))[:10] for space in ("l2", "cosine", "ip")}
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            found = np.array(collection.query(query_embeddings=QUERY)["distances"][0])
            if not any(np.allclose(found, e, rtol=0.2, atol=1e-3) for e in sorted_by.values()):
                wrong.append(found)

    def write() -> None:
        for n in range(30):
            collection.upsert(ids=[str(n)], embeddings=VECTORS[n : n + 1], documents=[f"new {n}"])

    threads = [threading.Thread(target=work) for work in (read, read, write)]
    for thread in threads:
        thread.start()
    for space in ("cosine", "ip", "l2", "cosine"):
        collection.reindex(space=space)
    threads[2].join()
    done.set()
    for thread in threads[:2]:
        thread.join()
    assert not wrong
    assert collection.count() == len(VECTORS)
    assert len(collection.get(where_document={"$contains": "new"})["ids"]) == 30
