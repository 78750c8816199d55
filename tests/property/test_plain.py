"""Plain arguments go to the engine without chromadb's validation: with the same outcome.

Every call is made twice, on two equal collections: by our method, which may recognise plain
arguments, and by chromadb's own method of the same name.  Records, results, classes of errors and
their texts must be the same, whatever the arguments are.
"""

from __future__ import annotations

import warnings
from decimal import Decimal

import chromadb
import numpy as np
import pytest
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.base_types import SparseVector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vexfs_chroma
from vexfs_chroma import _plain

DIMENSION = 3
EVERYTHING = ["documents", "embeddings", "metadatas", "uris"]


class Text(str):
    __slots__ = ()


class Table(dict):
    __slots__ = ()


class Row(list):
    __slots__ = ()


numbers = st.one_of(
    st.floats(width=32),
    st.integers(-10, 10),
    st.sampled_from([1e300, -1e39, float("nan"), float("inf"), 2**63, -(2**70), 10**400]),
)
odd_elements = st.sampled_from([True, None, "1.5", "x", np.float64(2), np.int8(1), Decimal(1), [1]])
good_numbers = st.floats(-100, 100, width=32)


def rows(n, element=good_numbers, dimension=DIMENSION):
    return st.lists(
        st.lists(element, min_size=dimension, max_size=dimension), min_size=n, max_size=n
    )


DTYPES = ["f2", "f4", "f8", "i4", "i8", "i2", "u4", ">f4", "?", "c8", "O", "U3"]


@st.composite
def arrays(draw, n):
    values = np.array(draw(rows(n, st.integers(0, 9))))
    shape = draw(st.sampled_from([values.shape, (values.size,), (n, DIMENSION, 1), (0, 3), (n, 0)]))
    values = values if values.size == np.prod(shape) else np.zeros(shape)
    return values.reshape(shape).astype(draw(st.sampled_from(DTYPES)))


@st.composite
def good_embeddings(draw, n):
    block = draw(rows(n))
    kind = draw(st.sampled_from(["lists", "f4", "f8", "arrays"]))
    if kind == "lists":
        return block
    if kind == "arrays":
        return [np.array(row, dtype="f4") for row in block]
    return np.array(block, dtype=kind)


@st.composite
def odd_embeddings(draw, n):
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(arrays(n))
    if kind == 1:
        block = draw(rows(n, st.one_of(numbers, odd_elements)))
        return draw(st.sampled_from([block, Row(block), tuple(block), block[0], [Row(block[0])]]))
    if kind == 2:
        return [list(draw(arrays(1))) if i % 2 else draw(arrays(1)) for i in range(n)]
    if kind == 3:
        return draw(st.lists(st.lists(numbers, max_size=4), max_size=n + 1))
    return draw(
        st.sampled_from([None, [], [[]], "ab", 5, [None], [[None]], ["a"], {}, np.float32(1), b"x"])
    )


texts = st.text(max_size=4)
odd_texts = st.one_of(texts, st.sampled_from([1, Text("d"), "\ud800"]))


def good_ids(n):
    return st.permutations(["a", "b", "c", "d", "new", "é", "x"]).map(lambda ids: ids[:n])


def odd_ids(n):
    odd = st.sampled_from(["a", "a", "b", Text("a"), "", 1, None, b"b", ["a"], "\ud800", 1.5])
    return st.one_of(
        st.lists(odd, min_size=n, max_size=n),
        st.lists(st.sampled_from(["a", "new"]), min_size=n, max_size=n),
        st.lists(odd, max_size=n + 1),
        st.sampled_from(["a", None, [], ("a",), Row(["a"]), "", Text("t"), {"a"}]),
    )


