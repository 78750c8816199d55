"""The lease protocol as a model: csrc/db/{lease,commit,catchup,flush,collection}.c, call by call.

Several processes have one collection open.  Each may write (take the lease, catch up, perhaps take
the log over, append, sync, publish with the head, answer), flush (MAINT; seal the log and begin the
next under the lease; later commit a manifest under the lease; remove what it replaces), read (head,
manifest, logs, without a lock), close, and be opened again.  Any step may be the last: kills,
failing syncs and power failures are steps, too.

A step is what other processes, or a power failure, can tell apart.  What a holder of the lease does
without changing a file is part of the next step, since nobody else changes anything meanwhile.

What must hold:

- Whatever the disk is like, now or after a power failure, recovering finds every acknowledged batch
  once, and all that any reader ever saw, in the same order (durability "normal": after a power
  failure all that a sync succeeded for, and nothing in another order).
- A read gives all that was acknowledged, and all that any reader had seen, when it began.
- An add goes by exactly what a get showed just before it, if no process has died since the opening.
- Only one process appends.  When nobody is at work, all see the same.
- Nothing of this is ever taken for damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from disk import (
    NEW,
    Batches,
    Cell,
    Damaged,
    Disk,
    Head,
    Log,
    Manifest,
    Missing,
    end_of,
    load,
    power_failures,
    replay,
    sync_failed,
    synced,
    written_again,
)
from explore import Violation


@dataclass(frozen=True)
class Rules:
    """The protocol.  A rule that is taken away has to be missed (test_lease.py)."""

    normal: bool = False  # durability "normal": syncs come later, in the background
    background_sync_has_lease: bool = True
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
    waits_without_head: bool = True  # to settle, while another process has the lease
    seals_synced: bool = True
    takes_maintenance: bool = True
    commits_if_related: bool = True  # a flush, if its files are still those it began with
    commits_sealed: bool = True  # ... the sealed state, not the newest
    removes_after_commit: bool = True
    names_before_removal: bool = True


@dataclass(frozen=True)
class Size:
    """How often each thing may happen."""

    processes: int = 2
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


Steps = Iterator[tuple[str, State]]
AWAY = Process()
APPENDING = {"append", "append_rest", "sync", "publish", "answer"}


def is_prefix(short: Batches, long: Batches) -> bool:
    return long[: len(short)] == short


def longer(a: Batches, b: Batches) -> Batches:
    return a if len(a) >= len(b) else b


def is_behind(process: Process, head: Head | None) -> bool:
    """vex_collection_refresh: is there anything to read?"""
    return head is not None and (
        head.generation != process.shown_generation or head.lsn > len(process.shown)
    )


def all_but(i: int, processes: tuple[Process, ...]) -> Iterator[Process]:
    return (process for k, process in enumerate(processes) if k != i)


@dataclass
class Lease:
    """The model, for `explore`."""

    rules: Rules = field(default_factory=Rules)
    size: Size = field(default_factory=Size)
    recovered: dict[Disk, tuple[Batches, list[Batches]]] = field(default_factory=dict)

    def initial(self) -> Iterator[State]:
        yield State(NEW, (AWAY,) * self.size.processes)

    def canonical(self, state: State) -> State:
        """Which process is which makes no difference."""
        return state._replace(processes=tuple(sorted(state.processes, key=hash)))

    # ---- what must hold in every state -----------------------------------------------------------

    def check(self, state: State) -> None:
        now, after_power_failures = self._recover(state.disk)
        self._check_recovered(now, state.acknowledged, state.seen)
        for outcome in after_power_failures:
            if not self.rules.normal:
                self._check_recovered(outcome, state.acknowledged, state.seen)
            elif not is_prefix(state.durable, outcome):
                raise Violation(f"{state.durable} was synced, recovered would be {outcome}")
            elif not is_prefix(outcome, state.seen) and not is_prefix(state.seen, outcome):
                raise Violation(f"readers saw {state.seen}, recovered would be {outcome}")
        if sum(process.at in APPENDING for process in state.processes) > 1:
            raise Violation("two processes append")
        for i, process in enumerate(state.processes):
            if process.at == "idle":
                self._check_idle(state, i, now)

    def _check_recovered(self, found: Batches, acknowledged: frozenset[int], seen: Batches) -> None:
        if not acknowledged <= set(found):
            raise Violation(f"acknowledged {set(acknowledged)}, recovered would be {found}")
        if not is_prefix(seen, found):
            raise Violation(f"a reader saw {seen}, recovered would be {found}")

    def _recover(self, disk: Disk) -> tuple[Batches, list[Batches]]:
        """What whoever recovers finds: now, and after each power failure."""
        if disk not in self.recovered:
            try:
                now = load(disk, None)[1]
                failed = {load(after, None)[1] for after in power_failures(disk)}
            except (Damaged, Missing) as error:
                raise Violation(f"recovering would find damage: {error}") from error
            for batches in (now, *failed):
                if len(set(batches)) < len(batches):
                    raise Violation(f"a batch would be there twice: {batches}")
            self.recovered[disk] = now, sorted(failed)
        return self.recovered[disk]

    def _check_idle(self, state: State, i: int, now: Batches) -> None:
        """A read that begins here and has nothing to do gives what is shown."""
        process = state.processes[i]
        reads = is_behind(process, state.disk.head) and self._may_follow(process)
        if reads or self._settles(state, i) is not None:
            return
        if process.poisoned and state.disk.head is None:
            return  # it cannot settle: it shows what it has until a head counts again
        if not is_prefix(state.seen, process.shown):
            raise Violation(f"a read gives {process.shown}, others saw {state.seen} before")
        at_work = any(other.at not in {"idle", "away"} for other in state.processes)
        if (
            self.rules.settles_reading
            and not at_work
            and not process.poisoned
            and process.shown != now
        ):
            raise Violation(f"all is quiet, a read gives {process.shown}, recovering {now}")

    # ---- steps -----------------------------------------------------------------------------------

    def steps(self, state: State) -> Steps:
        for i, process in enumerate(state.processes):
            name = "ABCD"[i]
            try:
                for label, after in getattr(self, f"at_{process.at}")(state, i, process):
                    yield f"{name} {label}", after
            except (Damaged, Missing) as error:
                raise Violation(f"{name}, at {process.at}, finds damage: {error}") from error
            if process.at != "away" and state.kills < self.size.kills:
                yield f"{name} is killed", self._kill(state, i)
        if state.power_failures < self.size.power_failures:
            yield from self._power_failures(state)

    def _kill(self, state: State, i: int) -> State:
        processes = tuple(
            AWAY if k == i else other._replace(got=None, bereaved=other.at != "away")
            for k, other in enumerate(state.processes)
        )
        return state._replace(processes=processes, kills=state.kills + 1)

    def _power_failures(self, state: State) -> Steps:
        for disk in set(power_failures(state.disk)):
            after = state._replace(
                disk=disk,
                processes=(AWAY,) * self.size.processes,
                power_failures=state.power_failures + 1,
            )
            if self.rules.normal:
                found = load(disk, None)[1]
                kept = frozenset(batch for batch in state.acknowledged if batch in found)
                after = after._replace(seen=state.seen[: len(found)], acknowledged=kept)
            yield "the power fails", after

    def _put(self, state: State, i: int, process: Process, disk: Disk | None = None) -> State:
        """Process i is now this; what others have read may be old."""
        processes = tuple(
            process if k == i else other if other.got is None else other._replace(got=None)
            for k, other in enumerate(state.processes)
        )
        return state._replace(disk=disk or state.disk, processes=processes)

    def _publish(self, state: State, i: int, process: Process, head: bool, lsn: int = -1) -> State:
        """vex_publish, up to `lsn`: for readers here; with the head, for the other processes."""
        disk = state.disk
        batches = process.batches if lsn < 0 else process.batches[:lsn]
        if len(batches) >= len(process.shown):
            process = process._replace(shown=batches, shown_generation=process.generation)
            if head:
                position = Head(process.generation, process.log, len(batches))
                disk = disk._replace(head=position)
        if len(set(process.shown)) < len(process.shown):
            raise Violation(f"a reader sees a batch twice: {process.shown}")
        if not is_prefix(process.shown, longer(state.seen, process.shown)) or not is_prefix(
            state.seen, longer(state.seen, process.shown)
        ):
            raise Violation(f"a reader sees {process.shown}, one saw {state.seen} before")
        state = state._replace(seen=longer(state.seen, process.shown))
        return self._put(state, i, process, disk)

    def _log(self, state: State, process: Process) -> Log:
        log = state.disk.log(process.log)
        if log is None:
            raise Damaged(f"log {process.log} is gone under its writer")
        return log

    def _sync(self, state: State, i: int, lsn: int) -> Iterator[tuple[bool, State, Process]]:
        """Process i syncs the log up to record `lsn`: (did it succeed, state, process)."""
        process = state.processes[i]
        log = self._log(state, process)
        if not process.doomed:
            durable = longer(state.durable, process.batches[:lsn])
            disk = state.disk.with_log(synced(log, lsn))
            yield True, state._replace(disk=disk, durable=durable), process
        dirty = any(cell.fate == "d" for cell in log.cells)
        if process.doomed or (dirty and state.failing_syncs < self.size.failing_syncs):
            # Whoever has the file open is told of the failure once; who opens it later is not.
            processes = tuple(
                other._replace(doomed=other.writes and other.log == process.log)
                for other in state.processes
            )
            failed = state._replace(
                disk=state.disk.with_log(sync_failed(log)),
                processes=state.processes if process.doomed else processes,
                failing_syncs=state.failing_syncs + (not process.doomed),
            )
            yield False, failed, process._replace(doomed=False)

    def _poison(self, state: State, i: int, process: Process) -> State:
        """vex_collection_sync_failed; the operation ends with an error."""
        if self.rules.failed_sync_voids_head:
            state = state._replace(disk=state.disk._replace(head=None))
        return self._fail(state, i, process._replace(poisoned=True, stale=True))

    def _fail(self, state: State, i: int, process: Process) -> State:
        """The operation ends with an error; a flush ends, too, a process that was opening goes."""
        if process.opening:
            return self._put(state, i, AWAY)
        if process.then in {"seal", "commit"}:
            process = process._replace(flush=None, maintenance=False)
        return self._release(state, i, process._replace(appended=0, covered=0))

    def _release(self, state: State, i: int, process: Process) -> State:
        return self._put(state, i, process._replace(at="idle", then="", lease=False))

    # ---- what a process may begin ----------------------------------------------------------------

    def at_away(self, state: State, i: int, process: Process) -> Steps:
        yield (
            "opens",
            self._put(state, i, process._replace(at="open", opening=True, floor=state.seen)),
        )

    def at_idle(self, state: State, i: int, process: Process) -> Steps:
        free = self._is_free(state, i)
        if free and state.writes < self.size.writes:
            yield "has the lease, to write", self._take(state, i, process, "append")
        if free and process.flush is not None:
            yield "has the lease, to commit", self._take(state, i, process, "commit")
        if free and process.writes and process.flush is None and state.closes < self.size.closes:
            closing = process._replace(at="close", lease=True)
            after = self._put(state, i, closing)
            yield "has the lease, to close", after._replace(closes=state.closes + 1)
        if process.flush is None and state.flushes < self.size.flushes:
            yield from self._begin_flush(state, i, process)
        leased = free or not self.rules.background_sync_has_lease
        if self.rules.normal and leased and process.writes and not process.poisoned:
            yield from self._sync_in_background(state, i, process)
        if self._read_matters(state, i):
            reading = process._replace(at="read", floor=state.seen)
            yield "begins to read", self._put(state, i, reading)

    def _is_free(self, state: State, i: int) -> bool:
        """Can process i have the lease?"""
        held = any(other.lease for other in all_but(i, state.processes))
        return not held or not self.rules.takes_lease

    def _take(self, state: State, i: int, process: Process, then: str) -> State:
        return self._put(state, i, process._replace(at="take_over", then=then, lease=True))

    def _may_follow(self, process: Process) -> bool:
        return not process.poisoned or self.rules.poisoned_follows

    def _read_matters(self, state: State, i: int) -> bool:
        """Would it change anything?  What it gives without is looked at by `_check_idle`."""
        process = state.processes[i]
        if not self._may_follow(process):
            return False
        if is_behind(process, state.disk.head) or self._settles(state, i) == "now":
            return True
        return process.got is None and self._settles(state, i) is None and not process.stale

    def _settles(self, state: State, i: int) -> str | None:
        """Has this read of process i to take the log over first?  "now", "later", None."""
        process, head = state.processes[i], state.disk.head
        wanted = (
            (process.opening and self.rules.settles_opening)
            or (head is None and self.rules.settles_void)
            or self.rules.settles_reading
        )
        if not wanted or process.poisoned or process.stale:
            return None
        try:
            clean, _ = self._end(state.disk, process, head is not None)
        except Missing:
            return None
        if clean:
            return None
        if self._is_free(state, i):
            return "now"
        return "later" if head is None and self.rules.waits_without_head else None

    def _sync_in_background(self, state: State, i: int, process: Process) -> Steps:
        if any(cell.fate == "d" for cell in self._log(state, process).cells):
            for fine, after, process in self._sync(state, i, len(process.batches)):
                if fine:
                    process = process._replace(witness=len(process.batches))
                    yield "syncs in the background", self._put(after, i, process)
                else:
                    yield "cannot sync in the background", self._poison(after, i, process)

    # ---- taking over: vex_collection_take_over ---------------------------------------------------

    def at_take_over(self, state: State, i: int, process: Process) -> Steps:
        if process.poisoned:
            yield "is poisoned", self._fail(state, i, process)
            return
        head = state.disk.head
        behind = head is not None and (
            head.generation != process.generation or head.lsn > len(process.batches)
        )
        if process.stale or (behind and self.rules.catches_up):
            process = self._follow(state.disk, process, head)
            if head is not None or not self.rules.persists_before_showing:
                state = self._publish(state, i, process, head=False)
                process = state.processes[i]
        clean = process.writes and process.appended > 0
        if process.writes and not clean and head is not None:
            if state.disk.log(process.log) is not None or not self.rules.looks_for_manifest:
                clean, _ = self._end(state.disk, process, head_counts=True)
        if process.writes and clean:
            yield "goes on", self._put(state, i, process._replace(at=process.then))
        else:
            yield from self._open_log(state, i, process._replace(writes=False, doomed=False))

    def _follow(self, disk: Disk, process: Process, limit: Head | None) -> Process:
        """Under the lease: up to `limit`, or to the end of the logs."""
        generation = process.generation if limit is None else limit.generation
        flush = process.flush
        if process.stale or generation != process.generation:
            generation, batches, log = load(disk, limit)
            flush = flush and flush._replace(related=False)
        else:
            try:
                batches, log = replay(disk, process.batches, process.log, limit)
            except (Damaged, Missing):  # a flush may have removed the log
                if limit is None:
                    raise
                generation, batches, log = load(disk, limit)
                flush = flush and flush._replace(related=False)
        return process._replace(
            generation=generation,
            batches=batches,
            log=log,
            flush=flush,
            stale=False,
            writes=False,
            doomed=False,
        )

    def _end(self, disk: Disk, process: Process, head_counts: bool) -> tuple[bool, bool]:
        if not self.rules.looks_behind_end:
            return True, False
        return end_of(disk, process.log, len(process.batches), head_counts)

    def _open_log(self, state: State, i: int, process: Process) -> Steps:
        head = state.disk.head
        newest = state.disk.manifests[-1].generation
        if self.rules.looks_for_manifest and newest != process.generation:
            process = self._follow(state.disk, process._replace(stale=True), head)
            if head is not None or not self.rules.persists_before_showing:
                state = self._publish(state, i, process, head=False)
                process = state.processes[i]
        if state.disk.log(process.log) is None:
            begun = Log(process.log, len(process.batches) + 1)
            process = process._replace(writes=True, witness=len(process.batches), at=process.then)
            state = state._replace(disk=state.disk.with_log(begun))
            yield "begins a log", self._publish(state, i, process, head=True)
            return
        clean, sealed = self._end(state.disk, process, head is not None)
        if clean:
            witness = len(process.batches) if sealed else 0
            process = process._replace(writes=True, witness=witness, at=process.then)
            yield "opens the log", self._publish(state, i, process, head=True)
            return
        process = self._follow(state.disk, process, None)._replace(at="persist")
        state = self._put(state, i, process, state.disk.with_names())
        if not self.rules.persists_before_showing:
            state = self._publish(state, i, process, head=False)
        yield "takes the log over", state

    def at_persist(self, state: State, i: int, process: Process) -> Steps:
        if not self.rules.persists_again:
            process = process._replace(at="began", witness=len(process.batches))
            yield "writes nothing again", self._put(state, i, process)
            return
        log = written_again(self._log(state, process), len(process.batches), self.rules.cuts)
        process = process._replace(at="persist_sync")
        yield "writes the log again", self._put(state, i, process, state.disk.with_log(log))

    def at_persist_sync(self, state: State, i: int, process: Process) -> Steps:
        for fine, after, process in self._sync(state, i, len(process.batches)):
            if fine:
                began = process._replace(at="began", witness=len(process.batches))
                yield "syncs it", self._put(after, i, began)
            else:
                if self.rules.failed_persisting_voids_head:
                    after = after._replace(disk=after.disk._replace(head=None))
                process = process._replace(stale=self.rules.failed_persisting_reloads)
                yield "cannot sync it", self._fail(after, i, process)

    def at_began(self, state: State, i: int, process: Process) -> Steps:
        process = process._replace(writes=True, at=process.then)
        yield "writes the head", self._publish(state, i, process, head=True)

    # ---- writing: vex_commit ---------------------------------------------------------------------

    def at_append(self, state: State, i: int, process: Process) -> Steps:
        agrees = process.got in {None, process.batches}
        if not agrees and (self.rules.settles_reading or not process.bereaved):
            raise Violation(f"a get gave {process.got}, an add goes by {process.batches}")
        log = self._log(state, process)._replace(torn=True, closed="")
        appending = process._replace(at="append_rest", got=None)
        yield "appends half a record", self._put(state, i, appending, state.disk.with_log(log))

    def at_append_rest(self, state: State, i: int, process: Process) -> Steps:
        yield "appends the rest", self._append(state, i, process)

    def _append(self, state: State, i: int, process: Process) -> State:
        log = self._log(state, process)
        place = len(process.batches) - log.first + 1
        cells = (
            *log.cells[:place],
            Cell(state.writes, "d", process.witness),
            *log.cells[place + 1 :],
        )
        disk = state.disk.with_log(log._replace(cells=cells, torn=False))
        process = process._replace(
            at="sync" if self.rules.head_after_sync and not self.rules.normal else "publish",
            batches=(*process.batches, state.writes),
            appended=process.appended + 1,
            covered=0 if self.rules.head_after_sync else process.appended + 1,
        )
        return self._put(state, i, process, disk)._replace(writes=state.writes + 1)

    def at_sync(self, state: State, i: int, process: Process) -> Steps:
        if process.appended < self.size.together and state.writes < self.size.writes:
            yield "appends in another thread", self._append(state, i, process)
        first = len(process.batches) - process.appended
        for covered in range(1, process.appended + 1):
            for fine, after, process in self._sync(state, i, first + covered):
                then = "publish" if self.rules.head_after_sync else "answer"
                done = process._replace(at=then, witness=first + covered, covered=covered)
                if fine:
                    yield "syncs", self._put(after, i, done)
                elif self.rules.failed_sync_poisons:
                    yield "cannot sync", self._poison(after, i, process)
                else:
                    yield "cannot sync, and tries again", self._put(after, i, process)

    def at_publish(self, state: State, i: int, process: Process) -> Steps:
        covered = process.covered or process.appended
        lsn = len(process.batches) - process.appended + covered
        then = "answer" if self.rules.head_after_sync else "sync"
        process = process._replace(at=then, covered=covered)
        yield "publishes", self._publish(state, i, process, head=True, lsn=lsn)

    def at_answer(self, state: State, i: int, process: Process) -> Steps:
        first = len(process.batches) - process.appended
        done = frozenset(process.batches[first : first + process.covered])
        state = state._replace(acknowledged=state.acknowledged | done)
        process = process._replace(appended=process.appended - process.covered, covered=0)
        if process.appended:
            yield "answers one", self._put(state, i, process._replace(at="sync"))
        else:
            yield "answers", self._release(state, i, process)

    # ---- flushing: vex_collection_flush_held -----------------------------------------------------

    def _begin_flush(self, state: State, i: int, process: Process) -> Steps:
        held = any(other.maintenance for other in state.processes)
        if not held or not self.rules.takes_maintenance:
            flushing = process._replace(at="flush", maintenance=True)
            after = self._put(state, i, flushing)._replace(flushes=state.flushes + 1)
            yield "has MAINT", after

    def at_flush(self, state: State, i: int, process: Process) -> Steps:
        if self._is_free(state, i):
            yield "has the lease, to seal", self._take(state, i, process, "seal")

    def at_seal(self, state: State, i: int, process: Process) -> Steps:
        if len(process.batches) == len(state.disk.manifests[-1].batches):
            yield "has nothing to flush", self._fail(state, i, process)
        elif not self.rules.seals_synced:
            yield "does not sync", self._put(state, i, process._replace(at="begin_log"))
        else:
            for fine, after, process in self._sync(state, i, len(process.batches)):
                sealing = process._replace(at="seal_frame", witness=len(process.batches))
                if fine:
                    yield "syncs", self._put(after, i, sealing)
                else:
                    yield "cannot sync", self._poison(after, i, process)

    def at_seal_frame(self, state: State, i: int, process: Process) -> Steps:
        disk = state.disk.with_log(self._log(state, process)._replace(closed="d"))
        yield "closes the log", self._put(state, i, process._replace(at="begin_log"), disk)

    def at_begin_log(self, state: State, i: int, process: Process) -> Steps:
        old = self._log(state, process)
        disk = state.disk.with_log(old._replace(closed="D" if old.closed else ""))
        number = process.log + 1
        disk = disk.with_log(Log(number, len(process.batches) + 1, named=False))
        process = process._replace(at="name_log", log=number)
        yield "begins a log", self._put(state, i, process, disk)

    def at_name_log(self, state: State, i: int, process: Process) -> Steps:
        flush = Flush(process.batches, process.log, process.generation + 1)
        state = state._replace(disk=state.disk.with_names())
        state = self._publish(state, i, process._replace(flush=flush), head=True)
        yield "publishes it", self._release(state, i, state.processes[i])

    def at_commit(self, state: State, i: int, process: Process) -> Steps:
        flush = process.flush
        assert flush is not None
        if not flush.related and self.rules.commits_if_related:
            yield "cannot commit", self._fail(state, i, process)
            return
        batches = flush.sealed if self.rules.commits_sealed else process.batches
        manifest = Manifest(flush.generation, batches, flush.wal_first, named=False)
        others = tuple(m for m in state.disk.manifests if m.generation != flush.generation)
        disk = state.disk._replace(manifests=tuple(sorted((*others, manifest))))
        if not self.rules.removes_after_commit:
            disk = disk.without_leftovers(disk.manifests[-1])._replace(
                manifests=state.disk.manifests
            )
        process = process._replace(at="name_manifest", generation=flush.generation)
        yield "commits a manifest", self._put(state, i, process, disk)

    def at_name_manifest(self, state: State, i: int, process: Process) -> Steps:
        state = state._replace(disk=state.disk.with_names())
        state = self._publish(state, i, process, head=True)
        process = state.processes[i]._replace(at="clean", lease=False, flush=None, then="")
        yield "publishes it", self._put(state, i, process)

    def at_clean(self, state: State, i: int, process: Process) -> Steps:
        disk = state.disk
        if disk.manifests[-1].generation == process.generation:
            disk = disk.without_leftovers(disk.manifests[-1])
        done = process._replace(at="idle", maintenance=False)
        yield "removes what it replaced", self._put(state, i, done, disk)

    # ---- reading without a lock: vex_collection_load, vex_collection_refresh ---------------------

    def at_read(self, state: State, i: int, process: Process) -> Steps:
        head = state.disk.head
        if not is_behind(process, head):
            yield from self._settle_or_show(state, i, process)
            return
        assert head is not None
        if process.stale or head.generation != process.generation:
            yield from self.at_open(state, i, process)
            return
        process = process._replace(at="follow", reading=(head, 0, ()))
        yield "reads the head", self._put(state, i, process)

    def at_follow(self, state: State, i: int, process: Process) -> Steps:
        limit = process.reading[0] if self.rules.stops_at_head else None
        try:
            batches, log = replay(state.disk, process.batches, process.log, limit)
        except (Damaged, Missing):  # a flush may have removed the log
            yield "misses a log", self._put(state, i, process._replace(at="open"))
            return
        process = process._replace(batches=batches, log=log, writes=False, doomed=False)
        yield from self._settle_or_show(self._put(state, i, process), i, process)

    def at_open(self, state: State, i: int, process: Process) -> Steps:
        process = process._replace(at="newest", reading=(state.disk.head, 0, ()))
        yield "reads the head", self._put(state, i, process)

    def at_newest(self, state: State, i: int, process: Process) -> Steps:
        newest = state.disk.manifests[-1].generation
        process = process._replace(at="manifest", reading=(process.reading[0], newest, ()))
        yield "looks for the newest manifest", self._put(state, i, process)

    def at_manifest(self, state: State, i: int, process: Process) -> Steps:
        limit, newest, _ = process.reading
        found = [m for m in state.disk.manifests if m.generation == newest]
        if not found:
            yield "misses it", self._put(state, i, process._replace(at="open"))
            return
        process = process._replace(at="replay", reading=(limit, newest, found[0].batches))
        yield "opens it and its files", self._put(state, i, process)

    def at_replay(self, state: State, i: int, process: Process) -> Steps:
        limit, newest, _ = process.reading
        try:
            limit = limit if self.rules.stops_at_head else None
            generation, batches, log = load(state.disk, limit, newest)
        except (Damaged, Missing):
            if state.disk.manifests[-1].generation == newest:
                raise
            yield "misses a log", self._put(state, i, process._replace(at="open"))
            return
        came = process.reading[0] is None and state.disk.head is not None
        if came and self.rules.loads_again_with_head:
            yield "has a head by now", self._put(state, i, process._replace(at="open"))
            return
        flush = process.flush and process.flush._replace(related=False)
        loaded = process._replace(
            generation=generation,
            batches=batches,
            log=log,
            flush=flush,
            stale=False,
            writes=False,
            doomed=False,
        )
        yield from self._settle_or_show(self._put(state, i, loaded), i, loaded)

    def _settle_or_show(self, state: State, i: int, process: Process) -> Steps:
        settles = self._settles(state, i)
        if settles == "now":
            yield "has the lease, to settle", self._take(state, i, process, "settled")
        elif settles == "later":
            yield "waits for the lease", self._put(state, i, process._replace(at="wait"))
        else:
            yield "shows what it read", self._show(state, i, process)

    def at_wait(self, state: State, i: int, process: Process) -> Steps:
        if self._settles(state, i) != "later":
            yield "looks again", self._put(state, i, process._replace(at="open"))

    def at_settled(self, state: State, i: int, process: Process) -> Steps:
        yield "shows what it settled", self._show(self._release(state, i, process), i, process)

    def _show(self, state: State, i: int, process: Process) -> State:
        process = process._replace(
            at="tidy", then="", lease=False, opening=False, reading=(None, 0, ()), floor=()
        )
        floor = state.processes[i].floor
        state = self._publish(state, i, process, head=False)
        process = state.processes[i]
        excused = process.poisoned and state.disk.head is None  # see _check_idle
        if not is_prefix(floor, process.shown) and not excused:
            raise Violation(f"a read gives {process.shown}, others saw {floor} before it began")
        return self._put(state, i, process._replace(got=process.shown))

    def at_tidy(self, state: State, i: int, process: Process) -> Steps:
        """What a flush left that was killed behind its commit."""
        disk, idle = state.disk, process._replace(at="idle")
        newest = disk.manifests[-1]
        busy = any(other.maintenance for other in state.processes)
        if not busy and newest.generation == process.generation:
            named = disk.with_names() if self.rules.names_before_removal else disk
            tidy = named.without_leftovers(named.manifests[-1])
            if tidy.logs != named.logs or tidy.manifests != named.manifests:
                yield "removes leftovers", self._put(state, i, idle, tidy)
                return
        yield "is done", self._put(state, i, idle)

    # ---- closing: vex_collection_seal_log --------------------------------------------------------

    def at_close(self, state: State, i: int, process: Process) -> Steps:
        head = state.disk.head
        known = Head(process.generation, process.log, len(process.batches))
        whole = head == known and self._end(state.disk, process, head_counts=True)[0]
        if not whole or process.poisoned or process.stale:
            yield "closes", self._put(state, i, AWAY)
            return
        for fine, after, process in self._sync(state, i, len(process.batches)):
            if fine:
                closed = self._log(after, process)._replace(closed="d")
                process = process._replace(at="closed")
                yield "closes the log", self._put(after, i, process, after.disk.with_log(closed))
            else:
                poisoned = self._poison(after, i, process)
                yield "cannot sync, closes", self._put(poisoned, i, AWAY)

    def at_closed(self, state: State, i: int, process: Process) -> Steps:
        disk = state.disk.with_log(self._log(state, process)._replace(closed="D"))
        yield "syncs that, closes", self._put(state, i, AWAY, disk)
