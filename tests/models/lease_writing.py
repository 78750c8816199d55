"""The model of the lease protocol (lease.py): opening, writing, closing, and taking over a log."""

from __future__ import annotations

from disk import Cell, Head, Log, load, with_record, written_again
from explore import Violation
from lease_protocol import Protocol
from lease_state import Process, State, Steps, away, is_behind, is_prefix


class Writing(Protocol):
    """What a process may begin, and what needs the lease."""

    # ---- what a process may begin ----------------------------------------------------------------

    def at_away(self, state: State, i: int, process: Process) -> Steps:
        yield (
            "opens",
            self._put(state, i, process._replace(at="open", opening=True, floor=state.seen)),
        )

    def at_idle(self, state: State, i: int, process: Process) -> Steps:
        free = self._is_free(state, i)
        if free and state.writes < self.size.before + self.size.writes:
            yield "has the lease, to write", self._take(state, i, process, "append")
        if free and process.flush is not None:
            yield "has the lease, to commit", self._take(state, i, process, "commit")
        if free and process.writes and process.flush is None and state.closes < self.size.closes:
            closing = process._replace(at="close", lease=True)
            after = self._put(state, i, closing)
            yield "has the lease, to close", after._replace(closes=state.closes + 1)
        if process.flush is None and state.flushes < self.size.flushes:
            yield from self._begin_flush(state, i, process)
        if self._syncs_later(process) and process.writes and not process.poisoned:
            yield from self._sync_in_background(state, i, process)
        if self._read_matters(state, i):
            reading = process._replace(at="read", floor=state.seen)
            yield "begins to read", self._put(state, i, reading)

    def _read_matters(self, state: State, i: int) -> bool:
        """Would it change anything?  What it gives without is looked at by `_check_idle`."""
        process = state.processes[i]
        if not self._may_follow(process):
            return False
        if is_behind(process, state.disk.head) or self._settles(state, i) == "now":
            return True
        return process.got is None and self._settles(state, i) is None and not process.stale

    def _sync_in_background(self, state: State, i: int, process: Process) -> Steps:
        """With the lease or, when that is not to be had, without."""
        log = state.disk.log(process.log)
        if log is None or all(cell.fate != "d" for cell in log.cells):
            return
        for fine, after in self._sync(state, i, len(process.batches)):
            process = after.processes[i]
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
        newest = state.disk.manifests[-1].generation
        if process.then == "seal" and self.rules.flush_looks_for_manifest:
            process = process._replace(stale=process.stale or newest != process.generation)
        behind = head is not None and (
            head.generation > process.generation
            or head.lsn > len(process.batches)
            or head.recovery != process.recovery
        )
        follows = process.stale or (behind and self.rules.catches_up)
        if process.writes and (follows or not self._goes_on(state, process)):
            for fine, after in self._leave(state, i):
                process = after.processes[i]
                if fine:
                    left = self._put(after, i, process._replace(writes=False))
                    yield "leaves its log", left
                else:
                    yield "cannot sync its log", self._poison(after, i, process)
            return
        if follows:
            process = self._follow(state.disk, process, head)
            if head is not None or not self.rules.persists_before_showing:
                state = self._publish(state, i, process, head=False)
                process = state.processes[i]
        if process.writes:
            yield "goes on", self._put(state, i, process._replace(at=process.then))
        else:
            yield from self._open_log(state, i, process._replace(doomed=False))

    def _goes_on(self, state: State, process: Process) -> bool:
        """May it add to the log that it has open?"""
        if process.appended > 0:
            return True
        there = state.disk.log(process.log) is not None or not self.rules.looks_for_manifest
        if state.disk.head is None or not there:
            return False
        return self._end(state.disk, process, head_counts=True)[0]

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
            yield "begins a log", self._publish(state, i, process, head=True, anew=True)
            return
        clean, sealed = self._end(state.disk, process, head is not None)
        if clean:
            witness = len(process.batches) if sealed else 0
            if head is None:
                process = process._replace(writes=True, witness=witness, at=process.then)
                yield "opens the log", self._publish(state, i, process, head=True, anew=True)
            else:
                process = process._replace(witness=witness, at="ended")
                yield "finds the end of the log", self._put(state, i, process)
            return
        stale = process.stale or head is None  # others may be in the place of what it knows
        process = self._follow(state.disk, process._replace(stale=stale), None)
        if self.rules.numbers_recoveries and head is None:
            state = state._replace(recoveries=state.recoveries + 1)
            process = process._replace(recovery=state.recoveries)
        process = process._replace(at="persist")
        state = self._put(state, i, process, state.disk.with_names())
        if not self.rules.persists_before_showing:
            state = self._publish(state, i, process, head=False)
        yield "takes the log over", state

    def at_ended(self, state: State, i: int, process: Process) -> Steps:
        process = process._replace(writes=True, at="opened")
        yield "opens the log", self._put(state, i, process)

    def at_opened(self, state: State, i: int, process: Process) -> Steps:
        """It is told of a sync that fails from now on; of one before, the void head tells."""
        if state.disk.head is None and self.rules.looks_after_opening:
            again = process._replace(writes=False, doomed=False, at="take_over")
            yield "finds the head void", self._put(state, i, again)
        else:
            process = process._replace(at=process.then)
            yield "publishes", self._publish(state, i, process, head=True)

    def at_persist(self, state: State, i: int, process: Process) -> Steps:
        if not self.rules.persists_again:
            process = process._replace(at="began", witness=len(process.batches))
            yield "writes nothing again", self._put(state, i, process)
            return
        log = written_again(self._log(state, process), len(process.batches), self.rules.cuts)
        process = process._replace(at="persist_sync")
        yield "writes the log again", self._put(state, i, process, state.disk.with_log(log))

    def at_persist_sync(self, state: State, i: int, process: Process) -> Steps:
        for fine, after in self._sync(state, i, len(process.batches)):
            process = after.processes[i]
            if fine:
                there = len(load(after.disk, None)[1]) == len(process.batches)
                if there or not self.rules.reads_what_it_wrote:
                    began = process._replace(at="began", witness=len(process.batches))
                    yield "syncs it", self._put(after, i, began)
                else:
                    again = self._follow(after.disk, process._replace(stale=True), None)
                    again = again._replace(at="persist", recovery=after.recoveries + 1)
                    after = after._replace(recoveries=after.recoveries + 1, durable=state.durable)
                    yield "syncs it, and misses records", self._put(after, i, again)
            else:
                if self.rules.failed_persisting_voids_head:
                    after = after._replace(disk=after.disk._replace(head=None))
                process = process._replace(stale=self.rules.failed_persisting_reloads)
                yield "cannot sync it", self._fail(after, i, process)

    def at_began(self, state: State, i: int, process: Process) -> Steps:
        process = process._replace(writes=True, at=process.then)
        yield "writes the head", self._publish(state, i, process, head=True, anew=True)

    # ---- writing: vex_commit ---------------------------------------------------------------------

    def at_append(self, state: State, i: int, process: Process) -> Steps:
        agrees = process.got in {None, process.batches}
        if (
            not agrees
            and not self.rules.drops_pages
            and (self.rules.settles_reading or not process.bereaved)
        ):
            raise Violation(f"a get gave {process.got}, an add goes by {process.batches}")
        log = self._log(state, process)._replace(torn=True, closed="")
        appending = process._replace(at="append_rest", got=None)
        yield "appends half a record", self._put(state, i, appending, state.disk.with_log(log))

    def at_append_rest(self, state: State, i: int, process: Process) -> Steps:
        yield "appends the rest", self._append(state, i, process)

    def _append(self, state: State, i: int, process: Process) -> State:
        cell = Cell(state.writes, "d", process.witness)
        log = with_record(self._log(state, process), len(process.batches) + 1, cell)
        disk = state.disk.with_log(log)
        first = self.rules.head_after_sync and not self._syncs_later(process)
        process = process._replace(
            at="sync" if first else "publish",
            batches=(*process.batches, state.writes),
            appended=process.appended + 1,
            covered=0 if self.rules.head_after_sync else process.appended + 1,
        )
        return self._put(state, i, process, disk)._replace(writes=state.writes + 1)

    def at_sync(self, state: State, i: int, process: Process) -> Steps:
        if (
            process.appended < self.size.together
            and state.writes < self.size.before + self.size.writes
        ):
            yield "appends in another thread", self._append(state, i, process)
        first = len(process.batches) - process.appended
        for covered in range(1, process.appended + 1):
            for fine, after in self._sync(state, i, first + covered):
                process = after.processes[i]
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
        if self._syncs_later(process):
            process = process._replace(owes=first + process.covered)
        elif not is_prefix(process.batches[: first + process.covered], state.durable):
            raise Violation(f"it answers for {set(done)}, and {state.durable} was synced")
        state = state._replace(acknowledged=state.acknowledged | done)
        process = process._replace(appended=process.appended - process.covered, covered=0)
        if process.appended:
            yield "answers one", self._put(state, i, process._replace(at="sync"))
        else:
            yield "answers", self._release(state, i, process)

    # ---- closing: vex_collection_seal_log --------------------------------------------------------

    def at_close(self, state: State, i: int, process: Process) -> Steps:
        head = state.disk.head
        known = Head(process.generation, process.log, len(process.batches), process.recovery)
        whole = head == known and self._end(state.disk, process, head_counts=True)[0]
        if not whole or process.poisoned or process.stale:
            for fine, after in self._leave(state, i):
                label = "closes" if fine else "cannot sync, closes"
                yield label, self._put(after, i, away(process))
            return
        for fine, after in self._sync(state, i, len(process.batches)):
            process = after.processes[i]
            if fine:
                closed = self._log(after, process)._replace(closed="d")
                process = process._replace(at="closed")
                yield "closes the log", self._put(after, i, process, after.disk.with_log(closed))
            else:
                poisoned = self._poison(after, i, process)
                yield "cannot sync, closes", self._put(poisoned, i, away(process))

    def at_closed(self, state: State, i: int, process: Process) -> Steps:
        disk = state.disk.with_log(self._log(state, process)._replace(closed="D"))
        yield "syncs that, closes", self._put(state, i, away(process), disk)
