"""collection.search(): what is selected and shown, what is refused, and with which text.

What rank expressions are worth is in tests/property/test_search_model.py.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pytest
from chromadb import K, Knn, ReadLevel, Rrf, Schema, Search, SparseVector, SparseVectorIndexConfig
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.api.types import (
    EmbeddingFunction,
    FtsIndexConfig,
    SparseEmbeddingFunction,
    StringInvertedIndexConfig,
    VectorIndexConfig,
)
from chromadb.errors import InvalidArgumentError, NotFoundError
from chromadb.execution.expression import GroupBy, Max, MinK, Rank, Val
from chromadb.utils.embedding_functions import (
    register_embedding_function,
    register_sparse_embedding_function,
)

import vexfs_chroma
from vexfs_chroma import Bm25, _engine

QUERY = Knn(query=[1.0, 0.0, 0.5, 0.0], limit=3)


@register_sparse_embedding_function
class Letters(SparseEmbeddingFunction):
    """How often each letter occurs, as fastembed's functions give it."""

    def __init__(self):
        pass

    def __call__(self, input):
        found = []
        for text in input:
            codes = sorted({ord(letter) for letter in text})
            counts = [float(text.count(chr(code))) for code in codes]
            found.append(SparseVector(codes, counts))
        return found

    @staticmethod
    def name():
        return "letters"

    def get_config(self):
        return {}

    @staticmethod
    def build_from_config(config):
        return Letters()


@register_embedding_function
class Lengths(EmbeddingFunction):
    """Two dimensions: the length of a text, and 1."""

    def __init__(self):
        pass

    @staticmethod
    def name():
        return "lengths"

    def get_config(self):
        return {}

    @staticmethod
    def build_from_config(config):
        return Lengths()

    def __call__(self, input):
        return [np.float32([len(text), 1]) for text in input]


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


@pytest.fixture
def collection(client):
    collection = client.create_collection(
        "abc",
        schema=Schema().create_index(key="sp", config=SparseVectorIndexConfig()),
        embedding_function=None,
    )
    collection.add(
        ids=["a", "b", "c", "d"],
        embeddings=np.eye(4),
        documents=["first text", None, "third text", "fourth"],
        metadatas=[
            {"g": 0, "t": "x", "sp": SparseVector([0, 1], [1.0, 0.5])},
            {"g": 1, "chroma:hidden": 1},
            None,
            {"t": "y", "sp": SparseVector([1, 2], [1.0, 0.5])},
        ],
    )
    return collection


def ids(collection, search):
    (found,) = collection.search(search)["ids"]
    return found


def refused(call, *args, **kwargs):
    with pytest.raises(InvalidArgumentError) as raised:
        call(*args, **kwargs)
    return str(raised.value)


# -- what is selected and shown ------------------------------------------------------------------


def test_without_anything_all_ids_come_in_order_of_insertion(collection):
    assert dict(collection.search(Search())) == {
        "ids": [["a", "b", "c", "d"]],
        "documents": [None],
        "embeddings": [None],
        "metadatas": [None],
        "scores": [None],
        "select": [[]],
    }


def test_everything_is_shown_when_it_is_selected(collection):
    found = collection.search(Search().rank(QUERY).select_all())
    assert found["ids"] == [["a", "c", "b"]]
    assert found["scores"] == [[0.25, 1.25, 2.25]]
    assert found["documents"] == [["first text", "third text", None]]
    assert found["embeddings"] == [np.eye(4)[[0, 2, 1]].tolist()]
    assert found["metadatas"][0][1:] == [None, {"g": 1}]
    assert found["select"] == [["#document", "#embedding", "#metadata", "#score"]]
    row = found.rows()[0][0]
    assert row["score"] == 0.25
    assert row["metadata"]["sp"] == SparseVector([0, 1], [1.0, 0.5])


def test_single_fields_are_shown_in_the_order_of_their_names(collection):
    found = collection.search(Search().select("t", "#score", "g", "chroma:hidden", "none"))
    assert found["metadatas"] == [[{"g": 0, "t": "x"}, {"g": 1}, None, {"t": "y"}]]
    assert found["scores"] == [[0.0, 1.0, 2.0, 3.0]]
    assert found["select"] == [["#score", "chroma:hidden", "g", "none", "t"]]


