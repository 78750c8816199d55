"""What an import or an export did, collection by collection."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from typing_extensions import Self

    Progress = Callable[["CollectionReport", int], None]
    """Called with a collection and how many of its records are done."""


@dataclass(slots=True)
class CollectionReport:
    """What became of one collection."""

    tenant: str
    database: str
    name: str
    rows: int = 0
    """Records in the source."""
    copied: int = 0
    """Records that were copied."""
    without_vector: int = 0
    """Records that were not, because their vector cannot be found anywhere."""
    refused: int = 0
    """Records that were not, for another reason; the report file tells it."""
    direction_only: int = 0
    """Records that were copied with a vector of length 1, as their own length is lost."""
    incomplete: int = 0
    """Records that were copied with a part of their metadata: the rest is damaged, or NaN, or
    infinite, or what the target cannot store."""
    counted: int | None = None
    """Records in the target after everything was written."""
    skipped: bool = False
    """It was there already, and was left alone."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing."""
    error: str | None = None
    """Why the collection could not be copied at all, or not to its end."""

    @property
    def lost(self) -> int:
        """How many records of the source are not in the target."""
        return 0 if self.skipped else self.rows - self.copied

    @property
    def ok(self) -> bool:
        """Whether everything is in the target, unchanged."""
        if self.skipped:
            return True
        counted = self.copied if self.counted is None else self.counted
        return (
            self.error is None
            and not self.lost
            and not self.direction_only
            and not self.incomplete
            and counted == self.copied
        )


@dataclass(slots=True)
class MigrationReport:
    """What an import or an export did."""

    source: str
    target: str
    dry_run: bool = False
    collections: list[CollectionReport] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    """Parts of the source that could not be read, and what that concerns."""

    @property
    def ok(self) -> bool:
        """Whether nothing was lost."""
        return not self.damage and all(collection.ok for collection in self.collections)

    @property
    def rows(self) -> int:
        """Records in the source."""
        return sum(collection.rows for collection in self.collections)

    @property
    def copied(self) -> int:
        """Records that were copied."""
        return sum(collection.copied for collection in self.collections)

    @property
    def lost(self) -> int:
        """Records of the source that are not in the target."""
        return sum(collection.lost for collection in self.collections)

    def to_json(self) -> str:
        """All of it as one JSON object."""
        collections = [
            asdict(collection) | {"lost": collection.lost, "ok": collection.ok}
            for collection in self.collections
        ]
        return json.dumps(
            {
                "ok": self.ok,
                **asdict(self),
                "rows": self.rows,
                "copied": self.copied,
                "lost": self.lost,
                "collections": collections,
            },
            indent=2,
        )


class ProblemFile:
    """A file with one JSON object per record that was not copied, or not exactly."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, collection: CollectionReport, id: str, problem: str, **content: Any) -> None:
        """Note one record, with whatever of it could be read."""
        if self._file is None:
            return
        line = {
            "tenant": collection.tenant,
            "database": collection.database,
            "collection": collection.name,
            "id": id,
            "problem": problem,
            **{name: value for name, value in content.items() if value is not None},
        }
        self._file.write(json.dumps(line, default=repr) + "\n")
