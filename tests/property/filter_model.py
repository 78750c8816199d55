"""What filters mean, in plain Python, and random records and filters to try it on.

The model is `holds`: one record, one filter.  Values are few and close to each other (the same
letters in other cases, numbers at the limits, texts that begin like others), so that much matches.
"""

from __future__ import annotations

from random import Random
from typing import Any

Record = dict[str, Any]

TEXTS = [
    *("", "a", "A", "ab", "aB", "straße", "STRASSE", "Strass", "Ångström", "ÅNGSTRÖM", "kelvin"),
    *("\u212aelvin", "日本", "日本語", "z", "\U00010400x", "\U00010428X", "\ufb01ne", "FINE"),
]
PIECES = ["", "a", "B", "ss", "ß", "TRASS", "ång", "K", "本", "\U00010400", "fi", "e", "nothing"]
WORDS = [
    "Kelvin ",
    "scale, ",
    "STRASSE",
    "Straße ",
    "naïve ",
    "日本語",
    "\u212a ",
    "\u00b5m ",
    "\u039cM ",
]
NUMBERS = [0, 1, -1, 2, 2.0, 0.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 1e300]
KEYS = ["s", "n", "mixed", "list", "rare", "b"]


def random_metadata(random: Random) -> dict[str, Any] | None:
    out: dict[str, Any] = {}
    for key in KEYS:
        if random.random() < (0.03 if key == "rare" else 0.75):
            kind = {"s": "text", "n": "number", "b": "bool", "list": "list"}.get(
                key, random.choice(["text", "number", "bool", "list"])
            )
            out[key] = _value(random, kind)
    return out or None


def random_document(random: Random) -> str | None:
    if random.random() < 0.2:
        return None
    return "".join(random.choice(WORDS) for _ in range(random.randrange(1, 7)))


def _value(random: Random, kind: str) -> Any:
    if kind == "text":
        return random.choice(TEXTS)
    if kind == "bool":
        return random.random() < 0.5
    if kind == "number":
        return random.choice(NUMBERS)
    one = random.choice(["text", "bool", "int", "float"])
    pick = {
        "text": lambda: random.choice(TEXTS),
        "bool": lambda: random.random() < 0.5,
        "int": lambda: random.randrange(4),
        "float": lambda: random.randrange(4) / 2,
    }[one]
    return [pick() for _ in range(random.randrange(1, 4))]


# -- filters ---------------------------------------------------------------------------------------

TEXT_TESTS = ["contains_text", "icontains_text", "starts_with", "istarts_with", "ieq"]


def random_where(random: Random, depth: int = 2) -> dict[str, Any]:
    if depth and random.random() < 0.4:
        parts = [random_where(random, depth - 1) for _ in range(random.randrange(2, 4))]
        return {random.choice(["$and", "$or"]): parts}
    key, kind = random.choice(KEYS), random.randrange(6)
    if kind == 0:
        return {key: {"$exists": random.random() < 0.5}}
    if kind <= 2:
        test = random.choice(["$", "$not_"]) + random.choice(TEXT_TESTS)
        return {random.choice(["s", "mixed", key]): {test: random.choice(TEXTS + PIECES)}}
    if kind == 3:
        operator = random.choice(["$gt", "$gte", "$lt", "$lte"])
        text = random.random() < 0.6
        # of keys that have strings; the others refuse it, as in Chroma
        key = random.choice(["s", "mixed"]) if text else key
        return {key: {operator: random.choice(TEXTS if text else NUMBERS)}}
    if kind == 4:
        return {key: {random.choice(["$in", "$nin"]): random.sample(TEXTS, 3)}}
    operator = random.choice(["$eq", "$ne", "$contains", "$not_contains"])
    return {key: {operator: random.choice([*TEXTS, *NUMBERS, True, False])}}


def random_where_document(random: Random, depth: int = 1) -> dict[str, Any]:
    if depth and random.random() < 0.4:
        parts = [random_where_document(random, depth - 1) for _ in range(2)]
        return {random.choice(["$and", "$or"]): parts}
    operator = random.choice(["$icontains", "$not_icontains", "$contains", "$not_contains"])
    return {
        operator: random.choice(
            ["kelvin", "STRASSE", "ss", "scale, K", "\u03bcm", "NA", "本", "e n"]
        )
    }