def test_several_searches_of_one_call_are_independent(collection):
    found = collection.search(
        [Search().limit(1, offset=1), Search().where(K("g") == 7), Search().select(K.DOCUMENT)]
    )
    assert found["ids"] == [["b"], [], ["a", "b", "c", "d"]]
    assert found["documents"] == [None, None, ["first text", None, "third text", "fourth"]]
    assert collection.search([])["ids"] == []


def test_searches_of_one_call_are_one_call_of_the_engine(collection, monkeypatch):
    calls, search = [], _engine.Collection.search

    def counted(engine, requests):
        calls.append(len(requests))
        return search(engine, requests)

    monkeypatch.setattr(_engine.Collection, "search", counted)
    fused = Rrf([replace(QUERY, return_rank=True), Bm25("text", return_rank=True)])
    collection.search([Search(rank=fused), Search(where=K("g") == 0), Search().select_all()])
    assert calls == [3]


def test_filters_are_those_of_get_and_ids(collection):
    assert ids(collection, Search().where(K.ID.is_in(["d", "a", "zzz"]))) == ["a", "d"]
    assert ids(collection, Search().where(K.ID == "b")) == ["b"]
    assert ids(collection, Search().where(K.ID != "b")) == ["a", "c", "d"]
    assert ids(collection, Search().where(K.ID.not_in(["a", "b"]))) == ["c", "d"]
    assert ids(collection, Search().where(K.DOCUMENT.contains("text"))) == ["a", "c"]
    assert ids(collection, Search().where(K.DOCUMENT.regex("^f"))) == ["a", "d"]
    assert ids(collection, Search().where((K("g") == 0) | (K("t") == "y"))) == ["a", "d"]
    assert ids(collection, Search().where(K("g") != 0).rank(QUERY)) == ["c", "b", "d"]


def test_operands_are_stored_values(client):
    collection = client.create_collection("operands", embedding_function=None)
    days = [datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=timezone.utc), date(2026, 1, 3)]
    collection.add(
        ids=["a", "b", "c"],
        embeddings=np.eye(3),
        metadatas=[{"at": day, "n": n} for day, n in zip(days, (1, 2.5, True), strict=True)],
    )
    for where, found in (
        (K("n") == np.int64(1), ["a"]),
        (K("n") > np.float32(1), ["b"]),
        (K("n") == np.bool_(True), ["c"]),
        (K("n").is_in((1, 2)), ["a"]),
        (K("n").is_in(np.array([1, 2])), ["a"]),
        (K("n").not_in([np.int8(1)]), ["b", "c"]),
        (K("at") == datetime(2026, 1, 1), ["a"]),
        (K("at").is_in([date(2026, 1, 3), days[0]]), ["a", "c"]),
        ((K("at") >= date(2026, 1, 2)) & (K("n") < np.int32(9)), ["b"]),
        ((K("at") < days[1]) | (K("n") == True), ["a", "c"]),  # noqa: E712
    ):
        search = Search().where(where)
        before = repr(search.to_dict())
        assert ids(collection, search) == found, where
        assert repr(search.to_dict()) == before
    assert ids(collection, Search(where={"at": {"$gt": days[0]}})) == ["b", "c"]


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (K("n") == Decimal(1), "$eq of 'n' takes no Decimal('1')"),
        (K("n") > float("nan"), "$gt of 'n' takes no nan"),
        (K("n").is_in([1, "x"]), "$in of 'n' takes no [1, 'x']"),
        (K("n").is_in([]), "$in of 'n' takes no []"),
        (K("n") == None, "$eq of 'n' takes no None"),  # noqa: E711
        ((K("a") == 1) & (K("n") > True), "$gt of 'n' takes no True"),
        (K("n") == ["x" * 500], "$eq of 'n' takes no ['" + "x" * 78 + "..."),
    ],
)
def test_operands_that_are_none_are_named(collection, where, text):
    assert refused(collection.search, Search().where(where)) == f"Invalid where clause: {text}"


