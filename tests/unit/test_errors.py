"""Errors have the classes and the texts of Chroma 1.5.9; the rest is in tests/conformance."""

from __future__ import annotations

import uuid
import warnings

import numpy as np
import pytest
from chromadb import errors

import vexfs_chroma


@pytest.fixture
def client():
    client = vexfs_chroma.EphemeralClient()
    yield client
    client.close()


@pytest.fixture
def collection(client):
    collection = client.create_collection("abc", embedding_function=None)
    collection.add(ids=["a"], embeddings=[[1, 2]])
    return collection


@pytest.fixture
def api(client):
    return client._server


def raises(kind, text):
    return pytest.raises(kind, match="^" + text + "$")


def test_errors_of_ours_are_kinds_of_chromas():
    for ours, theirs in {
        vexfs_chroma.CorruptionError: errors.InternalError,
        vexfs_chroma.DatabaseLockedError: errors.InternalError,
        vexfs_chroma.ReadOnlyError: errors.InternalError,
        vexfs_chroma.StorageFullError: errors.InternalError,
        vexfs_chroma.StoragePermissionError: errors.InternalError,
        vexfs_chroma.ForeignDatabaseError: errors.InvalidArgumentError,
    }.items():
        assert issubclass(ours, theirs)
        assert ours.name() == theirs.name()  # what clients see over HTTP


def test_a_deleted_collection(client, collection):
    gone = rf"Collection \[{collection.id}\] does not exist"
    client.delete_collection("abc")
    for use in (
        collection.count,
        collection.get,
        lambda: collection.delete(ids=["a"]),
        lambda: collection.delete(where={"a": 1}),
    ):
        with raises(errors.NotFoundError, gone + r"\."):
            use()
    for use in (
        lambda: collection.add(ids=["b"], embeddings=[[1, 2]]),
        lambda: collection.upsert(ids=["b"], embeddings=[[1, 2]]),
        lambda: collection.update(ids=["b"], embeddings=[[1, 2]]),
        lambda: collection.query(query_embeddings=[[1, 2]]),
    ):
        with raises(errors.NotFoundError, "Error getting collection: " + gone + r"\."):
            use()
    with raises(errors.NotFoundError, gone):
        collection.modify(name="other")


def test_vectors(collection, api):
    with raises(
        errors.InvalidArgumentError, "Collection expecting embedding with dimension of 2, got 3"
    ):
        collection.add(ids=["b"], embeddings=[[1, 2, 3]])
    with raises(
        errors.InvalidArgumentError, "Collection expecting embedding with dimension of 2, got 1"
    ):
        collection.query(query_embeddings=[[1]])
    with raises(errors.InvalidArgumentError, "Inconsistent dimensions in provided embeddings"):
        collection.add(ids=["b", "c"], embeddings=[[1, 2], [1, 2, 3]])
    for bad in (float("nan"), float("inf")):
        with raises(
            errors.InvalidArgumentError,
            "Validation error: embeddings: Embeddings must not contain NaN or Infinity values",
        ):
            collection.add(ids=["b"], embeddings=[[1, bad]])
    with warnings.catch_warnings(), raises(errors.InvalidArgumentError, ".*NaN or Infinity values"):
        warnings.simplefilter("ignore")  # numpy's, about masked elements
        collection.add(ids=["b"], embeddings=np.ma.array([[1.0, 2.0]], mask=[[False, True]]))
    with raises(
        errors.InvalidArgumentError,
        "Validation error: embeddings: Each embedding must have at least 1 dimension",
    ):
        api._add(["b"], collection.id, [np.zeros(0)])
    assert collection.count() == 1


def test_ids(collection):
    with raises(errors.InvalidArgumentError, "Empty ID, ID must have at least one character"):
        collection.add(ids=[""], embeddings=[[1, 2]])
    with raises(errors.InternalError, "Error executing plan: Internal error: Error finding id"):
        collection.query(query_embeddings=[[1, 2]], ids=["a", "nope"])
    found = collection.query(query_embeddings=[[1, 2]], ids=["a", "nope"], where={"x": {"$ne": 1}})
    assert found["ids"] == [["a"]]
    assert collection.query(query_embeddings=[[1, 2]], ids=[])["ids"] == [[]]


def test_a_collection_that_was_never_filled_finds_nothing(client):
    collection = client.create_collection("empty", embedding_function=None)
    found = collection.query(query_embeddings=[[1, 2], [3, 4]], ids=["a"], include=["embeddings"])
    assert found["ids"] == [[], []]
    assert [e.shape for e in found["embeddings"]] == [(0,), (0,)]


