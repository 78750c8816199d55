"""Writers and readers in processes of their own on one directory, killed and started again.

    python tests/multiproc/crowd.py --seconds 300        (make crowd)

Each writer owns a range of ids and, one after the other, adds, updates, upserts and deletes batches
of them; every tenth time it writes its number into a record that all writers share.  How far it is
stands in a small file that outlives it, before a batch (begun) and after it (acknowledged).
Readers look at all of that with one get after the other.  Again and again one of them is killed,
and another takes its place.

What must hold, always: rows of one batch are seen together, as one state of that batch; what is
seen of a writer never goes back, nor behind what it had acknowledged before the look; neither do
the number of committed batches of a collection (lsn), and what a writer writes into the shared
record.  At the end everything is as acknowledged, but for the batch that each writer may have been
killed in.
"""

from __future__ import annotations

import argparse
import importlib
import json
import mmap
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from forked import Child, check_may_fork

WRITERS = READERS = 4
COLLECTIONS = ("crowd-0", "crowd-1")
SLOTS = 12  # batches of a writer that are there at a time
ROWS = 8  # records of a batch
SHARED = "shared"


# ---- what writers do -----------------------------------------------------------------------------


def collection_of(writer: int) -> str:
    return COLLECTIONS[writer % len(COLLECTIONS)]


def ids_of(writer: int, slot: int) -> list[str]:
    return [f"w{writer}-{slot}-{row}" for row in range(ROWS)]


