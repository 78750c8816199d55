"""add, update, upsert, delete with every kind of good and bad argument, each on a fresh collection
of a few rows, comparing the outcome and then everything stored."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import samples as S
from compare import Pair

BASE = {key: values[:3] for key, values in S.ROWS.items()}
WRITES = ["add", "update", "upsert"]


@pytest.fixture
def fresh(make: Any) -> Any:
    def create() -> Pair:
        pair = make()
        pair.call("add", **BASE)
        return pair

    return create


def targets(method: str) -> list[str]:
    """The ids a case is tried on: a stored one, a new one."""
    return ["r1", "new"]


@pytest.mark.parametrize("method", WRITES)
def test_ids(fresh: Any, method: str) -> None:
    for ids in S.IDS:
        pair = fresh()
        count = len(ids) if isinstance(ids, list | tuple) and ids else 1
        pair.call(method, ids=ids, embeddings=[[4, 4]] * count)
        pair.same_state()


@pytest.mark.parametrize("method", WRITES)
def test_embeddings(fresh: Any, method: str) -> None:
    for embeddings, target in itertools.product(S.EMBEDDINGS, targets(method)):
        if embeddings is None and method != "update":
            continue  # the next test
        pair = fresh()
        pair.call(method, ids=[target], embeddings=embeddings)
        pair.same_state()


@pytest.mark.parametrize("method", WRITES)
def test_first_embeddings(make: Any, method: str) -> None:
    for embeddings in S.EMBEDDINGS:
        if embeddings is None:
            continue
        pair = make()
        pair.call(method, ids=["a"], embeddings=embeddings)
        if method != "update":  # the next test
            pair.call(method, ids=["b"], embeddings=[[1, 2]])
        pair.same_state()


def test_update_of_nothing(make: Any) -> None:
    def dimension_after(collection: Any) -> Any:
        collection.update(ids=["nobody"], embeddings=[[1, 2, 3]])
        collection.add(ids=["a"], embeddings=[[1, 2]])
        return collection.get(include=["embeddings"])["embeddings"]

    make().apply("update of nothing, then add", dimension_after)


@pytest.mark.parametrize("method", WRITES)
def test_metadata(fresh: Any, method: str) -> None:
    for metadata, target in itertools.product(S.METADATA, targets(method)):
        pair = fresh()
        embeddings = {} if method == "update" else {"embeddings": [[4, 4]]}
        pair.call(method, ids=[target], metadatas=[metadata], **embeddings)
        pair.same_state()
        pair.call(method, ids=target, metadatas=metadata, **embeddings)
        pair.same_state()


@pytest.mark.parametrize("method", WRITES)
def test_documents_and_uris(fresh: Any, method: str) -> None:
    texts = ["new text", "", None, "é☕\n", 5, b"x", ["x"], "\x00", "a" * 100_000, "a\ud800"]
    for text, target, field in itertools.product(texts, targets(method), ["documents", "uris"]):
        pair = fresh()
        pair.call(method, ids=[target], embeddings=[[4, 4]], **{field: [text]})
        pair.same_state()


@pytest.mark.parametrize("method", WRITES)
def test_lengths(fresh: Any, method: str) -> None:
    for n, m in itertools.product((1, 2, 3), repeat=2):
        ids = ["r0", "new", "r2"][:n]
        for field, value in (
            ("embeddings", [[4, 4]] * m),
            ("documents", ["t"] * m),
            ("metadatas", [{"n": 9}] * m),
            ("uris", ["u"] * m),
        ):
            pair = fresh()
            arguments: dict[str, Any] = {"embeddings": [[4, 4]] * n, field: value}
            pair.call(method, ids=ids, **arguments)
            pair.same_state()


@pytest.mark.parametrize("method", WRITES)
def test_mixed_batches(fresh: Any, method: str) -> None:
    """Stored and new records in one batch, in both orders."""
    for ids in (["r2", "n1", "r0", "n2"], ["n1", "r0", "n2", "r2"]):
        pair = fresh()
        pair.call(
            method,
            ids=ids,
            embeddings=[[6, i] for i in range(4)],
            documents=["d0", None, "d2", None],
            metadatas=[{"n": 7}, {"s": "new"}, None, {"b": False, "l": ["x"]}],
            uris=[None, "u1", "u2", None],
        )
        pair.same_state()
        pair.call("query", query_embeddings=[[6, 1]], n_results=3)


def test_merge(fresh: Any) -> None:
    pair = fresh()
    for method in ("update", "upsert"):
        embeddings = {"embeddings": [[1, 1]]} if method == "upsert" else {}
        for metadata in (
            {"n": 5, "extra": "x"}, {"n": None}, {"extra": ["a", "b"]}, {"extra": 1.5},
            {"f": None, "s": None},
            {"extra": None, "b": None}, {"again": True},
        ):  # fmt: skip
            pair.call(method, ids=["r0"], metadatas=[metadata], **embeddings)
            pair.same_state()
        pair.call(method, ids=["r0"], documents=["changed"], embeddings=[[2, 2]])
        pair.call(method, ids=["r0"], uris=["u"], embeddings=[[2, 3]])
        pair.call(
            method, ids=["r0"], documents=[None], uris=[None], metadatas=[None], embeddings=[[2, 3]]
        )
        pair.same_state()


def test_delete(fresh: Any) -> None:
    arguments: list[dict[str, Any]] = [{"ids": ids} for ids in S.IDS]
    arguments += [{"where": where} for where in S.ODD_WHERE]
    arguments += [{"where": {"n": {op: 1}}} for op in S.COMPARE]
    arguments += [{"where_document": text} for text in S.ODD_DOCUMENT]
    arguments += [
        {"where": {"n": {"$gte": 0}}, "limit": n} for n in (0, 1, 2, 5, -1, 1.5, True, "1", None)
    ]
    arguments += [
        {"ids": ["r0", "r1"], "where": {"n": 1}},
        {"ids": ["r0"], "limit": 1},
        {"limit": 1},
        {},
    ]
    arguments += [{"where_document": {"$contains": "o"}, "limit": 1}, {"ids": ["nope", "r0"]}]
    for one in arguments:
        pair = fresh()
        pair.call("delete", **one)
        pair.same_state()


def test_delete_then_add_again(fresh: Any) -> None:
    pair = fresh()
    pair.call("delete", ids=["r0"])
    pair.call("add", ids=["r0"], embeddings=[[9, 9]])
    pair.same_state()
    pair.call("query", query_embeddings=[[9, 9]], n_results=1)
    pair.call("get", where={"n": 0})
    pair.call("get", where_document={"$contains": "quick"})


def test_batches_above_chromadbs_ceiling(make: Any) -> None:
    n = 5462
    pair = make()
    pair.call("add", ids=[f"i{i}" for i in range(n)], embeddings=[[i, 1] for i in range(n)])
    assert pair.ours.count() == n
    assert pair.theirs.count() == 0
