"""get, query, count, peek on one collection of every kind of row: each operator with each kind of
operand, each pattern, each include, each page."""

from __future__ import annotations

import operator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import samples as S
from compare import Pair

EXACT = {
    "$eq": operator.eq, "$ne": operator.ne, "$gt": operator.gt,
    "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip
INCLUDES = ["documents", "metadatas", "embeddings", "uris", "distances"]


@pytest.fixture(scope="module")
def rows(make: Any) -> Pair:
    pair = make()
    pair.call("add", **S.ROWS)
    pair.same_state()
    return pair


def wheres() -> list[Any]:
    single = [{key: value} for key in S.KEYS for value in S.SCALARS]
    compare = [{k: {op: v}} for k in S.KEYS for op in S.COMPARE for v in S.SCALARS]
    member = [{k: {op: v}} for k in S.KEYS for op in S.MEMBER for v in S.LISTS]
    return single + compare + member + S.ODD_WHERE


def documents() -> list[Any]:
    contains = [{op: text} for op in ("$contains", "$not_contains") for text in S.TEXTS]
    regex = [{op: text} for op in ("$regex", "$not_regex") for text in S.PATTERNS]
    return contains + regex + S.ODD_DOCUMENT


@pytest.mark.parametrize("method", ["get", "query"])
def test_where(rows: Pair, method: str) -> None:
    arguments: dict[str, Any] = {"query_embeddings": [[1, 1]], "n_results": 20}
    for where in wheres():
        rows.call(method, where=where, **(arguments if method == "query" else {}))


@pytest.mark.parametrize("method", ["get", "query"])
def test_where_document(rows: Pair, method: str) -> None:
    arguments: dict[str, Any] = {"query_embeddings": [[1, 1]], "n_results": 20}
    for text in documents():
        rows.call(method, where_document=text, **(arguments if method == "query" else {}))


def test_numbers_at_the_limits(make: Any) -> None:
    """Stored integers at both ends of 64 bits, and floats beyond them."""
    least, largest = -(1 << 63), (1 << 63) - 1
    stored = [0, 1.5, largest, least, 1 << 63, -(1 << 70), 1e30]
    pair = make()
    pair.call(
        "add",
        ids=[str(value) for value in stored],
        embeddings=[[i, 0] for i in range(len(stored))],
        metadatas=[{"n": value} for value in stored],
    )
    pair.same_state()
    for value in [*stored, largest + 2, 1 << 64, 1 << 70, least - 1, -1e30, 2.0**63, -(2.0**63)]:
        for op in S.COMPARE:
            pair.call("get", where={"n": {op: value}})
        for op in S.MEMBER:
            pair.call("get", where={"n": {op: [value]}})
        if largest < value < 1 << 64 and isinstance(value, int):
            continue  # both refuse
        # What is different is what the numbers say: Python compares them exactly.
        value = value if least <= value <= largest else float(value)
        for op, holds in EXACT.items():
            expected = [str(one) for one in stored if holds(one, value)]
            assert pair.ours.get(where={"n": {op: value}})["ids"] == expected


def test_where_and_where_document(rows: Pair) -> None:
    for where in ({"n": {"$gte": 0}}, {"s": {"$ne": "a"}}, {"b": True}):
        for text in ({"$contains": "o"}, {"$not_contains": "fox"}, {"$regex": "(?i)^the"}):
            rows.call("get", where=where, where_document=text)
            rows.call("get", where=where, where_document=text, ids=["r0", "r1", "r5", "nope"])
            rows.call("get", where=where, where_document=text, limit=2, offset=1)
            rows.call(
                "query", query_embeddings=[[0, 1]], n_results=3, where=where, where_document=text
            )


def test_include(rows: Pair) -> None:
    for size in range(len(INCLUDES) + 1):
        for include in combinations(INCLUDES, size):
            rows.call("get", include=list(include))
            rows.call("query", query_embeddings=[[1, 1]], n_results=4, include=list(include))
    for odd in (
        None,
        "documents",
        ["nonsense"],
        [1],
        ["data"],
        ["documents", "documents"],
        ("documents",),
    ):
        rows.call("get", include=odd)
        rows.call("query", query_embeddings=[[1, 1]], n_results=4, include=odd)


def test_pages(rows: Pair) -> None:
    for limit in (None, 0, 1, 5, 12, 100, -1, 1.5, True, "2"):
        for offset in (None, 0, 1, 11, 12, 100, -1, 0.5, False):
            rows.call("get", limit=limit, offset=offset)
        rows.call("get", limit=limit, where={"n": {"$gte": 0}})
        rows.call("get", limit=limit, ids=["r3", "r1", "r7"], offset=1)
        rows.call("peek", **({} if limit is None else {"limit": limit}))


def test_ids(rows: Pair) -> None:
    for ids in [*S.IDS, ["r3", "r1"], ["nope"], ["r5", "nope", "r2"]]:
        rows.call("get", ids=ids)
        rows.call("get", ids=ids, where={"n": {"$gte": 0}})
        rows.call("query", query_embeddings=[[1, 1]], n_results=3, ids=ids)
        rows.call(
            "query", query_embeddings=[[1, 1]], n_results=3, ids=ids, where={"n": {"$gte": 0}}
        )


def test_query_embeddings(rows: Pair) -> None:
    for embedding in S.EMBEDDINGS:
        if np.asarray(embedding, dtype=object).dtype == object and "nan" in repr(embedding):
            continue  # chromadb answers a NaN query with arbitrary rows
        if "inf" in repr(embedding):
            continue
        rows.call("query", query_embeddings=embedding, n_results=3)


def test_query_n_results(rows: Pair) -> None:
    for n in (1, 2, 11, 12, 13, 1000, 0, -1, 1.5, "3", None, True, 1 << 40):
        rows.call("query", query_embeddings=[[1, 1]], n_results=n)
        rows.call("query", query_embeddings=[[1, 1], [5, 5], [-9, 0]], n_results=n)
    rows.call("query")
    rows.call("query", n_results=3)
    rows.call("query", query_embeddings=[[1, 1]], query_texts=["a"])


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_spaces(make: Any, space: str) -> None:
    pair = make(configuration={"hnsw": {"space": space}})
    pair.call("query", query_embeddings=[[1, 1]], n_results=3)
    pair.call("add", **S.ROWS)
    for query in ([1, 1], [0, 0], [-3, 2], [0.1, 0.2], [1e6, 1e-6], [100, 99]):
        for n in (1, 4, 12):
            pair.call(
                "query", query_embeddings=[query], n_results=n, include=["embeddings", "distances"]
            )
    pair.same_state()


def test_empty_collections(make: Any) -> None:
    never, emptied = make(), make()
    emptied.call("add", **S.ROWS)
    emptied.call("delete", ids=S.ROWS["ids"])
    for pair in (never, emptied):
        pair.same_state()
        pair.call("peek")
        for query in ([1, 1], [1, 1, 1]):
            pair.call("query", query_embeddings=[query])
            pair.call(
                "query", query_embeddings=[query, query], where={"n": 1}, include=["embeddings"]
            )
            pair.call("query", query_embeddings=[query], ids=["r0"])
        pair.call("get", ids=["r0"], where={"n": 1}, where_document={"$contains": "x"})
        pair.call("delete", ids=["r0"])
        pair.call("delete", where={"n": 1})
