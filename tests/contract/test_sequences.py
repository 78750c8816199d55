"""Random programs: the same sequence of calls, good and bad, on chromadb and on vexfs_chroma.

A program is a list of calls over a dozen ids.  Calls do not depend on each other's results, so
hypothesis shrinks a failing program to the few calls that matter.  Collections stay small enough
for chromadb's approximate index to be exact too.

    VEXFS_CONTRACT_PROGRAMS=2000 pytest tests/contract/test_sequences.py     a longer run
    VEXFS_CONTRACT_SEED=7 pytest ...                                         other programs
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from compare import Pair
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tally import TALLY

PROGRAMS = int(os.environ.get("VEXFS_CONTRACT_PROGRAMS", "120"))
SEED = int(os.environ.get("VEXFS_CONTRACT_SEED", "1"))

NAN = float("nan")


def often(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly `usual`; about one in twelve `odd`."""
    return st.integers(0, 11).flatmap(lambda n: odd if n == 11 else usual)


# ---- values ------------------------------------------------------------------------------------

ids = st.sampled_from([f"id{i}" for i in range(10)] + ["é☕", "with space"])
odd_ids = st.sampled_from(["", 1, None, "x" * 300])
numbers = st.integers(-4, 4)
vectors = st.lists(numbers, min_size=3, max_size=3)
odd_vectors = st.one_of(
    st.lists(numbers, min_size=2, max_size=4),
    st.sampled_from([[NAN, 0, 0], [float("inf"), 0, 0], ["a", 0, 0], None]),
)
words = st.lists(
    st.sampled_from(["fox", "Fox", "jumps", "über", "a_b", "100%", "\n", "日本"]), max_size=4
)
texts = st.one_of(st.none(), words.map(" ".join))
uris = st.one_of(st.none(), st.sampled_from(["file:///a", "s3://b/c"]))

# "n" holds whole numbers only, so that chromadb's truncation of fractional operands cannot show;
# "f" holds floats, "m" anything.
whole = st.one_of(numbers, st.sampled_from([1.0, 2.0, 1 << 40]))
floats = st.sampled_from([0.5, -0.5, 1.0, 2.25, 1e9])
strings = st.sampled_from(["", "a", "b", "A", "1"])
lists = st.one_of(
    st.lists(numbers, min_size=1, max_size=3),
    st.lists(strings, min_size=1, max_size=3),
    st.lists(floats, min_size=1, max_size=2),
    st.lists(st.booleans(), min_size=1, max_size=2),
)
anything = st.one_of(numbers, strings, st.booleans(), lists)
FIELDS = {"n": whole, "f": floats, "s": strings, "b": st.booleans(), "l": lists, "m": anything}


def metadata(deletes: bool) -> st.SearchStrategy[Any]:
    optional = {k: (st.one_of(v, st.none()) if deletes else v) for k, v in FIELDS.items()}
    usual = st.fixed_dictionaries({}, optional=optional).map(lambda m: m or None)
    odd = [{}, {"n": []}, {"n": [1, "a"]}, {"n": {}}, {"": 1}, {"#x": 1}, {"n": None}, "x", 5]
    return often(usual, st.sampled_from(odd))


# ---- filters -----------------------------------------------------------------------------------


def leaf(field: str) -> st.SearchStrategy[Any]:
    value = FIELDS[field] if field != "l" else anything
    scalar = value.filter(lambda v: not isinstance(v, list))
    ordered = whole if field == "n" else floats
    operator = st.sampled_from(["$eq", "$ne", "$contains", "$not_contains"])
    return st.one_of(
        scalar,
        st.tuples(operator, scalar).map(lambda p: {p[0]: p[1]}),
        st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered).map(
            lambda p: {p[0]: p[1]}
        ),
        st.tuples(
            st.sampled_from(["$in", "$nin"]),
            st.lists(whole if field == "n" else strings, min_size=1, max_size=3),
        ).map(lambda p: {p[0]: p[1]}),
    ).map(lambda operand: {field: operand})


odd_where = st.sampled_from(
    [{}, {"n": {}}, {"n": {"$foo": 1}}, {"$and": []}, {"$and": [{"n": 1}]}, {"n": {"$gt": "a"}},
    {"n": 1, "s": "a"},
     {"n": {"$in": []}}, {"n": {"$gt": True}}, {"$gt": 1}, {"n": {"$in": [1, "a"]}}, "n"]
)  # fmt: skip


def combined(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        pair = st.tuples(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=2, max_size=3))
        return pair.map(lambda p: {p[0]: p[1]})

    return st.recursive(leaves, extend, max_leaves=5)


