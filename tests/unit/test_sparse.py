"""Sparse vectors: as values of metadata, and their indexes in a schema."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from chromadb import Knn, Schema, Search, SparseVector, SparseVectorIndexConfig
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.errors import InvalidArgumentError
from chromadb.utils.embedding_functions import (
    ChromaBm25EmbeddingFunction,
    FastembedSparseEmbeddingFunction,
)

import vexfs_chroma
from vexfs_chroma._engine import _wire
from vexfs_chroma._errors import CorruptionError

A = SparseVector([0, 7, 2**32 - 1], [0.5, -2.0, 3.0])
B = SparseVector([3], [1.0], labels=["drei"])


@pytest.fixture(autouse=True)
def no_system_survives():
    yield
    for system in list(SharedSystemClient._identifier_to_system.values()):
        system.stop()
    SharedSystemClient.clear_system_cache()


@pytest.fixture(params=["memory", "disk"])
def client(request, tmp_path):
    if request.param == "memory":
        return vexfs_chroma.EphemeralClient()
    return vexfs_chroma.PersistentClient(tmp_path)


def single(vector):
    """The same in single precision, as it is stored: with the fewest digits that do."""
    values = [float(str(np.float32(value))) for value in vector.values]
    return SparseVector(vector.indices, values, vector.labels)


def metadata_of(collection, id):
    (metadata,) = collection.get(ids=[id])["metadatas"]
    return metadata


def test_values_come_back_as_they_were(client):
    collection = client.create_collection("abc", embedding_function=None)
    collection.add(
        ids=["a", "b", "c", "d"],
        embeddings=np.eye(4),
        metadatas=[{"s": A, "n": 1}, {"s": B}, None, {"s": SparseVector([], [])}],
    )
    tenths = SparseVector([5, 6], [0.1, -123.456])
    collection.upsert(ids=["t"], embeddings=[[1, 1, 1, 1]], metadatas=[{"s": tenths}])
    assert metadata_of(collection, "t") == {"s": tenths}
    collection.delete(ids=["t"])
    as_json = {"#type": "sparse_vector", "indices": [1], "values": [2]}
    collection.upsert(ids=["e"], embeddings=[[1, 1, 1, 1]], metadatas=[{"s": as_json}])
    expected = [
        {"s": A, "n": 1},
        {"s": B},
        None,
        {"s": SparseVector([], [])},
        {"s": SparseVector([1], [2.0])},
    ]
    assert collection.get()["metadatas"] == expected
    collection._client._open(collection.id).engine.flush()
    assert collection.get()["metadatas"] == expected
    found = collection.query(query_embeddings=[[0, 1, 0, 0]], n_results=1)
    assert found["metadatas"] == [[{"s": B}]]
    assert isinstance(found["metadatas"][0][0]["s"], SparseVector)


def test_updates_replace_and_delete(client):
    collection = client.create_collection("abc", embedding_function=None)
    collection.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"s": A, "n": 1}])
    collection.update(ids=["a"], metadatas=[{"n": 2}])
    assert metadata_of(collection, "a") == {"s": A, "n": 2}
    collection.update(ids=["a"], metadatas=[{"s": B}])
    assert metadata_of(collection, "a") == {"s": B, "n": 2}
    collection.upsert(ids=["a"], embeddings=[[1, 2]], metadatas=[{"s": "text"}])
    assert metadata_of(collection, "a") == {"s": "text", "n": 2}
    collection.update(ids=["a"], metadatas=[{"s": A}])
    collection.update(ids=["a"], metadatas=[{"s": None}])
    assert metadata_of(collection, "a") == {"n": 2}


def test_filters_on_a_key_with_sparse_vectors(client):
    collection = client.create_collection("abc", embedding_function=None)
    collection.add(
        ids=["a", "b", "c"], embeddings=np.eye(3), metadatas=[{"s": A}, {"s": 1}, {"s": "x"}]
    )
    for flush in (False, True):
        if flush:
            collection._client._open(collection.id).engine.flush()
        assert collection.get(where={"s": 1})["ids"] == ["b"]
        assert collection.get(where={"s": {"$ne": 1}})["ids"] == ["a", "c"]
        assert collection.get(where={"s": {"$gt": 0}})["ids"] == ["b"]
        assert collection.get(where={"s": {"$in": ["x", "y"]}})["ids"] == ["c"]
        assert collection.get(where={"s": {"$contains": 1}})["ids"] == []


def test_they_survive_a_restart_and_are_listed_in_the_schema(tmp_path):
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("abc", embedding_function=None)
        collection.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"s": A}])
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("abc", embedding_function=None)
        assert metadata_of(collection, "a") == {"s": A}
        index = collection.schema.keys["s"].sparse_vector.sparse_vector_index
        assert not index.enabled


@pytest.mark.parametrize(
    ("values", "text"),
    [([float("nan")], "finite"), ([float("inf")], "finite"), ([1e60], "finite")],
)
def test_numbers_that_cannot_be_stored(client, values, text):
    collection = client.create_collection("abc", embedding_function=None)
    with pytest.raises(InvalidArgumentError, match=text):
        collection.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"s": SparseVector([1], values)}])
    with pytest.raises(InvalidArgumentError, match="between 0 and 4294967295"):
        collection.add(
            ids=["a"], embeddings=[[1, 2]], metadatas=[{"s": SparseVector([2**32], [1.0])}]
        )
    broken = SparseVector([1, 2], [1.0, 1.0])
    broken.indices = [2, 1]
    with pytest.raises(InvalidArgumentError, match="strictly ascending"):
        collection._client._add(["a"], collection.id, [np.ones(2)], [{"s": broken}])
    assert collection.count() == 0


def test_a_source_key_is_embedded_by_chromas_bm25(tmp_path):
    function = ChromaBm25EmbeddingFunction()
    schema = Schema().create_index(
        key="bm25",
        config=SparseVectorIndexConfig(
            source_key="#document", embedding_function=function, bm25=True
        ),
    )
    texts = ["the quick brown fox", "a lazy dog sleeps", "foxes and dogs"]
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("abc", schema=schema, embedding_function=None)
        collection.add(ids=["0", "1", "2"], embeddings=np.eye(3), documents=texts)
        expected = [{"bm25": single(vector)} for vector in function(texts)]
        assert collection.get()["metadatas"] == expected
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("abc", embedding_function=None)
        config = collection.schema.keys["bm25"].sparse_vector.sparse_vector_index.config
        assert config.bm25
        assert config.source_key == "#document"
        assert isinstance(config.embedding_function, ChromaBm25EmbeddingFunction)
        collection.update(ids=["1"], embeddings=[[0, 1, 0]], documents=["another text"])
        assert metadata_of(collection, "1") == {"bm25": single(*function(["another text"]))}
        for query, found in (("a Fox", ["0", "2"]), ("texts", ["1"]), ("the", [])):
            search = Search().rank(Knn(query=query, key="bm25"))
            assert sorted(collection.search(search)["ids"][0]) == found, query


class StubModel:
    """What fastembed has of a model, which would be downloaded: words weigh as they are long, more
    in queries.  As there, vectors are numpy's and indices in no order."""

    def __init__(self, model_name, *_options, **_more):
        assert model_name == "stub/splade"

    def embed(self, documents):
        return (self._vector(text, 1.0) for text in documents)

    def query_embed(self, query):
        return (self._vector(text, 2.0) for text in query)

    @staticmethod
    def _vector(text, weight):
        words = sorted(set(text.split()), reverse=True)
        indices = np.array([int.from_bytes(word[:3].encode(), "big") for word in words])
        values = np.array([len(word) * weight for word in words], dtype=np.float32)
        return SimpleNamespace(indices=indices, values=values)


