"""Filters beyond Chroma's: their shape, their errors, and datetimes."""

from __future__ import annotations

import re
import uuid
from datetime import date, datetime, timedelta, timezone

import pytest
from chromadb.errors import InvalidArgumentError

import vexfs_chroma
from vexfs_chroma import _config, _engine, _filters
from vexfs_chroma._where import Clause

CET = timezone(timedelta(hours=1))


@pytest.fixture
def collection():
    client = vexfs_chroma.EphemeralClient()
    name = f"c{uuid.uuid4().hex}"
    yield client.create_collection(name, embedding_function=None)
    client.delete_collection(name)
    client.close()


def add(collection, *metadatas, documents=None):
    n = len(metadatas)
    ids = [chr(ord("a") + i) for i in range(n)]
    collection.add(
        ids=ids,
        embeddings=[[i, 1] for i in range(n)],
        metadatas=list(metadatas),
        documents=documents,
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"k": {"$exists": True}}, [_engine.F_EXISTS, "k"]),
        ({"k": {"$exists": False}}, [_engine.F_NOT_EXISTS, "k"]),
        ({"#document": {"$exists": True}}, [_engine.F_DOC_CONTAINS, ""]),
        ({"#document": {"$exists": False}}, [_engine.F_DOC_NOT_CONTAINS, ""]),
        ({"k": {"$gt": "x"}}, [_engine.F_GT, "k", "x"]),
        ({"k": {"$contains_text": "x"}}, [_engine.F_TEXT_CONTAINS, "k", "x"]),
        ({"k": {"$not_istarts_with": ""}}, [_engine.F_TEXT_NOT_ISTARTS, "k", ""]),
        ({"k": {"$ieq": "X"}}, [_engine.F_TEXT_IEQ, "k", "X"]),
        ({"#document": {"$icontains": "x"}}, [_engine.F_DOC_ICONTAINS, "x"]),
    ],
)
def test_where(where, expected):
    assert Clause(where, None).filter == expected


def test_where_document():
    assert Clause(None, {"$icontains": "x"}).filter == [_engine.F_DOC_ICONTAINS, "x"]
    assert Clause(None, {"$not_icontains": "x"}).filter == [_engine.F_DOC_NOT_ICONTAINS, "x"]
    assert Clause(None, {"$icontains": ""}).filter == [_engine.F_DOC_ICONTAINS, ""]


@pytest.mark.parametrize(
    "where",
    [
        {"k": {"$exists": 1}},
        {"k": {"$exists": None}},
        {"k": {"$ieq": 1}},
        {"k": {"$contains_text": ["x"]}},
        {"k": {"$icontains": "x"}},
        {"k": {"$gt": True}},
        {"k": {"$starts_with": "\ud800"}},
        {"$exists": True},
    ],
)
def test_what_the_server_side_refuses(where):
    with pytest.raises(InvalidArgumentError, match=r"^Invalid where clause$"):
        Clause(where, None)


def test_schemas_can_switch_them_off():
    schema = _config.build_schema(None, None, None)
    schema["defaults"]["string"]["string_inverted_index"]["enabled"] = False
    schema["keys"]["#document"]["string"]["fts_index"]["enabled"] = False
    indexes = _config.IndexView(schema)
    for where in ({"k": {"$ieq": "x"}}, {"k": {"$gt": "x"}}):
        with pytest.raises(InvalidArgumentError, match="'k' with type 'Str' because indexing"):
            Clause(where, None).check(indexes)
    with pytest.raises(InvalidArgumentError, match="full-text search"):
        Clause(None, {"$icontains": "x"}).check(indexes)
    Clause({"k": {"$exists": True}}, None).check(indexes)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"s": {"$exists": 1}}, "Expected operand value to be a bool for operator $exists, got 1"),
        ({"s": {"$ieq": 1}}, "Expected operand value to be a str for operator $ieq, got 1"),
        ({"$and": [{"s": {"$ieq": "x"}}, {"s": {"$ieq": None}}]}, "Expected operand value to be a"),
        ({"s": {"$icontains": "x"}}, "Expected where operator to be one of $gt, $gte, $lt, $lte,"),
        ({"$or": [{"s": {"$ieq": "x"}}, {"s": {"$foo": "x"}}]}, "Expected where operator to be"),
        ({"$and": [{"s": {"$ieq": "x"}}]}, "Expected where value for $and or $or to be a list wi"),
        ({"s": {"$exists": True, "$ieq": "x"}}, "Expected operator expression to have exactly one"),
        ({"$exists": True}, "Expected where key to be a metadata field name or a logical operator"),
        ({"$icontains": "x"}, "Expected where key to be a metadata field name or a logical"),
        ({"$foo": "x"}, "Invalid where clause"),
        (
            {"n": {"$gt": "x"}},
            "Expected operand value to be an int or a float for operator $gt, go",
        ),
        (
            {"list": {"$lt": "x"}},
            "Expected operand value to be an int or a float for operator $lt,",
        ),
    ],
)
def test_errors_are_chromas(collection, where, text):
    add(collection, {"s": "x", "n": 1, "list": ["x"]})
    for call in (
        lambda: collection.get(where=where),
        lambda: collection.query(query_embeddings=[[1, 1]], where=where),
        lambda: collection.delete(where=where),
    ):
        with pytest.raises((ValueError, InvalidArgumentError)) as caught:
            call()
        assert str(caught.value).startswith(text)


