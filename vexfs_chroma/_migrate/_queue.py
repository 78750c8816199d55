"""Chroma's log: the table `embeddings_queue`, one row per operation, with vector and metadata.

Chroma removes entries once both segments of a collection have them (old releases never do).  What
is still there is needed twice: entries that a segment has not seen are applied, as Chroma would do
when it opens the directory; and it has the vectors as they were given, bit for bit.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection as CollectionOf
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vexfs_chroma._migrate._sqlite import SourceFile

ADD, UPDATE, UPSERT, DELETE = range(4)
_TABLE = "embeddings_queue"


class Operation(NamedTuple):
    """One entry, without vector and metadata: those are fetched when they are needed."""

    seq: int
    kind: int
    id: str
    has_vector: bool


def read_queue(file: SourceFile, collections: CollectionOf[str]) -> dict[str, list[Operation]]:
    """The operations on each of these collections, in order."""
    found: dict[str, list[Operation]] = {id: [] for id in collections}
    # length() of a blob reads no more than its header
    for seq, kind, topic, id, encoding in file.scan(
        _TABLE, ("operation", "topic", "id", "encoding")
    ):
        operations = found.get(str(topic).rpartition("/")[2])
        if operations is None:
            continue
        if kind not in (ADD, UPDATE, UPSERT, DELETE) or not isinstance(id, str):
            file.damage.append(f"table {_TABLE}: entry {seq} makes no sense and was left out")
            continue
        operations.append(Operation(seq, kind, id, encoding is not None))
    for operations in found.values():
        operations.sort()  # they are, unless pages are damaged
    return found


def read_vectors(file: SourceFile, seqs: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """The vectors of these entries; entries with something else are left out."""
    found = {}
    rows, _ = file.by_number(_TABLE, ("vector", "encoding"), "seq_id", seqs)
    for seq, vector, encoding in rows:
        if encoding == "FLOAT32" and isinstance(vector, bytes) and vector and len(vector) % 4 == 0:
            values = np.frombuffer(vector, "<f4").astype(np.float32)
            if np.isfinite(values).all():
                found[seq] = values
    return found


def read_updates(file: SourceFile, seqs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The metadata of these entries.  A value of None removes the key."""
    found: dict[int, dict[str, Any]] = {}
    rows, _ = file.by_number(_TABLE, ("metadata",), "seq_id", seqs)
    for seq, text in rows:
        if text is None:
            found[seq] = {}
            continue
        try:
            update = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            update = None
        if isinstance(update, dict):
            found[seq] = update
        else:
            file.damage.append(f"table {_TABLE}: the metadata of entry {seq} is damaged")
    return found


def sequence_number(value: Any) -> int | None:
    """A sequence number as Chroma stores it: an integer, in old releases big-endian bytes."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "big") if len(value) in (8, 24) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def max_seq_ids(file: SourceFile) -> dict[str, int]:
    """The last operation that each segment has."""
    found = {}
    try:
        rows = file.rows("SELECT segment_id, seq_id FROM max_seq_id")
    except sqlite3.DatabaseError:
        rows = [row[1:] for row in file.scan("max_seq_id", ("segment_id", "seq_id"))]
    for segment, value in rows:
        seq = sequence_number(value)
        if seq is not None:
            found[str(segment)] = seq
    return found
