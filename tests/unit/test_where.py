"""where and where_document as filter expressions."""

from __future__ import annotations

import pytest
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _config, _engine
from vexfs_chroma._where import EVERYTHING, Clause


def compiled(where=None, where_document=None):
    return Clause(where, where_document).filter


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"k": 1}, [_engine.F_EQ, "k", 1]),
        ({"k": {"$eq": "x"}}, [_engine.F_EQ, "k", "x"]),
        ({"k": {"$ne": True}}, [_engine.F_NE, "k", True]),
        ({"k": {"$gt": 1}}, [_engine.F_GT, "k", 1]),
        ({"k": {"$gte": 1.5}}, [_engine.F_GE, "k", 1.5]),
        ({"k": {"$lt": -1}}, [_engine.F_LT, "k", -1]),
        ({"k": {"$lte": 1}}, [_engine.F_LE, "k", 1]),
        ({"k": 2**63 - 1}, [_engine.F_EQ, "k", 2**63 - 1]),
        ({"k": -(2**63)}, [_engine.F_EQ, "k", -(2**63)]),
        ({"k": {"$lt": 2**64}}, [_engine.F_LT, "k", 2.0**64]),
        ({"k": {"$ne": -(2**63) - 1}}, [_engine.F_NE, "k", -(2.0**63)]),
        ({"k": {"$nin": [2**70, -(2**70)]}}, [_engine.F_NIN, "k", [2.0**70, -(2.0**70)]]),
        ({"k": {"$contains": 2**70}}, [_engine.F_CONTAINS, "k", 2.0**70]),
        ({"k": {"$in": [1, 2]}}, [_engine.F_IN, "k", [1, 2]]),
        ({"k": {"$nin": ["a"]}}, [_engine.F_NIN, "k", ["a"]]),
        ({"k": {"$in": [1.5, 1]}}, [_engine.F_IN, "k", [1.5, 1]]),
        ({"k": {"$contains": "x"}}, [_engine.F_CONTAINS, "k", "x"]),
        ({"k": {"$not_contains": 3}}, [_engine.F_NOT_CONTAINS, "k", 3]),
        ({"#document": {"$contains": "x"}}, [_engine.F_DOC_CONTAINS, "x"]),
        (
            {"#document": {"$not_regex": "x."}},
            [_engine.F_DOC_NOT_REGEX, "x.", [_engine.F_DOC_CONTAINS, "x"]],
        ),
        (
            {"$and": [{"a": 1}, {"b": 2}]},
            [_engine.F_AND, [[_engine.F_EQ, "a", 1], [_engine.F_EQ, "b", 2]]],
        ),
        ({"$or": [{"a": 1}]}, [_engine.F_EQ, "a", 1]),
        ({"$and": []}, EVERYTHING),
    ],
)
def test_where(where, expected):
    assert compiled(where) == expected


def test_nested_operators_of_one_kind_are_joined():
    leaf = {"a": 1}
    where = leaf
    for _ in range(200):  # deeper than the engine's 64 levels
        where = {"$and": [where, leaf]}
    op, children = compiled(where)
    assert op == _engine.F_AND
    assert len(children) == 201


@pytest.mark.parametrize(
    "where",
    [
        {},
        [],
        "x",
        {"a": 1, "b": 2},
        {"$gt": 1},
        {"$foo": [1]},
        {"$and": {"a": 1}},
        {"$or": [{"a": 1}, {"$gt": 1}]},
        {"a": None},
        {"a": {}},
        {"a": {"$gt": 1, "$lt": 2}},
        {"a": {"$foo": 1}},
        {"a": {"$gt": True}},
        {"a": {"$eq": [1]}},
        {"a": {"$in": []}},
        {"a": {"$in": [1, True]}},
        {"a": {"$in": [1, 1.5]}},
        {"a": {"$in": [1.5, True]}},
        {"a": {"$in": 1}},
        {"a": {"$contains": [1]}},
        {"a": 2**63},
        {"a": 2**64 - 1},
        {"a": 10**400},
        {"a": -(10**400)},
        {"a": {"$in": [1, 2**64]}},
        {"a": {"$contains": 2**63}},
        {"a": float("nan")},
        {"a": {"$lt": float("inf")}},
        {"a": {"$in": [1, 2**63]}},
        {"#document": {"$contains": 1}},
    ],
)
def test_invalid_where(where):
    with pytest.raises(InvalidArgumentError, match=r"^Invalid where clause$"):
        compiled(where)