class NotATime(datetime):
    """As NaT of pandas."""

    def astimezone(self, _=None):
        raise ValueError("NaTType does not support astimezone")


@pytest.mark.parametrize(
    "day",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        NotATime(2026, 1, 1),
    ],
)
def test_times_that_there_are_not_in_utc(collection, day):
    for call in (
        lambda: collection.add(ids=["x"], embeddings=[[1, 1]], metadatas=[{"at": day}]),
        lambda: collection.add(ids=["x"], embeddings=[[1, 1]], metadatas=[{"at": [day]}]),
        lambda: collection.get(where={"at": {"$gte": day}}),
        lambda: collection.search(vexfs_chroma.Search().where(vexfs_chroma.K("at") == day)),
    ):
        with pytest.raises(ValueError, match="Expected a time that there is in UTC, in the years"):
            call()
    assert collection.count() == 0


@pytest.mark.parametrize("operator", ["$icontains", "$not_icontains"])
def test_errors_about_documents_name_the_operator(collection, operator):
    add(collection, {"s": "x"})
    for operand, text in ((5, "a str, got 5 in get"), ("", "a non-empty str in get")):
        for where in ({operator: operand}, {"$and": [{"$contains": "x"}, {operator: operand}]}):
            with pytest.raises(ValueError, match=re.escape(f"operator {operator} to be {text}")):
                collection.get(where_document=where)


def test_string_ranges_are_for_keys_that_have_strings(collection):
    assert collection.get(where={"later": {"$gt": "a"}})["ids"] == []  # nothing yet
    add(collection, {"s": "Z"}, {"s": "a"}, {"s": "é"}, {"s": "\U00010000"}, {"n": 1})
    assert collection.get(where={"s": {"$gt": "a"}})["ids"] == ["c", "d"]
    assert collection.get(where={"s": {"$lte": "a"}})["ids"] == ["a", "b"]
    collection.update(ids=["e"], metadatas=[{"n": "text"}])
    assert collection.get(where={"n": {"$gte": "text"}})["ids"] == ["e"]
    assert collection.get(where={"n": {"$lt": 2}})["ids"] == []


def test_deleting_by_them(collection):
    add(collection, {"s": "Straße"}, {"s": "x"}, {"n": 1})
    assert collection.delete(where={"s": {"$ieq": "STRASSE"}}) == {"deleted": 1}
    assert collection.delete(where={"s": {"$exists": False}}) == {"deleted": 1}
    assert collection.get()["ids"] == ["b"]


def test_documents(collection):
    add(collection, {"k": 1}, {"k": 2}, {"k": 3}, documents=["Ein HAUS", "ein haus", None])
    assert collection.get(where_document={"$icontains": "EIN ha"})["ids"] == ["a", "b"]
    assert collection.get(where={"#document": {"$not_icontains": "HAUS"}})["ids"] == ["c"]
    assert collection.get(where={"#document": {"$exists": False}})["ids"] == ["c"]
    both = {"$and": [{"$icontains": "haus"}, {"$not_contains": "HAUS"}]}
    assert collection.get(where_document=both)["ids"] == ["b"]
    with pytest.raises(ValueError, match="to be a non-empty str in get"):
        collection.get(where_document={"$icontains": ""})


def test_datetimes_are_texts_in_the_order_of_time(collection):
    moments = [
        date(2026, 1, 1),
        datetime(2026, 1, 1),  # without a zone: in UTC
        datetime(2026, 1, 1, 1, 0, 0, 1, tzinfo=CET),
        datetime(2026, 1, 1, 12, tzinfo=timezone.utc),
        date(2026, 1, 2),
    ]
    add(collection, *({"at": moment} for moment in moments))
    assert [metadata["at"] for metadata in collection.get()["metadatas"]] == [
        "2026-01-01",
        "2026-01-01T00:00:00.000000+00:00",
        "2026-01-01T00:00:00.000001+00:00",
        "2026-01-01T12:00:00.000000+00:00",
        "2026-01-02",
    ]
    for i, moment in enumerate(moments):
        assert collection.get(where={"at": moment})["ids"] == ["abcde"[i]]
        assert collection.get(where={"at": {"$lt": moment}})["ids"] == list("abcde"[:i])
        assert collection.get(where={"at": {"$gte": moment}})["ids"] == list("abcde"[i:])
    assert collection.get(where={"at": {"$in": moments[1:3]}})["ids"] == ["b", "c"]
    collection.upsert(ids=["f"], embeddings=[[1, 1]], metadatas={"at": moments, "n": 1})
    assert collection.get(where={"at": {"$contains": moments[4]}})["ids"] == ["f"]
    assert datetime.fromisoformat(collection.get(ids=["c"])["metadatas"][0]["at"]) == moments[2]


def test_metadata_without_datetimes_is_not_copied():
    plain = [{"a": [1, 2], "b": "x"}, None]
    assert _filters.stored_metadatas(plain) is plain
    assert _filters.stored_metadatas(plain[0]) is plain[0]
    where = {"$and": [{"a": 1}, {"$or": [{"b": {"$in": ["x"]}}, {"c": {"$gt": 1}}]}]}
    assert _filters.read_where(where, lambda key: True) == (where, where)
    assert _filters.read_where(where, lambda key: True)[1] is where


@pytest.mark.parametrize("value", [{"nested": 1}, [], [1, "x"], (1, 2), object()])
def test_other_metadata_is_refused_as_in_chroma(collection, value):
    with pytest.raises(ValueError, match="Expected metadata"):
        add(collection, {"k": value})
