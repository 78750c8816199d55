"""What our collections take in `where` and `where_document` beyond Chroma, and datetimes.

chromadb's client checks filters before it passes them on, and refuses what it does not know.  So
each filter is read twice: as the engine is to have it, and with every condition of ours replaced by
a plain one of Chroma's, for chromadb to check the rest, with its own errors.  A filter that has
nothing of ours is passed on as it is.  docs/filters.md says what the operators mean; their shape
is checked here, their meaning is in `_where.py`.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

from vexfs_chroma._records import is_text

if TYPE_CHECKING:
    from collections.abc import Callable

EXISTS = "$exists"
TEXT_TESTS = frozenset(
    prefix + name
    for prefix in ("$", "$not_")
    for name in ("contains_text", "icontains_text", "starts_with", "istarts_with", "ieq")
)
"""Conditions on strings in metadata; those with an i fold case, $not_ is the opposite."""

DOCUMENT_TESTS = frozenset({"$icontains", "$not_icontains"})
"""Conditions on documents, in where_document and of the key #document."""

_OURS = TEXT_TESTS | DOCUMENT_TESTS | {EXISTS}
_DOCUMENT_KEY = "#document"
_ORDERINGS = frozenset({"$gt", "$gte", "$lt", "$lte"})
_LOGICAL = frozenset({"$and", "$or"})

Filter = Any


def as_stored(value: Any) -> Any:
    """A datetime or date as the text that is stored for it; every other value as it is.

    Datetimes become `2026-11-29T21:13:18.000000+00:00`, always in UTC (one without a time zone is
    taken as UTC) and with microseconds, and dates `2026-11-29`: so the order of the texts is the
    order in time, and a date comes before the times of its day.  Raises ValueError for a datetime
    that is no time in UTC.
    """
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value
        try:
            return utc.astimezone(timezone.utc).isoformat(timespec="microseconds")
        except (OverflowError, ValueError) as error:  # pandas' NaT is a datetime, too
            raise ValueError(
                f"Expected a time that there is in UTC, in the years 1 to 9999, got {value!r}"
            ) from error
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list) and any(isinstance(item, date) for item in value):
        return [as_stored(item) for item in value]
    return value


def stored_metadatas(metadatas: Any) -> Any:
    """Metadata of a write with texts for datetimes; whatever has none is passed on as it is."""
    if isinstance(metadatas, dict):
        return _stored_metadata(metadatas)
    if isinstance(metadatas, list):
        stored = [_stored_metadata(metadata) for metadata in metadatas]
        return stored if any(map(_is_other, stored, metadatas)) else metadatas
    return metadatas


def _stored_metadata(metadata: Any) -> Any:
    if not isinstance(metadata, dict):
        return metadata
    stored = {key: as_stored(value) for key, value in metadata.items()}
    return stored if any(map(_is_other, stored.values(), metadata.values())) else metadata


def read_where(where: Filter, takes_text: Callable[[str], bool]) -> tuple[Filter, Filter]:
    """A filter on metadata for chromadb to check, and the same for the engine.

    `takes_text` says whether a key may be compared with a text by $gt, $gte, $lt and $lte; of
    other keys that is an error, as in Chroma.  Raises ValueError for a malformed condition of ours.
    """
    if not isinstance(where, dict) or len(where) != 1:
        return where, where
    ((key, condition),) = where.items()
    if key in _LOGICAL and isinstance(condition, list):
        parts = [read_where(part, takes_text) for part in condition]
        return _joined(where, key, [part[0] for part in parts], [part[1] for part in parts])
    if key in _OURS:
        raise ValueError(  # as chromadb says it of its own operators
            "Expected where key to be a metadata field name or a logical operator ($and, $or), "
            f"got {key}"
        )
    if not isinstance(condition, dict):
        stored = as_stored(condition)
        both = where if stored is condition else {key: stored}
        return both, both
    if len(condition) != 1:
        return where, where
    ((operator, operand),) = condition.items()
    if operator == EXISTS:
        _check_operand(operator, operand, bool, "a bool")
        return {key: True}, where
    if operator in (DOCUMENT_TESTS if key == _DOCUMENT_KEY else TEXT_TESTS):
        _check_operand(operator, operand, str, "a str")
        return ({key: {"$contains": operand}} if key == _DOCUMENT_KEY else {key: operand}), where
    stored = as_stored(operand)
    ours = where if stored is operand else {key: {operator: stored}}
    if (
        operator in _ORDERINGS
        and isinstance(stored, str)
        and is_text(stored)  # else chromadb refuses it
        and takes_text(key)
    ):
        return {key: stored}, ours
    return ours, ours


def read_where_document(where: Filter) -> tuple[Filter, Filter]:
    """A filter on documents for chromadb to check, and the same for the engine."""
    if not isinstance(where, dict) or len(where) != 1:
        return where, where
    ((operator, operand),) = where.items()
    if operator in _LOGICAL and isinstance(operand, list):
        parts = [read_where_document(part) for part in operand]
        return _joined(where, operator, [part[0] for part in parts], [part[1] for part in parts])
    if operator in DOCUMENT_TESTS:
        if not isinstance(operand, str) or not operand:  # as chromadb says it of its own operators
            kind = "str" if not isinstance(operand, str) else "non-empty str"
            raise ValueError(
                f"Expected where document operand value for operator {operator} to be a {kind}"
                + (f", got {operand}" if kind == "str" else "")
            )
        return {"$contains": operand}, where
    return where, where


def has_ours(plain: Filter, ours: Filter) -> bool:
    """Whether a pair that read_where() or read_where_document() gave has a condition of ours."""
    if plain is ours:
        return False
    ((key, parts),) = plain.items()
    if key not in _LOGICAL or not isinstance(parts, list):
        return True
    return any(map(has_ours, parts, ours[key]))


def _joined(where: Filter, key: str, plain: list[Filter], ours: list[Filter]) -> tuple[Any, Any]:
    parts = where[key]
    return (
        {key: plain} if any(map(_is_other, plain, parts)) else where,
        {key: ours} if any(map(_is_other, ours, parts)) else where,
    )


def _is_other(one: object, other: object) -> bool:
    return one is not other


def _check_operand(operator: str, operand: object, kind: type, name: str) -> None:
    if not isinstance(operand, kind):
        raise ValueError(  # noqa: TRY004 - Chroma's class
            f"Expected operand value to be {name} for operator {operator}, got {operand}"
        )
