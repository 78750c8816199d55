"""The model of the lease protocol (lease.py): what must hold in each state, what all steps need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from disk import (
    Batches,
    Damaged,
    Disk,
    Head,
    Log,
    Missing,
    begun,
    end_of,
    load,
    power_failures,
    replay,
    sync_failed,
    synced,
)
from explore import Violation
from lease_state import (
    APPENDING,
    AWAY,
    LATER,
    Process,
    Rules,
    Size,
    State,
    Steps,
    all_but,
    away,
    is_behind,
    is_prefix,
    longer,
)


@dataclass
class Protocol:
    """One collection, its processes, and the rules that they keep."""

    rules: Rules = field(default_factory=Rules)
    size: Size = field(default_factory=Size)
    recovered: dict[Disk, tuple[Batches, list[Batches]]] = field(default_factory=dict)

    def initial(self) -> Iterator[State]:
        batches = tuple(range(self.size.before))
        yield State(
            disk=begun(batches),
            processes=self._nobody(),
            acknowledged=frozenset(batches),
            seen=batches,
            durable=batches,
            writes=self.size.before,
        )

    def _nobody(self) -> tuple[Process, ...]:
        others = (AWAY,) * (self.size.processes - 1)
        return (*others, LATER if self.rules.mixed else AWAY)

    def _syncs_later(self, process: Process) -> bool:
        return self.rules.normal or process.normal

    def canonical(self, state: State) -> State:
        """Which process is which makes no difference."""
        return state._replace(processes=tuple(sorted(state.processes, key=hash)))

    # ---- what must hold in every state -----------------------------------------------------------

    def check(self, state: State) -> None:
        now, after_power_failures = self._recover(state.disk)
        if not self.rules.drops_pages:
            self._check_recovered(now, state.acknowledged, state.seen)
        elif not is_prefix(state.durable, now):
            raise Violation(f"{state.durable} was synced, recovered would be {now}")
        for outcome in after_power_failures:
            if not self.rules.normal and not self.rules.mixed:
                self._check_recovered(outcome, state.acknowledged, state.seen)
            elif not is_prefix(state.durable, outcome):
                raise Violation(f"{state.durable} was synced, recovered would be {outcome}")
            elif self.rules.drops_pages:
                continue
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
        if len(state.durable) < process.owes and not process.writes and not process.poisoned:
            raise Violation(f"record {process.owes} is answered for, and synced by nobody")
        reads = is_behind(process, state.disk.head) and self._may_follow(process)
        if reads or self._settles(state, i) is not None:
            return
        if process.poisoned and state.disk.head is None:
            return  # it cannot settle: it shows what it has until a head counts again
        if self.rules.drops_pages:
            if not process.poisoned and not is_prefix(process.shown, now):
                raise Violation(f"a read gives {process.shown}, recovered would be {now}")
            return
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
            away(other) if k == i else other._replace(got=None, bereaved=other.at != "away")
            for k, other in enumerate(state.processes)
        )
        return state._replace(processes=processes, kills=state.kills + 1)

    def _power_failures(self, state: State) -> Steps:
        for disk in set(power_failures(state.disk)):
            after = state._replace(
                disk=disk,
                processes=self._nobody(),
                power_failures=state.power_failures + 1,
            )
            if self.rules.normal or self.rules.mixed:
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

    def _publish(
        self,
        state: State,
        i: int,
        process: Process,
        head: bool,
        lsn: int = -1,
        anew: bool = False,
    ) -> State:
        """vex_publish, up to `lsn`: for readers here; with the head, for the other processes.

        anew: it has looked at the log, so the head may be void.
        """
        disk = state.disk
        batches = process.batches if lsn < 0 else process.batches[:lsn]
        if len(batches) >= len(process.shown) or process.recovery != process.shown_recovery:
            process = process._replace(
                shown=batches,
                shown_generation=process.generation,
                shown_recovery=process.recovery,
            )
            if head and (anew or disk.head is not None or not self.rules.void_stays_void):
                position = Head(process.generation, process.log, len(batches), process.recovery)
                disk = disk._replace(head=position)
        if self.rules.drops_pages:
            return self._put(state, i, process, disk)
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

    def _sync(self, state: State, i: int, lsn: int) -> Iterator[tuple[bool, State]]:
        """Process i syncs the log up to record `lsn`: (did it succeed, state)."""
        process = state.processes[i]
        log = self._log(state, process)
        if not process.doomed:
            durable = longer(state.durable, process.batches[:lsn])
            disk = state.disk.with_log(synced(log, lsn))
            processes = tuple(
                other._replace(owes=0) if k == i and other.owes <= lsn else other
                for k, other in enumerate(state.processes)
            )
            yield True, state._replace(disk=disk, durable=durable, processes=processes)
        dirty = any(cell.fate == "d" for cell in log.cells)
        if process.doomed or (dirty and state.failing_syncs < self.size.failing_syncs):
            # Whoever has the file open is told of the failure once; who opens it later is not.
            processes = tuple(
                other._replace(
                    doomed=k != i
                    and (other.doomed if process.doomed else self._has_open(other))
                    and other.log == process.log
                )
                for k, other in enumerate(state.processes)
            )
            # What a process is told late had failed before.
            failed = log if process.doomed else sync_failed(log, self.rules.drops_pages)
            yield (
                False,
                state._replace(
                    disk=state.disk.with_log(failed),
                    processes=processes,
                    failing_syncs=state.failing_syncs + (not process.doomed),
                ),
            )

    def _has_open(self, process: Process) -> bool:
        return process.writes or process.at == "persist_sync"

    def _leave(self, state: State, i: int) -> Iterator[tuple[bool, State]]:
        """vex_collection_close_log: another process goes on in the log, or in the next."""
        process = state.processes[i]
        there = process.writes and state.disk.log(process.log) is not None
        if there and not process.poisoned and self.rules.syncs_when_left:
            yield from self._sync(state, i, len(process.batches))
        else:
            yield True, state

    def _poison(self, state: State, i: int, process: Process) -> State:
        """vex_collection_sync_failed; the operation ends with an error."""
        if self.rules.failed_sync_voids_head:
            state = state._replace(disk=state.disk._replace(head=None))
        return self._fail(state, i, process._replace(poisoned=True, stale=True))

    def _fail(self, state: State, i: int, process: Process) -> State:
        """The operation ends with an error; a flush ends, too, a process that was opening goes."""
        if process.opening:
            return self._put(state, i, away(process))
        if process.then in {"seal", "commit"}:
            process = process._replace(flush=None, maintenance=False)
        return self._release(state, i, process._replace(appended=0, covered=0))

    def _release(self, state: State, i: int, process: Process) -> State:
        return self._put(state, i, process._replace(at="idle", then="", lease=False))

    # ---- what steps are made of ------------------------------------------------------------------

    def _is_free(self, state: State, i: int) -> bool:
        """Can process i have the lease?"""
        held = any(other.lease for other in all_but(i, state.processes))
        return not held or not self.rules.takes_lease

    def _take(self, state: State, i: int, process: Process, then: str) -> State:
        return self._put(state, i, process._replace(at="take_over", then=then, lease=True))

    def _may_follow(self, process: Process) -> bool:
        return not process.poisoned or self.rules.poisoned_follows

    def _settles(self, state: State, i: int) -> str | None:
        """Has this read of process i to take the log over first?  "now", "later", None."""
        process, head = state.processes[i], state.disk.head
        wanted = (
            (process.opening and self.rules.settles_opening)
            or (head is None and self.rules.settles_void)
            or self.rules.settles_reading
        )
        if not wanted or process.poisoned:
            return None
        try:
            clean, _ = self._end(state.disk, process, head is not None)
        except Missing:
            return None
        if clean or (process.stale and head is not None):
            return None
        if self._is_free(state, i):
            return "now"
        return "later" if self.rules.waits_to_settle else None

    def _follow(self, disk: Disk, process: Process, limit: Head | None) -> Process:
        """Under the lease: up to `limit`, or to the end of the logs."""
        generation = process.generation if limit is None else limit.generation
        recovery = process.recovery if limit is None else limit.recovery
        flush = process.flush
        anew = process.stale or recovery != process.recovery
        if anew or generation != process.generation:
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
            recovery=recovery,
        )

    def _end(self, disk: Disk, process: Process, head_counts: bool) -> tuple[bool, bool]:
        if not self.rules.looks_behind_end:
            return True, False
        return end_of(disk, process.log, len(process.batches), head_counts)
