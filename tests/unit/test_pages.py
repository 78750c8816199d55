"""get() in an order, with cursors, and iter_batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from chromadb.errors import InvalidArgumentError

import vexfs_chroma

VALUES = [3, "b", None, 1.5, True, "a", [1], 3.0, -2, "B", False, 3]
ASCENDING = ["k", "e", "i", "d", "a", "h", "l", "j", "f", "b", "c", "g"]
DESCENDING = ["b", "f", "j", "a", "h", "l", "d", "i", "e", "k", "c", "g"]
IDS = [chr(ord("a") + i) for i in range(len(VALUES))]


def flush(collection):
    with collection._api._using(collection.id) as opened:
        opened.engine.flush()


@pytest.fixture(params=["memory", "files", "both"])
def collection(request, tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path)
    made = client.create_collection("abc", embedding_function=None)
    half = 5 if request.param == "both" else len(IDS)
    for start, end in ((0, half), (half, len(IDS))):
        if start < end:
            made.add(
                ids=IDS[start:end],
                embeddings=[[i, 1] for i in range(start, end)],
                metadatas=[None if v is None else {"v": v} for v in VALUES[start:end]],
                documents=[f"document {one}" for one in IDS[start:end]],
            )
        if start == 0 and request.param != "memory":
            flush(made)
    yield made
    client.close()


def pages(collection, size, **arguments):
    """The ids of all pages."""
    out, after = [], None
    while True:
        page = collection.get(limit=size, after=after, **arguments)
        assert len(page["ids"]) <= size
        out.append(page["ids"])
        after = page["next"]
        if after is None:
            return out


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def test_orders(collection):
    assert collection.get(order_by="v")["ids"] == ASCENDING
    assert collection.get(order_by="v", descending=True)["ids"] == DESCENDING
    assert collection.get(order_by="#insertion")["ids"] == IDS
    assert collection.get(descending=True)["ids"] == IDS[::-1]
    assert collection.get(order_by="nowhere", descending=True)["ids"] == IDS
    assert collection.get(order_by="v", limit=3, offset=2)["ids"] == ASCENDING[2:5]
    assert collection.get(order_by="v", offset=20)["ids"] == []
    assert collection.get(order_by="v", limit=0) == {**collection.get(limit=0), "next": None}


def test_what_a_page_has(collection):
    page = collection.get(order_by="v", limit=2, include=["documents", "metadatas", "embeddings"])
    plain = collection.get(ids=["k", "e"], include=["documents", "metadatas", "embeddings"])
    assert page["ids"] == ["k", "e"]
    assert page["documents"] == ["document k", "document e"]
    assert page["metadatas"] == [{"v": False}, {"v": True}]
    assert page["embeddings"].dtype == plain["embeddings"].dtype
    assert page["embeddings"].tolist() == [[10, 1], [4, 1]]
    assert page["uris"] is None
    assert page["included"] == plain["included"]
    assert set(page) - set(plain) == {"next"}


@pytest.mark.parametrize("size", [1, 2, 5, 11, 12, 13])
def test_pages_have_every_record_once(collection, size):
    for arguments, expected in (
        ({"order_by": "v"}, ASCENDING),
        ({"order_by": "v", "descending": True}, DESCENDING),
        ({"order_by": "#insertion"}, IDS),
        ({"order_by": "#insertion", "descending": True}, IDS[::-1]),
        ({"order_by": "v", "where": {"v": {"$gt": 1}}}, ["d", "a", "h", "l"]),
        ({"order_by": "v", "ids": ["a", "b", "c", "x"]}, ["a", "b", "c"]),
        ({"order_by": "v", "where_document": {"$contains": " k"}}, ["k"]),
    ):
        found = pages(collection, size, **arguments)
        assert flat(found) == expected
        assert all(len(page) == size for page in found[:-1])


def test_tokens_remember_their_order(collection):
    first = collection.get(order_by="v", descending=True, limit=4)
    rest = collection.get(after=first["next"])
    assert first["ids"] + rest["ids"] == DESCENDING
    assert rest["next"] is None
    with pytest.raises(InvalidArgumentError, match="token of a page in another order"):
        collection.get(order_by="v", after=first["next"])
    with pytest.raises(InvalidArgumentError, match="token of a page in another order"):
        collection.get(order_by="other", descending=True, after=first["next"])


def test_pages_beside_writers(collection):
    first = collection.get(order_by="v", limit=5)
    assert first["ids"] == ASCENDING[:5]
    collection.delete(ids=["a", "d"])  # the last record of the page, too
    collection.add(
        ids=["early", "late"], embeddings=[[1, 1], [1, 1]], metadatas=[{"v": 0}, {"v": 4}]
    )
    second = collection.get(after=first["next"], limit=20)
    assert second["ids"] == ["h", "l", "late", "j", "f", "b", "c", "g"]
    newest = collection.get(descending=True, limit=2)
    assert newest["ids"] == ["late", "early"]
    collection.add(ids=["newest"], embeddings=[[1, 1]])
    assert collection.get(after=newest["next"], limit=2)["ids"] == ["l", "k"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"order_by": 1}, "order_by must be a metadata key or '#insertion', got 1"),
        ({"order_by": ""}, "order_by must be a metadata key or '#insertion', got ''"),
        ({"order_by": "\ud800"}, "order_by must be a metadata key or '#insertion', got '\\ud800'"),
        ({"order_by": "#document"}, "records can be ordered by a metadata key, not by '#document'"),
        ({"descending": 1}, "descending must be True or False, got 1"),
        ({"after": "a"}, "after must be the \"next\" of an earlier get(), got 'a'"),
        ({"after": "\xe9"}, 'after must be the "next" of an earlier get()'),
        ({"after": 7}, 'after must be the "next" of an earlier get(), got 7'),
        ({"after": "lAGhdsLEAg"}, 'after must be the "next" of an earlier get()'),
        ({"after": "lAKhdsLEAQA"}, "after is the token of another version"),
        ({"after": "lAGhdsLEAQA"}, "`after` is not what an earlier call gave"),
    ],
)
def test_errors(collection, arguments, text):
    with pytest.raises(InvalidArgumentError) as caught:
        collection.get(**arguments)
    assert text in str(caught.value)


def test_errors_of_get_stay(collection):
    with pytest.raises(ValueError, match=r"Expected where operator to be one of .* in get\."):
        collection.get(order_by="v", where={"v": {"$foo": 1}})
    with pytest.raises(OverflowError):
        collection.get(order_by="v", limit=-1)
    assert "next" not in collection.get()


def test_iter_batches(collection):
    found = list(collection.iter_batches(5, include=["metadatas"]))
    assert [len(batch["ids"]) for batch in found] == [5, 5, 2]
    assert flat(batch["ids"] for batch in found) == IDS
    assert flat(batch["metadatas"] for batch in found) == collection.get()["metadatas"]
    assert found[0]["documents"] is None
    assert list(collection.iter_batches(np.int64(5), include=["metadatas"])) == found
    some = list(collection.iter_batches(2, where={"v": {"$gt": 1}}))
    assert [batch["ids"] for batch in some] == [["a", "d"], ["h", "l"]]
    assert list(collection.iter_batches(where={"v": "nothing"})) == []


def test_iter_batches_beside_writers(collection):
    batches = collection.iter_batches(4)
    assert next(batches)["ids"] == IDS[:4]
    collection.delete(ids=["e", *IDS[8:12]])
    collection.add(ids=["new"], embeddings=[[1, 1]])
    collection.update(ids=["f"], metadatas=[{"v": "changed"}])
    second = next(batches)
    assert second["ids"] == ["f", "g", "h"]
    assert second["metadatas"][0] == {"v": "changed"}
    assert list(batches) == []


@pytest.mark.parametrize("size", [0, -1, 1.5, None, True])
def test_iter_batches_refuses(collection, size):
    with pytest.raises(InvalidArgumentError, match="batch_size must be a positive int"):
        collection.iter_batches(size)