# "m" mixes types, and ints with floats would meet the truncation: it takes no number operand.
where = st.one_of(st.none(), often(combined(st.sampled_from("nfsbl").flatmap(leaf)), odd_where))
text_leaf = st.one_of(
    st.tuples(
        st.sampled_from(["$contains", "$not_contains"]),
        st.sampled_from(["fox", "o", "Fox j", "%", "_", "\n", "日", "ü"]),
    ),
    st.tuples(
        st.sampled_from(["$regex", "$not_regex"]),
        st.sampled_from(["fox", "(?i)fox", "^fox", r"\w+$", "f.x j", r"\p{Lu}", "日|ü", r"\d+%"]),
    ),
).map(lambda p: {p[0]: p[1]})
odd_text = st.sampled_from(
    [{}, {"$contains": ""}, {"$regex": "("}, {"$and": []}, {"$foo": "x"}, {"$contains": 5}]
)
where_document = st.one_of(st.none(), often(combined(text_leaf), odd_text))

includes = often(
    st.lists(st.sampled_from(["documents", "metadatas", "embeddings", "uris"]), unique=True),
    st.sampled_from([None, ["nonsense"], ["distances"], "documents"]),
)

# ---- calls -------------------------------------------------------------------------------------


@st.composite
def writes(draw: Any) -> tuple[str, dict[str, Any]]:
    method = draw(st.sampled_from(["add", "add", "update", "upsert"]))
    chosen = draw(
        often(
            st.lists(ids, min_size=1, max_size=4, unique=True),
            st.lists(st.one_of(ids, odd_ids), max_size=3),
        )
    )
    n = len(chosen)

    def each(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] | None = None) -> list[Any]:
        rows = [draw(usual) for _ in range(n)]
        if odd is not None and rows and draw(st.integers(0, 19)) == 19:
            rows[draw(st.integers(0, n - 1))] = draw(odd)
        return rows

    arguments: dict[str, Any] = {"ids": chosen}
    if method != "update" or draw(st.booleans()):
        arguments["embeddings"] = each(vectors, odd_vectors)
    if draw(st.booleans()) and (method != "update" or "embeddings" in arguments):
        arguments["documents"] = each(texts)
    if draw(st.booleans()):
        arguments["metadatas"] = each(metadata(deletes=method != "add"))
    if draw(st.integers(0, 3)) == 3:
        arguments["uris"] = each(uris)
    return method, arguments


@st.composite
def reads(draw: Any) -> tuple[str, dict[str, Any]]:
    arguments: dict[str, Any] = {"where": draw(where), "where_document": draw(where_document)}
    if draw(st.integers(0, 3)) == 3:
        arguments["ids"] = draw(
            often(
                st.lists(ids, min_size=1, max_size=5, unique=True),
                st.sampled_from([[], [1], ["a", "a"]]),
            )
        )
    arguments["include"] = draw(includes)
    if draw(st.booleans()):
        arguments["limit"] = draw(st.sampled_from([None, 0, 1, 3, 50, -1]))
        arguments["offset"] = draw(st.sampled_from([None, 0, 1, 3, 50, -1]))
        return "get", arguments
    arguments["query_embeddings"] = draw(
        st.lists(
            often(
                vectors, odd_vectors.filter(lambda v: "nan" not in repr(v) and "inf" not in repr(v))
            ),
            min_size=1,
            max_size=3,
        )
    )
    arguments["n_results"] = draw(
        often(st.sampled_from([1, 2, 5, 50]), st.sampled_from([0, -1, 1.5]))
    )
    if isinstance(arguments["include"], list):
        arguments["include"] = [*arguments["include"], "distances"]
    return "query", arguments


@st.composite
def deletes(draw: Any) -> tuple[str, dict[str, Any]]:
    arguments: dict[str, Any] = {}
    if draw(st.booleans()):
        arguments["ids"] = draw(
            often(
                st.lists(ids, min_size=1, max_size=3, unique=True),
                st.sampled_from([[], ["a", "a"]]),
            )
        )
    else:
        arguments["where"] = draw(where)
        arguments["where_document"] = draw(where_document)
        if draw(st.booleans()):
            arguments["limit"] = draw(st.sampled_from([0, 1, 2, 100, -1]))
    return "delete", arguments


@st.composite
def modifications(draw: Any) -> tuple[str, dict[str, Any]]:
    return "modify", draw(
        st.sampled_from(
            [{"metadata": {"a": 1}}, {"metadata": {}}, {"metadata": {"hnsw:space": "ip"}},
            {"name": "x"}, {},
             {"configuration": {"hnsw": {"ef_search": 77}}},
             {"configuration": {"hnsw": {"space": "ip"}}}]
        )
    )  # fmt: skip


programs = st.lists(
    st.one_of(writes(), writes(), writes(), reads(), reads(), deletes(), modifications()),
    min_size=15,
    max_size=40,
)


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_programs(make: Any, space: str) -> None:
    before = TALLY.calls

    @seed(SEED)
    @settings(
        max_examples=PROGRAMS // 3,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs)
    def run(program: list[tuple[str, dict[str, Any]]]) -> None:
        pair: Pair = make(configuration={"hnsw": {"space": space}}, metadata={"made": "here"})
        for method, arguments in program:
            pair.call(method, **arguments)
            if method != "query":
                pair.call("get", include=["embeddings", "documents", "metadatas", "uris"])
        pair.call("count")
        pair.call("query", query_embeddings=[[1, 2, 3]], n_results=50)

    run()
    assert TALLY.calls - before >= PROGRAMS // 3 * 15
