"""Chroma's `where` and `where_document` as filter expressions of the engine.

The client's front end has checked the shape already; what is refused here is what Chroma's server
refuses ("Invalid where clause"), including everything that reaches us over HTTP unchecked.  The
engine compares int and float by value; every other type only with itself (vexfs.h, "selection").
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine
from vexfs_chroma._records import is_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._config import IndexView
    from vexfs_chroma._engine import Filter

DOCUMENT_KEY = "#document"
# The key under which Chroma keeps documents among the metadata; comparing it compares the document.
HIDDEN_DOCUMENT_KEY = "chroma:document"

_COMPARISONS = {
    "$eq": _engine.F_EQ,
    "$ne": _engine.F_NE,
    "$gt": _engine.F_GT,
    "$gte": _engine.F_GE,
    "$lt": _engine.F_LT,
    "$lte": _engine.F_LE,
}
_ORDERINGS = {"$gt", "$gte", "$lt", "$lte"}
_SETS = {"$in": _engine.F_IN, "$nin": _engine.F_NIN}
_MEMBERSHIPS = {"$contains": _engine.F_CONTAINS, "$not_contains": _engine.F_NOT_CONTAINS}
# Ours: strings in metadata (docs/filters.md).
_TEXTS = {
    "$contains_text": _engine.F_TEXT_CONTAINS,
    "$not_contains_text": _engine.F_TEXT_NOT_CONTAINS,
    "$icontains_text": _engine.F_TEXT_ICONTAINS,
    "$not_icontains_text": _engine.F_TEXT_NOT_ICONTAINS,
    "$starts_with": _engine.F_TEXT_STARTS,
    "$not_starts_with": _engine.F_TEXT_NOT_STARTS,
    "$istarts_with": _engine.F_TEXT_ISTARTS,
    "$not_istarts_with": _engine.F_TEXT_NOT_ISTARTS,
    "$ieq": _engine.F_TEXT_IEQ,
    "$not_ieq": _engine.F_TEXT_NOT_IEQ,
}
_DOCUMENTS = {
    "$contains": _engine.F_DOC_CONTAINS,
    "$not_contains": _engine.F_DOC_NOT_CONTAINS,
    "$regex": _engine.F_DOC_REGEX,
    "$not_regex": _engine.F_DOC_NOT_REGEX,
    "$icontains": _engine.F_DOC_ICONTAINS,
    "$not_icontains": _engine.F_DOC_NOT_ICONTAINS,
}
_INT64_MIN, _INT64_MAX, _UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1

NOTHING: Filter = [_engine.F_ID_IN, []]
EVERYTHING: Filter = [_engine.F_ID_NOT_IN, []]


class Clause:
    """A compiled filter, and what it needs the collection's schema to allow."""

    __slots__ = ("filter", "needs_fts", "needs_keys")

    def __init__(self, where: Any, where_document: Any) -> None:
        """Raises InvalidArgumentError for what Chroma's server refuses.  None is no condition."""
        self.needs_keys: list[tuple[str, str]] = []
        self.needs_fts = False
        parts = []
        if where is not None:
            parts.append(self._where(where))
        if where_document is not None:
            parts.append(self._where_document(where_document))
        self.filter: Filter | None = _combine(_engine.F_AND, parts) if parts else None

    def check(self, indexes: IndexView) -> None:
        """Raise InvalidArgumentError when the schema switched a needed index off."""
        for key, value_type in self.needs_keys:
            indexes.check(key, value_type)
        if self.needs_fts:
            indexes.check_fts()

    def _where(self, where: Any) -> Filter:
        if not isinstance(where, dict) or len(where) != 1:
            raise _invalid_where()
        ((key, condition),) = where.items()
        if key in {"$and", "$or"}:
            if not isinstance(condition, list):
                raise _invalid_where()
            op = _engine.F_AND if key == "$and" else _engine.F_OR
            return _combine(op, [self._where(child) for child in condition])
        if not _is_text(key) or key.startswith("$"):
            raise _invalid_where()
        if not isinstance(condition, dict):
            return self._compare(key, "$eq", condition)
        if len(condition) != 1:
            raise _invalid_where()
        ((op_name, operand),) = condition.items()
        if op_name == "$exists":
            return self._exists(key, operand)
        if key == DOCUMENT_KEY and op_name in _DOCUMENTS:
            if not _is_text(operand):
                raise _invalid_where()
            return self._document(op_name, operand)
        return self._compare(key, op_name, operand)

    def _compare(self, key: str, op_name: str, operand: Any) -> Filter:
        if op_name in _COMPARISONS:
            value_type, operand = _scalar(operand)
            if op_name in _ORDERINGS and value_type == "bool":
                raise _invalid_where()
            self.needs_keys.append((key, value_type))
            if key == HIDDEN_DOCUMENT_KEY and value_type == "string":
                return _document_is([operand], negate=op_name == "$ne")
            return [_COMPARISONS[op_name], key, operand]
        if op_name in _SETS:
            if not isinstance(operand, list) or not operand:
                raise _invalid_where()
            value_types, values = zip(*map(_scalar, operand), strict=True)
            # As in Chroma, integers may follow a float: JSON of JavaScript has 1 for 1.0.
            if len(set(value_types) - ({"int"} if value_types[0] == "float" else set())) != 1:
                raise _invalid_where()
            self.needs_keys.append((key, value_types[0]))
            if key == HIDDEN_DOCUMENT_KEY and value_types[0] == "string":
                return _document_is(values, negate=op_name == "$nin")
            return [_SETS[op_name], key, list(values)]
        if op_name in _MEMBERSHIPS:
            value_type, operand = _scalar(operand)
            self.needs_keys.append((key, value_type))
            return [_MEMBERSHIPS[op_name], key, operand]
        if op_name in _TEXTS and _is_text(operand):
            self.needs_keys.append((key, "string"))
            return [_TEXTS[op_name], key, operand]
        raise _invalid_where()

    def _exists(self, key: str, operand: Any) -> Filter:
        if not isinstance(operand, bool):
            raise _invalid_where()
        if key in {DOCUMENT_KEY, HIDDEN_DOCUMENT_KEY}:  # every document contains the empty text
            return [_engine.F_DOC_CONTAINS if operand else _engine.F_DOC_NOT_CONTAINS, ""]
        return [_engine.F_EXISTS if operand else _engine.F_NOT_EXISTS, key]

    def _where_document(self, where: Any) -> Filter:
        if not isinstance(where, dict) or len(where) != 1:
            raise _invalid_where_document()
        ((op_name, operand),) = where.items()
        if op_name in {"$and", "$or"}:
            if not isinstance(operand, list):
                raise _invalid_where_document()
            op = _engine.F_AND if op_name == "$and" else _engine.F_OR
            return _combine(op, [self._where_document(child) for child in operand])
        if op_name not in _DOCUMENTS or not _is_text(operand):
            raise _invalid_where_document()
        return self._document(op_name, operand)

    def _document(self, op_name: str, text: str) -> Filter:
        self.needs_fts = True
        if "regex" in op_name:
            return _matches(_DOCUMENTS[op_name], text)
        return [_DOCUMENTS[op_name], text]