def test_limits_are_integers_of_any_kind(collection):
    near = replace(QUERY, limit=np.int64(3))
    assert ids(collection, Search().limit(np.int32(2), offset=np.uint8(1))) == ["b", "c"]
    assert ids(collection, Search().rank(near)) == ids(collection, Search().rank(QUERY))
    best = GroupBy(keys=K("t"), aggregate=MinK(keys=K.SCORE, k=np.int64(1)))
    assert ids(collection, Search().rank(near).group_by(best)) == ["a", "c"]


def test_a_collection_without_records(client):
    collection = client.create_collection("empty", embedding_function=None)
    for search in (Search(), Search().rank(QUERY), Search().rank(Val(1))):
        assert ids(collection, search) == []


def test_limits_and_groups(collection):
    rank = Search().rank(Knn(query=[0.0, 0, 0, 0], limit=10) + Val(1))
    assert ids(collection, rank.limit(2, offset=1)) == ["b", "c"]
    assert ids(collection, rank.limit(2, offset=9)) == []
    groups = rank.group_by(GroupBy(keys=K("t"), aggregate=MinK(keys=K.SCORE, k=1)))
    assert ids(collection, groups) == ["a", "b", "d"]  # none is a group, too


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.int8])
def test_arrays_are_searched_for_as_lists_are(collection, dtype):
    array = np.array([1, 0, 2, 0], dtype=dtype)
    for make in (
        lambda query: Knn(query=query, limit=3),
        lambda query: Rrf(
            [Knn(query=query, return_rank=True, default=9.0), Val(2.0)], weights=[2, 1]
        ),
        lambda query: Knn(query=query) * 2.0 + Val(1.0),
    ):
        found, expected = (
            collection.search(Search(rank=make(query)).select(K.SCORE))
            for query in (array, array.tolist())
        )
        assert found["ids"] == expected["ids"]
        assert found["ids"][0]
        assert found["scores"] == expected["scores"]
    with pytest.raises(InvalidArgumentError, match="must be a list of numbers"):
        collection.search(Search(rank=Knn(query=np.array([1, 1j, 0, 0]))))
    with pytest.raises(InvalidArgumentError, match="must be a list of numbers"):
        collection.search(Search(rank=Rrf([Knn(query=array[None], return_rank=True)])))


def test_a_search_is_not_changed_by_searching(collection):
    query = np.array([1, 0, 0.5, 0], dtype=np.float32)
    search = Search(rank=Rrf([Knn(query=query, return_rank=True)]))
    before = search.to_dict()
    collection._api._search(collection.id, [search])
    assert search.to_dict() == before
    assert search._rank.ranks[0].query is query


@pytest.mark.parametrize("read_level", ReadLevel)
def test_every_read_level_sees_everything(collection, read_level):
    assert collection.search(Search(), read_level=read_level)["ids"] == [["a", "b", "c", "d"]]
    assert collection.count(read_level=read_level) == 4


# -- strings are embedded --------------------------------------------------------------------------


def test_text_is_embedded_by_the_collection_and_by_the_schema(client):
    schema = Schema().create_index(
        key="letters",
        config=SparseVectorIndexConfig(source_key="#document", embedding_function=Letters()),
    )
    schema.create_index(config=VectorIndexConfig(embedding_function=Lengths()))
    collection = client.create_collection("text", schema=schema)
    collection.add(ids=["1", "2", "3"], documents=["aab", "bbbb", "cccccc"])
    assert ids(collection, Search().rank(Knn(query="xxx", limit=1))) == ["1"]
    by_letter = Knn(query="ab", key="letters")
    found = collection.search(Search().rank(by_letter).select("#score"))
    assert found["ids"] == [["2", "1"]]
    assert found["scores"] == [[-3.0, -2.0]]
    for key in (K("letters"), "letters"):  # also inside expressions
        assert ids(collection, Search().rank(2 * Knn(query="ab", key=key))) == ["2", "1"]
    assert ids(collection, Search().rank(Knn(query="xxx", key=K.EMBEDDING, limit=1))) == ["1"]
    with pytest.raises(ValueError, match="key 'other': key not found in schema"):
        collection.search(Search().rank(Knn(query="ab", key=K("other"))))
    fused = Rrf(
        [
            Knn(query="xxxxxx", return_rank=True, limit=2),
            Knn(query="b", key="letters", return_rank=True, default=10.0),
        ]
    )
    assert ids(collection, Search().rank(fused)) == ["2", "3"]


