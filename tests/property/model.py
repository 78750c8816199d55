"""What a collection must do, in the plainest form: a list of records and brute force.

Nothing here is clever, nothing is shared with the implementation: filters are evaluated record by
record, distances in float64, order is the order of insertion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

TOLERANCE = 1e-5


@dataclass
class Record:
    vector: np.ndarray
    document: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def merge(self, vector: Any, document: Any, metadata: Any, uri: Any) -> None:
        """What update and upsert do to a stored record: only what is given changes."""
        if vector is not None:
            self.vector = np.asarray(vector, dtype=np.float32)
        if document is not None:
            self.document = document
        if uri is not None:
            self.uri = uri
        for key, value in (metadata or {}).items():
            if value is None:
                self.metadata.pop(key, None)
            else:
                self.metadata[key] = value


# ---- filters -----------------------------------------------------------------------------------


def kind(value: Any) -> str:
    """Values of different kinds are never equal and never ordered; 1 and 1.0 are one kind."""
    return "number" if type(value) in (int, float) else type(value).__name__


def same(a: Any, b: Any) -> bool:
    return kind(a) == kind(b) and a == b


def holds(operator: str, stored: Any, operand: Any) -> bool:
    """One comparison; `stored` is None when the record has no such key."""
    match operator:
        case "$ne":
            return not holds("$eq", stored, operand)
        case "$nin":
            return not holds("$in", stored, operand)
        case "$not_contains":
            return not holds("$contains", stored, operand)
        case "$contains":
            # Elements compare with their type: 2.0 is not an element of [1, 2].
            return isinstance(stored, list) and any(
                type(item) is type(operand) and item == operand for item in stored
            )
    if stored is None or isinstance(stored, list):
        return False
    match operator:
        case "$eq":
            return same(stored, operand)
        case "$in":
            return any(same(stored, one) for one in operand)
        case "$gt":
            return kind(stored) == "number" and stored > operand
        case "$gte":
            return kind(stored) == "number" and stored >= operand
        case "$lt":
            return kind(stored) == "number" and stored < operand
        case "$lte":
            return kind(stored) == "number" and stored <= operand
    raise ValueError(operator)


def matches(record: Record, where: dict[str, Any] | None) -> bool:
    if where is None:
        return True
    ((key, condition),) = where.items()
    if key == "$and":
        return all(matches(record, one) for one in condition)
    if key == "$or":
        return any(matches(record, one) for one in condition)
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    ((operator, operand),) = condition.items()
    return holds(operator, record.metadata.get(key), operand)


def text_matches(record: Record, where: dict[str, Any] | None) -> bool:
    if where is None:
        return True
    ((operator, operand),) = where.items()
    match operator:
        case "$and":
            return all(text_matches(record, one) for one in operand)
        case "$or":
            return any(text_matches(record, one) for one in operand)
        case "$contains":
            return record.document is not None and operand in record.document
        case "$regex":
            return record.document is not None and bool(re.search(operand, record.document))
        case "$not_contains":
            return not text_matches(record, {"$contains": operand})
        case "$not_regex":
            return not text_matches(record, {"$regex": operand})
    raise ValueError(operator)


# ---- the collection ----------------------------------------------------------------------------


def distance(space: str, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The distance in float64, and the scale that its float32 rounding error is relative to."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    if space == "l2":
        return float(((x - y) ** 2).sum()), float(x @ x + y @ y)
    lengths = float(np.sqrt((x @ x) * (y @ y)))
    if space == "ip":
        return float(1 - x @ y), 1 + lengths
    return (float(1 - (x @ y) / lengths) if lengths else 1.0), 1.0


class Model:
    def __init__(self, space: str) -> None:
        self.space = space
        self.dimension: int | None = None
        self.records: dict[str, Record] = {}  # in insertion order

    def write(self, method: str, ids: list[str], **fields: Any) -> None:
        count = len(ids)
        columns = [
            fields.get(name) or [None] * count
            for name in ("embeddings", "documents", "metadatas", "uris")
        ]
        for one, vector, document, metadata, uri in zip(ids, *columns, strict=True):
            stored = self.records.get(one)
            if stored is None and method != "update":
                stored = self.records[one] = Record(np.zeros(0, dtype=np.float32))
            elif stored is None or method == "add":
                continue
            stored.merge(vector, document, metadata, uri)
            self.dimension = len(stored.vector)

    def select(
        self, ids: Any = None, where: Any = None, where_document: Any = None
    ) -> dict[str, Record]:
        return {
            one: record
            for one, record in self.records.items()
            if (ids is None or one in ids)
            and matches(record, where)
            and text_matches(record, where_document)
        }

    def delete(self, limit: int | None = None, **selection: Any) -> int:
        chosen = list(self.select(**selection))[:limit]
        for one in chosen:
            del self.records[one]
        return len(chosen)

    # ---- checks: what a read returned against what it must be -----------------------------------

    def check_records(self, ids: list[str], result: dict[str, Any], at: int | None = None) -> None:
        """The payload columns of a get (or of query number `at`) belong to these ids."""
        for name in ("documents", "metadatas", "uris", "embeddings"):
            if result[name] is None:
                continue
            column = result[name] if at is None else result[name][at]
            assert len(column) == len(ids), name
            for one, value in zip(ids, column, strict=True):
                self._check_value(name, self.records[one], value)

    def _check_value(self, name: str, record: Record, value: Any) -> None:
        if name == "embeddings":
            np.testing.assert_array_equal(np.asarray(value, dtype=np.float32), record.vector)
        elif name == "documents":
            assert value == record.document
        elif name == "uris":
            assert value == record.uri
        else:
            stored = value or {}
            assert stored == record.metadata
            assert {k: type(v) for k, v in stored.items()} == {
                k: type(v) for k, v in record.metadata.items()
            }

    def check_get(
        self,
        result: dict[str, Any],
        limit: int | None = None,
        offset: int | None = None,
        **selection: Any,
    ) -> None:
        start = offset or 0
        stop = None if limit is None else start + limit
        expected = list(self.select(**selection))[start:stop]
        assert result["ids"] == expected
        self.check_records(expected, result)

    def check_query(
        self, result: dict[str, Any], queries: list[list[float]], n_results: int, **selection: Any
    ) -> None:
        """Exact search: right count, right distances, nobody nearer left out, ties by insertion."""
        candidates = self.select(**selection)
        place = {one: at for at, one in enumerate(self.records)}
        assert len(result["ids"]) == len(queries)
        for at, query in enumerate(queries):
            ids, distances = result["ids"][at], result["distances"][at]
            assert len(ids) == len(set(ids)) == min(n_results, len(candidates))
            target = np.asarray(query, dtype=np.float32)
            true = {i: distance(self.space, r.vector, target) for i, r in candidates.items()}
            for one, found in zip(ids, distances, strict=True):
                exact, scale = true[one]
                assert abs(found - exact) <= TOLERANCE * abs(exact) + 1e-6 * scale, (
                    one,
                    found,
                    exact,
                )
            order = [(found, place[one]) for one, found in zip(ids, distances, strict=True)]
            assert order == sorted(order), "nearest first, ties by insertion"
            self.check_nearest(ids, distances, true)
            self.check_records(ids, result, at)

    def check_nearest(
        self, ids: list[str], distances: list[float], true: dict[str, tuple[float, float]]
    ) -> None:
        """Of one query: nobody nearer was left out; `true` has the distances of all candidates."""
        if not ids or len(ids) == len(true):
            return
        place = {one: at for at, one in enumerate(self.records)}
        worst, scale = distances[-1], true[ids[-1]][1]
        for one in true.keys() - set(ids):
            exact, own = true[one]
            assert exact >= worst - TOLERANCE * abs(exact) - 1e-6 * (scale + own)
            # Small whole numbers are exact in float32: a tie cut at n_results is cut by
            # insertion order too.
            if exact == worst and self.space != "cosine":
                assert place[one] > place[ids[-1]], "a tie cut by insertion"


class ApproximateModel(Model):
    """Of a search by a graph: it may leave out a nearer row now and then, which is counted."""

    answers: ClassVar[int] = 0
    exact: ClassVar[int] = 0

    def check_nearest(
        self, ids: list[str], distances: list[float], true: dict[str, tuple[float, float]]
    ) -> None:
        missed = 0
        if ids and len(ids) < len(true):
            nearest = sorted(true.values())[: len(ids)]
            far = nearest[-1][0] + TOLERANCE * abs(nearest[-1][0]) + 1e-6 * nearest[-1][1]
            missed = sum(true[one][0] > far for one in ids)
        ApproximateModel.answers += 1
        ApproximateModel.exact += missed == 0