scalars = st.one_of(
    texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
)
ODD_VALUES = [
    None, float("nan"), float("inf"), -float("inf"), 2**63, 2**64, -(2**70), 10**400,
    [1, 2], ["a", "b"], [], [1, "a"], [True], [2**63, 1], Text("t"), np.float64(1),
    np.int64(2), SparseVector([1, 2], [0.5, 1.0]),
    {"#type": "sparse_vector", "indices": [1], "values": [1.0]},
    {"a": 1}, "\ud800", b"b", (1,), Decimal(1),
]  # fmt: skip
odd_values = st.sampled_from(ODD_VALUES)
keys = st.sampled_from(["a", "b", "n", "s", "é"])
ODD_KEYS = ["", "#a", "$a", "chroma:document", "chroma:x", 1, None, Text("k"), "\ud800"]
odd_keys = st.sampled_from(ODD_KEYS)
good_maps = st.dictionaries(keys, scalars, min_size=1, max_size=3)
odd_maps = st.one_of(
    st.dictionaries(odd_keys, scalars, min_size=1, max_size=1),
    st.dictionaries(keys, odd_values, min_size=1, max_size=2),
    st.dictionaries(keys, scalars, max_size=2).map(Table),
    st.sampled_from([{}, 5, "x", [], Table(a=1)]),
)


def good_column(n, good):
    return st.none() | st.lists(st.none() | good, min_size=n, max_size=n)


def odd_column(n, good, odd, singles):
    one_odd = st.tuples(st.lists(st.none() | good, min_size=n, max_size=n), st.just(n), odd).map(
        lambda drawn: [*drawn[0][:-1], drawn[2]]
    )
    return st.one_of(one_odd, st.lists(good, max_size=n + 1), odd, singles)


COLUMNS = ("ids", "embeddings", "metadatas", "documents")
GOOD = {
    "ids": good_ids,
    "embeddings": good_embeddings,
    "metadatas": lambda n: good_column(n, good_maps),
    "documents": lambda n: good_column(n, texts),
}
ODD = {
    "ids": odd_ids,
    "embeddings": odd_embeddings,
    "metadatas": lambda n: odd_column(n, good_maps, odd_maps, st.just(({"a": 1},)) | good_maps),
    "documents": lambda n: odd_column(n, texts, odd_texts, st.sampled_from(["one", 5, ("a",)])),
}


@st.composite
def writes(draw):
    """A call of which mostly one argument is out of the ordinary."""
    n = draw(st.integers(1, 3))
    odd = draw(st.lists(st.sampled_from([*COLUMNS, "uris"]), max_size=2, unique=True))
    given = {name: draw((ODD if name in odd else GOOD)[name](n)) for name in COLUMNS}
    if "uris" in odd:
        given["uris"] = draw(st.lists(texts, min_size=n, max_size=n))
    return draw(st.sampled_from(["add", "update", "upsert"])), given


@pytest.fixture(scope="module")
def client():
    with vexfs_chroma.EphemeralClient() as made:
        yield made


_turn = iter(range(10**9))


def fresh(client):
    made = client.create_collection(f"plain-{next(_turn)}", embedding_function=None)
    made.add(
        ids=["a", "b", "c"],
        embeddings=[[0, 0, 1], [0, 1, 0], [1, 0, 0]],
        documents=["one", None, "three"],
        metadatas=[{"n": 1, "s": "x"}, {"n": 2.5, "chroma:hidden": 1}, None],
    )
    return made


