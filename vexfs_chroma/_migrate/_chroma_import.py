"""Copies a Chroma directory into a vexfs database."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from chromadb.errors import ChromaError, InvalidArgumentError

from vexfs_chroma._migrate._chosen import check_batch, check_chosen, check_names, check_outside
from vexfs_chroma._migrate._report import CollectionReport, MigrationReport, ProblemFile
from vexfs_chroma._migrate._source import ChromaSource, SourceCollection, SourceRecord, parameters
from vexfs_chroma._migrate._target import (
    CONFLICTS,
    TARGET_FAILS,
    Batch,
    ConflictError,
    Target,
    existing,
)
from vexfs_chroma._places import check_report

if TYPE_CHECKING:
    from collections.abc import Collection as CollectionOf
    from uuid import UUID

    from vexfs_chroma._migrate._report import Progress
    from vexfs_chroma._migrate._source import CollectionRecords, Records

BATCH = 2000


def import_chroma(
    source: str | Path,
    target: str | Path,
    *,
    tenants: CollectionOf[str] | None = None,
    databases: CollectionOf[str] | None = None,
    collections: CollectionOf[str] | None = None,
    on_conflict: str = "fail",
    batch: int = BATCH,
    dry_run: bool = False,
    report: str | Path | None = None,
    progress: Progress | None = None,
) -> MigrationReport:
    """Copy a directory that Chroma wrote (0.4 to 1.5) into the vexfs database `target`.

    Chroma is not used for it, so directories that it cannot open any more come over, too; nothing
    is written in `source`.  Programs that use it should be stopped.

    Args:
        source: Chroma's directory, the one with chroma.sqlite3.
        target: The directory of the vexfs database; made if it does not exist.
        tenants: Only these tenants.
        databases: Only these databases.
        collections: Only collections of these names.
        on_conflict: What to do about collections that are in the target: "fail" before anything is
            written, "skip" them, or "replace" them, each when its successor is whole.  An import
            that was interrupted goes on with "skip".
        batch: How many records to read and write at a time.
        dry_run: Read everything, write nothing.
        report: A file to make, with a JSON object for every record that does not come over.
        progress: Called with the report of a collection and the records of it that are done.

    Returns what came over.  Records whose vector is lost are counted and in the report file.

    Raises SourceError when there is no Chroma database to read, ConflictError for "fail".
    """
    if on_conflict not in CONFLICTS:
        raise InvalidArgumentError(
            f"on_conflict must be one of {', '.join(CONFLICTS)}, got {on_conflict!r}"
        )
    check_names(tenants=tenants, databases=databases, collections=collections)
    check_batch(batch)
    check_report(report, source, target)
    with ChromaSource(source) as chroma, ProblemFile(report) as problems:
        wanted = _Wanted(tenants, databases, collections)
        found = chroma.collections()
        chosen = [c for c in found if wanted.collection(c)]
        wanted.check(source, chroma.databases(), chosen)
        job = _Import(chroma, chosen, batch, problems, progress)
        job.report = MigrationReport(str(source), str(target), dry_run=dry_run)
        if dry_run:
            job.run(None, on_conflict)
        else:
            check_outside(Path(source), Path(target))
            with Target(target) as open_target:
                job.make_databases(open_target, wanted)
                job.run(open_target, on_conflict)
        return job.report


class _Wanted:
    """What the caller chose."""

    def __init__(
        self,
        tenants: CollectionOf[str] | None,
        databases: CollectionOf[str] | None,
        collections: CollectionOf[str] | None,
    ) -> None:
        self._tenants, self._databases, self._collections = tenants, databases, collections

    def tenant(self, name: str) -> bool:
        return not self._tenants or name in self._tenants

    def database(self, tenant: str, name: str) -> bool:
        return self.tenant(tenant) and (not self._databases or name in self._databases)

    def collection(self, collection: SourceCollection) -> bool:
        return self.database(collection.tenant, collection.database) and (
            not self._collections or collection.name in self._collections
        )

    def check(
        self, source: str | Path, homes: list[tuple[str, str]], chosen: list[SourceCollection]
    ) -> None:
        """Raise NotFoundError when something that was chosen is not there."""
        held = [home for home in homes if self.database(*home)]
        check_chosen(source, "database", self._databases, [database for _, database in held])
        check_chosen(source, "tenant", self._tenants, [tenant for tenant, _ in held])
        check_chosen(source, "collection", self._collections, [c.name for c in chosen])

    def whole_databases(self) -> bool:
        return not self._collections

    def whole_tenants(self) -> bool:
        return self.whole_databases() and not self._databases


class _Import:
    """One import."""

    report: MigrationReport

    def __init__(
        self,
        source: ChromaSource,
        collections: list[SourceCollection],
        batch: int,
        problems: ProblemFile,
        progress: Progress | None,
    ) -> None:
        self.source, self.collections, self.batch = source, collections, batch
        self.problems = problems
        self.progress = progress

    def make_databases(self, target: Target, wanted: _Wanted) -> None:
        """Make tenants and databases that have no collections, too."""
        homes = {(c.tenant, c.database) for c in self.collections}
        if wanted.whole_databases():
            homes |= {home for home in self.source.databases() if wanted.database(*home)}
        for tenant, database in sorted(homes):
            self._make_database(target, tenant, database)
        if wanted.whole_tenants():
            for tenant in self.source.tenants():
                if wanted.tenant(tenant):
                    target.make_tenant(tenant)

    def _make_database(self, target: Target, tenant: str, database: str) -> None:
        try:
            target.make_database(tenant, database)
        except ChromaError as error:
            self.report.damage.append(f"database {database} of tenant {tenant}: {error}")

    def run(self, target: Target | None, on_conflict: str) -> None:
        """Copy all collections, into nothing in a dry run."""
        there = set()
        if target is not None:
            names = [(c.tenant, c.database, c.name) for c in self.collections]
            there = set(existing(target, names))
            if there and on_conflict == "fail":
                raise ConflictError(_conflict_text(sorted(there)))
        records = self.source.open(self.collections)
        self.report.damage += self.source.take_damage()
        for collection in self.collections:
            done = CollectionReport(collection.tenant, collection.database, collection.name)
            self.report.collections.append(done)
            is_there = (done.tenant, done.database, done.name) in there
            if is_there and on_conflict == "skip":
                done.skipped = True
                continue
            self._copy_collection(collection, records, target, done, replaces=is_there)
            self.report.damage += self.source.take_damage()

    def _copy_collection(
        self,
        collection: SourceCollection,
        records: Records,
        target: Target | None,
        done: CollectionReport,
        *,
        replaces: bool,
    ) -> None:
        found = records.of(collection)
        try:
            done.rows = len(found)
            done.notes += found.notes
            if target is None:
                self._copy_records(found, None, None, done)
            else:
                self._fill(collection, found, target, done, replaces=replaces)
        finally:
            found.close()

    def _fill(
        self,
        collection: SourceCollection,
        found: CollectionRecords,
        target: Target,
        done: CollectionReport,
        *,
        replaces: bool,
    ) -> None:
        """Make the collection in the target: whole, or not under its name."""
        try:
            target.check_name(done.name)
        except (ChromaError, TypeError, ValueError) as error:
            done.error = str(error)
            return
        id = self._create(collection, target, done)
        if id is None:
            return
        home = (done.tenant, done.database, done.name)
        try:
            self._copy_records(found, target, id, done)
            done.counted = target.count(id)
            target.finish(id, home, replaces=replaces)
        except BaseException as error:
            with contextlib.suppress(ChromaError):  # else the next attempt does it
                target.abandon(*home)
            if not isinstance(error, ChromaError) or isinstance(error, TARGET_FAILS):
                raise
            done.copied, done.counted, done.error = 0, None, str(error)

    def _create(
        self, collection: SourceCollection, target: Target, done: CollectionReport
    ) -> UUID | None:
        """Create the collection, as much like the original as can be."""
        home = (collection.tenant, collection.database, collection.name)
        metadata = collection.metadata
        configuration = _configuration(collection)
        plain = {name: v for name, v in (metadata or {}).items() if not name.startswith("hnsw:")}
        attempts: list[tuple[Any, Any, Any]] = [(metadata, configuration, None)]
        if collection.schema is not None:
            attempts.insert(0, (metadata, None, collection.schema))
        space = collection.space if collection.space in {"l2", "cosine", "ip"} else "l2"
        attempts.append((plain or None, {"hnsw": {"space": space}}, None))
        attempts.append((None, {"hnsw": {"space": space}}, None))
        for attempt in attempts:
            id = self._create_once(target, home, attempt, done)
            if id is not None:
                return id
        return None

    def _create_once(
        self,
        target: Target,
        home: tuple[str, str, str],
        attempt: tuple[Any, Any, Any],
        done: CollectionReport,
    ) -> UUID | None:
        try:
            id = target.create(*home, *attempt)
        except TARGET_FAILS:
            raise
        except (ChromaError, TypeError, ValueError, KeyError) as error:
            done.notes.append(f"its configuration was not accepted as it is: {error}")
            done.error = str(error)
            return None
        done.error = None
        return id

    def _copy_records(
        self,
        found: CollectionRecords,
        target: Target | None,
        id: UUID | None,
        done: CollectionReport,
    ) -> None:
        for page in found.pages(self.batch):
            batch = Batch()
            for record in page:
                vector = record.vector.vector
                if vector is None:
                    done.without_vector += 1
                    self._note(done, record, f"no vector: {record.vector.note}")
                    continue
                batch.append(record.id, vector, record.document, record.uri, record.metadata)
                if record.vector.note is not None:
                    done.direction_only += 1
                    self._note(done, record, record.vector.note, vector)
                if not record.is_complete:
                    done.incomplete += 1
                    self._note(done, record, "metadata damaged; what is left came over")
                elif unstorable := _not_finite(record.metadata):
                    done.incomplete += 1
                    names = ", ".join(map(repr, unstorable))
                    self._note(
                        done,
                        record,
                        f"metadata {names}: NaN and infinity are not stored, as in 1.x",
                    )
            refused = 0
            if target is not None and id is not None:
                for single, reason in target.write(id, batch):
                    refused += 1
                    self.problems.add(
                        done,
                        single.ids[0],
                        f"refused: {reason}",
                        document=single.documents[0],
                        uri=single.uris[0],
                        metadata=single.metadatas[0],
                        embedding=_plain(single.vectors[0]),
                    )
            done.refused += refused
            done.copied += len(batch.ids) - refused
            if self.progress is not None:
                self.progress(done, done.copied + done.without_vector + done.refused)

    def _note(
        self, done: CollectionReport, record: SourceRecord, problem: str, vector: Any = None
    ) -> None:
        self.problems.add(
            done,
            record.id,
            problem,
            document=record.document,
            uri=record.uri,
            metadata=record.metadata,
            embedding=None if vector is None else _plain(vector),
        )


def _not_finite(metadata: dict[str, Any] | None) -> list[str]:
    """The keys whose values are no finite numbers, which Chroma stored up to 0.6."""
    return [
        key
        for key, value in (metadata or {}).items()
        for number in (value if isinstance(value, list) else [value])
        if isinstance(number, float) and not math.isfinite(number)
    ]


def _plain(vector: Any) -> list[float]:
    numbers: list[float] = np.asarray(vector, np.float64).tolist()
    return numbers


def _configuration(collection: SourceCollection) -> dict[str, Any]:
    """The configuration as a client would give it.

    Up to 0.6, only the metadata ("hnsw:space" and the like) counted, which is still read.
    """
    hnsw = parameters(collection.configuration)
    function = (collection.configuration or {}).get("embedding_function")
    configuration: dict[str, Any] = {}
    if function is not None:
        configuration["embedding_function"] = function
    if hnsw:
        configuration["hnsw"] = hnsw
    return configuration


def _conflict_text(there: list[tuple[str, str, str]]) -> str:
    names = ", ".join("/".join(name) for name in there[:5])
    more = f" and {len(there) - 5} more" if len(there) > 5 else ""
    return (
        f"the target has collections of these names: {names}{more}; nothing was changed. "
        'Choose to "skip" or to "replace" them'
    )
