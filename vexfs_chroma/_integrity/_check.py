"""check(): everything in a database, read and compared; nothing is written and no lock is taken."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chromadb.errors import InternalError, NotFoundError

from vexfs_chroma import _engine
from vexfs_chroma._catalog_file import FILE_NAME as CATALOG
from vexfs_chroma._errors import CorruptionError, ForeignDatabaseError, permissions_checked
from vexfs_chroma._integrity import _names
from vexfs_chroma._integrity._report import REPAIR, CheckReport, Finding
from vexfs_chroma._integrity._transaction import FILE_NAME as TRANSACTION
from vexfs_chroma._integrity._transaction import guess_numbers, read_numbers
from vexfs_chroma._plain_files import is_no_file

if TYPE_CHECKING:
    from vexfs_chroma._integrity._report import Progress

SUPERBLOCK = "VEXFS"
COLLECTIONS = "collections"
QUARANTINE = "quarantine"
STAGING = "repair.tmp"
REPAIRED = ".repaired"
DROPPED = ".dropped"
LOCKS = ("MAINT", "LOCK")  # in the order in which the engine takes them

_LOOKS = 5
_BETWEEN_LOOKS = 0.05


@dataclass(slots=True)
class Examined:
    """A check's report, and what a repair has to know besides."""

    report: CheckReport
    identity: uuid.UUID
    names: _names.Names
    directories: set[uuid.UUID] = field(default_factory=set)
    superblock_damaged: bool = False
    transaction_damaged: bool = False
    transaction: dict[uuid.UUID, int] = field(default_factory=dict)
    """Of one that is not carried out yet: the number of its batch in each collection."""
    transaction_unreadable: bool = False
    """These numbers are what a damaged file seems to say, and maybe not all."""
    lsns: dict[uuid.UUID, int] = field(default_factory=dict)
    """The number of the newest batch of each collection of a transaction, if it is sound."""
    collections_damaged: bool = False
    """The directory of the collections is missing, or is none."""
    catalog_damaged: bool = False
    damaged: list[uuid.UUID] = field(default_factory=list)
    """Collections to be salvaged."""
    unnamed: list[uuid.UUID] = field(default_factory=list)
    """Directories with records that no row names."""
    missing: list[uuid.UUID] = field(default_factory=list)
    """Rows without a directory."""
    locks: list[str] = field(default_factory=list)
    """Names of lock files that are no files."""
    graphs: list[str] = field(default_factory=list)
    """Damaged graph files."""

    def add(
        self,
        severity: Literal["damage", "notice"],
        file: str | Path,
        what: str,
        *,
        offset: int = 0,
        advice: str | None = None,
        collection: uuid.UUID | None = None,
    ) -> None:
        """Add a finding."""
        if advice is None:
            advice = REPAIR if severity == "damage" else ""
        name = None if collection is None else self.names.name_of(collection)
        self.report.findings.append(Finding(severity, str(file), offset, what, advice, name))


def check(
    path: str | os.PathLike[str], deep: bool = False, *, progress: Progress | None = None
) -> CheckReport:
    """Look for damage in the database at `path`, beside programs that use it, and change nothing.

    A shallow check reads what opening reads: structures, lengths, sequence numbers, ids, logs,
    names.  A deep one reads every byte that has a checksum and compares all records.

    Raises NotFoundError and ForeignDatabaseError when there is no database, VersionMismatchError
    when it was written by a later release.
    """
    with permissions_checked():
        return examine(os.path.realpath(path), deep=deep, progress=progress).report


def examine(path: str, *, deep: bool, progress: Progress | None = None) -> Examined:
    """The same, with what a repair has to know besides."""
    directories = _directories(path)
    examined = Examined(CheckReport(path, deep), uuid.UUID(int=0), _names.Names(path))
    _check_superblock(path, directories, examined)
    _check_transaction(path, examined)
    _check_collections(path, examined)
    _check_names(path, examined)
    for n, id in enumerate(sorted(examined.directories)):
        _check_collection(path, id, examined, progress, f"({n + 1}/{len(examined.directories)}) ")
    _check_rest(path, examined)
    return examined


def collection_path(path: str, id: uuid.UUID) -> Path:
    """The directory of a collection."""
    return Path(path, COLLECTIONS, id.hex)


def _directories(path: str) -> set[uuid.UUID]:
    try:
        names = [entry.name for entry in Path(path, COLLECTIONS).iterdir()]
    except PermissionError:
        raise
    except OSError:  # it is missing, a file, a link that leads nowhere: _check_collections tells
        return set()
    return {uuid.UUID(name) for name in names if re.fullmatch("[0-9a-f]{32}", name)}


