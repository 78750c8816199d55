"""Backups beside two writers, a merger of files, and a maker of collections; and backups killed.

VEXFS_BACKUP_ROUNDS=200 VEXFS_BACKUP_SEED=7 pytest tests/backup/test_hot.py -s --timeout 0
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vexfs_chroma

sys.path.insert(0, str(Path(__file__).parent))

from backup_batches import Stored, apply, batch
from backup_kit import bytes_of, content_of, fill

SEED = int(os.environ.get("VEXFS_BACKUP_SEED", "1"))
ROUNDS = int(os.environ.get("VEXFS_BACKUP_ROUNDS") or 12)
WORKER = Path(__file__).with_name("worker.py")


@contextlib.contextmanager
def running(errors: Path, *jobs: list[str | Path]) -> Iterator[list[subprocess.Popen]]:
    """The programs of worker.py, until they are killed at the end of the block."""
    with errors.open("w") as output:
        started = [
            subprocess.Popen(
                [sys.executable, str(WORKER), *map(str, job)],
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "VEXFS_MEMTABLE_ROWS": "300"},
            )
            for job in jobs
        ]
    try:
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == b"ready\n", errors.read_text()
        yield started
        assert [one.poll() for one in started] == [None] * len(started), errors.read_text()
    finally:
        for one in started:
            one.kill()
            one.wait()
            one.stdout.close()


class Writer:
    """What a writing program must have left in its two collections."""

    def __init__(self, seed: int, log: Path) -> None:
        self.seed, self._log = seed, log
        self._states: dict[str, tuple[int, Stored]] = {"a": (0, {}), "b": (0, {})}

    def numbers(self) -> dict[str, int]:
        """How many batches were begun, and acknowledged by each collection."""
        found = dict.fromkeys(("begin", "a", "b"), 0)
        for line in self._log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                mark, number = line.split()
                found[mark] = int(number) + 1
        return found

    def batches_in(self, which: str, stored: Any, low: int, high: int) -> tuple[int, int]:
        """How many batches make up `stored`, at least `low`: the least and the greatest number, as
        some batches change nothing.
        """
        done, state = self._states[which]
        while done < low or list(stored.items()) != list(state.items()):
            assert done < high, f"seed {self.seed}: {which} is no state from {low} to {high}"
            apply(state, batch(self.seed, done))
            done += 1
        self._states[which] = (done, state)
        most, further = done, dict(state)
        while most < high:
            apply(further, batch(self.seed, most))
            if list(further.items()) != list(stored.items()):
                break
            most += 1
        return done, most


def test_hot_backups(tmp_path: Path) -> None:
    path = tmp_path / "database"
    vexfs_chroma.PersistentClient(path).close()
    writers = [Writer(100 * SEED + i, tmp_path / f"log{i}") for i in range(2)]
    jobs = [["write", path, writer._log, str(writer.seed)] for writer in writers]
    held, made, digests = [], [], []
    with running(tmp_path / "errors", *jobs, ["merge", path], ["make", path]) as programs:
        for number in range(ROUNDS):
            before = [writer.numbers() for writer in writers]
            target = tmp_path / f"backup{number}"
            if number % 4 == 3:  # without a lock
                with contextlib.closing(vexfs_chroma.PersistentClient(path, read_only=True)) as one:
                    done = one.backup(target)
            else:
                done = vexfs_chroma.backup(path, target, copy=number % 4 == 2)
            after = [writer.numbers() for writer in writers]
            assert done.one_moment == (number % 4 != 3)
            assert done.missing == ()
            held.append(done.seconds_held)
            made.append(done)
            digests.append(bytes_of(target))
            check(target, writers, before, after, one_moment=done.one_moment)
    for number, digest in enumerate(
        digests
    ):  # whatever the writers did since, and their being killed
        assert bytes_of(tmp_path / f"backup{number}") == digest
    assert len(programs) == 4
    numbers = [writer.numbers() for writer in writers]
    check(path, writers, numbers, numbers, read_only=False)
    for number, digest in enumerate(digests):  # nor what recovering writes
        assert bytes_of(tmp_path / f"backup{number}") == digest
    assert all(n["b"] > 0 for n in numbers)
    print(
        f"{ROUNDS} backups, {sum(n['begin'] for n in numbers)} batches, held for "
        f"{max(held) * 1000:.0f} ms at most, {sum(d.linked_files for d in made)} files linked, "
        f"{sum(d.copied_files for d in made)} copied"
    )


def check(
    path: Path,
    writers: list[Writer],
    before: list[dict[str, int]],
    after: list[dict[str, int]],
    *,
    one_moment: bool = True,
    read_only: bool = True,
) -> None:
    found = content_of(path, read_only=read_only)
    for writer, low, high in zip(writers, before, after, strict=True):
        (a_least, a_most), (b_least, b_most) = (
            writer.batches_in(which, found.pop(f"{which}{writer.seed}"), low[which], high["begin"])
            for which in "ab"
        )
        if not one_moment:
            continue
        assert b_least <= a_most, f"seed {writer.seed}: b is ahead of a, which was written first"
        assert b_most >= a_least - 1, f"seed {writer.seed}: a was acknowledged before b was begun"
    assert 0 <= len(found) <= 3  # of those that come and go
    for name, records in found.items():
        assert name.startswith("temporary-")
        assert list(records) in ([], ["one"])


# ---- killed -----------------------------------------------------------------------------------


def back_up(path: Path, target: Path, ready: Any) -> None:
    ready.set()
    vexfs_chroma.backup(path, target, copy=True)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_backups(tmp_path: Path) -> None:
    path, target = tmp_path / "database", tmp_path / "backup"
    expected = fill(path)
    before = bytes_of(path)
    chance = random.Random(SEED)
    processes = multiprocessing.get_context("fork")
    start = time.monotonic()
    vexfs_chroma.backup(path, target, copy=True)
    usual = time.monotonic() - start
    outcomes = dict.fromkeys(("nothing", "unfinished", "whole"), 0)
    for number in range(2 * ROUNDS):
        if target.exists():
            target.rename(tmp_path / f"old{number}")
        ready = processes.Event()
        child = processes.Process(target=back_up, args=(path, target, ready))
        child.start()
        ready.wait()
        time.sleep(chance.uniform(0, 2 * usual))
        child.kill()
        child.join()
        child.close()
        left = tmp_path / "backup.partial"
        if target.exists():
            assert content_of(target) == expected, f"seed {SEED}, round {number}"
            outcomes["whole"] += 1
        else:
            outcomes["unfinished" if left.exists() else "nothing"] += 1
        assert bytes_of(path) == before
    if target.exists():
        target.rename(tmp_path / "old")
    vexfs_chroma.backup(path, target)
    assert not left.exists()
    assert content_of(target) == expected
    print(f"{2 * ROUNDS} kills: {outcomes}")
