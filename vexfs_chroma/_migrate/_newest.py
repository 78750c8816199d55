"""Which entry of the log has the newest vector of each id.

An "add" of an id that was there changes nothing, and neither does an "update" of one that was not.
What an entry did therefore depends on what was there before, which a shortened log does not tell.
What tells is, in this order: an earlier entry of the log; the record itself, which knows when it
was inserted, more or less (`_Insertions`); the ids in the index, for entries that it had not seen;
the ids of the metadata segment, for entries that that had not seen.  Where nothing tells, the entry
is called uncertain, and its vector is used only if the index has the same.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from vexfs_chroma._migrate._queue import ADD, DELETE, UPDATE, UPSERT, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vexfs_chroma._migrate._rows import Row


class Newest:
    """The newest entries of one collection."""

    def __init__(
        self,
        operations: Sequence[Operation],
        rows: Mapping[str, Row],
        rows_max_seq_id: int,
        labels: Mapping[str, int],
        index_max_seq_id: int,
        *,
        all_labels: bool,
    ) -> None:
        """Go through the log.

        Args:
            operations: The log.
            rows: The records of the metadata segment.
            rows_max_seq_id: The last operation that the metadata segment has.
            labels: Ids that the index has.
            index_max_seq_id: The last operation that the index has.
            all_labels: Whether `labels` are all that it has.
        """
        self._rows, self._rows_max = rows, rows_max_seq_id
        self._labels, self._index_max = labels, index_max_seq_id
        self._all_labels = all_labels
        self._operations = operations
        self._insertions: _Insertions | None = None
        self._present: dict[str, bool] = {}
        self.seqs: dict[str, int] = {}
        """The entry with the newest vector."""
        self.uncertain: set[str] = set()
        """Ids of which it may be another one, or one that is not in the log any more."""
        self.gone: set[str] = set()
        """Ids that were deleted since the index was saved."""
        for operation in operations:
            self._apply(operation)

    def _apply(self, operation: Operation) -> None:
        seq, kind, id, has_vector = operation
        if kind == DELETE:
            self._present[id] = False
            self.seqs.pop(id, None)
            self.uncertain.discard(id)
            if seq > self._index_max:
                self.gone.add(id)
            return
        present = self._is_present(operation)
        if kind == ADD and present:
            self._present[id] = True
        elif kind == UPDATE:
            # Of an id of which nothing is known: it is there now, and if it was not there then, an
            # entry still to come inserts it.
            if has_vector and present is not False:
                self._set(id, seq, certain=True)
        elif kind == UPSERT:
            self._present[id] = True
            if has_vector:
                self._set(id, seq, certain=True)
        else:
            self._present[id] = True
            certain = present is False
            self._set(id, seq if certain else self.seqs.get(id, seq), certain=certain)

    def _set(self, id: str, seq: int, *, certain: bool) -> None:
        self.seqs[id] = seq
        if certain:
            self.uncertain.discard(id)
        else:
            self.uncertain.add(id)

    def _is_present(self, operation: Operation) -> bool | None:
        """Whether the id was there before this entry; None: nothing tells."""
        seq, kind, id, _ = operation
        known = self._present.get(id)
        if known is not None:
            return known
        if kind == ADD and seq <= self._rows_max:
            inserts = self._inserts(operation)
            if inserts is not None:
                return not inserts
        if seq > self._index_max and id in self._labels:
            return True
        if seq > self._index_max and self._all_labels:
            return False
        if seq > self._rows_max:
            return id in self._rows
        return None

    def _inserts(self, operation: Operation) -> bool | None:
        row = self._rows.get(operation.id)
        if row is None:
            return True  # it was deleted later, or never came to be
        if self._insertions is None:
            self._insertions = _Insertions(self._operations, self._rows)
        return self._insertions.is_by(row, operation)


class _Insertions:
    """When records were inserted, as far as can be told.

    Every record has the number of the last operation on it, so it was inserted then or before; and
    records are numbered as they are inserted.
    """

    def __init__(self, operations: Sequence[Operation], rows: Mapping[str, Row]) -> None:
        numbered = [
            (row.number, row.id, row.seq) for row in rows.values() if row.number is not None
        ]
        numbered.sort()
        self._numbers = [number for number, _, _ in numbered]
        self._makers: dict[str, list[int]] = {}
        adds: set[tuple[str, int]] = set()
        for seq, kind, id, _ in operations:
            if kind == ADD:
                adds.add((id, seq))
            if kind in {ADD, UPSERT}:
                self._makers.setdefault(id, []).append(seq)
        self._latest = [seq for _, _, seq in numbered]
        for i in range(len(numbered) - 2, -1, -1):
            self._latest[i] = min(self._latest[i], self._latest[i + 1])
        self._earliest: list[int] = []
        earliest = 0
        for _, id, seq in numbered:
            self._earliest.append(earliest)
            if (id, seq) in adds:  # an "add" is the last operation only of what it inserted
                earliest = max(earliest, seq)

    def is_by(self, row: Row, operation: Operation) -> bool | None:
        """Whether this "add" inserted the record."""
        if row.seq == operation.seq:
            return True
        if row.number is None:
            return None
        at = bisect.bisect_left(self._numbers, row.number)
        latest, after = self._latest[at], self._earliest[at]
        if latest < operation.seq:
            return False
        if not after:
            return None
        # The log has everything since `after`, and one of its entries inserted the record.
        makers = [seq for seq in self._makers[row.id] if after < seq <= latest]
        return bool(makers) and makers[0] == operation.seq