def test_rare_indices_count_for_more_with_bm25(client):
    schema = Schema().create_index(key="s", config=SparseVectorIndexConfig(bm25=True))
    collection = client.create_collection("idf", schema=schema, embedding_function=None)
    vectors = [SparseVector([1], [1.0]), SparseVector([1], [1.0]), SparseVector([2], [1.0])]
    collection.add(
        ids=["a", "b", "c"], embeddings=np.eye(3), metadatas=[{"s": vector} for vector in vectors]
    )
    query = Knn(query=SparseVector([1, 2], [1.0, 1.0]), key="s")
    found = collection.search(Search().rank(query).select("#score"))
    assert found["ids"] == [["c", "a", "b"]]
    expected = [1 - np.log1p((3 - n + 0.5) / (n + 0.5)) for n in (1, 2, 2)]
    assert found["scores"][0] == pytest.approx(expected)


# -- full text -----------------------------------------------------------------------------------

WORDS = ["red", "green", "blue", "cyan", "magenta", "yellow", "black", "white"]


def bm25(texts, query, k1, b):
    """Scores by place, of texts with a word of the query: the formula, word by word."""
    split = {i: text.lower().split() for i, text in enumerate(texts) if text is not None}
    mean = sum(map(len, split.values())) / len(split)
    scores = {}
    for word in sorted(set(query.lower().split())):
        having = sum(word in words for words in split.values())
        idf = np.log1p((len(split) - having + 0.5) / (having + 0.5))
        for i, words in split.items():
            if word in words:
                tf = words.count(word)
                part = idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
                scores[i] = scores.get(i, 0) + part
    return scores


@pytest.fixture(params=["memory", "files"])
def coloured(request, client):
    chance = np.random.default_rng(20261129)
    texts = [" ".join(chance.choice(WORDS, chance.integers(1, 12))) for _ in range(80)]
    texts[7] = texts[40] = None
    texts[9] = texts[9].upper()
    collection = client.create_collection("colours", embedding_function=None)
    collection.add(
        ids=[str(i) for i in range(80)],
        embeddings=chance.integers(0, 9, (80, 2)),
        documents=texts,
        metadatas=[{"even": i % 2 == 0} for i in range(80)],
    )
    if request.param == "files":
        collection._client._open(collection.id).engine.flush()
    gone = [3, 11, 12]
    collection.delete(ids=[str(i) for i in gone])
    for i in gone:
        texts[i] = None
    return collection, texts


@pytest.mark.parametrize(
    ("query", "k1", "b"), [("Red cyan", 1.2, 0.75), ("white", 0, 0), ("black blue red", 2, 1)]
)
def test_bm25_is_what_the_formula_says(coloured, query, k1, b):
    collection, texts = coloured
    expected = bm25(texts, query, k1, b)
    found = collection.search(Search().rank(Bm25(query, limit=100, k1=k1, b=b)).select("#score"))
    assert {int(id) for id in found["ids"][0]} == set(expected)
    assert found["scores"][0] == sorted(found["scores"][0])
    for id, score in zip(found["ids"][0], found["scores"][0], strict=True):
        assert 1 - score == pytest.approx(expected[int(id)], rel=1e-5, abs=1e-6)