def outcome(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about casts
        try:
            return same_form(call())
        except BaseException as error:  # pyo3's panics are no Exception
            return type(error), str(error)


def same_form(value):
    if isinstance(value, np.ndarray):
        return "array", value.dtype.str, value.shape, value.tolist()
    if isinstance(value, dict):
        return {key: same_form(item) for key, item in value.items()}
    return [same_form(item) for item in value] if isinstance(value, list) else repr(value)


def stored(collection):
    return outcome(lambda: ChromaCollection.get(collection, include=list(EVERYTHING)))


relaxed = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def compare(client, method, arguments):
    ours, theirs = fresh(client), fresh(client)
    by_us = outcome(lambda: getattr(ours, method)(**copied(arguments)))
    by_them = outcome(lambda: getattr(ChromaCollection, method)(theirs, **copied(arguments)))
    # The duplicates in the text of an error come out of a set, in any order.
    assert str(by_us) == str(by_them) or ("duplicates of" in str(by_us) and by_us[0] is by_them[0])
    assert stored(ours) == stored(theirs)
    client.delete_collection(ours.name)
    client.delete_collection(theirs.name)


def copied(arguments):
    """Chromadb changes the list of `include`."""
    return {k: list(v) if type(v) is list else v for k, v in arguments.items()}


@given(writes())
@relaxed
def test_writes(client, write):
    compare(client, *write)


@pytest.mark.parametrize("method", ["add", "update", "upsert"])
def test_every_odd_key_and_value(client, method):
    maps = [{key: 1, "n": 2} for key in ODD_KEYS] + [{"n": value} for value in ODD_VALUES]
    for odd in maps:
        for ids in (["a", "c"], ["new", "x"]):
            given = {"ids": ids, "embeddings": [[1, 2, 3], [4, 5, 6]]}
            compare(client, method, {**given, "metadatas": [{"n": 1}, odd]})


good_filters = st.sampled_from([{"n": 1}, {"s": {"$ne": "x"}}, {"n": {"$gt": 1}}])
odd_filters = st.sampled_from([{}, {"n": {"$foo": 1}}, {"n": {}}, 5, {"$and": []}, {"n": None}])
odd_document_filters = st.sampled_from([{"$regex": "("}, {}, {"$contains": 5}, "o"])
good_includes = st.lists(st.sampled_from(EVERYTHING), max_size=4)
odd_includes = st.sampled_from(
    [["data"], ["distances"], ["x"], [1], [Text("documents")], None, "documents", ("documents",)]
)
odd_counts = st.sampled_from([0, -1, True, 2.0, np.int64(2), 2**32, "1", None])


@st.composite
def reads(draw):
    """The same of what reads, and of delete."""
    method = draw(st.sampled_from(["query", "get", "delete"]))
    n = draw(st.integers(1, 3))
    names = {
        "query": ["query_embeddings", "ids", "where", "where_document", "include", "n_results"],
        "get": ["ids", "where", "where_document", "include", "limit", "offset"],
        "delete": ["ids", "where", "where_document", "limit"],
    }[method]
    odd = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    documents = st.just({"$contains": "o"})
    choices = {
        "query_embeddings": (good_embeddings(n), odd_embeddings(n)),
        "ids": (st.none() | good_ids(n), odd_ids(n)),
        "where": (st.none() | good_filters, odd_filters),
        "where_document": (st.none() | documents, odd_document_filters),
        "include": (good_includes, odd_includes),
        "n_results": (st.integers(1, 5), odd_counts),
        "limit": (st.none() | st.integers(0, 2), odd_counts),
        "offset": (st.none() | st.integers(0, 2), odd_counts),
    }
    return method, {name: draw(choices[name][name in odd]) for name in names}


@given(reads())
@relaxed
def test_reads(client, read):
    compare(client, *read)


@pytest.mark.parametrize("kind", ["array", "float64", "arrays", "lists"])
def test_what_is_plain_is_recognised(client, monkeypatch, kind):
    """Else the tests above would compare chromadb's way with itself."""
    block = np.arange(6, dtype="f4").reshape(2, 3) + 0.5
    given = {
        "array": block,
        "float64": block.astype("f8"),
        "arrays": list(block),
        "lists": block.tolist(),
    }[kind]
    assert np.array_equal(_plain.plain_matrix(given), block)
    made = fresh(client)
    for name in ("add", "update", "upsert", "get", "query", "delete"):
        monkeypatch.setattr(made, f"_validate_and_prepare_{name}_request", None)
    records = {"ids": ["p", "q"], "embeddings": given, "documents": ["d", None]}
    made.add(**records, metadatas=[{"a": 1, "b": "x", "c": 0.5, "d": True}, None])
    made.upsert(**records)
    made.update(ids=["p"], metadatas=[{"a": 2}])
    made.update(ids="q", metadatas={"a": 3}, embeddings=given[1])
    first = {"a": 2, "b": "x", "c": 0.5, "d": True}
    assert made.get(ids=["p", "q"])["metadatas"] == [first, {"a": 3}]
    where = {"a": {"$gt": 1}}
    found = made.query(query_embeddings=given, n_results=1, where=where, include=["distances"])
    assert found["ids"] == [["p"], ["q"]]
    assert found["distances"] == [[0.0], [0.0]]
    made.delete(ids=["p", "q"])
    assert made.count() == 3


def test_chromadb_is_the_reference():
    assert issubclass(vexfs_chroma.LocalCollection, ChromaCollection)
    assert ChromaCollection is chromadb.Collection
