"""Kills (SIGKILL) a writer at a random moment, again and again on one database, and counts.

    python tests/crash/kill_loop.py --rounds 1000                       (make crash)
    python tests/crash/kill_loop.py --rounds 200 --impl chromadb        the same on chromadb

After each kill a copy of the database must open, hold everything that was acknowledged, and hold
the operation that was under way either wholly or not at all; and what get() does not find there,
add() stores.  The next writer goes on with the database itself, unrecovered.  Two of five kills hit
it while it opens and reads for the first time, which is when it recovers what the kill before has
left.

Nothing here stops at the first failure: failures are counted.  Where a database is not what it must
be, the loop goes on from what is there; where it cannot be opened any more, from a new one.  Exit
status 1 when anything failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from forked import Child, check_may_fork  # isort: skip
from checking import Verdict, look
from workload import (
    FAILED,
    NOT_STARTED,
    OPENING,
    WRITING,
    Expected,
    Progress,
    write_until_killed,
)

if TYPE_CHECKING:
    from workload import Contents

MEMTABLE_ROWS = ("40", "400")


@dataclass
class Counts:
    """What happened in all rounds."""

    implementation: str
    seed: int
    rounds: int = 0
    kills: int = 0
    kills_in_recovery: int = 0  # while opening, or in the first calls after it
    acknowledged: int = 0  # operations
    applied: int = 0  # operations under way that were there, whole
    writers_failed: int = 0  # by themselves, with an error
    unopenable: int = 0  # a new database was begun: the manual step that is needed
    rounds_with_loss: int = 0
    lost: int = 0  # records
    rounds_with_part: int = 0
    partial: int = 0
    doubled: int = 0
    add_ignored: int = 0
    not_found: int = 0
    misranked: int = 0
    seconds: float = 0
    failures: list[str] = field(default_factory=list)  # the first of each kind, with its round

    def note(self, verdict: Verdict, where: str) -> None:
        self.applied += verdict.applied
        self.unopenable += verdict.unopenable != ""
        self.rounds_with_loss += verdict.lost > 0
        self.rounds_with_part += verdict.partial > 0
        for name in ("lost", "partial", "doubled", "add_ignored", "not_found", "misranked"):
            setattr(self, name, getattr(self, name) + getattr(verdict, name))
        if not verdict.good:
            self.fail(f"{where}: {verdict}")

    def fail(self, what: str) -> None:
        if len(self.failures) < 100:
            self.failures.append(what)
        print(what, file=sys.stderr, flush=True)

    @property
    def good(self) -> bool:
        return not self.failures


class Loop:
    """One database, or one after the other when they break."""

    def __init__(self, package: Any, directory: Path, counts: Counts, write_seconds: float) -> None:
        self.package, self.directory, self.counts = package, directory, counts
        self.write_seconds = write_seconds
        self.is_ours = counts.implementation == "vexfs_chroma"
        self.chance = random.Random(counts.seed)
        self.databases = 0
        self.opening_seconds = 0.02  # as measured last
        self.progress = Progress(directory / "progress")
        self.begin()

    def begin(self) -> None:
        """A new database."""
        self.path = self.directory / f"database-{self.databases}"
        self.path.mkdir()  # a first writer may be killed before it does
        self.expected = Expected(1000 * self.counts.seed + self.databases)
        self.databases += 1
        self.progress.acknowledged = 0

    def round(self) -> None:
        how = self._kill_a_writer()
        self.counts.rounds += 1
        done = self.progress.acknowledged
        self.counts.acknowledged += done - self.expected.done
        self.expected.advance(done)
        where = f"seed {self.counts.seed} round {self.counts.rounds} ({how}), {done} acknowledged"
        verdict, found = self._look_at_a_copy()
        self.counts.note(verdict, where)
        if verdict.unopenable:
            self.begin()
        elif verdict.applied:
            self.expected.advance(done + 1)
        elif found is not None:
            self.expected.contents = found
        self.progress.acknowledged = self.expected.done

    def _kill_a_writer(self) -> str:
        """Start a writer, kill it; how."""
        self.progress.phase = NOT_STARTED
        memtable_rows = self.chance.choice(MEMTABLE_ROWS)
        merges = self.is_ours and self.chance.random() < 0.5
        early, moment = self.chance.random() < 0.4, self.chance.random()

        def write() -> None:
            os.environ["VEXFS_MEMTABLE_ROWS"] = memtable_rows
            write_until_killed(self.package, self.path, self.progress, self.expected, merges)

        writer = Child(write, self._failed)
        writer.wait_until(lambda: self.progress.phase >= OPENING)
        begun = time.monotonic()
        if not early:
            writer.wait_until(lambda: self.progress.phase >= WRITING)
            self.opening_seconds = time.monotonic() - begun
        time.sleep(moment * (self.opening_seconds if early else self.write_seconds))
        phase = self.progress.phase
        self._count_kill(writer.kill(), phase)
        names = ("before it opened", "opening", "in its first calls", "writing", "failed")
        return f"killed {names[phase]}, memtable of {memtable_rows} rows, merging: {merges}"

    def _failed(self, what: str) -> None:
        self.progress.phase = FAILED

    def _count_kill(self, killed: bool, phase: int) -> None:
        recovering = OPENING <= phase < WRITING and self.counts.rounds > 0
        self.counts.kills += killed
        self.counts.kills_in_recovery += killed and recovering
        if not killed or phase == FAILED:
            self.counts.writers_failed += 1
            self.counts.fail(f"round {self.counts.rounds + 1}: the writer failed by itself")

    def _look_at_a_copy(self) -> tuple[Verdict, Contents | None]:
        """In a process of its own, which is killed, too: it leaves nothing open."""
        copy = self.directory / "copy"
        shutil.copytree(self.path, copy)
        ours, theirs = Pipe(duplex=False)

        def answer() -> None:
            theirs.send(look(self.package, copy, self.expected, ordered=self.is_ours))

        looker = Child(answer, self._failed)
        theirs.close()
        try:
            verdict: tuple[Verdict, Contents | None] = ours.recv()
        except EOFError:
            verdict = Verdict(unopenable="the process that opened it crashed"), None
        looker.kill()
        ours.close()
        shutil.rmtree(copy)
        return verdict


def import_package(name: str) -> Any:
    package = importlib.import_module(name)
    check_may_fork()
    return package


def run(name: str, rounds: int, seed: int, seconds: float, write_seconds: float) -> Counts:
    counts = Counts(name, seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-loop-") as directory:
        loop = Loop(import_package(name), Path(directory), counts, write_seconds)
        while counts.rounds < rounds and time.monotonic() - began < seconds:
            loop.round()
            if counts.rounds % 100 == 0:
                print(f"{name}: {counts.rounds} rounds", file=sys.stderr, flush=True)
    counts.seconds = round(time.monotonic() - began, 1)
    return counts


def table(counts: Counts) -> str:
    """The counts, as rows of a table."""
    numbers = {
        "rounds": counts.rounds,
        "kills": counts.kills,
        "... while it opened or read for the first time": counts.kills_in_recovery,
        "operations acknowledged": counts.acknowledged,
        "operations under way that were there, whole": counts.applied,
        "databases that could not be opened any more": counts.unopenable,
        "writers that failed by themselves": counts.writers_failed,
        "rounds after which acknowledged records were lost": counts.rounds_with_loss,
        "... records lost": counts.lost,
        "rounds after which part of an operation was there": counts.rounds_with_part,
        "... records of these parts": counts.partial,
        "records that were there twice": counts.doubled,
        "ids that were not there, and could not be added": counts.add_ignored,
        "records that a query for their vector did not find": counts.not_found,
        "searches for words that did not rank all records": counts.misranked,
    }
    lines = [f"{counts.implementation}, seed {counts.seed}, {counts.seconds} s"]
    return "\n".join(lines + [f"  {name:<52}{number:>9,}" for name, number in numbers.items()])


def main() -> int:
    parser = argparse.ArgumentParser(description="kill writers again and again, and count")
    parser.add_argument("--impl", choices=["vexfs_chroma", "chromadb"], default="vexfs_chroma")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="the most it may take")
    parser.add_argument(
        "--write-seconds",
        type=float,
        default=0.25,
        help="the longest that a writer lives once it has opened",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the counts there")
    arguments = parser.parse_args()
    counts = run(
        arguments.impl,
        arguments.rounds,
        arguments.seed,
        arguments.seconds,
        arguments.write_seconds,
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(counts), indent=2) + "\n")
    print(table(counts))
    return 0 if counts.good else 1


if __name__ == "__main__":
    sys.exit(main())