def test_bm25_is_filtered_and_fused_like_knn(coloured):
    collection, texts = coloured
    scores = {i: s for i, s in bm25(texts, "red cyan", 1.2, 0.75).items() if i % 2 == 0}
    best = sorted(scores, key=lambda i: (-np.float32(scores[i]), i))
    even = Search().where(K("even") == True)  # noqa: E712
    assert ids(collection, even.rank(Bm25("red cyan", limit=5))) == [str(i) for i in best[:5]]
    assert ids(collection, even.rank(Bm25("purple"))) == []
    fused = even.rank(
        Rrf(
            [
                Knn(query=[4, 4], limit=20, return_rank=True, default=100.0),
                Bm25("red cyan", limit=20, return_rank=True, default=100.0),
            ]
        )
    ).select("#score")
    by_text = ids(collection, even.rank(Bm25("red cyan", limit=20)))
    by_vector = ids(collection, even.rank(Knn(query=[4, 4], limit=20)))
    found = collection.search(fused)
    assert set(found["ids"][0]) == {*by_text, *by_vector}
    for id, score in zip(found["ids"][0], found["scores"][0], strict=True):
        places = [part.index(id) if id in part else 100 for part in (by_text, by_vector)]
        assert score == pytest.approx(-sum(1 / (60 + place) for place in places), rel=1e-5)
    plus = even.rank(Bm25("red cyan", limit=5) * 2 + 1).select("#score")
    twice = [2 * (1 - np.float32(scores[i])) + 1 for i in best[:5]]
    assert collection.search(plus)["scores"][0] == pytest.approx(twice, rel=1e-5)


def test_the_json_of_bm25():
    assert Bm25("a b").to_dict() == {"$bm25": {"query": "a b", "limit": 16}}
    whole = Bm25("a", limit=3, default=2.0, return_rank=True, k1=2.0, b=0.5)
    assert whole.to_dict() == {
        "$bm25": {"query": "a", "limit": 3, "default": 2.0, "return_rank": True, "k1": 2, "b": 0.5}
    }
    assert vexfs_chroma.Bm25 is Bm25


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"return_rank": 1}, "return_rank must be true or false, got 1"),
        ({"return_rank": None}, "return_rank must be true or false, got None"),
        ({"k1": np.array([1, 2])}, "k1 must be a number"),
        ({"b": np.array([1, 2])}, "b must be a number"),
        ({"k1": "x"}, "k1 must be a number, got 'x'"),
        ({"b": -(10**400)}, "between 0 and 1"),
        ({"limit": 2.0}, "limit must be an integer"),
        ({"query": 5}, "query must be text"),
    ],
)
def test_arguments_of_bm25_are_checked(collection, fields, text):
    rank = Bm25(**{"query": "text", **fields})
    assert text in refused(collection.search, Search().rank(rank))


# -- what is refused -----------------------------------------------------------------------------


def test_indexes_that_are_switched_off(client):
    schema = Schema()
    schema.delete_index(config=StringInvertedIndexConfig(), key="t")
    schema.delete_index(config=FtsIndexConfig(), key="#document")
    collection = client.create_collection("off", schema=schema, embedding_function=None)
    collection.add(ids=["a"], embeddings=[[1, 2]], metadatas=[{"t": "x"}], documents=["text"])
    off = "because indexing is disabled"
    assert refused(collection.search, Search().where(K("t") == "x")) == (
        f"Cannot filter using metadata key 't' with type 'Str' {off}"
    )
    assert "FTS indexing is disabled" in refused(
        collection.search, Search().where(K.DOCUMENT.contains("x"))
    )
    assert "FTS indexing is disabled" in refused(collection.search, Search().rank(Bm25("text")))
    sparse = Knn(query=SparseVector([1], [1.0]), key="s")
    assert refused(collection.search, Search().rank(sparse)) == (
        f"Cannot filter using metadata key 's' with type 'SparseVector' {off}"
    )


def test_queries_that_do_not_fit(collection):
    assert refused(collection.search, Search().rank(Knn(query=[1.0, 2.0]))) == (
        "Collection expecting embedding with dimension of 4, got 2"
    )
    broken = SparseVector([1, 2], [1.0, 1.0])
    broken.indices = [2, 1]
    text = refused(collection.search, Search().rank(Knn(query=broken, key="sp")))
    assert "Invalid sparse vector in KNN query" in text
    text = refused(
        collection.search,
        Search().rank(Knn(query=SparseVector([1], [float("nan")]), key="sp")),
    )
    assert "finite" in text