def test_metadata(collection):
    def add(metadata):
        collection.upsert(ids=["m"], embeddings=[[1, 2]], metadatas=[metadata])
        found = collection.get(ids=["m"])["metadatas"][0]
        collection.delete(ids=["m"])
        return found

    assert add({"a": 2**63 - 1, "b": -(2**63)}) == {"a": 2**63 - 1, "b": -(2**63)}
    assert add({"a": 2**63}) == {"a": float(2**63)}
    assert type(add({"a": np.float64(1.5)})["a"]) is float
    assert add({"a": float("nan")}) is None
    assert add({"a": float("inf"), "b": 1}) == {"b": 1}
    assert add({"a": [1, 2**63]}) == {"a": [1.0, float(2**63)]}
    assert add({"a": [1.0, float("nan")], "b": 1}) == {"b": 1}
    collection.upsert(ids=["n"], embeddings=[[1, 2]], metadatas=[{"a": 1, "b": 1}])
    collection.update(ids=["n"], metadatas=[{"a": float("nan")}])
    assert collection.get(ids=["n"])["metadatas"] == [{"b": 1}]
    with pytest.raises(TypeError, match="Cannot convert Python object"):
        add({"a": 10**400})
    assert add({"chroma:x": 1}) == {}
    assert add({"chroma:x": 1, "b": 1}) == {"b": 1}
    for key in ("", "#a", "$a"):
        with raises(
            errors.InvalidArgumentError,
            "Validation error: metadatas: Invalid metadata at index 0",
        ):
            add({key: 1})
    with raises(TypeError, "argument 'metadatas': Cannot convert Python object to MetadataValue"):
        collection.add(ids=["m"], embeddings=[[1, 2]], metadatas=[{"a": None}])


def test_hidden_keys_are_found_and_never_shown_in_large_results(collection):
    n = 200
    ids = [f"h{i}" for i in range(n)]
    metadatas = [{"chroma:n": i, "n": i} for i in range(n)]
    collection.add(ids=ids, embeddings=[[1, 2]] * n, metadatas=metadatas)
    shown = collection.get(where={"chroma:n": {"$gte": 0}})["metadatas"]
    assert shown == [{"n": i} for i in range(n)]


def test_uris(collection):
    collection.add(ids=["u", "v"], embeddings=[[1, 2]] * 2, uris=["file:u", "file:v"])
    found = collection.get(ids=["u"], include=["uris", "metadatas"])
    assert found["uris"] == ["file:u"]
    assert found["metadatas"] == [{}]
    with raises(TypeError, "argument 'uris': 'int' object cannot be converted to 'PyString'"):
        collection.update(ids=["u"], embeddings=[[3, 4]], uris=[5])
    assert collection.get(where={"chroma:uri": "file:u"})["ids"] == []
    collection.update(ids=["u"], uris=["file:w"])
    assert collection.get(ids=["u"], include=["uris"])["uris"] == ["file:w"]


@pytest.mark.parametrize("argument", ["limit", "offset"])
def test_limits(collection, argument):
    with raises(OverflowError, "out of range integral type conversion attempted"):
        collection.get(**{argument: -1})
    with raises(
        TypeError, f"argument '{argument}': 'float' object cannot be interpreted as an integer"
    ):
        collection.get(**{argument: 1.5})
    with raises(OverflowError, "out of range integral type conversion attempted"):
        collection.get(**{argument: 2**32})
    assert collection.get(**{argument: 2**32 - 1})["ids"] == (["a"] if argument == "limit" else [])


def test_names(client):
    for name, text in {
        "ab": "Expected a name containing 3-512 characters .* Got: ab",
        "a..b": r"Expected a name that does not contains two consecutive periods \(..\). Got a..b",
        "10.0.0.1": "Expected a name that is not a valid ip address. Got 10.0.0.1",
        "a+b+c": "Expected a name to contain at most one topology:  Got two `\\+` characters.",
    }.items():
        with raises(errors.InvalidArgumentError, f"Validation error: name: {text}"):
            client.create_collection(name)
    with raises(TypeError, "argument 'name': 'int' object cannot be converted to 'PyString'"):
        client.create_collection(5)
    with raises(errors.NotFoundError, r"Collection \[a b\] does not exist"):
        client.get_collection("a b")
    with raises(
        errors.InvalidArgumentError,
        "Validation error: collection_id: Invalid collection ID format, expected UUID",
    ):
        client.get_collection_by_id("xx")
    with raises(errors.NotFoundError, r"Collection \[.*\] does not exist"):
        client.get_collection_by_id(uuid.uuid4())


def test_collection_metadata(client):
    not_a_value = "argument 'metadata': Cannot convert Python object to MetadataValue"
    for metadata, text in (
        ({"a": None}, not_a_value),
        ({"a": {}}, not_a_value),
        ({1: 2}, "argument 'metadata': 'int' object cannot be converted to 'PyString'"),
        ("x", "argument 'metadata': 'str' object cannot be converted to 'PyDict'"),
    ):
        with raises(TypeError, text):
            client.create_collection("abc", metadata=metadata)
    for metadata, text in (
        ({}, "Metadata cannot be empty"),
        ({"": 1}, "Metadata key cannot be empty"),
        ({"#a": 1}, "Metadata key cannot start with '#' or '\\$': #a"),
        ({"a": [1]}, "Metadata of a collection cannot hold a list: a"),
    ):
        with raises(errors.InvalidArgumentError, f"Validation error: metadata: {text}"):
            client.create_collection("abc", metadata=metadata)
    collection = client.create_collection("abc", metadata={"a": 1, "n": float("nan")})
    assert list(collection.metadata) == ["a", "n"]
    assert client.get_collection("abc").metadata == {"a": 1}
    numbers = {"f": np.float32(1.5), "i": np.int64(3), "b": np.True_, "big": 2**63}
    stored = client.create_collection("numbers", metadata=numbers).metadata
    assert stored == {"f": 1.5, "i": 3, "b": True, "big": float(2**63)}
    assert [type(stored[key]) for key in numbers] == [float, int, bool, float]
    with raises(ValueError, "Empty lists are not allowed as metadata values"):
        client.create_collection("def", metadata={"a": []})
    collection.modify(metadata={"b": 2, "c": None})
    assert client.get_collection("abc").metadata == {"b": 2}


