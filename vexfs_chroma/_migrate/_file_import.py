"""Copies the files of an export back into a vexfs database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb.errors import ChromaError, InvalidArgumentError

from vexfs_chroma._migrate._files import FORMATS, MANIFEST
from vexfs_chroma._migrate._report import CollectionReport, MigrationReport
from vexfs_chroma._migrate._sqlite import SourceError
from vexfs_chroma._migrate._target import CONFLICTS, Batch, ConflictError, Target, existing

if TYPE_CHECKING:
    from vexfs_chroma._migrate._files import FileFormat
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
            written, "skip" them, or "replace" them.
        batch: How many records to read and write at a time.
        progress: Called with the report of a collection and the records of it that are done.

    Raises SourceError when there is no finished export, ConflictError for "fail".
    """
    if on_conflict not in CONFLICTS:
        raise InvalidArgumentError(
            f"on_conflict must be one of {', '.join(CONFLICTS)}, got {on_conflict!r}"
        )
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
            if name in there:
                if on_conflict == "skip":
                    done.skipped = True
                    continue
                into.delete(*name)
            _copy(directory, format, entry, into, done, batch, progress)
    return report


def _copy(
    directory: Path,
    format: FileFormat,
    entry: dict[str, Any],
    into: Target,
    done: CollectionReport,
    batch: int,
    progress: Progress | None,
) -> None:
    """Copy one collection; an error concerns this one only."""
    try:
        into.make_database(done.tenant, done.database)
        id = into.create(
            done.tenant, done.database, done.name, entry["metadata"], None, entry["schema"]
        )
        for page in format.pages(directory / Path(entry["file"]).name, batch):
            records = Batch()
            for row in zip(
                page.ids, page.vectors, page.documents, page.uris, page.metadatas, strict=True
            ):
                records.append(*row)
            refused = list(into.write(id, records))
            done.refused += len(refused)
            done.notes += [f"{single.ids[0]}: {reason}" for single, reason in refused]
            done.copied += len(page.ids) - len(refused)
            if progress is not None:
                progress(done, done.copied)
        done.counted = into.count(id)
    except (ChromaError, OSError, ValueError, KeyError, TypeError) as error:
        done.error = f"{entry['file']}: {error}"


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