def payload(**fields):
    whole = {"filter": None, "rank": None, "group_by": {}, "limit": {"offset": 0}}
    return {**whole, "select": {"keys": []}, **fields}


KNN = {"$knn": {"query": [1, 0, 0, 0]}}
BY_SCORE = {"$min_k": {"keys": ["#score"], "k": 1}}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rank": 1}, "must be an object with exactly one operator"),
        ({"rank": {}}, "must be an object with exactly one operator"),
        ({"rank": {"$pow": 1}}, "unknown rank operator '$pow'"),
        ({"rank": {"$sum": []}}, "$sum needs a list"),
        ({"rank": {"$sum": KNN}}, "$sum needs a list"),
        ({"rank": {"$sub": {"left": KNN}}}, '$sub needs an object with "left" and "right"'),
        ({"rank": {"$val": "1"}}, "$val must be a number"),
        ({"rank": {"$val": True}}, "$val must be a number"),
        ({"rank": {"$abs": None}}, "must be an object with exactly one operator"),
        ({"rank": {"$knn": {}}}, '$knn needs an object with "query"'),
        ({"rank": {"$knn": {"query": "text"}}}, "$knn query must be embedded"),
        ({"rank": {"$knn": {"query": []}}}, "$knn query must be a list of numbers"),
        ({"rank": {"$knn": {"query": [[1, 2]]}}}, "$knn query must be a list of numbers"),
        ({"rank": {"$knn": {"query": ["x"]}}}, "$knn query must be a list of numbers"),
        ({"rank": {"$knn": {"query": [1], "limit": 0}}}, "$knn limit must be an integer"),
        ({"rank": {"$knn": {"query": [1], "limit": 1.5}}}, "$knn limit must be an integer"),
        ({"rank": {"$knn": {"query": [1], "default": "x"}}}, "$knn default must be a number"),
        ({"rank": {"$knn": {"query": [1], "return_rank": 1}}}, "return_rank must be true or"),
        ({"rank": {"$knn": {"query": [1], "k": 1}}}, "$knn has no field 'k'"),
        ({"rank": {"$knn": {"query": [1], "key": 1}}}, "$knn key must be a string"),
        ({"rank": {"$knn": {"query": {"#type": "x"}, "key": "sp"}}}, "Invalid sparse vector"),
        ({"rank": {"$bm25": {"query": 1}}}, "$bm25 query must be text"),
        ({"rank": {"$bm25": {"query": "a", "key": "b"}}}, "$bm25 has no field 'key'"),
        ({"rank": {"$bm25": {"query": "a", "b": 2}}}, "$bm25 needs k1 >= 0 and b between 0 and 1"),
        ({"rank": {"$bm25": {"query": "a", "k1": -1}}}, "$bm25 needs k1 >= 0"),
        ({"rank": {"$bm25": {"query": "a", "limit": 0}}}, "$bm25 limit must be an integer"),
        ({"limit": {"offset": -1}}, "offset must be an integer of 0"),
        ({"limit": {"limit": 0}}, "limit must be an integer of 1"),
        ({"limit": 3}, 'limit must be an object with "offset" and "limit"'),
        ({"select": ["x"]}, 'select must be an object with "keys"'),
        ({"select": {"keys": [1]}}, 'select must be an object with "keys"'),
        ({"top": 1}, "a search has no field 'top'"),
        ({"filter": {"a": {"$huh": 1}}}, "Invalid where clause"),
        (
            {"group_by": {"keys": ["g"], "aggregate": BY_SCORE}},
            "Validation error: group_by: group_by requires rank expression to be specified",
        ),
        ({"rank": KNN, "group_by": {"keys": ["g"]}}, "aggregate must be specified when keys"),
        ({"rank": KNN, "group_by": {"aggregate": BY_SCORE}}, "keys must not be empty when"),
        (
            {"rank": KNN, "group_by": {"keys": ["#score"], "aggregate": BY_SCORE}},
            "group_by keys must be metadata fields, got #score",
        ),
        (
            {
                "rank": KNN,
                "group_by": {"keys": ["g"], "aggregate": {"$max_k": {"keys": [], "k": 1}}},
            },
            "aggregate keys must not be empty",
        ),
        (
            {
                "rank": KNN,
                "group_by": {
                    "keys": ["g"],
                    "aggregate": {"$min_k": {"keys": ["#document"], "k": 1}},
                },
            },
            "aggregate keys must be metadata fields or #score",
        ),
        (
            {
                "rank": KNN,
                "group_by": {"keys": ["g"], "aggregate": {"$min_k": {"keys": ["#score"], "k": 0}}},
            },
            "aggregate k must be greater than 0",
        ),
        ({"rank": KNN, "group_by": {"keys": ["g"], "aggregate": {"$avg": {}}}}, "'$avg'"),
    ],
)
def test_payloads_that_are_no_searches(collection, fields, text):
    assert text in refused(collection._client.search_payloads, collection.id, [payload(**fields)])


