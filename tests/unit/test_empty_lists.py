"""Empty lists in metadata, in collections that ask for them, in process and on a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb import K, Schema, Search, SparseVectorIndexConfig
from chromadb.errors import InvalidArgumentError
from chromadb.utils.embedding_functions import ChromaBm25EmbeddingFunction

import vexfs_chroma

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
from server_kit import run_server  # isort: skip

ASKED = {"vexfs:empty_lists": True}
GIVEN = [{"tags": [], "n": 1}, {"tags": ["x"]}, {"n": 2}, {"tags": [], "other": []}]


@pytest.fixture(params=["memory", "disk", "server"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "server":
        with (
            run_server(tmp_path) as server,
            vexfs_chroma.HttpClient(host=server.host, port=server.port) as made,
        ):
            yield made
        return
    path = tmp_path / "database"
    with (
        vexfs_chroma.PersistentClient(path)
        if request.param == "disk"
        else vexfs_chroma.EphemeralClient()
    ) as made:
        yield made
        for collection in made.list_collections():
            made.delete_collection(collection.name)


def filled(client: Any) -> Any:
    collection = client.create_collection("lists", metadata=ASKED, embedding_function=None)
    collection.add(ids=["a", "b", "c", "d"], embeddings=np.eye(4), metadatas=GIVEN)
    return collection


def test_they_are_kept_and_filtered(client: Any) -> None:
    collection = filled(client)
    for _ in range(2):
        assert collection.get()["metadatas"] == GIVEN
        for condition, expected in (
            ({"$exists": True}, "abd"),
            ({"$exists": False}, "c"),
            ({"$contains": "x"}, "b"),
            ({"$not_contains": "x"}, "acd"),
            ({"$ne": "x"}, "abcd"),
            ({"$in": ["x", ""]}, ""),
            ({"$starts_with": ""}, ""),
        ):
            assert "".join(collection.get(where={"tags": condition})["ids"]) == expected, condition
        assert collection.distinct("tags") == ["x"]
        assert collection.facets("other") == {"other": []}
        assert collection.min_max("other") is None
        assert {key: one.records for key, one in collection.keys().items()} == {"n": 2, "tags": 3}
        assert collection.get(where={"other": {"$exists": True}})["ids"] == ["d"]
        assert collection.get(where={"other": {"$exists": False}})["ids"] == ["a", "b", "c"]
        assert collection.get(order_by="other")["ids"] == ["a", "b", "c", "d"]
        found = collection.search(Search().where(K("n") == 1).select("tags"))
        assert found["metadatas"] == [[{"tags": []}]]
        if hasattr(client, "vacuum"):
            client.vacuum()


def test_updates(client: Any) -> None:
    collection = filled(client)
    collection.update(ids=["a", "b"], metadatas=[{"tags": ["y"]}, {"tags": []}])
    collection.upsert(ids=["c", "e"], embeddings=np.eye(4)[:2], metadatas=[{"tags": []}, {"z": []}])
    collection.update(ids=["d"], metadatas={"tags": None})
    assert collection.get()["metadatas"] == [
        {"tags": ["y"], "n": 1},
        {"tags": []},
        {"n": 2, "tags": []},
        {"other": []},
        {"z": []},
    ]


def test_other_collections_refuse_them(client: Any) -> None:
    for number, metadata in enumerate((None, {"vexfs:empty_lists": False})):
        collection = client.create_collection(
            f"others-{number}", metadata=metadata, embedding_function=None
        )
        with pytest.raises(ValueError, match="'tags' to be non-empty in add"):
            collection.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"tags": []}])
        assert collection.count() == 0


def test_everything_else_is_refused_as_always(client: Any) -> None:
    collection = filled(client)
    for wrong in ([{"tags": [], "n": [1, "x"]}], [{"tags": []}, {"n": 1}], [{}], [{"#x": []}]):
        with pytest.raises(ValueError if "#x" not in wrong[0] else InvalidArgumentError):
            collection.add(ids=["z"], embeddings=[[1, 2, 3, 4]], metadatas=wrong)
    with pytest.raises(InvalidArgumentError, match="vexfs:empty_lists must be True or False"):
        client.create_collection("wrong", metadata={"vexfs:empty_lists": 1})
    assert collection.count() == 4


def test_beside_sparse_embeddings_and_documents(client: Any) -> None:
    config = SparseVectorIndexConfig(
        source_key="#document", embedding_function=ChromaBm25EmbeddingFunction()
    )
    schema = Schema().create_index(key="bm25", config=config)
    collection = client.create_collection(
        "sparse", metadata=ASKED, schema=schema, embedding_function=None
    )
    collection.add(ids=["a"], embeddings=[[1, 2]], documents=["a fox"], metadatas=[{"tags": []}])
    (metadata,) = collection.get()["metadatas"]
    assert metadata["tags"] == []
    assert set(metadata) == {"tags", "bm25"}


def test_files_carry_them_over_and_chroma_does_without(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path / "old") as client:
        filled(client)
    vexfs_chroma.export_jsonl(tmp_path / "old", tmp_path / "files")
    vexfs_chroma.import_files(tmp_path / "files", tmp_path / "new")
    with vexfs_chroma.PersistentClient(tmp_path / "new") as client:
        assert client.get_collection("lists", embedding_function=None).get()["metadatas"] == GIVEN
    vexfs_chroma.export_chroma(tmp_path / "old", tmp_path / "chroma")