# -- which database it is --------------------------------------------------------------------------


def _check_superblock(path: str, directories: set[uuid.UUID], examined: Examined) -> None:
    if not Path(path).exists():
        raise NotFoundError(f"{path} does not exist")
    if not Path(path).is_dir():
        raise ForeignDatabaseError(f"{path} is a file; a database is a directory")
    file = Path(path, SUPERBLOCK)
    problem, found = None, None
    try:
        found = _engine.read_superblock(path)
    except (CorruptionError, ForeignDatabaseError, NotFoundError) as error:
        if not directories and not Path(path, CATALOG).exists():
            if Path(path, "chroma.sqlite3").exists():
                raise ForeignDatabaseError(
                    f"{path} holds a Chroma database (chroma.sqlite3), not one of vexfs_chroma. To "
                    f"copy it to another path: vexctl import chroma {path} --to NEW_PATH"
                ) from error
            raise NotFoundError(f"{path} holds no vexfs database") from error
        problem = "it is missing" if isinstance(error, NotFoundError) else _text(error)
    examined.report.files += 1
    examined.names = _names.read_names(path, directories)
    owners = Counter(o for id in directories if (o := _owner(path, id)) is not None)
    if examined.names.owner is not None:
        owners[examined.names.owner] += 1
    if found is not None and owners and found not in owners:
        problem = f"it is of another database ({found})"
    elif found is not None:
        owners = Counter({found: 1})
    if problem is not None:
        examined.superblock_damaged = True
        examined.add("damage", file, problem)
    examined.identity = owners.most_common(1)[0][0] if owners else uuid.uuid4()


def _check_transaction(path: str, examined: Examined) -> None:
    file = Path(path, TRANSACTION)
    try:
        if _engine.check_transaction(path, examined.identity):
            examined.report.files += 1
            examined.transaction = read_numbers(path)
            what = "a transaction is under way, or its writer died"
            advice = "whoever writes next carries it out, or opening the database does"
            examined.add("notice", file, what, advice=advice)
    except (CorruptionError, ForeignDatabaseError) as error:
        examined.transaction_damaged = True
        if isinstance(error, CorruptionError):
            examined.transaction, fills = guess_numbers(path)
            examined.transaction_unreadable = not fills
        examined.add("damage", file, _text(error))


def _owner(path: str, id: uuid.UUID) -> uuid.UUID | None:
    """The database that a collection says it is of."""
    try:
        return _engine.read_owner(path, id)
    except (CorruptionError, NotFoundError, InternalError):
        return None


def _check_collections(path: str, examined: Examined) -> None:
    directory = Path(path, COLLECTIONS)
    if not directory.is_dir():
        examined.collections_damaged = True
        what = "it is no directory" if os.path.lexists(directory) else "it is missing"
        examined.add("damage", directory, what)


# -- names -----------------------------------------------------------------------------------------


def _check_names(path: str, examined: Examined) -> None:
    """Compare the catalog with the directories.

    Collections are created and deleted meanwhile, so only what stays so is found.
    """
    unnamed: set[uuid.UUID] = set()
    missing: set[uuid.UUID] = set()
    for look in range(_LOOKS):
        before = _directories(path)
        names = _names.read_names(path, before)
        after = _directories(path)
        if names.owner not in (None, examined.identity):  # of its names only ours count
            names.collections = {id: r for id, r in names.collections.items() if id in after}
        new_unnamed = (before & after) - set(names.collections)
        new_missing = {
            id for id in set(names.collections) - before - after if not _is_repaired(path, id)
        }
        unnamed = new_unnamed if look == 0 else unnamed & new_unnamed
        missing = new_missing if look == 0 else missing & new_missing
        examined.names, examined.directories = names, after
        if not unnamed and not missing:
            break
        time.sleep(_BETWEEN_LOOKS)
    examined.unnamed, examined.missing = sorted(unnamed), sorted(missing)
    file, names = Path(path, CATALOG), examined.names
    examined.report.files += names.exists
    for problem in names.problems:
        examined.add("damage", file, problem)
    if not names.exists and unnamed:
        examined.add("damage", file, "it is missing or empty, but there are collections")
    if names.owner is not None and names.owner != examined.identity:
        examined.add("damage", file, f"it is the catalog of another database ({names.owner})")
    elif names.exists and names.owner is None and not names.problems:
        examined.add("damage", file, "it does not say which database it belongs to")
    examined.catalog_damaged = any(f.file == str(file) for f in examined.report.findings)
    for id in examined.missing:
        what = "the catalog names the collection, but its directory is missing"
        examined.add("damage", collection_path(path, id), what, collection=id)


