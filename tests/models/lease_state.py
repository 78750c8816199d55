"""The model of the lease protocol (lease.py): states, rules, how often things may happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from disk import Batches, Disk, Head


@dataclass(frozen=True)
class Rules:
    """The protocol.  A rule that is taken away has to be missed (test_lease.py)."""

    normal: bool = False  # durability "normal": syncs come later, in the background
    mixed: bool = False  # ... of one process, while the others sync at once
    drops_pages: bool = False  # the system does, when a sync fails
    settles_opening: bool = True  # opening takes over a log that ends in bytes of a dead writer
    settles_void: bool = True  # reading does, when no head says where the committed ones end
    settles_reading: bool = False  # reading does in any case
    takes_lease: bool = True
    catches_up: bool = True  # before it writes
    looks_for_manifest: bool = True  # before it opens a log: is what it knows the newest?
    stops_at_head: bool = True  # replaying for readers
    head_after_sync: bool = True
    failed_sync_poisons: bool = True
    failed_sync_voids_head: bool = True
    poisoned_follows: bool = True  # a poisoned process reads what others write
    looks_behind_end: bool = True  # for bytes of a dead writer
    persists_again: bool = True
    cuts: bool = True  # ... what is behind the last whole record
    persists_before_showing: bool = True
    failed_persisting_reloads: bool = True
    failed_persisting_voids_head: bool = True
    loads_again_with_head: bool = True  # when one came to count while loading without
    waits_to_settle: bool = True  # while another process has the lease
    seals_synced: bool = True
    takes_maintenance: bool = True
    flush_looks_for_manifest: bool = True  # before it seals
    commits_if_related: bool = True  # a flush, if its files are still those it began with
    removes_after_commit: bool = True
    names_before_removal: bool = True
    syncs_when_left: bool = True  # a log that another process goes on in
    numbers_recoveries: bool = True  # what others know may be gone: they load it anew
    reads_what_it_wrote: bool = True  # again, when it has taken a log over
    looks_after_opening: bool = True  # at the head, once more
    void_stays_void: bool = True  # for who publishes without having looked at the log


@dataclass(frozen=True)
class Size:
    """How often each thing may happen."""

    processes: int = 2
    before: int = 0  # batches that are there, acknowledged
    writes: int = 2
    together: int = 1  # writes of one process that share a sync
    flushes: int = 0
    kills: int = 1
    failing_syncs: int = 1
    power_failures: int = 1
    closes: int = 0


class Flush(NamedTuple):
    """A flush between its seal and its commit."""

    sealed: Batches
    wal_first: int
    generation: int  # of the next manifest
    related: bool = True


class Process(NamedTuple):
    at: str = "away"  # its next step
    then: str = ""  # ... after it has taken over
    generation: int = 0
    log: int = 0
    batches: Batches = ()  # its newest state
    shown: Batches = ()  # what its readers see
    shown_generation: int = 0
    writes: bool = False  # the log is open for appending
    witness: int = 0  # newest lsn that its writer knows to be durable
    poisoned: bool = False
    stale: bool = False  # batches must be loaded anew
    doomed: bool = False  # a sync of somebody else failed: by the system's rules, its next one does
    appended: int = 0  # newest batches that are not acknowledged yet
    covered: int = 0  # of these, the oldest, which are synced
    flush: Flush | None = None
    lease: bool = False
    maintenance: bool = False
    reading: tuple[Head | None, int, Batches] = (None, 0, ())  # its head, its manifest, what of it
    opening: bool = False  # it reads for the first time
    floor: Batches = ()  # a read: what it must give at least
    got: Batches | None = None  # what its last read gave, until anybody does anything
    bereaved: bool = False  # another process died since it opened
    normal: bool = False  # where durability is mixed: it syncs later
    owes: int = 0  # newest lsn that it answered for and has not synced
    recovery: int = 0  # number of the recovery behind `batches`
    shown_recovery: int = 0


class State(NamedTuple):
    disk: Disk
    processes: tuple[Process, ...]
    acknowledged: frozenset[int] = frozenset()
    seen: Batches = ()  # the most that anybody saw
    durable: Batches = ()  # the most that a sync succeeded for
    writes: int = 0
    flushes: int = 0
    kills: int = 0
    failing_syncs: int = 0
    power_failures: int = 0
    closes: int = 0
    recoveries: int = 0


Steps = Iterator[tuple[str, State]]
AWAY = Process()
LATER = Process(normal=True)
APPENDING = {"append", "append_rest", "sync", "publish", "answer"}


def is_prefix(short: Batches, long: Batches) -> bool:
    return long[: len(short)] == short


def longer(a: Batches, b: Batches) -> Batches:
    return a if len(a) >= len(b) else b


def is_behind(process: Process, head: Head | None) -> bool:
    """vex_collection_refresh: is there anything to read?"""
    return head is not None and (
        head.generation > process.shown_generation
        or head.lsn > len(process.shown)
        or head.recovery != process.shown_recovery
    )


def away(process: Process) -> Process:
    """The process is gone; another one of its durability may come."""
    return LATER if process.normal else AWAY


def all_but(i: int, processes: tuple[Process, ...]) -> Iterator[Process]:
    return (process for k, process in enumerate(processes) if k != i)
