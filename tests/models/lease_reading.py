"""The model of the lease protocol (lease.py): reading without a lock."""

from __future__ import annotations

from disk import Damaged, Missing, load, replay
from explore import Violation
from lease_protocol import Protocol
from lease_state import Process, State, Steps, is_behind, is_prefix


class Reading(Protocol):
    """vex_collection_load and vex_collection_refresh: any file may be removed between two steps."""

    # ---- reading without a lock: vex_collection_load, vex_collection_refresh ---------------------

    def at_read(self, state: State, i: int, process: Process) -> Steps:
        head = state.disk.head
        if not is_behind(process, head):
            yield from self._settle_or_show(state, i, process)
            return
        assert head is not None
        if process.writes:
            for fine, after in self._leave(state, i):
                process = after.processes[i]
                if fine:
                    yield "leaves its log", self._put(after, i, process._replace(writes=False))
                else:
                    yield "cannot sync its log", self._poison(after, i, process)
            return
        anew = process.stale or head.recovery != process.recovery
        if anew or head.generation > process.generation:
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
            head, now = process.reading[0], state.disk.head
            lost = head is not None and (now is None or now.recovery != head.recovery)
            if state.disk.manifests[-1].generation == newest and not lost:
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
            recovery=process.reading[0].recovery if process.reading[0] else process.recovery,
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
            again = "read" if process.writes else "open"
            yield "looks again", self._put(state, i, process._replace(at=again))

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
