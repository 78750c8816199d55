"""Random searches on a collection in every state, beside a model in plain Python.

Numbers are small and exact, and there are few of them, so that scores are often equal: ids and
scores must be the same to the last bit.  Hypothesis looks for small failures, in
VEXFS_SEARCH_EXAMPLES calls of one to three searches (20) for each state; a plain generator makes
many larger searches: VEXFS_SEARCH_ROUNDS of them (300), from VEXFS_SEARCH_SEED.  With -s it is
printed how many were compared.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from chromadb import Schema, SparseVector, SparseVectorIndexConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from search_model import Model, Record

import vexfs_chroma

SEED = 20261130
DIMENSION = 3
PAYLOADS = 3  # of one call
_profile = settings.get_profile(settings._current_profile)
EXAMPLES = int(
    os.environ.get("VEXFS_SEARCH_EXAMPLES", "1000" if _profile.max_examples > 1000 else "20")
)
WORDS = ["red", "green", "blue", "cyan", "black"]
ROUNDS = int(os.environ.get("VEXFS_SEARCH_ROUNDS", "300"))
ROUNDS_SEED = int(os.environ.get("VEXFS_SEARCH_SEED", str(SEED)))


compared: Counter[str] = Counter()


# -- a collection --------------------------------------------------------------------------------


def random_vector(chance: random.Random) -> list[float]:
    return [float(chance.randrange(4)) for _ in range(DIMENSION)]


def random_sparse(chance: random.Random) -> SparseVector:
    indices = sorted(chance.sample(range(12), chance.randrange(6)))
    return SparseVector(indices, [chance.randrange(-4, 9) / 4 for _ in indices])


def random_text(chance: random.Random) -> str | None:
    """Some words, often the same ones; or no document."""
    words = [chance.choice(WORDS) for _ in range(chance.randrange(6))]
    return " ".join(words) if chance.random() < 0.8 else None


def random_metadata(chance: random.Random) -> dict[str, Any] | None:
    values: dict[str, Any] = {
        "g": chance.choice([0, 1, 2, 1.0, True, "one", "two"]),
        "p": chance.choice([0, 1, 2.5, "x", [1, 2], [1], ["a"], [True], [0.5]]),
        "sp": random_sparse(chance),
        "bm": random_sparse(chance),
    }
    kept = {key: value for key, value in values.items() if chance.random() < 0.8}
    return kept or None


def write_some(collection: Any, chance: random.Random, first: int, n: int) -> None:
    ids = [f"r{i}" for i in range(first, first + n)]
    collection.add(
        ids=ids,
        embeddings=[random_vector(chance) for _ in ids],
        metadatas=[random_metadata(chance) for _ in ids],
        documents=[random_text(chance) for _ in ids],
    )
    known = collection.get(include=[])["ids"]
    for id in chance.sample(known, min(6, len(known))):
        metadata = random_metadata(chance) or {"g": None}
        collection.update(ids=[id], embeddings=[random_vector(chance)], metadatas=[metadata])
    collection.delete(ids=chance.sample(known, min(3, len(known))))


@pytest.fixture(scope="module", params=["memory", "files", "mixed"])
def world(request):
    chance = random.Random(SEED)
    client = vexfs_chroma.EphemeralClient()
    collections = []
    for key, bm25 in (("sp", False), ("bm", True)):
        schema = Schema().create_index(key=key, config=SparseVectorIndexConfig(bm25=bm25))
        name = f"{request.param}-{key}"
        collection = client.create_collection(name, schema=schema, embedding_function=None)
        for step in range(4):
            write_some(collection, chance, 20 * step, 20)
            if request.param == "files" or (request.param == "mixed" and step < 2):
                client._server._open(collection.id).engine.flush()
        everything = collection.get(include=["embeddings", "metadatas", "documents"])
        columns = ("ids", "embeddings", "documents", "metadatas")
        records = [Record(*row) for row in zip(*(everything[c] for c in columns), strict=True)]
        keys = frozenset(["bm"] if bm25 else [])
        collections.append((key, collection, Model(records, bm25_keys=keys)))
    compared.clear()
    yield client._server, collections
    print(f"\n{request.param}: compared", dict(compared))
    for _, collection, _ in collections:
        client.delete_collection(collection.name)
    client.close()


# -- payloads ------------------------------------------------------------------------------------

numbers = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 60.0, -0.0, 1e30, 1e-30, float("inf")])
limits = st.one_of(st.integers(1, 8), st.integers(1, 100), st.just(2**32 - 1))


def leaf(query: st.SearchStrategy[Any], key: str) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"query": query, "key": st.just(key), "limit": limits},
        optional={"default": numbers, "return_rank": st.booleans()},
    ).map(lambda knn: {"$knn": knn})


bm25s = st.fixed_dictionaries(
    {"query": st.lists(st.sampled_from([*WORDS, "RED", "none"]), max_size=4).map(" ".join)},
    optional={
        "k1": st.sampled_from([0, 0.5, 2]),
        "b": st.sampled_from([0, 0.5, 1]),
        "default": numbers,
        "return_rank": st.booleans(),
    },
).flatmap(lambda bm25: limits.map(lambda limit: {"$bm25": bm25 | {"limit": limit}}))


@st.composite
def sparse_queries(draw: Any) -> dict[str, Any]:
    indices = sorted(draw(st.sets(st.integers(0, 12), max_size=6)))
    values = [draw(st.integers(-4, 8)) / 4 for _ in indices]
    return SparseVector(indices, values).to_dict()


def ranks(key: str) -> st.SearchStrategy[Any]:
    dense = st.lists(st.integers(0, 3), min_size=DIMENSION, max_size=DIMENSION)
    leaves = st.one_of(
        leaf(dense, "#embedding"),
        leaf(sparse_queries(), key),
        bm25s,
        numbers.map(lambda number: {"$val": number}),
    )

    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=4)
        pair = st.fixed_dictionaries({"left": inner, "right": inner})
        return st.one_of(
            *(
                several.map(lambda parts, op=op: {op: parts})
                for op in ("$sum", "$mul", "$max", "$min")
            ),
            *(pair.map(lambda parts, op=op: {op: parts}) for op in ("$sub", "$div")),
            *(inner.map(lambda part, op=op: {op: part}) for op in ("$abs", "$exp", "$log")),
        )

    return st.recursive(leaves, extend, max_leaves=8)


names = st.sampled_from(["g", "p", "sp", "missing"])
groups = st.builds(
    lambda by, op, order, k: {"keys": by, "aggregate": {op: {"keys": order, "k": k}}},
    st.lists(names, min_size=1, max_size=2),
    st.sampled_from(["$min_k", "$max_k"]),
    st.lists(st.one_of(names, st.just("#score")), min_size=1, max_size=2),
    st.integers(1, 4),
)


@st.composite
def payloads(draw: Any, key: str) -> dict[str, Any]:
    rank = draw(st.one_of(ranks(key), ranks(key), ranks(key), st.none()))
    limit = draw(
        st.fixed_dictionaries(
            {"offset": st.one_of(st.just(0), st.integers(0, 90))},
            optional={"limit": st.integers(1, 90)},
        )
    )
    return {
        "filter": draw(
            st.sampled_from(
                [
                    None,
                    None,
                    {"g": 1},
                    {"g": {"$ne": "one"}},
                    {"p": "no"},
                    {"#id": {"$in": ["r1", "r2", "r30", "r31", "none"]}},
                ]
            )
        ),
        "rank": rank,
        "group_by": draw(groups) if rank is not None and draw(st.booleans()) else {},
        "limit": limit,
        "select": {"keys": ["#score"]},
    }


def is_selected(record: Record, where: Any) -> bool:
    if where is None:
        return True
    ((key, condition),) = where.items()
    value = (record.metadata or {}).get(key)
    if key == "#id":
        return record.id in condition["$in"]
    if isinstance(condition, dict):
        return value != condition["$ne"]
    return value == condition and not isinstance(value, bool)


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_ids_and_scores_are_those_of_the_model(world, data):
    api, collections = world
    key, collection, model = data.draw(st.sampled_from(collections))
    given_payloads = data.draw(st.lists(payloads(key), min_size=1, max_size=PAYLOADS))
    check(api, collection, model, given_payloads)


def check(api: Any, collection: Any, model: Model, given_payloads: list[Any]) -> None:
    found = api.search_payloads(collection.id, given_payloads)
    for i, payload in enumerate(given_payloads):
        places = [p for p, r in enumerate(model.records) if is_selected(r, payload["filter"])]
        expected = model.search(payload, places)
        compared["searches" if payload["rank"] is None else "expressions"] += 1
        assert found["ids"][i] == [id for id, _ in expected]
        # repr, as NaN differs from itself and -0 does not from 0
        assert list(map(repr, found["scores"][i])) == [repr(score) for _, score in expected]


# -- the same from a plain generator ---------------------------------------------------------------

NUMBERS = [0.0, 1.0, -1.0, 0.5, 2.0, 60.0, -0.0, 1e30, 1e-30, float("inf")]


def random_leaf(chance: random.Random, key: str) -> dict[str, Any]:
    kind = chance.choice(["value", "dense", "dense", "sparse", "sparse", "text", "text"])
    if kind == "value":
        return {"$val": chance.choice(NUMBERS)}
    leaf: dict[str, Any] = {"limit": chance.choice([1, 3, 8, 30, 100])}
    if kind == "text":
        leaf["query"] = " ".join(chance.choices(WORDS, k=chance.randint(1, 4)))
        leaf.update(k1=chance.choice([0, 1.2, 3]), b=chance.choice([0, 0.75, 1]))
    elif kind == "dense":
        leaf.update(query=random_vector(chance), key="#embedding")
    else:
        leaf.update(query=random_sparse(chance).to_dict(), key=key)
    if chance.random() < 0.5:
        leaf["default"] = chance.choice(NUMBERS)
    if chance.random() < 0.3:
        leaf["return_rank"] = True
    return {"$bm25" if kind == "text" else "$knn": leaf}


def random_rank(chance: random.Random, key: str, depth: int) -> dict[str, Any]:
    if depth == 0 or chance.random() < 0.2:
        return random_leaf(chance, key)
    op = chance.choice(["$sum", "$mul", "$max", "$min", "$sub", "$div", "$abs", "$exp", "$log"])
    if op in {"$abs", "$exp", "$log"}:
        return {op: random_rank(chance, key, depth - 1)}
    if op in {"$sub", "$div"}:
        parts = [random_rank(chance, key, depth - 1) for _ in range(2)]
        return {op: dict(zip(("left", "right"), parts, strict=True))}
    return {op: [random_rank(chance, key, depth - 1) for _ in range(chance.randint(1, 3))]}


def random_payload(chance: random.Random, key: str) -> dict[str, Any]:
    group: dict[str, Any] = {}
    if chance.random() < 0.4:
        fields = ["g", "p", "sp", "missing"]
        order = [chance.choice([*fields, "#score"]) for _ in range(chance.randint(1, 2))]
        aggregate = {
            chance.choice(["$min_k", "$max_k"]): {"keys": order, "k": chance.randint(1, 4)}
        }
        group = {"keys": chance.sample(fields, chance.randint(1, 2)), "aggregate": aggregate}
    limit = {"offset": chance.choice([0, 0, 3, 40])}
    if chance.random() < 0.5:
        limit["limit"] = chance.randint(1, 60)
    return {
        "filter": chance.choice([None, None, {"g": 1}, {"g": {"$ne": "one"}}, {"p": "no"}]),
        "rank": random_rank(chance, key, 3),
        "group_by": group,
        "limit": limit,
        "select": {"keys": ["#score"]},
    }


def test_many_random_searches(world):
    api, collections = world
    chance = random.Random(ROUNDS_SEED)
    for number in range(ROUNDS):
        key, collection, model = chance.choice(collections)
        payload = random_payload(chance, key)
        try:
            check(api, collection, model, [payload])
        except AssertionError as error:
            raise AssertionError(f"seed {ROUNDS_SEED}, search {number}: {payload}") from error