def test_a_source_key_is_embedded_by_fastembed(tmp_path, monkeypatch):
    stub = SimpleNamespace(SparseTextEmbedding=StubModel)
    monkeypatch.setitem(sys.modules, "fastembed", stub)
    function = FastembedSparseEmbeddingFunction("stub/splade", query_config={"task": "query"})
    schema = Schema().create_index(
        key="splade",
        config=SparseVectorIndexConfig(source_key="#document", embedding_function=function),
    )
    texts = ["red fox", "blue whale", "red whale"]
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("abc", schema=schema, embedding_function=None)
        collection.add(ids=["0", "1", "2"], embeddings=np.eye(3), documents=texts)
        stored = metadata_of(collection, "1")["splade"]
        assert stored.values == [4.0, 5.0]  # blue, whale: by index
        assert stored == function(["blue whale"])[0]
    with vexfs_chroma.PersistentClient(tmp_path) as client:  # made anew from the schema
        collection = client.get_collection("abc", embedding_function=None)
        search = Search().rank(Knn(query="red whale", key="splade")).select("#score")
        found = collection.search(search)
        assert found["ids"] == [["2", "1", "0"]]
        assert found["scores"] == [[1 - 2.0 * (9 + 25), 1 - 2.0 * 25, 1 - 2.0 * 9]]
        collection.update(ids=["0"], embeddings=[[1, 1, 1]], documents=["whale"])
        assert metadata_of(collection, "0") == {"splade": function(["whale"])[0]}


