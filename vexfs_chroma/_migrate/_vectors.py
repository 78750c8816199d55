"""The vectors of a Chroma collection: its index files, and the log for what they do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vexfs_chroma._migrate import _queue
from vexfs_chroma._migrate._queue import ADD, DELETE, UPDATE, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vexfs_chroma._migrate._hnsw import VectorFiles
    from vexfs_chroma._migrate._rows import Row
    from vexfs_chroma._migrate._sqlite import SourceFile

_SAME = 1e-5
"""Vectors that were divided by their length and multiplied again differ by so much, relatively."""


class Found(NamedTuple):
    """A vector, or why there is none."""

    vector: NDArray[np.float32] | None
    note: str | None = None


class Vectors:
    """Where the vector of each record is."""

    def __init__(
        self,
        file: SourceFile,
        operations: Sequence[Operation],
        max_seq_id: int,
        rows: Mapping[str, Row],
        rows_max_seq_id: int,
    ) -> None:
        """Decide which entry of the log has the newest vector of each id.

        Args:
            file: The SQLite file.
            operations: The log of the collection.
            max_seq_id: The last operation that is in the index files.
            rows: The records.
            rows_max_seq_id: The last operation that the metadata segment has.
        """
        self._file = file
        self._operations = operations
        self._max_seq_id = max_seq_id
        self._rows, self._rows_max_seq_id = rows, rows_max_seq_id
        self.files: VectorFiles | None = None
        self.labels: dict[str, int] = {}
        self.newest: dict[str, int] = {}
        """The entry of the log with the newest vector of an id."""
        self._surely_newest: set[str] = set()
        """Ids of which it is certain; an "add" may have been ignored, as the id was there."""
        self._gone: set[str] = set()
        """Ids that were deleted since the index files were saved."""

    def use_index(self, files: VectorFiles | None, labels: dict[str, int]) -> None:
        """Set the index, and apply the log to it."""
        self.files, self.labels = files, labels
        self.newest, self._gone, self._surely_newest = {}, set(), set()
        for operation in self._operations:
            seq, kind, id, has_vector = operation
            pending = seq > self._max_seq_id
            if kind == DELETE:
                self.newest.pop(id, None)
                if pending:
                    self._gone.add(id)
                continue
            if not has_vector or (kind == ADD and self._is_ignored(operation, pending=pending)):
                continue
            if kind == UPDATE and pending and not self._exists(id):
                continue
            self.newest[id] = seq
            if kind != ADD or pending:
                self._surely_newest.add(id)
            else:
                self._surely_newest.discard(id)

    def _exists(self, id: str) -> bool:
        return id in self.newest or (id in self.labels and id not in self._gone)

    def _is_ignored(self, operation: Operation, *, pending: bool) -> bool:
        """Whether an "add" came too late: the id was there, and Chroma changes nothing then."""
        if operation.id in self.newest or (pending and self._exists(operation.id)):
            return True
        row = self._rows.get(operation.id)
        # An operation that was carried out is noted in the record.
        return row is not None and row.seq < operation.seq <= self._rows_max_seq_id

    def from_log(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The newest vectors that the log has of these ids."""
        seqs = {id: self.newest[id] for id in ids if id in self.newest}
        vectors = _queue.read_vectors(self._file, list(seqs.values())) if seqs else {}
        return {id: vectors[seq] for id, seq in seqs.items() if seq in vectors}

    def find(self, ids: Sequence[str], dimension: int | None) -> list[Found]:
        """The vectors of these records."""
        logged = self.from_log(ids)
        known = [-1 if id in self._gone else self.labels.get(id, -1) for id in ids]
        indexed: list[NDArray[np.float32] | None] = [None] * len(ids)
        if self.files is not None:
            indexed = self.files.vectors(known)
        found = []
        for id, label, stored in zip(ids, known, indexed, strict=True):
            given = logged.get(id)
            if given is not None and dimension and len(given) != dimension:
                given = None
            if given is not None and (
                stored is None or id in self._surely_newest or same(given, stored)
            ):
                found.append(Found(given))
            elif stored is not None and self.newest.get(id, 0) <= self._max_seq_id:
                whole = self.files is None or self.files.has_length(label)
                found.append(Found(stored, None if whole else "length of the vector unknown"))
            else:
                found.append(Found(None, self._why_missing(id, label)))
        return found

    def _why_missing(self, id: str, label: int) -> str:
        if id in self.newest:
            return f"its vector in the log (entry {self.newest[id]}) is damaged"
        if self.files is None:
            return "not in the log, and the index files cannot be read"
        if label < 0:
            return "not in the log, and the index does not list its id"
        return "not in the log, and its place in the index files is missing or empty"


def same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two vectors are the same but for the rounding of a division by their length."""
    if len(a) != len(b):
        return False
    wide = b.astype(np.float64)
    return bool(np.abs(a - wide).max() <= _SAME * np.abs(wide).max())