@pytest.mark.parametrize("where", [{}, "x", {"$foo": "x"}, {"$contains": 1}, {"$and": "x"}])
def test_invalid_where_document(where):
    with pytest.raises(InvalidArgumentError, match=r"^Invalid where document clause$"):
        compiled(None, where)


def test_where_document():
    assert compiled(None, {"$contains": "x"}) == [_engine.F_DOC_CONTAINS, "x"]
    assert compiled(None, {"$contains": ""}) == [_engine.F_DOC_CONTAINS, ""]
    assert compiled(None, {"$not_regex": ""}) == [_engine.F_DOC_NOT_REGEX, ""]
    assert compiled({"a": 1}, {"$regex": "^.x*"}) == [
        _engine.F_AND,
        [[_engine.F_EQ, "a", 1], [_engine.F_DOC_REGEX, "^.x*"]],
    ]
    with pytest.raises(InvalidArgumentError, match=r"^Regex syntax errror: regex parse error"):
        compiled(None, {"$regex": "("})


def test_the_hidden_document_key_compares_the_document():
    op, pattern, required = compiled({"chroma:document": "a.b"})
    assert op == _engine.F_DOC_REGEX
    assert "a" in pattern
    assert required == [_engine.F_DOC_CONTAINS, "a.b"]
    assert compiled({"chroma:document": {"$nin": ["a", "b"]}})[0] == _engine.F_DOC_NOT_REGEX
    assert compiled({"chroma:document": 1}) == [_engine.F_EQ, "chroma:document", 1]


def indexes(**off):
    schema = _config.build_schema(None, None, None)
    for value_type in off.get("defaults", ()):
        schema["defaults"][value_type][f"{value_type}_inverted_index"]["enabled"] = False
    for key, value_type in off.get("keys", ()):
        index = {f"{value_type}_inverted_index": {"enabled": False, "config": {}}}
        schema["keys"].setdefault(key, {})[value_type] = index
    if off.get("fts"):
        schema["keys"]["#document"]["string"]["fts_index"]["enabled"] = False
    return _config.IndexView(schema)


@pytest.mark.parametrize(
    ("where", "off", "named"),
    [
        ({"s": "x"}, {"defaults": ["string"]}, "'s' with type 'Str'"),
        ({"s": "x"}, {"keys": [("s", "string")]}, "'s' with type 'Str'"),
        ({"n": {"$in": [1]}}, {"defaults": ["int"]}, "'n' with type 'Int'"),
        ({"f": {"$contains": 1.0}}, {"defaults": ["float"]}, "'f' with type 'Float'"),
        ({"$or": [{"a": 1}, {"t": True}]}, {"defaults": ["bool"]}, "'t' with type 'Bool'"),
        ({"#document": "x"}, {}, "'#document' with type 'Str'"),
    ],
)
def test_a_switched_off_index_refuses_the_filter(where, off, named):
    with pytest.raises(InvalidArgumentError) as raised:
        Clause(where, None).check(indexes(**off))
    assert str(raised.value) == (
        f"Cannot filter using metadata key {named} because indexing is disabled"
    )


def test_a_switched_off_index_is_asked_by_the_type_of_the_operand():
    Clause({"n": 1.0}, None).check(indexes(defaults=["int"]))
    Clause({"n": 1}, None).check(indexes(keys=[("s", "int")]))
    with pytest.raises(InvalidArgumentError, match="FTS indexing is disabled"):
        Clause(None, {"$regex": "d"}).check(indexes(fts=True))
