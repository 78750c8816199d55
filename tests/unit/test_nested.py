"""Nested dicts as metadata."""

from __future__ import annotations

from datetime import date

import pytest

import vexfs_chroma
from vexfs_chroma import K, Search
from vexfs_chroma._nested import flatten, nest

ADA = {"author": {"name": "Ada", "born": {"year": 1815, "on": date(1815, 12, 10)}}, "pages": 3}
SHOWN = {"author": {"name": "Ada", "born": {"year": 1815, "on": "1815-12-10"}}, "pages": 3}


@pytest.fixture
def client(tmp_path):
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        yield client


def nested(client, name="nested"):
    return client.create_collection(name, metadata={"vexfs:nested": True}, embedding_function=None)


@pytest.mark.parametrize("condition", [1815, {"$lt": 1900}, {"year": 1815}])
def test_nested_filters_lead_to_paths(client, condition):
    collection = nested(client)
    collection.add(ids=["a"], embeddings=[[1, 1]], metadatas=[ADA])
    where = {"author": {"born": condition}}
    text = r"nested metadata is filtered by its path, as \{'author.born': \.\.\.\} in "
    for call in (collection.get, collection.delete, collection.count, collection.keys):
        for given in (where, {"$and": [{"pages": 3}, {"$or": [where, where]}]}):
            with pytest.raises(ValueError, match=text + call.__name__):
                call(where=given)
    with pytest.raises(ValueError, match=r"one of .* got \$foo"):
        collection.get(where={"author": {"$foo": 1}})
    plain = client.create_collection("plain", embedding_function=None)
    with pytest.raises(ValueError, match=r"Expected where operator to be one of .*, got born"):
        plain.get(where=where)


def test_written_flat_and_read_nested(client):
    written = nested(client)
    plain = {"author": {"name": "Eve"}}
    written.add(ids=["a", "b"], embeddings=[[1, 1], [2, 2]], metadatas=[ADA, plain])
    opened = client.get_collection("nested", embedding_function=None)
    for collection in (written, opened):
        assert collection.get()["metadatas"] == [SHOWN, plain]
        assert collection.get(ids=("a"), limit=1)["metadatas"] == [SHOWN]
        assert collection.peek(1)["metadatas"] == [SHOWN]
        found = collection.query(query_embeddings=[[1, 1], [2, 2]], n_results=1)
        assert found["metadatas"] == [[SHOWN], [plain]]
        assert collection.get(order_by="author.name", limit=1)["metadatas"] == [SHOWN]
        assert next(collection.iter_batches())["metadatas"] == [SHOWN, plain]
        assert collection.get(where={"author.born.year": {"$lt": 1900}})["ids"] == ["a"]
        assert collection.get(where={"author.name": {"$ieq": "EVE"}})["ids"] == ["b"]
        assert collection.distinct("author.name") == ["Ada", "Eve"]
        assert collection.get(include=[])["metadatas"] is None
        ranked = Search().where(K("author.name") == "Ada").select(K.METADATA)
        assert collection.search([ranked, ranked])["metadatas"] == [[SHOWN], [SHOWN]]
        assert collection.search(Search())["metadatas"] == [None]


def test_updates_merge_by_path(client):
    collection = nested(client)
    collection.add(ids=["a"], embeddings=[[1, 1]], metadatas=ADA)
    collection.update(ids=["a"], metadatas={"author": {"name": "A. L.", "born": {"on": None}}})
    assert collection.get()["metadatas"] == [
        {"author": {"name": "A. L.", "born": {"year": 1815}}, "pages": 3}
    ]
    collection.upsert(ids=["a"], embeddings=[[1, 1]], metadatas={"author": 1})
    assert collection.get()["metadatas"] == [
        {"author": 1, "author.born.year": 1815, "author.name": "A. L.", "pages": 3}
    ]


def test_other_collections_refuse_dicts_and_keep_dots(client):
    collection = client.create_collection("plain", embedding_function=None)
    with pytest.raises(ValueError, match="Expected metadata value to be a str, int, float, bool"):
        collection.add(ids=["a"], embeddings=[[1, 1]], metadatas=ADA)
    collection.add(ids=["a"], embeddings=[[1, 1]], metadatas={"a.b": 1})
    assert collection.get()["metadatas"] == [{"a.b": 1}]


@pytest.mark.parametrize(
    ("flat", "shown"),
    [
        ({"a.b": 1, "a.c.d": 2, "e": 3}, {"a": {"b": 1, "c": {"d": 2}}, "e": 3}),
        ({"a": 1, "a.b": 2}, {"a": 1, "a.b": 2}),
        ({"a.b": 1, "a.b.c": 2}, {"a": {"b": 1}, "a.b.c": 2}),
        ({"a..b": 1, ".a": 2, "a.": 3, ".": 4}, {"a..b": 1, ".a": 2, "a.": 3, ".": 4}),
        ({"a-b": 1, "a.b": 2, "a": 3}, {"a-b": 1, "a": 3, "a.b": 2}),
    ],
)
def test_paths(flat, shown):
    metadatas = [flat, None]
    nest(metadatas)
    assert metadatas == [shown, None]


def test_what_has_no_dict_is_not_copied():
    one = {"a.b": 1}
    assert flatten(one) is one
    assert flatten([one, None])[0] is one


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"a": {}}, "Expected metadata to be a non-empty dict, got {} for a"),
        ({"a": {"b": {}}}, "Expected metadata to be a non-empty dict, got {} for a.b"),
        ({"a.b": 1, "a": {"b": 2}}, "Expected metadata to have one value for a.b, got two"),
        ({"a": {"b": [{"c": 1}]}}, "Expected metadata list value for key"),
        ({"a": {"b": object()}}, "Expected metadata value to be a str"),
    ],
)
def test_errors(client, metadata, text):
    with pytest.raises(ValueError) as caught:
        nested(client).add(ids=["a"], embeddings=[[1, 1]], metadatas=metadata)
    assert text in str(caught.value)


def test_too_many_levels(client):
    metadata = 1
    for _ in range(40):
        metadata = {"a": metadata}
    with pytest.raises(ValueError, match="at most 32 levels"):
        nested(client).add(ids=["a"], embeddings=[[1, 1]], metadatas=metadata)
    with pytest.raises(TypeError, match="Expected metadata key to be a str, got 1"):
        nested(client, "other").add(ids=["a"], embeddings=[[1, 1]], metadatas={"a": {1: 2}})
