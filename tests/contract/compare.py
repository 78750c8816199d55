"""Do the same thing to chromadb and to vexfs_chroma, and say where they differ.

Two outcomes agree when they are equal, except that

  * floats are equal within the rounding of float32 arithmetic;
  * in query results, rows at the same distance may come in any order, and when such a tie is cut
    by n_results any of its rows may be the ones returned: chromadb promises neither;
  * uuids are replaced by a placeholder.

Everything else that differs is an error, or is listed in deviations.py.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from deviations import Call, Outcome, find_deviation
from tally import TALLY

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RELATIVE, ABSOLUTE = 2e-5, 2e-5


def plain(value: Any) -> Any:
    """Python values only; what stays distinguishable: types of numbers, dtypes, shapes."""
    if isinstance(value, np.ndarray):
        return {"array": str(value.dtype), "shape": value.shape, "values": value.tolist()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return UUID.sub("<uuid>", value if isinstance(value, str) else f"<{value}>")


def attempt(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(value=plain(call()))
    except Exception as problem:
        kind = type(problem)
        text = UUID.sub("<uuid>", str(problem))
        return Outcome(error=f"{kind.__module__}.{kind.__qualname__}", text=text)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or abs(a - b) <= ABSOLUTE + RELATIVE * abs(a) or (isnan(a) and isnan(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def first_difference(a: Any, b: Any, path: str = "") -> str:
    """Where two long values part, e.g. `.metadatas[1].n: 2.0 / None`."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        inner = [(a[key], b[key], f"{path}.{key}") for key in a]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        inner = [(x, y, f"{path}[{at}]") for at, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return f"{path}: {a!r} / {b!r}"
    return next((first_difference(*one) for one in inner if not equal(one[0], one[1])), path)


class Difference(AssertionError):
    """The two sides differ, and the list of deviations does not know it."""


COLLECTED: list[str] | None = None  # differences of the test under way; None: raise the first


@contextmanager
def collected() -> Iterator[None]:
    """Go on after a difference, so that one run of a table shows all of them; raise at the end."""
    global COLLECTED
    COLLECTED = []
    try:
        yield
        if COLLECTED:
            shown = "\n".join(dict.fromkeys(COLLECTED))
            raise Difference(f"{len(COLLECTED)} differences\n{shown}")
    finally:
        COLLECTED = None


def settle(call: Call, theirs: Outcome, ours: Outcome, agree: bool | None = None) -> None:
    """Count the comparison; raise Difference unless the outcomes agree or the way in which they
    do not is listed."""
    TALLY.calls += 1
    TALLY.raised += theirs.error is not None
    if agree if agree is not None else equal(vars(theirs), vars(ours)):
        return
    deviation = find_deviation(call, theirs, ours)
    if deviation is None:
        if theirs.error or ours.error:
            complaint = f"{call}\n  chromadb:     {theirs}\n  vexfs_chroma: {ours}"
        else:
            complaint = f"{call}\n  {first_difference(theirs.value, ours.value)}"
        if COLLECTED is None:
            raise Difference(complaint)
        COLLECTED.append(complaint)
        return
    TALLY.count_deviation(deviation.name)


@dataclass
class Pair:
    """The same object (a client, a collection) on both sides."""

    theirs: Any
    ours: Any

    def call(self, method: str, *args: Any, **kwargs: Any) -> Outcome:
        """Call a method on both, each with its own copy of the arguments; chromadb's outcome."""
        call = Call(method, args, kwargs)
        arguments = [copy.deepcopy((args, kwargs)) for _ in range(2)]
        theirs, ours = (
            attempt(lambda side=side, a=a, k=k: getattr(side, method)(*a, **k))
            for side, (a, k) in zip((self.theirs, self.ours), arguments, strict=True)
        )
        if method == "query" and not theirs.error and not ours.error:
            settle(call, theirs, ours, self._same_neighbours(theirs.value, ours.value, kwargs))
        else:
            settle(call, theirs, ours)
        return theirs

    def apply(self, what: str, function: Callable[[Any], Any]) -> Outcome:
        """Any function of one side."""
        theirs, ours = attempt(lambda: function(self.theirs)), attempt(lambda: function(self.ours))
        settle(Call(what), theirs, ours)
        return theirs

    def same_state(self) -> None:
        self.call("count")
        self.call("get", include=["embeddings", "documents", "metadatas", "uris"])

    # ---- query ---------------------------------------------------------------------------------

    def _same_neighbours(self, theirs: Any, ours: Any, kwargs: dict[str, Any]) -> bool:
        """Same rows up to ties; the payload of every row as chromadb stores it."""
        shape = {key: value is None for key, value in theirs.items()}
        if shape != {key: value is None for key, value in ours.items()}:
            return False
        if theirs["included"] != ours["included"] or len(theirs["ids"]) != len(ours["ids"]):
            return False
        # All candidates in chromadb's eyes: which rows each distance belongs to.
        wide = {**copy.deepcopy(kwargs), "n_results": 10_000}
        wide["include"] = ["distances", "documents", "metadatas", "embeddings", "uris"]
        everything = plain(self.theirs.query(**wide))
        return all(
            _same_row(theirs, ours, everything, index) for index in range(len(theirs["ids"]))
        )


def _same_row(theirs: Any, ours: Any, everything: Any, index: int) -> bool:
    """One query of a call.  Every row of ours is a candidate of chromadb's with chromadb's own
    distance and payload, and the distances, in order, are the same."""
    known = {
        one: {
            "distances": everything["distances"][index][at],
            "documents": everything["documents"][index][at],
            "metadatas": everything["metadatas"][index][at],
            "uris": everything["uris"][index][at],
            "embeddings": everything["embeddings"][index]["values"][at],
        }
        for at, one in enumerate(everything["ids"][index])
    }
    ids = ours["ids"][index]
    if len(set(ids)) != len(ids) or len(ids) != len(theirs["ids"][index]):
        return False
    expected = [known[one]["distances"] for one in theirs["ids"][index]]
    for name in ("distances", "documents", "metadatas", "uris", "embeddings"):
        if ours[name] is None:
            continue
        got = ours[name][index]
        if name == "embeddings":
            if got["array"] != theirs[name][index]["array"]:
                return False
            got = got["values"]
        if not all(i in known and equal(known[i][name], x) for i, x in zip(ids, got, strict=True)):
            return False
    return all(i in known for i in ids) and equal(expected, [known[i]["distances"] for i in ids])
