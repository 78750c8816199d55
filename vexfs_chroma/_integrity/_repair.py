"""repair(): what can be read of damaged parts is copied, and the copy takes their place.

A collection is salvaged into a database of its own below `repair.tmp`, by ordinary writes.  Then,
each step durable before the next:

    repair.tmp/collections/ID  ->  collections/ID.repaired      the copy is whole
    collections/ID             ->  quarantine/TIME/ID
    collections/ID.repaired    ->  collections/ID

Killed before the second step, a repair has changed nothing, and the next one begins anew (the
collection may have been written since).  Killed before the third, the next one, or the next
opening, does it.  The superblock and the catalog are copied to the quarantine and replaced by one
rename.

Nothing is ever removed but unfinished copies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine
from vexfs_chroma._catalog_file import FILE_NAME as CATALOG
from vexfs_chroma._errors import permissions_checked
from vexfs_chroma._integrity import _names
from vexfs_chroma._integrity._check import (
    COLLECTIONS,
    QUARANTINE,
    REPAIRED,
    STAGING,
    SUPERBLOCK,
    Examined,
    collection_path,
    examine,
)
from vexfs_chroma._integrity._locking import exclusive
from vexfs_chroma._integrity._report import Loss, LossLog, RepairReport
from vexfs_chroma._integrity._transaction import FILE_NAME as TRANSACTION
from vexfs_chroma._places import check_report
from vexfs_chroma._plain_files import is_no_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vexfs_chroma._integrity._report import Progress

_BATCH_BYTES = 8 << 20


def repair(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    report: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> RepairReport:
    """Make a damaged database sound again, with everything that can be read of it.

    What is damaged goes to `quarantine/`; a database that is sound stays as it is.  `report` names
    a file that gets a JSON line for each loss.  `dry_run` finds out what would be lost.

    Nobody else may use the database: raises DatabaseLockedError.  Raises VersionMismatchError for
    one that a later release wrote, NotFoundError and ForeignDatabaseError for what is none.
    """
    with permissions_checked():
        return _repair(os.path.realpath(path), dry_run, report, progress)


def _repair(
    root: str, dry_run: bool, report: str | os.PathLike[str] | None, progress: Progress | None
) -> RepairReport:
    check_report(report, root)
    examine(root, deep=False)  # refuses, before anything is touched
    with exclusive(root, writes=not dry_run):
        if not dry_run:
            _finish_interrupted(root)
        examined = examine(root, deep=True, progress=progress)
        done = RepairReport(root, dry_run, examined.report)
        if examined.report.ok and not examined.graphs:
            return done
        with contextlib.ExitStack() as stack:
            lines = None
            if report is not None:
                lines = stack.enter_context(Path(report).open("w", encoding="utf-8"))
            stack.callback(shutil.rmtree, Path(root, STAGING), ignore_errors=True)
            _Repair(root, examined, done, LossLog(done, lines), progress).run()
        if not dry_run:
            done.after = examine(root, deep=True, progress=progress).report
    return done


def _finish_interrupted(root: str) -> None:
    """Go on with a repair that was killed, or take it back."""
    directory = Path(root, COLLECTIONS)
    for copy in directory.glob(f"*{REPAIRED}"):
        place = copy.with_suffix("")
        if place.exists():
            shutil.rmtree(copy)
        else:
            copy.rename(place)
            sync_directory(directory)
    if Path(root, STAGING).exists():
        shutil.rmtree(Path(root, STAGING))


def sync_directory(directory: str | Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Repair:
    """One repair of a database that nobody else uses."""

    def __init__(
        self,
        root: str,
        examined: Examined,
        done: RepairReport,
        losses: LossLog,
        progress: Progress | None,
    ) -> None:
        self._root = root
        self._examined = examined
        self._done = done
        self._losses = losses
        self._progress = progress
        self._writes = not done.dry_run

    def run(self) -> None:
        if self._examined.collections_damaged:
            self._replace_collections()
        for name in self._examined.locks:  # whoever needs one makes it
            if self._writes:
                self._put_aside(Path(self._root, name))
            self._done.repaired.append(name)
        if self._examined.superblock_damaged:
            self._replace_superblock()
            if self._writes:  # without it no collection could be opened, and compared with its head
                self._examined = examine(self._root, deep=True, progress=self._progress)
        examined = self._examined
        if self._transaction_cannot_go_on():
            self._give_up_transaction()
        for id in examined.damaged:
            self._salvage(id)
        for id in examined.missing:
            self._replace_missing(id)
        for file in examined.graphs:
            self._put_graph_aside(Path(file))
        if examined.catalog_damaged or examined.unnamed:
            self._repair_catalog()

    # -- places ------------------------------------------------------------------------------------

    def _quarantine(self) -> Path:
        """The directory that takes what is damaged; made when it is first needed."""
        if self._done.quarantine is None:
            parent = Path(self._root, QUARANTINE)
            parent.mkdir(exist_ok=True)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            place, n = parent / stamp, 1
            while place.exists():
                n += 1
                place = parent / f"{stamp}-{n}"
            place.mkdir()
            sync_directory(parent)
            sync_directory(self._root)
            self._done.quarantine = str(place)
        return Path(self._done.quarantine)

    def _copy_aside(self, name: str) -> None:
        source, copy = Path(self._root, name), self._quarantine() / name
        if is_no_file(source):
            self._put_aside(source)
            return
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(source, copy)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            sync_directory(copy.parent)

    def _put_aside(self, what: Path) -> None:
        what.rename(self._quarantine() / what.name)
        sync_directory(self._quarantine())
        sync_directory(what.parent)

    def _staging(self) -> Path:
        """An empty database of the same identity, to make a copy in."""
        place = Path(self._root, STAGING)
        if place.exists():
            shutil.rmtree(place)
        place.mkdir()
        _engine.write_superblock(str(place), self._examined.identity)
        (place / COLLECTIONS).mkdir()
        return place

    # -- the transaction ---------------------------------------------------------------------------

    def _transaction_cannot_go_on(self) -> bool:
        """Whether it is damaged, or would be carried out on records that are numbered anew."""
        examined = self._examined
        return examined.transaction_damaged or not examined.transaction.keys().isdisjoint(
            [*examined.damaged, *examined.missing]
        )

    def _give_up_transaction(self) -> None:
        """Put its file aside, before the first collection is replaced."""
        examined, file = self._examined, Path(self._root, TRANSACTION)
        if self._writes:
            self._put_aside(file)
        self._done.repaired.append(TRANSACTION)
        is_clear = not examined.transaction_unreadable
        for id, number in examined.transaction.items():
            lsn = examined.lsns.get(id, 0)
            in_turn = lsn in {number, number - 1} or id in [*examined.damaged, *examined.missing]
            is_clear = is_clear and (in_turn or not examined.transaction_damaged)
            if lsn < number and (in_turn or not examined.transaction_damaged):
                why = "a transaction was under way, and is not carried out here"
                self._note(id, [("batch", None, 1, TRANSACTION, 0, why)])
        if not is_clear:
            why = "a transaction was under way; it may be carried out in a part of its collections"
            self._losses.add(Loss("", examined.identity, "batch", None, 0, str(file), 0, why))

    # -- the parts ---------------------------------------------------------------------------------

    def _replace_superblock(self) -> None:
        if self._writes:
            self._copy_aside(SUPERBLOCK)
            _engine.write_superblock(self._root, self._examined.identity)
        self._done.repaired.append(SUPERBLOCK)

    def _replace_collections(self) -> None:
        """Make the directory in which collections are; what has its name goes aside."""
        directory = Path(self._root, COLLECTIONS)
        if self._writes:
            if os.path.lexists(directory):
                self._put_aside(directory)
            directory.mkdir()
            sync_directory(self._root)
        self._done.repaired.append(COLLECTIONS)

    def _salvage(self, id: uuid.UUID) -> None:
        salvage = _engine.Salvage(self._root, self._examined.identity, id)
        try:
            space = salvage.info().space or self._examined.names.space_of(id)
            with contextlib.ExitStack() as stack:
                target = stack.enter_context(self._new_copy(id, space)) if self._writes else None
                self._copy_records(id, salvage, target)
        finally:
            salvage.close()
        if self._writes:
            self._put_in_place(id)
        self._done.repaired.append(self._examined.names.name_of(id))

    @contextlib.contextmanager
    def _new_copy(self, id: uuid.UUID, space: str) -> Iterator[_engine.Collection]:
        database = _engine.Database(
            str(self._staging()), durability="normal", create=False, index_rows=_engine.NO_INDEX
        )
        try:
            database.create_collection(id, space)
            target = database.open_collection(id)
            yield target
            target.flush()
            target.close()
        finally:
            database.close()

    def _copy_records(
        self, id: uuid.UUID, salvage: _engine.Salvage, target: _engine.Collection | None
    ) -> None:
        info = salvage.info()
        n = max(1, min(5000, _BATCH_BYTES // (4 * info.dimension + 1024)))
        read, kept, more = 0, 0, True
        while more:
            batch, more = salvage.next(n)
            kept += batch.rows if target is None else self._write(id, batch, target)
            self._note(id, salvage.take_losses())
            read += n
            if self._progress is not None:
                name = self._examined.names.name_of(id)
                self._progress(name, min(read, info.records), info.records)
        if target is not None and kept == 0 and info.dimension > 0:
            self._keep_dimension(target, info.dimension)
        self._done.kept += kept

    def _write(self, id: uuid.UUID, batch: _engine.Batch, target: _engine.Collection) -> int:
        if batch.rows == 0:
            return 0
        try:
            batch.write_to(target)
        except InvalidArgumentError:  # sound by its checksums, and yet no record
            refused = batch.write_singly(target)
            where = str(collection_path(self._root, id))
            self._note(id, [("record", record, 1, where, 0, why) for record, why in refused])
            return batch.rows - len(refused)
        return batch.rows

    def _keep_dimension(self, target: _engine.Collection, dimension: int) -> None:
        """A collection keeps the dimension of vectors that it once had."""
        import numpy as np

        vector = np.zeros((1, dimension), dtype=np.float32)
        target.write("add", ["x"], vector, None, None, None)
        target.delete(["x"], None)

    def _note(self, id: uuid.UUID, found: list[_engine.RawLoss]) -> None:
        name = self._examined.names.name_of(id)
        for what, record, count, file, offset, why in found:
            where = str(Path(self._root, file))
            self._losses.add(Loss(name, id, what, record, count, where, offset, why))

    def _put_in_place(self, id: uuid.UUID) -> None:
        place = collection_path(self._root, id)
        copy = place.with_name(place.name + REPAIRED)
        staging = Path(self._root, STAGING)
        sync_directory(staging / COLLECTIONS)
        (staging / COLLECTIONS / place.name).rename(copy)
        sync_directory(place.parent)
        if place.exists():
            aside = self._quarantine() / place.name
            _engine.announce_replacement(self._root, id)
            place.rename(aside)
            sync_directory(aside.parent)
            sync_directory(place.parent)
        copy.rename(place)
        sync_directory(place.parent)
        shutil.rmtree(staging)

    def _replace_missing(self, id: uuid.UUID) -> None:
        """A collection that has only its name left: an empty one, so that the name can be used."""
        if self._writes:
            with self._new_copy(id, self._examined.names.space_of(id)):
                pass
            self._put_in_place(id)
        where = str(collection_path(self._root, id))
        self._note(id, [("collection", None, 1, where, 0, "its files are missing")])
        self._done.repaired.append(self._examined.names.name_of(id))

    def _put_graph_aside(self, file: Path) -> None:
        if self._writes and os.path.lexists(file):
            file.rename(self._quarantine() / f"{file.parent.name}-{file.name}")
            sync_directory(file.parent)
        self._done.repaired.append(file.name)

    # -- names -------------------------------------------------------------------------------------

    def _repair_catalog(self) -> None:
        examined, names = self._examined, self._examined.names
        added = {id: self._space(id) for id in examined.unnamed}
        if examined.catalog_damaged:
            if self._writes:
                self._replace_catalog(added)
            self._done.repaired.append(CATALOG)
        elif self._writes:
            _names.add_rows(self._root, added)
        for id in added:
            name = _names.recovered_name(id)
            why = f"the catalog does not name the collection; it is {name} now"
            self._losses.add(Loss(name, id, "name", None, 1, names.path, 0, why))
            if not examined.catalog_damaged:
                self._done.repaired.append(name)

    def _space(self, id: uuid.UUID) -> str:
        salvage = _engine.Salvage(self._root, self._examined.identity, id)
        try:
            return salvage.info().space or "l2"
        finally:
            salvage.close()

    def _replace_catalog(self, added: dict[uuid.UUID, str]) -> None:
        staging = self._staging()
        _names.make_anew(str(staging), self._examined.names, self._examined.identity, added)
        self._copy_aside(CATALOG)
        self._copy_aside(f"{CATALOG}-journal")
        # The old journal must not be taken for one of the new catalog; it is in the quarantine.
        Path(self._root, f"{CATALOG}-journal").unlink(missing_ok=True)
        (staging / CATALOG).replace(Path(self._root, CATALOG))
        sync_directory(self._root)
        shutil.rmtree(staging)