# -- what they mean --------------------------------------------------------------------------------


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _same(a: Any, b: Any) -> bool:
    return kind_of(a) == kind_of(b) and a == b


def _ordered(operator: str, a: Any, b: Any) -> bool:
    if kind_of(a) != kind_of(b) or kind_of(a) not in {"number", "str"}:
        return False
    return {"$gt": a > b, "$gte": a >= b, "$lt": a < b, "$lte": a <= b}[operator]


def _text_holds(test: str, text: str, operand: str) -> bool:
    if test.startswith("i"):
        text, operand = text.casefold(), operand.casefold()
    if "contains" in test:
        return operand in text
    return text.startswith(operand) if "starts" in test else text == operand


def condition_holds(operator: str, operand: Any, value: Any, there: bool) -> bool:
    if operator == "$exists":
        return there == operand
    negated = operator.startswith("$n") and operator != "$n"
    positive = {"$ne": "$eq", "$nin": "$in"}.get(operator, operator.replace("$not_", "$"))
    if positive != operator and negated:
        return not condition_holds(positive, operand, value, there)
    if not there:
        return False
    if operator == "$eq":
        return _same(value, operand)
    if operator == "$in":
        return any(_same(value, one) for one in operand)
    if operator == "$contains":  # types do not mix in lists, not even numbers
        return isinstance(value, list) and any(
            type(one) is type(operand) and one == operand for one in value
        )
    if operator in {"$gt", "$gte", "$lt", "$lte"}:
        return _ordered(operator, value, operand)
    return isinstance(value, str) and _text_holds(operator[1:], value, operand)


def holds(where: dict[str, Any], metadata: dict[str, Any] | None) -> bool:
    ((key, condition),) = where.items()
    if key == "$and":
        return all(holds(part, metadata) for part in condition)
    if key == "$or":
        return any(holds(part, metadata) for part in condition)
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    ((operator, operand),) = condition.items()
    there = metadata is not None and key in metadata
    return condition_holds(operator, operand, metadata[key] if there else None, there)


def document_holds(where: dict[str, Any], document: str | None) -> bool:
    ((operator, operand),) = where.items()
    if operator == "$and":
        return all(document_holds(part, document) for part in operand)
    if operator == "$or":
        return any(document_holds(part, document) for part in operand)
    folds = "icontains" in operator
    text = document.casefold() if folds and document is not None else document
    wanted = operand.casefold() if folds else operand
    return (text is not None and wanted in text) != ("$not" in operator)


# -- values ----------------------------------------------------------------------------------------


def place(value: Any) -> tuple[int, Any, int]:
    """Where a scalar is in the order of all: bools, numbers by value, strings by code point."""
    if isinstance(value, str):
        return 2, value, 0
    return int(not isinstance(value, bool)), value, int(isinstance(value, float))


def _values(metadata: dict[str, Any] | None, key: str) -> dict[tuple[type, Any], Any]:
    """What a record has under a key, each value once."""
    found = (metadata or {}).get(key)
    values = found if isinstance(found, list) else [] if found is None else [found]
    return {(type(value), value): value for value in values}


def counts(metadatas: list[dict[str, Any] | None], key: str) -> dict[tuple[type, Any], int]:
    """How many records have each value; -0.0 is 0.0."""
    out: dict[tuple[type, Any], int] = {}
    for metadata in metadatas:
        for one in _values(metadata, key):
            out[one] = out.get(one, 0) + 1
    return out


def ordered(
    records: list[tuple[str, dict[str, Any] | None]], key: str, descending: bool
) -> list[str]:
    """Ids by a key: scalars first; ties, and equal numbers, in the order given."""

    def value_of(record: tuple[str, dict[str, Any] | None]) -> Any:
        return (record[1] or {}).get(key)

    valued = [r for r in records if value_of(r) is not None and not isinstance(value_of(r), list)]
    by_value = sorted(valued, key=lambda r: place(value_of(r))[:2], reverse=descending)
    kept = {one for one, _ in valued}
    return [one for one, _ in by_value] + [one for one, _ in records if one not in kept]
