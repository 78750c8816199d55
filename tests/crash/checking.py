"""Is a database, after a kill, what it must be?  The verdict names what is wrong, if anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from search_model import Model, Record
from workload import DIMENSION, Contents, Expected, Operation, Stored, get_collection, open_client


@dataclass
class Verdict:
    """One look at a database after a kill."""

    applied: bool = False  # the operation that was under way is there, whole
    unopenable: str = ""  # it cannot be opened or read: the error
    lost: int = 0  # records of acknowledged operations that are missing, or old
    partial: int = 0  # records of the operation under way, of which others are not there
    doubled: int = 0  # ids that are there more than once, or that count() counts otherwise
    add_ignored: int = 0  # ids that get() does not find, and add() does not store
    not_found: int = 0  # records that a query for their own vector does not find
    misranked: int = 0  # searches for words that do not give what scoring every record does

    @property
    def good(self) -> bool:
        return self == Verdict(applied=self.applied)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def look(
    package: Any, path: Path, expected: Expected, *, ordered: bool
) -> tuple[Verdict, Contents | None]:
    """The verdict, and what there is when it is not what there must be.

    `ordered`: records have to come in order of insertion.  The database is written to.
    """
    try:
        client = open_client(package, path)
        verdict, found = _compare(client, expected, ordered)
        under_way = expected.next()
        for name, stored in found.items():
            _search_words(package, get_collection(client, name), stored, verdict)
            ids = under_way.arguments.get("ids", []) if name == under_way.collection else []
            _try_out(get_collection(client, name), stored, ids, verdict)
    except Exception as error:
        return Verdict(unopenable=f"{type(error).__name__}: {error}"), None
    return verdict, None if verdict.good else found


def _compare(client: Any, expected: Expected, ordered: bool) -> tuple[Verdict, Contents]:
    verdict = Verdict()
    found = {}
    for collection in client.list_collections():
        name = collection.name
        found[name], doubled = _read(get_collection(client, name))
        verdict.doubled += doubled
    under_way = expected.next()
    after = expected.after(under_way)
    as_before = _same(found, expected.contents, ordered)
    verdict.applied = not as_before and _same(found, after, ordered)
    if not verdict.applied and not as_before:
        _count_differences(verdict, found, expected.contents, under_way, after)
    return verdict, found


def _same(a: Contents, b: Contents, ordered: bool) -> bool:
    return a == b and (not ordered or all(list(a[name]) == list(b[name]) for name in a))


def _read(collection: Any) -> tuple[Stored, int]:
    got = collection.get(include=["embeddings", "documents", "metadatas"])
    columns = (got[name] for name in ("ids", "embeddings", "documents", "metadatas"))
    stored = {
        one: (np.asarray(vector).tolist(), document, metadata)
        for one, vector, document, metadata in zip(*columns, strict=True)
    }
    count = collection.count()
    return stored, max(len(got["ids"]) - len(stored), abs(count - len(got["ids"])))


def _count_differences(
    verdict: Verdict, found: Contents, before: Contents, under_way: Operation, after: Contents
) -> None:
    """Each record that is neither what it was before the operation under way nor what it is after
    it is lost; when the rest is right, but of that operation a part is there, it is partial."""
    for name in {*found, *before, *after}:
        there, old, new = found.get(name, {}), before.get(name, {}), after.get(name, {})
        old_kept = name in found or name not in before or name not in after
        verdict.lost += 0 if old_kept else max(1, len(old))
        if not old_kept:
            continue
        for one in {*there, *old, *new}:
            if there.get(one) not in (old.get(one), new.get(one)):
                verdict.lost += 1
            elif old.get(one) != new.get(one) and there.get(one) == new.get(one):
                verdict.partial += 1
    if verdict.lost == verdict.partial == 0:  # only the order differs
        verdict.lost = 1


def _search_words(package: Any, collection: Any, stored: Stored, verdict: Verdict) -> None:
    """Chroma has no such search."""
    if not stored or not hasattr(package, "Bm25"):
        return
    text = " ".join(next(reversed(stored.values()))[1].split()[:4])  # batch 17 row 2
    rank = package.Bm25(text, limit=30)
    found = collection.search(package.Search(rank=rank).select("#score"))
    model = Model([Record(one, row[0], row[1]) for one, row in stored.items()])
    payload = {"rank": rank.to_dict(), "limit": {}, "group_by": None}
    expected = model.search(payload, list(range(len(stored))))
    verdict.misranked += expected != list(zip(found["ids"][0], found["scores"][0], strict=True))


def _try_out(collection: Any, stored: Stored, ids: list[str], verdict: Verdict) -> None:
    """What is stored is found by a query; what is not there, best one of `ids`, can be added."""
    for one in list(stored)[:: max(1, len(stored) // 3)]:
        near = collection.query(query_embeddings=[stored[one][0]], n_results=1)
        verdict.not_found += not near["distances"][0] or near["distances"][0][0] != 0
    all_ids = (f"id{n}" for n in range(len(stored) + 1))
    absent = next(one for one in (*ids, *all_ids) if one not in stored)
    vector = [1.0] * DIMENSION
    collection.add(ids=[absent], embeddings=[vector], documents=["added after the kill"])
    got = collection.get(ids=[absent], include=["documents"])
    verdict.add_ignored += got["documents"] != ["added after the kill"]
