"""A model of hybrid search: what Chroma's server does with one payload, over plain records.

It is meant to be obviously correct, not fast: numpy float32 for single numbers, dicts for supports,
lists for records in insertion order.  Payloads are what `Search.to_dict()` gives; words of texts
are what is between spaces.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from chromadb.base_types import SparseVector

F = np.float32
FLOAT_MAX = float(np.finfo(np.float32).max)


@dataclass
class Record:
    id: str
    vector: Any
    document: str | None = None
    metadata: dict[str, Any] | None = None


@dataclass
class Value:
    """A number for each of some records (by place), and maybe one for all others."""

    support: dict[int, Any] = field(default_factory=dict)
    default: Any = None

    def number(self, place: int) -> Any:
        return self.support.get(place, self.default)


class Model:
    """Searches over records in insertion order.

    `nearest(query, places)` gives (place, distance) of these records, nearest first; by default by
    squared Euclidean distances, which are exact for small integers.
    """

    def __init__(
        self,
        records: list[Record],
        *,
        bm25_keys: frozenset[str] = frozenset(),
        nearest: Callable[[Any, list[int]], list[tuple[int, Any]]] | None = None,
    ) -> None:
        self.records = records
        self.bm25_keys = bm25_keys
        self.nearest = nearest or self._nearest

    def search(self, payload: dict[str, Any], selected: list[int]) -> list[tuple[str, float]]:
        """Ids and scores of a payload; `selected` are the places that its filter leaves."""
        offset, limit = payload["limit"].get("offset", 0), payload["limit"].get("limit")
        end = None if limit is None else offset + limit
        if payload["rank"] is None:
            kept = selected[offset:end]
            return [(self.records[place].id, float(i)) for i, place in enumerate(kept)]
        with np.errstate(all="ignore"):
            value = self.evaluate(payload["rank"], selected)
        ranked = sorted(value.support, key=lambda place: (score_key(value.support[place]), place))
        if payload["group_by"]:
            ranked = self.group(payload["group_by"], ranked, value.support)
        return [
            (self.records[place].id, float(value.support[place])) for place in ranked[offset:end]
        ]

    # -- rank expressions ------------------------------------------------------------------------

    def evaluate(self, rank: dict[str, Any], selected: list[int]) -> Value:
        ((op, operand),) = rank.items()
        if op == "$val":
            return Value({}, F(operand))
        if op == "$knn":
            return found_value(operand, self.knn(operand, selected))
        if op == "$bm25":
            return found_value(operand, self.bm25(operand, selected))
        if op in FOLDS:
            start, apply = FOLDS[op]
            value = Value({}, F(start))
            for part in operand:
                value = combine(apply, value, self.evaluate(part, selected))
            return value
        if op in PAIRS:
            left = self.evaluate(operand["left"], selected)
            return combine(PAIRS[op], left, self.evaluate(operand["right"], selected))
        apply = FUNCTIONS[op]
        inner = self.evaluate(operand, selected)
        default = None if inner.default is None else apply(inner.default)
        return Value({place: apply(x) for place, x in inner.support.items()}, default)

    def knn(self, knn: dict[str, Any], selected: list[int]) -> list[tuple[int, Any]]:
        if isinstance(knn["query"], dict):
            return self.sparse(knn["key"], SparseVector.from_dict(knn["query"]), selected)
        return self.nearest(np.asarray(knn["query"], F), selected)

    def _nearest(self, query: Any, selected: list[int]) -> list[tuple[int, Any]]:
        def distance(place: int) -> Any:
            return F(((np.asarray(self.records[place].vector, F) - query) ** 2).sum())

        return sorted(((p, distance(p)) for p in selected), key=lambda item: (item[1], item[0]))

    def sparse(self, key: str, query: SparseVector, selected: list[int]) -> list[tuple[int, Any]]:
        weights = dict(zip(query.indices, map(F, query.values), strict=True))
        if key in self.bm25_keys:
            weights = {i: self.idf(key, i, x) for i, x in weights.items()}
        found = []
        for place in selected:
            vector = self.vector_of(place, key)
            shared = [i for i in vector if i in weights]
            if shared:
                dot = F(0)
                for index in sorted(shared):
                    dot = F(dot + F(vector[index] * weights[index]))
                found.append((place, dot))
        found.sort(key=lambda item: (-item[1], item[0]))
        return [(place, F(F(1) - dot)) for place, dot in found]

    def vector_of(self, place: int, key: str) -> dict[int, Any]:
        vector = (self.records[place].metadata or {}).get(key)
        if not isinstance(vector, SparseVector):
            return {}
        return dict(zip(vector.indices, map(F, vector.values), strict=True))

    def idf(self, key: str, index: int, value: Any) -> Any:
        n = len(self.records)
        having = sum(index in self.vector_of(place, key) for place in range(n))
        return F(float(value) * math.log1p((n - having + 0.5) / (having + 0.5)))

    def bm25(self, bm25: dict[str, Any], selected: list[int]) -> list[tuple[int, Any]]:
        """Sums in single precision, word by word in their order, as everything of the engine."""
        texts = {
            place: Counter(record.document.lower().split())
            for place, record in enumerate(self.records)
            if record.document is not None
        }
        wanted = Counter(bm25["query"].lower().split())
        tokens = sum(map(Counter.total, texts.values()))
        if not tokens:
            return []
        k1, b = float(F(bm25.get("k1", 1.2))), float(F(bm25.get("b", 0.75)))
        base, per_token = F(k1 * (1 - b)), F(k1 * b / (tokens / len(texts)))
        scores: dict[int, Any] = {}
        for word in sorted(wanted, key=str.encode):
            having = sum(word in words for words in texts.values())
            idf = math.log1p((len(texts) - having + 0.5) / (having + 0.5))
            weight = F(idf * wanted[word])
            for place in selected:
                times = texts.get(place, Counter())[word]
                if times:
                    norm = F(base + F(per_token * F(texts[place].total())))
                    part = F(weight / F(F(1) + F(norm / F(times))))
                    scores[place] = F(scores.get(place, F(0)) + part)
        found = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return [(place, F(F(1) - score)) for place, score in found]

    # -- groups ----------------------------------------------------------------------------------

    def group(
        self, group_by: dict[str, Any], ranked: list[int], scores: dict[int, Any]
    ) -> list[int]:
        ((op, aggregate),) = group_by["aggregate"].items()
        groups: dict[Any, list[int]] = {}
        for place in ranked:
            metadata = self.records[place].metadata or {}
            key = tuple(value_key(metadata.get(name)) for name in group_by["keys"])
            groups.setdefault(key, []).append(place)

        def order(place: int) -> Any:
            metadata = self.records[place].metadata or {}
            return tuple(
                value_key(float(scores[place]) if name == "#score" else metadata.get(name))
                for name in aggregate["keys"]
            )

        kept: set[int] = set()
        for members in groups.values():
            best = sorted(members, key=order)
            if op == "$max_k":  # sorted() keeps ties in order only upwards
                best = [
                    p
                    for key in sorted({order(p) for p in members}, reverse=True)
                    for p in members
                    if order(p) == key
                ]
            kept.update(best[: aggregate["k"]])
        return [place for place in ranked if place in kept]


def found_value(leaf: dict[str, Any], found: list[tuple[int, Any]]) -> Value:
    """The value of a leaf that found these, best first."""
    found = found[: leaf["limit"]]
    if leaf.get("return_rank"):
        found = [(place, F(i)) for i, (place, _) in enumerate(found)]
    default = leaf.get("default")
    return Value(dict(found), None if default is None else F(default))


def combine(apply: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
    if a.default is not None and b.default is not None:
        places = a.support.keys() | b.support.keys()
    elif a.default is not None:
        places = b.support.keys()
    elif b.default is not None:
        places = a.support.keys()
    else:
        places = a.support.keys() & b.support.keys()
    both = a.default is not None and b.default is not None
    return Value(
        {place: apply(a.number(place), b.number(place)) for place in places},
        apply(a.default, b.default) if both else None,
    )


def larger(a: Any, b: Any) -> Any:
    return b if math.isnan(a) or b > a else a


def smaller(a: Any, b: Any) -> Any:
    return b if math.isnan(a) or b < a else a


FOLDS: dict[str, tuple[float, Callable[[Any, Any], Any]]] = {
    "$sum": (0.0, lambda a, b: F(a + b)),
    "$mul": (1.0, lambda a, b: F(a * b)),
    "$max": (-FLOAT_MAX, larger),
    "$min": (FLOAT_MAX, smaller),
}
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "$sub": lambda a, b: F(a - b),
    "$div": lambda a, b: F(a / b),
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "$abs": lambda a: F(abs(a)),
    "$exp": lambda a: F(np.exp(np.float64(a))),
    "$log": lambda a: F(np.log(np.float64(a))),
}


def score_key(score: Any) -> tuple[int, float, int]:
    """Lowest first, -0 before 0, NaN last."""
    if math.isnan(score):
        return (1, 0.0, 0)
    return (0, float(score), 0 if math.copysign(1, score) < 0 else 1)


def value_key(value: Any) -> Any:
    """A value of metadata as something that sorts: by its kind, then by itself."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, int):
        return (2, value)
    if isinstance(value, float):
        return (3, math.isnan(value), 0.0 if math.isnan(value) else value)
    if isinstance(value, str):
        return (4, value.encode())
    if isinstance(value, SparseVector):
        return (5, tuple(value.indices), tuple(value.values))
    return (6, tuple(value_key(item) for item in value))
