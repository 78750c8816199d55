"""Plain searches are compiled without their JSON: with the same outcome.

Every search is made twice: by our method, which may recognise a plain one, and as chromadb does it:
text embedded by its own code, `to_dict()`, and the payload as a client would send it.  Results,
classes of errors and their texts must be the same, whatever the search is made of.
"""

from __future__ import annotations

import warnings
from copy import copy

import numpy as np
import pytest
from chromadb import K, Knn, Rrf, Schema, Search, SparseVector, SparseVectorIndexConfig
from chromadb.api.models.CollectionCommon import CollectionCommon
from chromadb.api.types import EmbeddingFunction, VectorIndexConfig
from chromadb.errors import InvalidArgumentError
from chromadb.execution.expression import GroupBy, Key, Limit, MaxK, MinK, Select, Val
from chromadb.execution.expression.operator import (
    Abs,
    Div,
    Eq,
    Exp,
    In,
    Log,
    Max,
    Min,
    Mul,
    Sub,
    Sum,
)
from chromadb.utils.embedding_functions import register_embedding_function
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vexfs_chroma
from vexfs_chroma import Bm25, _search_plain, _searches
from vexfs_chroma._engine import _wire

ROWS = 24


class Text(str):
    __slots__ = ()


class OddSum(Sum):
    pass


class OddKnn(Knn):
    pass


@register_embedding_function
class Initials(EmbeddingFunction):
    """Three dimensions: the first code points of a text."""

    def __init__(self):
        pass

    @staticmethod
    def name():
        return "initials"

    def get_config(self):
        return {}

    @staticmethod
    def build_from_config(config):
        return Initials()

    def __call__(self, input):
        return [np.float32([ord(letter) % 7 for letter in f"{text}   "[:3]]) for text in input]


@pytest.fixture(scope="module")
def collection():
    client = vexfs_chroma.EphemeralClient()
    schema = Schema().create_index(key="sp", config=SparseVectorIndexConfig())
    schema.create_index(config=VectorIndexConfig(embedding_function=Initials()))
    made = client.create_collection("plain", schema=schema)
    made.add(
        ids=[f"r{i}" for i in range(ROWS)],
        embeddings=[[i % 3, i % 4, i % 5] for i in range(ROWS)],
        documents=[f"word{i % 3} other{i % 5}" for i in range(ROWS)],
        metadatas=[
            {"g": i % 3, "t": f"x{i % 2}", "sp": SparseVector([i % 4, 4 + i % 3], [1.0, 0.5])}
            for i in range(ROWS)
        ],
    )
    yield made
    client.delete_collection("plain")
    client.close()


# -- what searches are made of ---------------------------------------------------------------------

ODD = [None, True, False, 0, -1, 2**32, 10**400, 1.5, "3", Text("sp"), "\ud800", b"x", [1], {}, ()]
ODD += [float("nan"), float("inf"), np.int64(3), np.float32(0.5), np.float64(2), K.SCORE, Key(5)]
odd = st.sampled_from(ODD)


def mostly(usual, unusual=odd):
    """Of ten values, nine are usual: a search has many, and one odd one decides."""
    return st.integers(0, 9).flatmap(lambda n: unusual if n == 0 else usual)


limits = mostly(st.integers(1, 30))
defaults = mostly(st.sampled_from([None, None, 1, 2.5, -0.0]))
flags = mostly(st.booleans())
texts = mostly(st.sampled_from(["word1", "word2 OTHER3", "", "nothing", "other1 \u00e9"]))
element = st.integers(-3, 5).map(float)
vectors = st.lists(element, min_size=3, max_size=3)
arrays = st.builds(
    np.array, vectors, dtype=st.sampled_from(["f4", "f8", "f2", ">f4", "i8", "u1", "c8", "O", "?"])
)
ODD_VECTORS = [[], [1, True, 2], ["1", 2, 3], [[1, 2, 3]], [1e300, 0, 0], [1.0, 2.0], (1, 2, 3)]
ODD_VECTORS += [
    [None] * 3,
    np.float32([1, np.nan, 0]),
    [10**400, 0, 0],
    "a text",
    np.zeros(0, "f4"),
]
ODD_VECTORS += [np.zeros((1, 3), "f4"), np.zeros(2, "f4"), np.zeros((3, 2), "f4")[:, 0]]
odd_vectors = st.sampled_from(ODD_VECTORS)