def _combine(op: int, parts: list[Filter]) -> Filter:
    """AND or OR of any number of parts; nested ones of the same kind are joined."""
    if not parts:
        return EVERYTHING
    if len(parts) == 1:
        return parts[0]
    flat: list[Filter] = []
    for part in parts:
        flat.extend(part[1] if part[0] == op else [part])
    return [op, flat]


# The modules of patterns are imported with the first pattern: they take as long as the rest.
def _document_is(texts: Sequence[str], *, negate: bool) -> Filter:
    from vexfs_chroma._regex import quote

    pattern = f"(?s)\\A(?:{'|'.join(quote(text) for text in texts)})\\z"
    return _matches(_engine.F_DOC_NOT_REGEX if negate else _engine.F_DOC_REGEX, pattern)


def _matches(op: int, pattern: str) -> Filter:
    from vexfs_chroma._regex import compile_pattern
    from vexfs_chroma._regex_literals import required

    compile_pattern(pattern)  # a bad pattern is an error even where no document is
    condition = required(pattern)
    return [op, pattern] if condition is None else [op, pattern, condition]


def _scalar(value: Any) -> tuple[str, Any]:
    """The type of an operand in a schema, and the value to compare with.

    Chroma reads an integer that fits neither 64 bits with a sign nor without as a float; what fits
    only without a sign, it refuses.
    """
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return "int", value
        if not _INT64_MAX < value <= _UINT64_MAX:
            with contextlib.suppress(OverflowError):
                return "float", float(value)
    elif isinstance(value, float):
        if math.isfinite(value):
            return "float", value
    elif _is_text(value):
        return "string", value
    raise _invalid_where()


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_text(value)


def _invalid_where() -> InvalidArgumentError:
    return InvalidArgumentError("Invalid where clause")


def _invalid_where_document() -> InvalidArgumentError:
    return InvalidArgumentError("Invalid where document clause")