def test_files_carry_them_over(tmp_path):
    schema = Schema().create_index(key="s", config=SparseVectorIndexConfig(bm25=True))
    with vexfs_chroma.PersistentClient(tmp_path / "old") as client:
        collection = client.create_collection("abc", schema=schema, embedding_function=None)
        collection.add(ids=["a", "b"], embeddings=np.eye(2), metadatas=[{"s": A, "n": 1}, {"s": B}])
    vexfs_chroma.export_jsonl(tmp_path / "old", tmp_path / "files")
    vexfs_chroma.import_files(tmp_path / "files", tmp_path / "new")
    with vexfs_chroma.PersistentClient(tmp_path / "new") as client:
        collection = client.get_collection("abc", embedding_function=None)
        assert collection.get()["metadatas"] == [{"s": A, "n": 1}, {"s": B}]
        assert collection.schema.keys["s"].sparse_vector.sparse_vector_index.config.bm25


def test_counts_of_a_key_with_sparse_vectors(client):
    collection = client.create_collection("abc", embedding_function=None)
    collection.add(
        ids=["a", "b", "c"], embeddings=np.eye(3), metadatas=[{"s": A}, {"s": 1}, {"s": 1}]
    )
    for flush in (False, True):
        if flush:
            collection._client._open(collection.id).engine.flush()
        assert collection.get(where={"s": {"$exists": True}})["ids"] == ["a", "b", "c"]
        assert collection.distinct("s") == [1]
        assert collection.get(order_by="s")["ids"]


def test_plain_lists_are_packed_as_arrays_are():
    for indices, values in (([], []), ([0, 7, 2**32 - 1], [0.1, -2.5, 3]), ([5], [2**53 + 1])):
        plain = _wire.sparse_as_ext(SparseVector(indices, values))
        odd = SparseVector(indices, values)
        odd.indices = list(map(np.int64, indices))  # goes by arrays
        assert plain.data == _wire.sparse_as_ext(odd).data
        assert len(plain.data) == 4 + 8 * len(indices)
    with pytest.raises(InvalidArgumentError, match="between 0 and 4294967295"):
        _wire.sparse_as_ext(SparseVector([2**32], [1.0]))


@pytest.mark.parametrize(
    ("indices", "values", "text"),
    [
        ([2, 1], [1.0, 2.0], "strictly ascending"),
        ([1, 1], [1.0, 2.0], "strictly ascending"),
        ([1, 2], [1.0, float("nan")], "must be numbers"),
        ([1, 2], [float("inf"), 1.0], "must be numbers"),
    ],
)
def test_what_was_never_stored_is_not_read(indices, values, text):
    wrong = SparseVector([], [])
    wrong.indices, wrong.values = indices, values
    stored = _wire.encode((["a"], None, [{"s": _wire.sparse_as_ext(wrong)}], None))
    with pytest.raises(CorruptionError, match=text):
        _wire.decode_records(stored)
