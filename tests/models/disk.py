"""What the model of the lease knows of a collection's directory: logs, manifests, the head.

A log is a row of cells, one per record.  A cell has a fate, which says what a power failure does:

    D  on the disk
    d  written, not synced: it may be there afterwards, or not
    x  a sync failed on it: reading still shows it (the page cache), the disk does not have it, and
       no later sync brings it there, because the page counts as clean

Where the system drops the pages of a sync that failed, these records are gone at once.

The content of a record is the number of its batch, the state of a collection the row of batches
that were applied.  Replaying goes by the rules of wal.h, including the tail rule and its witnesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

Batches = tuple[int, ...]


class Damaged(Exception):
    """What the engine reports as CorruptionError; here nothing is ever damaged, so it must not."""


class Missing(Exception):
    """A file was removed while somebody without a lock was reading."""


class Cell(NamedTuple):
    batch: int
    fate: str
    witness: int  # newest lsn that its writer knew to be durable


HOLE = Cell(-1, "D", 0)
"""A record that a power failure took, with records behind it."""


class Log(NamedTuple):
    number: int
    first: int  # lsn of its first record
    cells: tuple[Cell, ...] = ()
    torn: bool = False  # part of a record behind the last one
    closed: str = ""  # fate of the CLOSE frame, "" when there is none
    named: bool = True  # its name is durable

    @property
    def last(self) -> int:
        return self.first + len(self.cells) - 1


class Manifest(NamedTuple):
    generation: int
    batches: Batches
    wal_first: int
    named: bool = True


class Head(NamedTuple):
    generation: int
    log: int
    lsn: int
    recovery: int = 0


class Disk(NamedTuple):
    logs: tuple[Log, ...]
    manifests: tuple[Manifest, ...]  # newest last
    head: Head | None  # None: there is none that counts

    def log(self, number: int) -> Log | None:
        for log in self.logs:
            if log.number == number:
                return log
        return None

    def with_log(self, log: Log) -> Disk:
        others = [other for other in self.logs if other.number != log.number]
        return self._replace(logs=tuple(sorted([*others, log])))

    def without_leftovers(self, manifest: Manifest) -> Disk:
        """What `manifest` does not need is removed."""
        logs = tuple(log for log in self.logs if log.number >= manifest.wal_first)
        manifests = tuple(m for m in self.manifests if m.generation >= manifest.generation)
        return self._replace(logs=logs, manifests=manifests)

    def with_names(self) -> Disk:
        """The directory was synced."""
        return self._replace(
            logs=tuple(log._replace(named=True) for log in self.logs),
            manifests=tuple(manifest._replace(named=True) for manifest in self.manifests),
        )


def begun(batches: Batches) -> Disk:
    """A collection that holds these batches, in its first log."""
    log = Log(1, 1, tuple(Cell(batch, "D", 0) for batch in batches))
    return Disk((log,), (Manifest(1, (), 1),), Head(1, 1, len(batches)))


# ---- reading -----------------------------------------------------------------------------------


def replay(disk: Disk, batches: Batches, number: int, limit: Head | None) -> tuple[Batches, int]:
    """Go on in log `number` behind `batches`, up to `limit`; without one, to the end."""
    while True:
        log = disk.log(number)
        if log is None:
            raise Missing(f"log {number}")
        last = number >= limit.log if limit else disk.log(number + 1) is None
        batches, torn = _replay_log(log, batches, limit.lsn if limit and last else None)
        if last and (limit is None or len(batches) >= limit.lsn):
            return batches, number
        if last or torn:
            raise Damaged(f"log {number} ends before its committed end")
        number += 1


def _replay_log(log: Log, batches: Batches, end: int | None) -> tuple[Batches, bool]:
    for lsn, cell in enumerate(log.cells, log.first):
        if end is not None and lsn > end:
            return batches, False
        if lsn <= len(batches):
            continue
        if cell == HOLE:
            if any(later.witness >= lsn for later in log.cells[lsn - log.first + 1 :]):
                raise Damaged(f"record {lsn} had been durable")
            return batches, True
        if lsn > len(batches) + 1:
            raise Damaged(f"record {len(batches) + 1} is missing")
        batches += (cell.batch,)
    return batches, log.torn


def load(disk: Disk, limit: Head | None, generation: int = 0) -> tuple[int, Batches, int]:
    """A manifest (0: the newest) and its logs: generation, batches, number of the last log."""
    found = [m for m in disk.manifests if generation in {0, m.generation}]
    if not found:
        raise Missing(f"manifest {generation}" if generation else "any manifest")
    manifest = found[-1]
    if limit is not None and limit.log < manifest.wal_first:  # a flush overtook the head
        limit = Head(manifest.generation, manifest.wal_first, len(manifest.batches))
    batches, number = replay(disk, manifest.batches, manifest.wal_first, limit)
    return manifest.generation, batches, number


def end_of(disk: Disk, number: int, lsn: int, head_counts: bool) -> tuple[bool, bool]:
    """What is behind record `lsn`?  (clean, sealed) as vex_collection's check_end."""
    log = disk.log(number)
    if log is None:
        raise Missing(f"log {number}")
    nothing = log.last <= lsn and not log.torn
    if nothing and log.closed:
        sealed = disk.log(number + 1) is None
        return sealed, sealed
    return nothing and head_counts, False


