"""The model of the lease protocol (lease.py): flushes."""

from __future__ import annotations

from disk import Log, Manifest
from lease_protocol import Protocol
from lease_state import Flush, Process, State, Steps


class Flushing(Protocol):
    """vex_collection_flush_held: MAINT, a seal under the lease, a commit under the lease."""

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
            for fine, after in self._sync(state, i, len(process.batches)):
                process = after.processes[i]
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
        manifest = Manifest(flush.generation, flush.sealed, flush.wal_first, named=False)
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