@st.composite
def sparse_vectors(draw):
    indices = sorted(draw(st.sets(st.integers(0, 8), max_size=4)))
    values = [draw(st.sampled_from([1.0, 0.5, -2.0, 3])) for _ in indices]
    labels = [f"l{i}" for i in indices] if draw(st.integers(0, 9)) == 0 else None
    vector = SparseVector(indices, values, labels)
    if draw(st.integers(0, 4)) == 0:  # changed since it was checked
        change = draw(
            st.sampled_from(
                [("indices", [2, 1]), ("indices", [1, 1]), ("indices", [-1, 2]), ("values", [1.0])]
            )
            | st.sampled_from(
                [("indices", (1, 2)), ("indices", [1, 2**32]), ("indices", [True, 2])]
            )
            | st.sampled_from(
                [("values", [1e300, 1.0]), ("values", [float("nan"), 1.0]), ("labels", ["a"])]
            )
            | st.sampled_from([("values", [True, 1.0]), ("values", ["1", "2"]), ("values", None)])
            | st.sampled_from([("indices", [np.int64(1), 2]), ("values", [np.float32(1), 2.0])])
        )
        if draw(st.booleans()):
            vector = SparseVector([1, 2], [1.0, 2.0])
        setattr(vector, *change)
    return vector


def made(kind, **fields):
    return st.builds(lambda **given: kind(**given), **fields)


knns = made(
    Knn,
    query=st.one_of(
        vectors, arrays, vectors.map(np.float32), sparse_vectors(), mostly(vectors, odd_vectors)
    ),
    key=mostly(st.sampled_from([K.EMBEDDING, "#embedding", "sp", Key("sp"), "g"])),
    limit=limits,
    default=defaults,
    return_rank=flags,
)
bm25s = made(
    Bm25,
    query=texts,
    limit=limits,
    default=defaults,
    return_rank=flags,
    k1=mostly(st.sampled_from([1.2, 0, 3])),
    b=mostly(st.sampled_from([0.75, 0, 1])),
)
vals = mostly(st.sampled_from([0.5, 1, -2.0])).map(Val)


def compound(inner):
    parts = st.lists(inner, min_size=0, max_size=3)
    rrfs = made(
        Rrf,
        ranks=parts,
        k=mostly(st.sampled_from([60, 1, 2.5])),
        weights=st.one_of(
            st.none(), st.lists(st.sampled_from([1, 0.5, 2.0, -1, True, np.float64(1)]), max_size=3)
        ),
        normalize=flags,
    )
    return st.one_of(
        rrfs,
        *(parts.map(kind) for kind in (Sum, Mul, Max, Min, OddSum)),
        parts.map(tuple).map(Sum),
        *(st.builds(kind, inner, inner) for kind in (Sub, Div)),
        *(inner.map(kind) for kind in (Abs, Exp, Log)),
        st.builds(lambda knn: OddKnn(**vars(knn)), knns),
    )