def test_expressions_that_are_too_large(collection):
    def search(rank):
        return collection._client.search_payloads(collection.id, [payload(rank=rank)])

    deep = KNN
    for _ in range(100_000):
        deep = {"$abs": deep}
    assert "more than 65536 parts" in refused(search, deep)
    right = KNN
    for _ in range(70):
        right = {"$sub": {"left": {"$val": 1}, "right": right}}
    assert "nested more than 64 deep" in refused(search, right)
    left = KNN
    for _ in range(10_000):
        left = {"$sub": {"left": left, "right": {"$val": 0}}}
    assert search(left)["ids"] == [["a", "b", "c", "d"]]
    assert "at most 1024 searches" in refused(search, {"$sum": [KNN] * 1025})
    assert "nested too deeply" in refused(collection.search, Search().rank(deep_rank()))


def deep_rank() -> Rank:
    class Endless(Rank):
        def to_dict(self):
            return {"$abs": self.to_dict()}

    return Endless()


def test_a_read_level_that_there_is_not(collection):
    for text in (
        refused(collection.search, Search(), read_level="log_only"),
        refused(collection.count, "log_only"),
        refused(collection.count, {"g": 0}),  # meant as where=
        refused(collection.count, "log_only", where={"g": 0}),
    ):
        assert "read_level must be one of 'index_and_wal'" in text
    assert collection.count("index_only", where={"g": 0}) == 1


@pytest.mark.parametrize(
    "searches", [5, "x", {}, {"rank": None}, Search, (Search(), Search()), [Search(), None], [[]]]
)
def test_what_is_no_search(collection, searches):
    text = refused(collection.search, searches)
    assert text.startswith("searches must be a Search, or a list of them, got ")


@pytest.mark.parametrize(
    "search",
    [
        Search().rank(Rrf([5])),
        Search().rank(QUERY).group_by(GroupBy(keys=K("g"), aggregate=5)),
        Search().rank(Max([QUERY, "x"])),
    ],
)
def test_parts_of_another_type(collection, search):
    text = refused(collection.search, search)
    assert text.startswith("a part of a search is of another type than it must be: '")


def test_numbers_beyond_all_floats(collection):
    def scores(default):
        rank = replace(QUERY, limit=1, default=default) + Val(0) * replace(QUERY, limit=2)
        return collection.search(Search().rank(rank).select("#score"))["scores"]

    assert scores(10**400) == scores(float("inf"))
    assert scores(-(10**400)) == scores(float("-inf"))


@pytest.mark.parametrize("keys", ["\ud800", 5, [None]])
def test_names_that_are_no_text(collection, keys):
    best = GroupBy(keys=keys, aggregate=MinK(keys=K.SCORE, k=1))
    assert "must be a list of strings" in refused(
        collection.search, Search().rank(QUERY).group_by(best)
    )
    best = GroupBy(keys=K("g"), aggregate=MinK(keys=keys, k=np.array([1, 2])))
    assert "must be a list of strings" in refused(
        collection.search, Search().rank(QUERY).group_by(best)
    )


def test_a_deleted_collection(client, collection):
    client.delete_collection("abc")
    with pytest.raises(NotFoundError, match="does not exist"):
        collection.search(Search())