def method_of(number: int) -> str:
    """Each slot is, round after round, added, updated, upserted and deleted."""
    return ("add", "update", "upsert", "delete")[number // SLOTS % 4]


def apply(collection: Any, writer: int, number: int) -> None:
    """Operation `number` of a writer.  It may be done already; then this changes nothing more."""
    ids = ids_of(writer, number % SLOTS)
    method = method_of(number)
    if method == "delete":
        collection.delete(ids=ids)
    else:
        getattr(collection, method)(
            ids=ids,
            embeddings=[[float(writer), float(number), float(row)] for row in range(ROWS)],
            documents=[f"operation {number}"] * ROWS,
            metadatas=[{"writer": writer, "operation": number, "row": row} for row in range(ROWS)],
        )


def state_after(done: int) -> dict[int, int]:
    """Slot -> operation that wrote it last, after `done` operations of a writer."""
    state = {}
    for slot in range(min(SLOTS, done)):
        number = slot + (done - 1 - slot) // SLOTS * SLOTS
        if method_of(number) != "delete":
            state[slot] = number
    return state


class Board:
    """For each writer, how many operations it has begun and how many were acknowledged."""

    def __init__(self, path: Path) -> None:
        size = WRITERS * 2 * 8
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(size)
            # Each number is read and stored as one: struct.pack_into() would zero it first, which
            # others see, and which stays when the writer is killed there.
            self._numbers = memoryview(mmap.mmap(file.fileno(), size)).cast("q")

    def begun(self, writer: int) -> int:
        return self._numbers[2 * writer]

    def acknowledged(self, writer: int) -> int:
        return self._numbers[2 * writer + 1]

    def begin(self, writer: int, number: int) -> None:
        self._numbers[2 * writer] = number

    def acknowledge(self, writer: int, number: int) -> None:
        self._numbers[2 * writer + 1] = number


def open_all(path: Path) -> tuple[Any, list[Any]]:
    import vexfs_chroma

    client = vexfs_chroma.PersistentClient(path)
    return client, [
        client.get_or_create_collection(name, embedding_function=None) for name in COLLECTIONS
    ]


def write(directory: Path, writer: int) -> None:
    """Goes on with the operation that the one before was killed in, which may be there or not."""
    board = Board(directory / "board")
    _, collections = open_all(directory / "database")
    collection = collections[writer % len(COLLECTIONS)]
    number = board.acknowledged(writer)
    while True:
        board.begin(writer, number + 1)
        apply(collection, writer, number)
        if number % 10 == 0:
            write_shared(collections[0], writer, number)
        number += 1
        board.acknowledge(writer, number)


def write_shared(collection: Any, writer: int, number: int) -> None:
    collection.upsert(
        ids=[SHARED],
        embeddings=[[-1.0, float(writer), float(number)]],
        metadatas=[{"writer": writer, "operation": number}],
    )


# ---- what readers see ----------------------------------------------------------------------------


class Wrong(AssertionError):
    """What must not be seen."""


def batches_in(found: dict[str, Any]) -> dict[int, dict[int, int]]:
    """Writer -> slot -> operation.  Raises Wrong when rows of a batch do not belong together."""
    if len(set(found["ids"])) != len(found["ids"]):
        raise Wrong("an id is there twice")
    rows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    columns = (found[name] for name in ("ids", "metadatas", "documents", "embeddings"))
    for one, metadata, document, vector in zip(*columns, strict=True):
        if one == SHARED:
            continue
        writer, slot, row = (int(part) for part in one[1:].split("-"))
        number = metadata["operation"]
        if document != f"operation {number}" or list(vector) != [writer, number, row]:
            raise Wrong(f"{one} is a mixture: {metadata}, {document!r}, {list(vector)}")
        rows.setdefault((writer, slot), []).append((row, number))
    seen: dict[int, dict[int, int]] = {}
    for (writer, slot), parts in rows.items():
        numbers = {number for _, number in parts}
        if len(parts) != ROWS or len(numbers) != 1:
            raise Wrong(f"part of a batch is seen: writer {writer}, slot {slot}, {parts}")
        seen.setdefault(writer, {})[slot] = numbers.pop()
    return seen


def done_of(writer: int, seen: dict[int, int], least: int, most: int) -> int:
    """After how many operations, least..most, is this what a writer has written?"""
    for done in range(least, most + 1):
        if state_after(done) == seen:
            return done
    raise Wrong(
        f"of writer {writer} {seen} is seen, which it never wrote between its operations "
        f"{least} (acknowledged, or seen before) and {most} (begun)"
    )


class Look:
    """What one reader has seen so far."""

    def __init__(self, board: Board, collections: list[Any], api: Any) -> None:
        self.board, self.collections, self.api = board, collections, api
        self.done = [0] * WRITERS
        self.lsn = [0] * len(COLLECTIONS)
        self.shared = [0] * WRITERS

    def at(self, which: int) -> None:
        """Look at one of the collections."""
        collection = self.collections[which]
        writers = range(which, WRITERS, len(COLLECTIONS))
        before = {writer: self.board.acknowledged(writer) for writer in writers}
        lsn = self.api._open(collection.id).engine.info().lsn
        if lsn < self.lsn[which]:
            raise Wrong(f"lsn {lsn} after {self.lsn[which]}")
        self.lsn[which] = lsn
        seen = batches_in(collection.get(include=["metadatas", "documents", "embeddings"]))
        for writer in writers:
            least = max(self.done[writer], before[writer])
            most = self.board.begun(writer)
            self.done[writer] = done_of(writer, seen.get(writer, {}), least, most)
        if which == 0:
            self.look_at_shared(collection)

    def look_at_shared(self, collection: Any) -> None:
        found = collection.get(ids=[SHARED], include=["metadatas"])["metadatas"]
        if found:
            writer, number = found[0]["writer"], found[0]["operation"]
            if not self.shared[writer] <= number < self.board.begun(writer):
                raise Wrong(f"the shared record: {found[0]} after {self.shared[writer]}")
            self.shared[writer] = number


def read(directory: Path, reader: int) -> None:
    client, collections = open_all(directory / "database")
    look = Look(Board(directory / "board"), collections, client._server)
    chance = random.Random(reader)
    with (directory / "looks").open("ab", buffering=0) as counter:
        while True:
            look.at(chance.randrange(len(COLLECTIONS)))
            counter.write(b".")


# ---- the crowd -----------------------------------------------------------------------------------


@dataclass
class Counts:
    seconds: float = 0
    seed: int = 0
    killed_writers: int = 0
    killed_readers: int = 0
    acknowledged: int = 0  # operations
    looks: int = 0
    under_way: int = 0  # operations that a writer was killed in, and that are there at the end
    failures: list[str] = field(default_factory=list)


class Crowd:
    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.board = Board(directory / "board")
        self.chance = random.Random(seed)
        self.counts = Counts(seed=seed)
        self.members = [self._start(number) for number in range(WRITERS + READERS)]

    def _start(self, number: int) -> Child:
        rows = self.chance.choice(["50", "500"])  # flushes, all the time or now and then

        def work() -> None:
            os.environ["VEXFS_MEMTABLE_ROWS"] = rows
            if number < WRITERS:
                write(self.directory, number)
            else:
                read(self.directory, number)

        def failed(what: str) -> None:
            (self.directory / f"failure-{number}").write_text(what)

        return Child(work, failed)

    def run(self, seconds: float) -> Counts:
        began = time.monotonic()
        while time.monotonic() - began < seconds and not self.counts.failures:
            time.sleep(self.chance.uniform(0.02, 0.3))
            number = self.chance.randrange(WRITERS + READERS)
            self._kill(number)
            self.members[number] = self._start(number)
        for number in range(WRITERS + READERS):
            self._kill(number)
        if not self.counts.failures:
            self._check_the_end()
        self.counts.seconds = round(time.monotonic() - began, 1)
        return self.counts

    def _kill(self, number: int) -> None:
        if not self.members[number].kill():
            found = self.directory / f"failure-{number}"
            why = found.read_text() if found.exists() else "it crashed"
            self.counts.failures.append(f"process {number} failed by itself: {why}")
        elif number < WRITERS:
            self.counts.killed_writers += 1
        else:
            self.counts.killed_readers += 1

    def _check_the_end(self) -> None:
        looks = self.directory / "looks"
        self.counts.looks = looks.stat().st_size if looks.exists() else 0
        results = self.directory / "end"
        looker = Child(lambda: results.write_text(str(self._look_at_all())), results.write_text)
        looker.wait_until(lambda: False)
        if results.read_text().isdigit():
            self.counts.under_way = int(results.read_text())
        else:
            self.counts.failures.append(f"at the end: {results.read_text()}")
        self.counts.acknowledged = sum(map(self.board.acknowledged, range(WRITERS)))

    def _look_at_all(self) -> int:
        """In a process of its own.  How many operations under way are there?"""
        import vexfs_chroma

        client, collections = open_all(self.directory / "database")
        look = Look(self.board, collections, client._server)
        for which in (0, 1):
            look.at(which)
            count, ids = collections[which].count(), collections[which].get(include=[])["ids"]
            if count != len(ids):
                raise Wrong(f"{count} records are counted, {len(ids)} are there")
        client.close()
        if hasattr(vexfs_chroma, "check"):
            report = vexfs_chroma.check(self.directory / "database", deep=True)
            print(report)
        return sum(look.done[writer] - self.board.acknowledged(writer) for writer in range(WRITERS))


def main() -> int:
    parser = argparse.ArgumentParser(description="writers and readers that are killed")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the counts there")
    arguments = parser.parse_args()
    importlib.import_module("vexfs_chroma")
    check_may_fork()
    with tempfile.TemporaryDirectory(prefix="crowd-") as directory:
        counts = Crowd(Path(directory), arguments.seed).run(arguments.seconds)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(counts), indent=2) + "\n")
    for name, value in asdict(counts).items():
        print(f"{name:<16}{value}")
    return 1 if counts.failures else 0


if __name__ == "__main__":
    sys.exit(main())