def _is_repaired(path: str, id: uuid.UUID) -> bool:
    """Whether a repair was about to put a copy in its place: the next opening does."""
    return Path(path, COLLECTIONS, id.hex + REPAIRED).exists()


# -- collections -----------------------------------------------------------------------------------


def _check_collection(
    path: str, id: uuid.UUID, examined: Examined, progress: Progress | None, label: str
) -> None:
    report, name = examined.report, label + examined.names.name_of(id)
    check = _engine.Check(path, examined.identity, id, deep=report.deep)
    try:
        state = check.step()
        while state.more:
            if progress is not None:
                progress(name, state.bytes, max(state.expected_bytes, state.bytes))
            state = check.step()
        found = check.take_findings()
    finally:
        check.close()
    if state.gone:
        examined.unnamed = [other for other in examined.unnamed if other != id]
        return
    is_damaged = any(damage for damage, *_ in found)
    report.collections += 1
    report.files += state.files
    report.bytes += state.bytes
    report.rows += 0 if is_damaged else state.rows
    for damage, file, offset, what in found:
        severity: Literal["damage", "notice"] = "damage" if damage else "notice"
        text = what.partition("; restore ")[0]
        examined.add(severity, Path(path, file), text, offset=offset, collection=id)
        if not damage and file.endswith(".vxg") and "damaged" in what:
            examined.graphs.append(str(Path(path, file)))
    if state.files == 0 and not is_damaged and id in examined.names.collections:
        # A row is written when the first manifest is durable: the files were there.
        examined.missing.append(id)
        what = "the catalog names the collection, but its directory is empty"
        examined.add("damage", collection_path(path, id), what, collection=id)
    if is_damaged:
        examined.damaged.append(id)
    elif id in examined.transaction:
        _check_part(path, id, examined, state.lsn)
    if id in examined.unnamed:
        _check_unnamed(path, id, examined, is_empty=not is_damaged and state.lsn == 0)


def _check_part(path: str, id: uuid.UUID, examined: Examined, lsn: int) -> None:
    """A transaction goes on from the batches before it; `lsn` was looked up after its file."""
    examined.lsns[id] = lsn
    if not examined.transaction_damaged and lsn + 1 < examined.transaction[id]:
        examined.transaction_damaged = True
        what = "the collection lacks batches before the transaction that was under way"
        examined.add("damage", Path(path, TRANSACTION), what, collection=id)


def _check_unnamed(path: str, id: uuid.UUID, examined: Examined, *, is_empty: bool) -> None:
    directory = collection_path(path, id)
    names = _names.read_names(path, [id])  # records come after the name, but maybe after our look
    if id in names.collections or not directory.exists():
        examined.unnamed.remove(id)
    elif is_empty or id in names.dropped:
        examined.unnamed.remove(id)
        what = "a collection whose creation or deletion did not end; the next opening removes it"
        examined.add("notice", directory, what)
    else:
        what = "the directory holds records, but the catalog does not name the collection"
        examined.add("damage", directory, what)


# -- the rest --------------------------------------------------------------------------------------


def _check_rest(path: str, examined: Examined) -> None:
    root = Path(path)
    for name in LOCKS:
        if is_no_file(root / name):
            examined.locks.append(name)
            examined.add("damage", root / name, "it is no plain file, so it cannot be locked")
    for entry in sorted(root.glob(f"{QUARANTINE}/*")):
        examined.add(
            "notice",
            entry,
            "damaged files that a repair put aside",
            advice="remove it when nothing of it is needed any more",
        )
    if (root / STAGING).exists():
        examined.add("notice", root / STAGING, "left over from a repair that did not end")
    for entry in sorted(root.glob(f"{COLLECTIONS}/*{DROPPED}")):
        examined.add("notice", entry, "a deletion did not end; the next opening goes on with it")
    for entry in sorted(root.glob(f"{COLLECTIONS}/*{REPAIRED}")):
        examined.add(
            "notice", entry, "a repair did not end; the next one, or the next opening, does"
        )


def _text(error: Exception) -> str:
    return str(error).partition("; restore ")[0].partition("; choose ")[0]
