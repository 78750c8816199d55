"""count with filters, distinct, facets, min_max, keys."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from chromadb.base_types import SparseVector
from chromadb.errors import InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import _engine
from vexfs_chroma._api_pages import read_order
from vexfs_chroma._observe import _described, _observer

METADATAS = [
    {"colour": "red", "n": 1, "tags": ["a", "b", "a"], "mixed": 1},
    {"colour": "blue", "n": 2.5, "tags": ["b"], "mixed": True},
    {"colour": "red", "n": 1.0, "mixed": "text"},
    None,
    {"colour": "Green", "n": -3, "tags": ["c"], "mixed": ["text", "more"], "rare": -0.0},
    {"colour": "blue", "n": 2**53 + 1, "mixed": 1.0, "rare": 0.0},
]


def flush(collection):
    with collection._api._using(collection.id) as opened:
        opened.engine.flush()


@pytest.fixture(params=["memory", "files", "both"])
def collection(request, tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path)
    made = client.create_collection("abc", embedding_function=None)
    ids = [str(i) for i in range(len(METADATAS))]
    half = 3 if request.param == "both" else len(ids)
    for start, end in ((0, half), (half, len(ids))):
        if start < end:
            made.add(
                ids=ids[start:end],
                embeddings=[[i, 1] for i in range(start, end)],
                metadatas=METADATAS[start:end],
                documents=[f"document {i}" for i in range(start, end)],
            )
        if start == 0 and request.param != "memory":
            flush(made)
    yield made
    client.close()


def typed(values):
    return [(type(value), value) for value in values]


def test_count(collection):
    assert collection.count() == 6
    assert collection.count(where={"colour": "red"}) == 2
    assert collection.count(where={"colour": {"$exists": False}}) == 1
    assert collection.count(where_document={"$contains": "document"}) == 6
    assert collection.count(where={"n": 1}, where_document={"$contains": "2"}) == 1
    collection.delete(ids=["0"])
    assert collection.count(where={"colour": "red"}) == 1


def test_distinct(collection):
    assert collection.distinct("colour") == ["Green", "blue", "red"]
    assert typed(collection.distinct("n")) == typed([-3, 1, 1.0, 2.5, 2**53 + 1])
    assert collection.distinct("tags") == ["a", "b", "c"]
    assert typed(collection.distinct("mixed")) == typed([True, 1, 1.0, "more", "text"])
    assert collection.distinct("rare") == [0.0]
    assert collection.distinct("n", limit=2) == [-3, 1]
    assert collection.distinct("n", limit=0) == []
    assert collection.distinct("n", where={"colour": "blue"}) == [2.5, 2**53 + 1]
    assert collection.distinct("nowhere") == []


def test_facets(collection):
    facets = collection.facets(["colour", "tags", "nowhere"])
    assert facets == {
        "colour": [("blue", 2), ("red", 2), ("Green", 1)],
        "tags": [("b", 2), ("a", 1), ("c", 1)],  # "a" once, though a list has it twice
        "nowhere": [],
    }
    first = facets["colour"][0]
    assert (first.value, first.records) == ("blue", 2)
    assert collection.facets("mixed", limit=2) == {"mixed": [("text", 2), (True, 1)]}
    assert collection.facets("colour", where={"n": {"$gt": 2}}) == {"colour": [("blue", 2)]}
    assert collection.facets([]) == {}


def test_min_max(collection):
    assert collection.min_max("n") == (-3, 2**53 + 1)
    assert collection.min_max("colour") == ("Green", "red")
    assert collection.min_max("tags") == ("a", "c")
    assert collection.min_max("mixed") == (True, "text")
    assert collection.min_max("n", where={"colour": "red"}) == (1, 1.0)
    assert collection.min_max("nowhere") is None


def test_keys(collection):
    collection.update(ids=["3"], metadatas=[{"chroma:hidden": 1, "gone": 1}])
    collection.update(ids=["3"], metadatas=[{"gone": None}])
    assert collection.keys() == {
        "colour": (5, ("str",)),
        "mixed": (5, ("bool", "int", "float", "str", "list[str]")),
        "n": (5, ("int", "float")),
        "rare": (2, ("float",)),
        "tags": (3, ("list[str]",)),
    }
    assert collection.keys(where={"colour": "Green"})["n"] == (1, ("int",))


def test_errors(collection):
    for call in (
        lambda where: collection.count(where=where),
        lambda where: collection.distinct("n", where=where),
        lambda where: collection.facets("n", where=where),
        lambda where: collection.min_max("n", where=where),
        lambda where: collection.keys(where=where),
    ):
        with pytest.raises(ValueError, match=r"^Expected where operator to be one of .* in \w+\.$"):
            call({"n": {"$foo": 1}})
        with pytest.raises(InvalidArgumentError, match="Invalid where clause"):
            call({"n": float("nan")})
    with pytest.raises(InvalidArgumentError, match=r"^Expected metadata key to be a str, got 1 in"):
        collection.distinct(1)
    with pytest.raises(InvalidArgumentError, match="got None in facets"):
        collection.facets(["n", None])
    for keys in (None, 5, 1.5, object()):
        with pytest.raises(InvalidArgumentError, match=r"^Expected keys to be a metadata key or"):
            collection.facets(keys)
    for call in (collection.distinct, collection.min_max, collection.facets):
        for key in ("#document", "$n"):
            with pytest.raises(InvalidArgumentError, match="which never begins with '#' or"):
                call(key)
        with pytest.raises(InvalidArgumentError, match="Expected metadata key to be valid Unicode"):
            call("\ud800")
    for limit in (-1, 2**32, 10**400, 1.5, "1", True, float("nan"), [1]):
        for call in (collection.distinct, collection.facets):
            with pytest.raises(InvalidArgumentError, match=r"^Expected limit to be None or an int"):
                call("n", limit=limit)
    assert collection.distinct("n", limit=np.int64(1)) == collection.distinct("n", limit=1)
    collection._client.delete_collection(collection.name, "default_tenant", "default_database")
    for call in (lambda: collection.distinct("n"), lambda: collection.count(where={"n": 1})):
        with pytest.raises(NotFoundError):
            call()


def test_a_schema_without_an_index_refuses_filters_not_values(tmp_path):
    from chromadb import Schema
    from chromadb.api.types import StringInvertedIndexConfig

    client = vexfs_chroma.PersistentClient(tmp_path)
    schema = Schema().delete_index(config=StringInvertedIndexConfig(), key="s")
    made = client.create_collection("abc", schema=schema, embedding_function=None)
    made.add(ids=["1"], embeddings=[[1, 2]], metadatas=[{"s": "x"}])
    assert made.distinct("s") == ["x"]
    with pytest.raises(InvalidArgumentError, match="'s' with type 'Str' because indexing"):
        made.count(where={"s": "x"})
    client.close()


def test_sparse_vectors_are_keys_without_values(database):
    key = uuid.uuid4()
    database.create_collection(key, "l2")
    engine = database.open_collection(key)
    vector = SparseVector(indices=[1, 2], values=[0.5, 1.0])
    vectors = np.ones((2, 2), dtype=np.float32)
    engine.write("add", ["a", "b"], vectors, None, [{"k": vector}, {"k": 1}], None)
    for _ in range(2):
        (found,) = engine.aggregate("counts", ["k"])
        assert (found.rows, found.types, found.values, found.counts) == (2, 256 | 2, [1], [1])
        engine.flush()
    engine.close()


def test_malformed_requests_of_the_engine(database):
    key = uuid.uuid4()
    database.create_collection(key, "l2")
    engine = database.open_collection(key)
    with pytest.raises(InvalidArgumentError, match="keys must be a MessagePack array of strings"):
        engine.aggregate("keys", [1])
    assert engine.aggregate("values", ["a", ""]) == [_engine.KeyValues(0, 0, 0, [], [])] * 2
    engine.close()


def test_they_are_observed_without_values(collection):
    def counts():
        found = _observer.observer().read()
        return found.get("op.count.count", 0), found.get("op.get.count", 0)

    counted, got = counts()
    collection.facets(["n", "colour"], where={"colour": "red"})
    collection.count(where={"n": 1})
    collection.get(order_by="n", limit=2)
    assert counts() == (counted + 2, got + 1)
    api, id, where = collection._api, collection.id, {"colour": "red"}
    assert _described.aggregate(api, id, "counts", ["n"], where, None, 3) == {
        "collection": "abc", "tenant": "default_tenant", "database": "default_database",
        "where": {"colour": "str"}, "aggregate": "counts", "keys": ["n"], "limit": 3,
    }  # fmt: skip
    assert _described.count_records(api, id, where, None)["where"] == {"colour": "str"}
    order = read_order("n", True, None)
    about = _described.get_ordered(api, id, ["a"], None, None, [], order, 2, None)
    assert about["order_by"] == "n"
    assert about["ids"] == 1
