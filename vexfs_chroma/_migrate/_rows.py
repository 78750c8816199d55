"""Ids, documents, uris and metadata of a Chroma collection: its metadata segment and its log.

The tables `embeddings` (ids), `embedding_metadata` (one row per key) and, since Chroma 1.5,
`embedding_metadata_array` (one row per item of a list).  Documents and uris are metadata, too,
under hidden keys.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from vexfs_chroma._migrate import _queue
from vexfs_chroma._migrate._queue import ADD, DELETE, UPDATE, Operation, sequence_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vexfs_chroma._migrate._sqlite import SourceFile

DOCUMENT_KEY = "chroma:document"
URI_KEY = "chroma:uri"
_DAMAGED = object()
_UNKNOWN_SEQ = 2**63 - 1
_VALUES = ("string_value", "int_value", "float_value", "bool_value")


class Row:
    """One record, as far as its metadata segment and the log know it."""

    __slots__ = ("id", "number", "seq", "updates")

    def __init__(self, id: str, number: int | None, seq: int) -> None:
        self.id = id
        self.number = number
        """Its row number in `embeddings`; None when it is in the log only."""
        self.seq = seq
        """The last operation on it that the segment has."""
        self.updates: list[int] | None = None
        """Entries of the log that are still to be applied to its metadata."""


def read_rows(file: SourceFile, segments: Iterable[str]) -> dict[str, dict[str, Row]]:
    """The records of each of these metadata segments, in order of insertion."""
    found: dict[str, dict[str, Row]] = {id: {} for id in segments}
    before = len(file.damage)
    numbers: set[int] = set()
    for number, segment, id, seq in file.scan(
        "embeddings", ("segment_id", "embedding_id", "seq_id")
    ):
        rows = found.get(segment)
        if rows is not None and isinstance(id, str):
            rows[id] = Row(id, number, sequence_number(seq) or 0)
            numbers.add(number)
    if len(file.damage) > before:
        _add_from_index(file, found)
    return found


def _add_from_index(file: SourceFile, found: dict[str, dict[str, Row]]) -> None:
    """Ids whose table page is damaged are also in the index on them."""
    restored = 0
    for segment, rows in found.items():
        sql = (
            "SELECT id, embedding_id FROM embeddings INDEXED BY sqlite_autoindex_embeddings_1 "
            "WHERE segment_id = ?"
        )
        try:
            pairs = file.rows(sql, (segment,))
        except sqlite3.DatabaseError as error:
            file.damage.append(f"the index of table embeddings cannot be read either: {error}")
            return
        missing = [(number, id) for number, id in pairs if id not in rows]
        for number, id in missing:
            rows[id] = Row(id, number, _UNKNOWN_SEQ)
        restored += len(missing)
        if missing:
            found[segment] = {
                row.id: row for row in sorted(rows.values(), key=lambda row: row.number or 0)
            }
    file.damage.append(f"table embeddings: {restored} ids were found in its index instead")


def apply_log(rows: dict[str, Row], operations: Sequence[Operation], max_seq_id: int) -> None:
    """Apply the operations that the metadata segment has not seen, in Chroma's sense."""
    for seq, kind, id, _ in operations:
        if seq <= max_seq_id:
            continue
        row = rows.get(id)
        if kind == DELETE:
            rows.pop(id, None)
            continue
        if row is None:
            if kind == UPDATE:
                continue
            row = rows[id] = Row(id, None, seq)
        elif kind == ADD:
            continue
        row.updates = [*(row.updates or ()), seq]
        row.seq = seq


def read_metadata(file: SourceFile, page: Sequence[Row]) -> list[tuple[dict[str, Any], bool]]:
    """The metadata of these records, with the hidden keys; and whether it is complete."""
    numbers = [row.number for row in page if row.number is not None]
    stored: dict[int, dict[str, Any]] = {number: {} for number in numbers}
    rows, damaged = file.by_number("embedding_metadata", ("key", *_VALUES), "id", numbers)
    for number, key, *values in rows:
        value = _value(values)
        if not isinstance(key, str) or value is _DAMAGED:
            damaged.add(number)
        elif value is not None:
            stored[number][key] = value
    if file.has("embedding_metadata_array"):
        lists: dict[tuple[int, str], list[Any]] = {}
        rows, also = file.by_number("embedding_metadata_array", ("key", *_VALUES), "id", numbers)
        for number, key, *values in rows:
            value = _value(values)
            if not isinstance(key, str) or value is _DAMAGED:
                also.add(number)
            elif value is not None:
                lists.setdefault((number, key), []).append(value)
        for (number, key), items in lists.items():
            stored[number][key] = items
        damaged |= also
    if damaged:
        _add_from_full_text(file, {number: stored[number] for number in damaged})
    seqs = [seq for row in page for seq in row.updates or ()]
    updates = _queue.read_updates(file, seqs) if seqs else {}
    found = []
    for row in page:
        metadata = {} if row.number is None else stored[row.number]
        complete = row.number not in damaged
        for seq in row.updates or ():
            complete = complete and seq in updates
            for key, value in updates.get(seq, {}).items():
                if value is None:
                    metadata.pop(key, None)
                else:
                    metadata[key] = value
        found.append((metadata, complete))
    return found


def _add_from_full_text(file: SourceFile, stored: dict[int, dict[str, Any]]) -> None:
    """Documents whose page is damaged are also in the full-text table."""
    without = [number for number, metadata in stored.items() if DOCUMENT_KEY not in metadata]
    table = "embedding_fulltext_search_content"
    if not file.has(table):
        return
    rows, _ = file.by_number(table, ("c0",), "id", without)
    for number, document in rows:
        if isinstance(document, str):
            stored[number][DOCUMENT_KEY] = document


def _value(values: Sequence[Any]) -> Any:
    text, integer, number, boolean = values
    if text is not None:
        return text if isinstance(text, str) else _DAMAGED
    if boolean is not None:
        return bool(boolean) if boolean in {0, 1} else _DAMAGED
    if integer is not None:
        return integer if isinstance(integer, int) else _DAMAGED
    if number is not None:
        return float(number) if isinstance(number, int | float) else _DAMAGED
    return None