def test_what_local_chroma_does_not_do(collection):
    for call in (
        lambda: collection.attach_function("record_counter", "f", "out"),
        lambda: collection.get_attached_function("f"),
        lambda: collection.detach_function("f", delete_output_collection=True),
    ):
        with pytest.raises(NotImplementedError, match=r"^Attached functions are only supported"):
            call()


def test_reset_needs_permission(client):
    with raises(errors.AuthorizationError, "Reset is disabled by config"):
        client.reset()


def test_raw_arguments_over_http_are_checked(api, collection):
    with raises(errors.InvalidArgumentError, "Validation error: ids, where: .*"):
        api._delete(collection.id, ids=[])
    assert api._delete(collection.id) == {"deleted": 0}
    with raises(errors.InvalidArgumentError, "Invalid where clause"):
        api._get(collection.id, where={"a": {"$gt": True}})
    with raises(errors.InvalidArgumentError, "Multiple vector index configurations provided"):
        api.create_collection_from_json(
            "new", None, {"hnsw": {}, "spann": {}}, None,
            get_or_create=False, tenant="default_tenant", database="default_database",
        )  # fmt: skip


def test_text_without_utf8_is_refused_before_anything_is_stored(client):
    collection = client.create_collection("texts", embedding_function=None)
    for arguments in (
        {"ids": ["fine", "\ud800"]},
        {"ids": ["a", "b"], "documents": ["fine", "\ud800"]},
        {"ids": ["a", "b"], "uris": ["fine", "\ud800"]},
        {"ids": ["a", "b"], "metadatas": [{"k": 1}, {"\ud800": 1}]},
    ):
        with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
            collection.add(embeddings=[[1, 2], [3, 4]], **arguments)
    for metadata in ({"k": "\ud800"}, {"k": ["x", "\ud800"]}):
        with pytest.raises(TypeError, match="argument 'metadatas': Cannot convert Python"):
            collection.add(ids=["a"], embeddings=[[1, 2]], metadatas=[metadata])
        with pytest.raises(TypeError, match="to UpdateMetadataValue"):
            collection.update(ids=["a"], metadatas=[metadata])
    assert collection.count() == 0
    schema = vexfs_chroma.Schema()
    schema.create_index(config=vexfs_chroma.StringInvertedIndexConfig(), key="\ud800")
    with pytest.raises(errors.InvalidArgumentError, match="unexpected end of hex escape"):
        client.create_collection("other", schema=schema)
    with pytest.raises(TypeError, match="argument 'metadata'"):
        client.create_collection("other", metadata={"k": "\ud800"})
    with pytest.raises(TypeError, match="argument 'new_metadata'"):
        collection.modify(metadata={"k": "\ud800"})
    assert [found.name for found in client.list_collections()] == ["texts"]


def test_sizes_that_are_refused(client, collection):
    for id in ("x" * 65_536, "é" * 32_768):
        for write in (collection.add, collection.upsert, collection.update):
            with raises(
                errors.InvalidArgumentError, "the id of record 1 must have 1 to 65535 bytes"
            ):
                write(ids=["b", id], embeddings=[[1, 2], [3, 4]])
        assert collection.get(ids=[id])["ids"] == []  # no such record, as for any other id
    longest = "é" * 32_767 + "x"
    collection.add(ids=[longest], embeddings=[[1, 2]], metadatas=[{"k" * 100_000: 1}])
    assert collection.get(ids=[longest])["ids"] == [longest]
    wide = client.create_collection("wide", embedding_function=None)
    too_wide = np.zeros((1, 65_537), np.float32)
    for call in (
        lambda: wide.add(ids=["a"], embeddings=too_wide),
        lambda: wide.upsert(ids=["a"], embeddings=too_wide),
        lambda: wide.update(ids=["a"], embeddings=too_wide),
        lambda: wide.query(query_embeddings=too_wide),
    ):
        with pytest.raises(errors.InvalidArgumentError, match=r"1 to 65536 dimensions"):
            call()
    assert wide.count() == 0
    wide.add(ids=["a"], embeddings=too_wide[:, 1:])
    assert wide.query(query_embeddings=too_wide[:, 1:])["ids"] == [["a"]]
    where = {"n": 1}
    for _ in range(33):
        where = {"$or": [{"$and": [where, {"a": 1}]}, {"b": 1}]}
    with pytest.raises(errors.InvalidArgumentError, match="nested deeper than 64 levels"):
        collection.get(where=where)