ranks = st.recursive(st.one_of(knns, bm25s, vals), compound, max_leaves=4)
wheres = st.sampled_from(
    [None, None, None, K("g") == 1, (K("g") == 0) | (K("t") == "x1"), K.ID.is_in(["r1", "r2"])]
) | st.sampled_from(
    [K.DOCUMENT.contains("word1"), Eq("$g", 1), Eq("g", None), In("g", []), K("g").is_in([1, 2])]
)
names = st.one_of(st.sampled_from([K.SCORE, K.DOCUMENT, K.METADATA, K.EMBEDDING, K.ID, "g", "t"]))
selects = mostly(
    st.sets(names, max_size=4), st.sampled_from([{5}, {Text("g")}, {Key(5)}, ["g"], {"g", None}])
).map(Select)
groups = st.one_of(
    st.builds(GroupBy),
    st.builds(GroupBy),
    st.builds(
        GroupBy,
        keys=st.sampled_from([K("g"), ["t"], [K.SCORE], []]),
        aggregate=st.one_of(
            st.none(),
            st.builds(MinK, keys=st.just(K.SCORE), k=limits),
            st.builds(MaxK, names, limits),
        ),
    ),
)


@st.composite
def searches(draw):
    search = Search()
    search._rank = draw(mostly(st.one_of(ranks, st.none())))
    search._where = draw(mostly(wheres))
    search._limit = draw(
        mostly(
            st.builds(
                Limit, mostly(st.integers(0, 5)), mostly(st.one_of(st.none(), st.integers(1, 20)))
            )
        )
    )
    search._select = draw(mostly(selects))
    search._group_by = draw(mostly(groups))
    return search


# -- both ways -------------------------------------------------------------------------------------


