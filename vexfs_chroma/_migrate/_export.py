"""Copies a vexfs database into directories of other formats.

    jsonl     one file per collection, one JSON object per record; needs nothing to be read
    npz       one file per collection: `vectors.npy` and `records.jsonl`; for numpy
    parquet   one file per collection; needs pyarrow
    chroma    a directory of Chroma, written by chromadb itself

All but the last have a manifest.json, which is written at the end.  A directory is made under
another name, and gets its own when all of it is on the disk (_partial): it is whole or not there.

Others may write meanwhile.  Which records a collection has is settled when its turn comes; they go
through a page at a time, by their ids, so that none is passed over because another one is deleted.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb.errors import ChromaError

from vexfs_chroma._migrate._chosen import check_batch, check_chosen, check_names, check_outside
from vexfs_chroma._migrate._files import FORMATS, MANIFEST, FileFormat
from vexfs_chroma._migrate._pages import SourceDatabase
from vexfs_chroma._migrate._report import CollectionReport, MigrationReport
from vexfs_chroma._partial import Partial, check_new, sync_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Collection as CollectionOf

    from chromadb.types import Collection as CollectionModel

    from vexfs_chroma._migrate._report import Progress

BATCH = 1000


def export_jsonl(source: str | Path, target: str | Path, **options: Any) -> MigrationReport:
    """Copy the vexfs database `source` into JSON files in the new directory `target`.

    Keyword arguments of all export functions: `tenants`, `databases`, `collections` (names to
    choose by; all by default), `batch` (records at a time), `progress` (called with the report of a
    collection and the records that are done).
    """
    return _export_files(source, target, "jsonl", **options)


def export_npz(source: str | Path, target: str | Path, **options: Any) -> MigrationReport:
    """Copy the vexfs database `source` into files for numpy in the new directory `target`.

    For the keyword arguments see export_jsonl.
    """
    return _export_files(source, target, "npz", **options)


def export_parquet(source: str | Path, target: str | Path, **options: Any) -> MigrationReport:
    """Copy the vexfs database `source` into Parquet files in the new directory `target`.

    Needs pyarrow.  For the keyword arguments see export_jsonl.
    """
    return _export_files(source, target, "parquet", **options)


def export_chroma(source: str | Path, target: str | Path, **options: Any) -> MigrationReport:
    """Copy the vexfs database `source` into a new directory of Chroma's, by chromadb itself.

    For the keyword arguments see export_jsonl.
    """
    from vexfs_chroma._migrate._chroma_export import ChromaWriter

    def copy(job: Job, directory: Path) -> None:
        with ChromaWriter(directory) as writer:
            for tenant, database in job.homes:
                writer.make_database(tenant, database)
            for model, report in job.collections():
                job.copy(model, report, writer)

    return _run(source, target, copy, **options)


class Job:
    """One export: which collections, and how far it got."""

    def __init__(
        self,
        database: SourceDatabase,
        report: MigrationReport,
        *,
        tenants: CollectionOf[str] | None = None,
        databases: CollectionOf[str] | None = None,
        collections: CollectionOf[str] | None = None,
        batch: int = BATCH,
        progress: Progress | None = None,
    ) -> None:
        check_names(tenants=tenants, databases=databases, collections=collections)
        check_batch(batch)
        self.database, self.report = database, report
        self.batch, self.progress = batch, progress
        self.homes = database.databases(tenants, databases)
        check_chosen(report.source, "database", databases, [name for _, name in self.homes])
        check_chosen(report.source, "tenant", tenants, [tenant for tenant, _ in self.homes])
        self.tenants = sorted({tenant for tenant, _ in self.homes})
        self._models = database.collections(self.homes, collections)
        check_chosen(report.source, "collection", collections, [m.name for m in self._models])

    def collections(self) -> list[tuple[CollectionModel, CollectionReport]]:
        """The collections, and the report of each."""
        found = []
        for model in self._models:
            report = CollectionReport(model.tenant, model.database, model.name)
            self.report.collections.append(report)
            found.append((model, report))
        return found

    def copy(self, model: CollectionModel, report: CollectionReport, writer: Any) -> None:
        """Copy the records of one collection; an error concerns this one only."""
        try:
            ids = self.database.ids(model.id)
            report.rows = len(ids)
            with writer.collection(self.database.newest(model), report.rows) as sink:
                for page in self.database.pages(model.id, ids, self.batch):
                    sink.write(page)
                    report.copied += len(page.ids)
                    if self.progress is not None:
                        self.progress(report, report.copied)
            report.counted = sink.count()
            if report.copied < report.rows:
                gone = report.rows - report.copied
                report.rows = report.copied
                report.notes.append(f"{gone} records were deleted while it was exported")
            report.incomplete = getattr(sink, "incomplete", 0)
            if report.incomplete:
                report.notes.append(
                    f"{report.incomplete} records are there without their sparse vectors, which "
                    "Chroma's local databases cannot store; jsonl and npz keep them"
                )
        except ChromaError as error:
            report.error = str(error)


def _run(
    source: str | Path,
    target: str | Path,
    copy: Callable[[Job, Path], None],
    **options: Any,
) -> MigrationReport:
    report = MigrationReport(str(source), str(target))
    check_outside(Path(source), Path(target))
    made = Path(os.path.realpath(target))
    check_new(made)
    with SourceDatabase(source) as database:
        job = Job(database, report, **options)
        made.parent.mkdir(parents=True, exist_ok=True)
        with Partial(made) as partial:
            partial.directory.mkdir()
            copy(job, partial.directory)
            sync_below(partial.directory)
            partial.finish()
    return report


class _FileWriter:
    """Writes the files of one export."""

    def __init__(self, directory: Path, format: FileFormat) -> None:
        self._directory, self._format = directory, format
        self.entries: list[dict[str, Any]] = []

    def collection(self, model: CollectionModel, rows: int) -> Any:
        name = re.sub(r"[^a-zA-Z0-9._+-]", "_", model.name)[:100]
        file = f"{len(self.entries):04d}-{name}.{self._format.suffix}"
        self.entries.append(
            {
                "tenant": model.tenant,
                "database": model.database,
                "name": model.name,
                "file": file,
                "rows": rows,
                "dimension": model.dimension,
                "metadata": model.metadata,
                "configuration": model.configuration_json,
                "schema": model.serialized_schema,
            }
        )
        return self._format.sink(self._directory / file, rows, model.dimension or 0)

    def note_rows(self, report: CollectionReport) -> None:
        """How many records the collection turned out to have; nothing if it could not be begun."""
        home = (report.tenant, report.database, report.name)
        for entry in self.entries[-1:]:
            if (entry["tenant"], entry["database"], entry["name"]) == home:
                entry["rows"] = report.rows


def _export_files(
    source: str | Path, target: str | Path, kind: str, **options: Any
) -> MigrationReport:
    format = FORMATS[kind]()

    def copy(job: Job, directory: Path) -> None:
        writer = _FileWriter(directory, format)
        for model, report in job.collections():
            job.copy(model, report, writer)
            writer.note_rows(report)
        manifest = {
            "format": "vexfs-export",
            "version": 1,
            "kind": kind,
            "tenants": job.tenants,
            "databases": [{"tenant": tenant, "name": name} for tenant, name in job.homes],
            "collections": writer.entries,
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (directory / MANIFEST).write_text(text, encoding="utf-8")

    return _run(source, target, copy, **options)
