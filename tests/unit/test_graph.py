"""Collections with a graph, through the binding and through a client."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError

import vexfs_chroma
from vexfs_chroma import _engine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 20261121
ROWS = 6000


def make_vectors(n: int, dimension: int = 32) -> NDArray[np.float32]:
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((60, dimension))
    noise = 0.4 * random.standard_normal((n, dimension))
    return (centres[random.integers(0, 60, n)] + noise).astype(np.float32)


@pytest.mark.parametrize("space", ["l2", "cosine", "ip"])
def test_recall_and_reopening(tmp_path: Path, space: str) -> None:
    vectors = make_vectors(ROWS + 50)
    name = uuid.uuid4()
    for reopened in (False, True):
        database = _engine.Database(str(tmp_path), index_rows=1000)
        if not reopened:
            database.create_collection(name, space)
        collection = database.open_collection(name)
        if not reopened:
            ids = [str(i) for i in range(ROWS)]
            collection.write("add", ids, vectors[:ROWS], None, None, None)
            collection.flush()
        collection.wait_for_index(60)
        assert collection.info().indexed_rows == ROWS
        found = collection.query(vectors[ROWS:], 10)
        exact = collection.query(vectors[ROWS:], 10, exact=True)
        assert found.counts == exact.counts == [10] * 50
        assert len(set(found.ids) & set(exact.ids)) >= 0.98 * len(set(exact.ids))
        database.close()


def test_a_client_with_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "1000")
    vectors = make_vectors(ROWS)
    with vexfs_chroma.PersistentClient(str(tmp_path)) as client:
        collection = client.create_collection(
            "col", embedding_function=None, configuration={"hnsw": {"ef_search": 1}}
        )
        collection.add(ids=[str(i) for i in range(ROWS)], embeddings=vectors)
    with vexfs_chroma.PersistentClient(str(tmp_path)) as client:
        collection = client.get_collection("col", embedding_function=None)
        collection.modify(configuration={"hnsw": {"ef_search": 200}})
        for _ in range(3):  # while it is built, too
            found = collection.query(query_embeddings=vectors[:200], n_results=1)
            assert [ids[0] for ids in found["ids"]] == [str(i) for i in range(200)]


def test_bad_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "many")
    with pytest.raises(InvalidArgumentError, match="VEXFS_INDEX_ROWS must be a number of rows"):
        vexfs_chroma.EphemeralClient()


def test_parameters_beyond_the_limits_are_cut(tmp_path: Path) -> None:
    database = _engine.Database(str(tmp_path), index_rows=1)
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    collection.set_index(max_neighbors=0, ef_construction=10**9, ef_search=10**12)
    collection.set_index(max_neighbors=10**6, ef_construction=0, ef_search=0)
    database.close()