# ---- syncs and power failures -------------------------------------------------------------------


def synced(log: Log, lsn: int) -> Log:
    """A sync that succeeds, begun when `lsn` was the last record."""
    cells = tuple(
        cell._replace(fate="D") if cell.fate == "d" and at <= lsn else cell
        for at, cell in enumerate(log.cells, log.first)
    )
    return log._replace(cells=cells)


def sync_failed(log: Log, drops: bool) -> Log:
    """A sync that fails: what it should have written counts as clean, or is gone."""
    closed = "D" if log.closed == "D" else ""
    if drops:
        cells = without_end(tuple(HOLE if cell.fate == "d" else cell for cell in log.cells))
        return log._replace(cells=cells, closed=closed if cells == log.cells else "", torn=False)
    cells = tuple(cell._replace(fate="x") if cell.fate == "d" else cell for cell in log.cells)
    return log._replace(cells=cells, closed=closed)


def without_end(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Behind the last record that is there nothing is."""
    length = len(cells)
    while length and cells[length - 1] == HOLE:
        length -= 1
    return cells[:length]


def with_record(log: Log, lsn: int, cell: Cell) -> Log:
    """Written in its place, whatever is, or is not, before it."""
    place = lsn - log.first
    before = log.cells[:place] + (HOLE,) * (place - len(log.cells))
    return log._replace(cells=(*before, cell, *log.cells[place + 1 :]), torn=False)


def written_again(log: Log, lsn: int, cut: bool) -> Log:
    """All records up to `lsn` in place, not yet synced; what is behind them is cut."""
    kept = log.cells[: lsn - log.first + 1]
    cells = tuple(cell._replace(fate="d") if cell.fate == "x" else cell for cell in kept)
    if not cut:
        return log._replace(cells=cells + log.cells[len(kept) :])
    return log._replace(cells=cells, torn=False, closed="")


def power_failures(disk: Disk) -> Iterator[Disk]:
    """Every directory that a power failure may leave."""
    manifests = [disk.manifests]
    if not disk.manifests[-1].named:
        manifests.append(disk.manifests[:-1])
    for logs in product(*(tuple(_log_after(log)) for log in disk.logs)):
        for kept in manifests:
            yield Disk(tuple(log for log in logs if log is not None), kept, None)


def _log_after(log: Log) -> Iterator[Log | None]:
    if not log.named:
        yield None
    fates = [
        {"D": (cell,), "x": (HOLE,), "d": (cell._replace(fate="D"), HOLE)}[cell.fate]
        for cell in log.cells
    ]
    for cells in product(*fates):
        length = len(without_end(cells))
        lost = length < len(cells) or log.torn
        for torn in (False, True) if lost else (False,):
            for closed in {log.closed, ""} if log.closed == "d" else {log.closed}:
                ends = closed if length == len(cells) and not torn else ""
                yield log._replace(cells=cells[:length], torn=torn, closed=ends and "D", named=True)
