"""Copies the files of an export back into a vexfs database."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb.errors import ChromaError, InvalidArgumentError

from vexfs_chroma._migrate._chosen import check_batch
from vexfs_chroma._migrate._files import FORMATS, MANIFEST
from vexfs_chroma._migrate._report import CollectionReport, MigrationReport
from vexfs_chroma._migrate._sqlite import SourceError
from vexfs_chroma._migrate._target import (
    CONFLICTS,
    TARGET_FAILS,
    Batch,
    ConflictError,
    Target,
    existing,
    unfinished,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from vexfs_chroma._migrate._files import FileFormat
    from vexfs_chroma._migrate._pages import Page
    from vexfs_chroma._migrate._report import Progress

BATCH = 1000
_NAMES = ("tenant", "database", "name", "file")


def import_files(
    source: str | Path,
    target: str | Path,
    *,
    on_conflict: str = "fail",
    batch: int = BATCH,
    progress: Progress | None = None,
) -> MigrationReport:
    """Copy what export_jsonl, export_npz or export_parquet wrote into the vexfs database `target`.

    Args:
        source: The directory of the export, the one with manifest.json.
        target: The directory of the vexfs database; made if it does not exist.
        on_conflict: What to do about collections that are in the target: "fail" before anything is
            written, "skip" them, or "replace" them, each when its successor is whole.  An import
            that was interrupted goes on with "skip".
        batch: How many records to read and write at a time.
        progress: Called with the report of a collection and the records of it that are done.

    Raises SourceError when there is no finished export, ConflictError for "fail".
    """
    if on_conflict not in CONFLICTS:
        raise InvalidArgumentError(
            f"on_conflict must be one of {', '.join(CONFLICTS)}, got {on_conflict!r}"
        )
    check_batch(batch)
    directory = Path(source)
    manifest = _read_manifest(directory)
    format = FORMATS[manifest["kind"]]()
    report = MigrationReport(str(source), str(target))
    with Target(target) as into:
        entries = manifest["collections"]
        wanted = [(e["tenant"], e["database"], e["name"]) for e in entries]
        there = set(existing(into, wanted))
        if there and on_conflict == "fail":
            names = ", ".join("/".join(name) for name in sorted(there)[:5])
            raise ConflictError(
                f"the target has collections of these names: {names}; nothing was changed"
            )
        for home in manifest["databases"]:
            into.make_database(home["tenant"], home["name"])
        for entry, name in zip(entries, wanted, strict=True):
            done = CollectionReport(*name, rows=entry["rows"])
            report.collections.append(done)
            if name in there and on_conflict == "skip":
                done.skipped = True
                continue
            job = _Copy(into, done, batch, progress, replaces=name in there)
            job.run(format, directory / Path(entry["file"]).name, entry)
    return report


class _Copy:
    """The copying of one collection."""

    def __init__(
        self,
        into: Target,
        done: CollectionReport,
        batch: int,
        progress: Progress | None,
        *,
        replaces: bool,
    ) -> None:
        self._into, self._done, self._batch, self._progress = into, done, batch, progress
        self._replaces = replaces
        self._home = (done.tenant, done.database, done.name)

    def run(self, format: FileFormat, path: Path, entry: dict[str, Any]) -> None:
        """Copy it; an error in its file concerns this one only."""
        try:
            self._into.check_name(self._done.name)
            self._into.make_database(*self._home[:2])
            id = self._into.create(*self._home, entry["metadata"], None, entry["schema"])
            self._fill(id, format.pages(path, self._batch))
            self._done.counted = self._into.count(id)
            self._into.finish(id, self._home, replaces=self._replaces)
        except TARGET_FAILS:
            self._abandon()
            raise
        except (ChromaError, OSError, ValueError, KeyError, TypeError) as error:
            self._done.error = f"{path.name}: {error}"
            self._leave()
        except BaseException:
            self._abandon()
            raise

    def _fill(self, id: UUID, pages: Iterator[Page]) -> None:
        for page in pages:
            records = Batch()
            for row in zip(
                page.ids, page.vectors, page.documents, page.uris, page.metadatas, strict=True
            ):
                records.append(*row)
            refused = list(self._into.write(id, records))
            self._done.refused += len(refused)
            self._done.notes += [f"{single.ids[0]}: {reason}" for single, reason in refused]
            self._done.copied += len(page.ids) - len(refused)
            if self._progress is not None:
                self._progress(self._done, self._done.copied)

    def _leave(self) -> None:
        """What could be read of a damaged file is for the user to judge, and has another name."""
        if self._done.copied == 0:
            self._abandon()
            return
        self._done.notes.append(
            f"the {self._done.copied} records before the error are in the collection "
            f"{unfinished(self._done.name)}"
        )
        self._done.copied, self._done.counted = 0, None

    def _abandon(self) -> None:
        with contextlib.suppress(ChromaError):  # else the next attempt does it
            self._into.abandon(*self._home)


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["format"] == "vexfs-export" and manifest["version"] == 1
        for entry in manifest["collections"]:
            known = known and all(isinstance(entry[name], str) for name in _NAMES)
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror}; an export without it did not finish, or this is none"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is no manifest of an export: {error}") from error
    if not known or manifest.get("kind") not in FORMATS:
        raise SourceError(f"{path} is of another program or of a later release")
    found: dict[str, Any] = manifest
    return found