def outcome(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return repr(dict(call()))  # repr: NaN differs from itself
        except Exception as error:
            return type(error), str(error)


def the_long_way(collection, search):
    search = _searches.checked(search)  # first, whichever way is gone
    try:
        embedded = CollectionCommon._embed_search_string_queries(collection, search)
        return collection._client.search_payloads(collection.id, [embedded.to_dict()])
    except AttributeError as error:
        raise InvalidArgumentError(
            f"a part of a search is of another type than it must be: {error}"
        ) from error


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(search=searches())
def test_the_outcome_is_that_of_the_long_way(collection, search):
    expected = outcome(lambda: the_long_way(collection, copy(search)))
    assert outcome(lambda: collection.search(search)) == expected


# -- what is plain ---------------------------------------------------------------------------------

DENSE = Knn(query=np.float32([1, 0, 2]), limit=5)
SPARSE = Knn(query=SparseVector([1, 5], [1.0, 2.0]), key="sp")
WORDS = Bm25("word1 other2", limit=5, return_rank=True, default=5.0)
USUAL = {
    "nothing": Search(),
    "dense": Search(rank=DENSE),
    "list": Search(rank=Knn(query=[1.0, 0.0, 2.0], key="#embedding")),
    "doubles": Search(rank=Knn(query=np.array([1.0, 0.0, 2.0]))),
    "sparse": Search(rank=SPARSE, limit=3, select=[K.SCORE.name, "g"]),
    "words": Search(rank=Bm25("word1", k1=2, b=0)).limit(10, offset=1).select(K.SCORE),
    "fused": Search(rank=Rrf([DENSE, SPARSE, WORDS], weights=[1, 2.0, 0.5], k=10)).select_all(),
    "fused alone": Search(rank=Rrf([WORDS])),
    "weighed": Search(rank=DENSE * 0.5 + WORDS * 0.3 - Val(1) / (SPARSE + 1)),
    "functions": Search(rank=(abs(DENSE).exp() + 1).log().max(0.5).min(SPARSE)),
    "filtered": Search(where=(K("g") == 1) & K.DOCUMENT.contains("word1"), rank=DENSE),
    "grouped": Search(rank=DENSE, group_by=GroupBy(keys=K("g"), aggregate=MinK(keys=K.SCORE, k=1))),
}


@pytest.mark.parametrize("search", USUAL.values(), ids=USUAL)
def test_usual_searches_are_plain_and_compiled_to_the_same_bytes(collection, search):
    indexes = collection._client._open(collection.id).indexes
    assert _search_plain.is_embedded(search)
    plain = _search_plain._read_plain(search, indexes)
    by_json = _search_plain.read(search.to_dict(), indexes)
    assert _wire.encode(plain.request) == _wire.encode(by_json.request)
    assert plain.shown.keys == by_json.shown.keys
    assert outcome(lambda: collection.search(search)) == outcome(
        lambda: the_long_way(collection, search)
    )


def test_several_searches_of_a_call_are_those_of_several_calls(collection):
    odd_one = Search(rank=OddSum([DENSE, SPARSE]), select=["#score"])
    every = [*USUAL.values(), odd_one, Search(rank=Knn(query="a text"))]
    together = collection.search(every)
    for number, search in enumerate(every):
        alone = collection.search(search)
        for name, column in alone.items():
            assert [together[name][number]] == column, (number, name)


def test_what_a_result_says_can_be_changed_without_changing_the_next(collection):
    search = Search(rank=DENSE).select(K.SCORE, "g")
    first = collection.search(search)
    first["select"][0].clear()
    assert collection.search(search)["select"] == [["#score", "g"]]


def test_deep_expressions_go_the_long_way(collection):
    deep = DENSE
    for _ in range(200):
        deep = Abs(deep)
    assert not _search_plain.is_embedded(Search(rank=deep))
    assert outcome(lambda: collection.search(Search(rank=deep))) == outcome(
        lambda: the_long_way(collection, Search(rank=deep))
    )


# -- one odd thing at a time -----------------------------------------------------------------------

ODD_PLACES = {
    Knn: ("query", "key", "limit", "default", "return_rank"),
    Bm25: ("query", "limit", "default", "return_rank", "k1", "b"),
    Rrf: ("ranks", "k", "weights", "normalize"),
    SparseVector: ("indices", "values", "labels"),
    Search: ("_rank", "_where", "_limit", "_select", "_group_by"),
    Limit: ("offset", "limit"),
    Val: ("value",),
    Sum: ("ranks",),
    Sub: ("left",),
    Abs: ("rank",),
    Select: ("keys",),
    GroupBy: ("keys", "aggregate"),
}


def parts_of(kind):
    """A whole search, and its part of this kind that is to be changed."""
    sparse = SparseVector([1, 5], [1.0, 2.0])
    if kind is SparseVector:
        return Search(rank=Knn(query=sparse, key="sp"), select=["#score"]), sparse
    if kind in {Search, Limit, Select, GroupBy}:
        search = Search(rank=copy(DENSE), limit=5, select=["#score", "g"])
        part = {Limit: search._limit, Select: search._select, GroupBy: search._group_by}
        return search, part.get(kind, search)
    part = {
        Knn: copy(DENSE),
        Bm25: copy(WORDS),
        Rrf: Rrf([copy(DENSE), copy(WORDS)]),
        Val: Val(1.0),
        Sum: Sum([DENSE, WORDS]),
        Sub: Sub(DENSE, WORDS),
        Abs: Abs(DENSE),
    }[kind]
    return Search(rank=part, select=["#score"]), part


@pytest.mark.parametrize("kind", ODD_PLACES, ids=lambda kind: kind.__name__)
def test_each_odd_value_in_each_place(collection, kind):
    values = [*ODD, *ODD_VECTORS, (DENSE, WORDS), [DENSE, None], [], [1.0], [1.0, -1], [0, 0]]
    values += [[True, 1.0], [2, 1], [1, 1], [-1, 2], [1, 2**32], [1.0, float("nan")], [1e300, 1.0]]
    values += [
        {5},
        {Text("g")},
        {Key(5)},
        {"g", None},
        K("g") == 1,
        Eq("$g", 1),
        "#embedding",
        "sp",
    ]
    values += [
        OddKnn(query=[1.0, 0, 0]),
        OddSum([DENSE]),
        Knn(query="a text"),
        Bm25("word1"),
        "word",
    ]
    different = []
    for place in ODD_PLACES[kind]:
        for value in values:
            search, part = parts_of(kind)
            setattr(part, place, value)
            expected = outcome(lambda search=search: the_long_way(collection, search))
            found = outcome(lambda search=search: collection.search(search))
            if found != expected:
                different.append((place, value, found, expected))
    assert not different
