"""The differences from chromadb that are meant: the list that docs/compatibility.md mirrors.

Each entry names the difference, says why it is there, and recognises exactly it: the call, and
what the two sides did.  A difference that no entry recognises fails the suite.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"{self.name}({', '.join(arguments)})"


@dataclass(frozen=True)
class Outcome:
    """What a call gave: a comparable value, or the class and text of what it raised."""

    value: Any = None
    error: str | None = None  # dotted class name
    text: str | None = None

    def __str__(self) -> str:
        return f"{self.error}: {self.text}" if self.error else repr(self.value)


@dataclass(frozen=True)
class Deviation:
    name: str
    why: str
    recognise: Callable[[Call, Outcome, Outcome], bool]


def _both_refuse(theirs: Outcome, ours: Outcome) -> bool:
    return theirs.error is not None and theirs.error == ours.error


def _has_fraction(where: Any) -> bool:
    if isinstance(where, dict):
        return any(map(_has_fraction, where.values()))
    if isinstance(where, list):
        return any(map(_has_fraction, where))
    return isinstance(where, float) and not where.is_integer()


def _is_at_the_limit(where: Any) -> bool:
    if isinstance(where, dict):
        return any(map(_is_at_the_limit, where.values()))
    if isinstance(where, list):
        return any(map(_is_at_the_limit, where))
    return isinstance(where, int | float) and not -(2**63) < where < 2**63 - 1


def _has_string_range(where: Any) -> bool:
    if isinstance(where, dict):
        return any(
            op in {"$gt", "$gte", "$lt", "$lte"} and isinstance(operand, str)
            for op, operand in where.items()
        ) or any(map(_has_string_range, where.values()))
    return isinstance(where, list) and any(map(_has_string_range, where))


DEVIATIONS = [
    Deviation(
        "string range",
        "chromadb compares numbers only by $gt, $gte, $lt and $lte; we compare strings, too, where"
        " a key has some",
        lambda call, theirs, ours: (
            _has_string_range(call.kwargs.get("where"))
            and "to be an int or a float for operator" in (theirs.text or "")
            and ours.error is None
        ),
    ),
    Deviation(
        "fractional operand",
        "chromadb truncates a float operand before comparing it with stored ints, so that"
        " {'n': 2.5} finds 2; we compare the numbers",
        lambda call, theirs, ours: (
            _has_fraction(call.kwargs.get("where")) and not theirs.error and not ours.error
        ),
    ),
    Deviation(
        "operand at the limits of 64 bits",
        "chromadb rounds such numbers to float64 or cuts them to 64 bits before it compares, so"
        " that {'n': 1e30} finds 2**63 - 1; we compare the numbers",
        lambda call, theirs, ours: (
            _is_at_the_limit(call.kwargs.get("where")) and not theirs.error and not ours.error
        ),
    ),
    Deviation(
        "batch ceiling",
        "chromadb refuses batches above 5461 records; we have no ceiling",
        lambda call, theirs, ours: (
            "greater than max batch size" in (theirs.text or "") and ours.error is None
        ),
    ),
    Deviation(
        "change of a deleted collection",
        "chromadb returns quietly from modify(metadata=...) of a deleted collection; we refuse",
        lambda call, theirs, ours: (
            call.name == "modify"
            and theirs == Outcome()
            and ours.error == "chromadb.errors.NotFoundError"
        ),
    ),
    Deviation(
        "indexing status",
        "chromadb's local mode does not tell how far an index is; ours is built in the background",
        lambda call, theirs, ours: (
            call.name == "get_indexing_status"
            and theirs.error == "builtins.NotImplementedError"
            and ours.error in {None, "chromadb.errors.NotFoundError"}
        ),
    ),
    Deviation(
        "forks",
        "chromadb's local mode has no forks",
        lambda call, theirs, ours: (
            call.name in {"fork", "fork_count"}
            and theirs.error == "builtins.NotImplementedError"
            and ours.error in {None, "chromadb.errors.NotFoundError"}
        ),
    ),
    Deviation(
        "update of nothing",
        "in chromadb an update that finds no record still fixes the dimension of a new collection",
        lambda call, theirs, ours: (
            call.name.startswith("update of nothing")
            and "expecting embedding with dimension of 3, got 2" in (theirs.text or "")
            and ours.error is None
        ),
    ),
    Deviation(
        "ids after an update of nothing",
        "so a query by id that finds nothing is an error in chromadb (the collection has a"
        " dimension) and empty here (it never had a vector)",
        lambda call, theirs, ours: (
            call.name == "query"
            and bool(call.kwargs.get("ids"))
            and "Error finding id" in (theirs.text or "")
            and ours.error is None
            and not any(ours.value["ids"])
        ),
    ),
    Deviation(
        "field order in a message",
        "chromadb lists the possible fields in the order of a Python set, which changes from"
        " process to process",
        lambda call, theirs, ours: (
            _both_refuse(theirs, ours)
            and sorted(re.findall(r"\w+", theirs.text or ""))
            == sorted(re.findall(r"\w+", ours.text or ""))
        ),
    ),
]


def find_deviation(call: Call, theirs: Outcome, ours: Outcome) -> Deviation | None:
    return next((d for d in DEVIATIONS if d.recognise(call, theirs, ours)), None)
