"""What a check found, and what a repair did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from typing import TextIO

    Progress = Callable[[str, int, int], None]
    """Called with what is being worked on, how much of it is done, and how much there is."""

REPAIR = "vexctl repair keeps what can be read; or restore the database from a backup"


@dataclass(slots=True, frozen=True)
class Finding:
    """Something that a check found."""

    severity: Literal["damage", "notice"]
    """"damage": stored bytes are wrong or missing.  "notice": worth knowing, and no harm."""
    file: str
    offset: int
    """Where in the file; 0 when it is about the whole."""
    what: str
    """What is wrong."""
    advice: str
    """What to do; empty when nothing is to be done."""
    collection: str | None = None
    """Name of the collection, or its uuid when it has none; None: the whole database."""


@dataclass(slots=True)
class CheckReport:
    """What a check looked at, and what it found."""

    path: str
    deep: bool
    findings: list[Finding] = field(default_factory=list)
    collections: int = 0
    files: int = 0
    bytes: int = 0
    """Bytes that were read."""
    rows: int = 0
    """Living records, of the collections that are not damaged."""

    @property
    def damage(self) -> list[Finding]:
        """The findings that are damage."""
        return [finding for finding in self.findings if finding.severity == "damage"]

    @property
    def notices(self) -> list[Finding]:
        """The findings that are not."""
        return [finding for finding in self.findings if finding.severity == "notice"]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damage

    def to_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False)


@dataclass(slots=True, frozen=True)
class Loss:
    """Something that a repair could not read."""

    collection: str
    """Its name; empty where it is not known which."""
    collection_id: uuid.UUID
    """... and then that of the database."""
    what: str
    """"record"; "document", "metadata" or "uri" of a record that is kept; "batch" of a log;
    "deletion": deleted records may be back; "name" of the collection; "collection".
    """
    id: str | None
    """Of the record; None: not known."""
    count: int
    """How many; 0: not known."""
    file: str
    """Where it was, before the repair."""
    offset: int
    why: str


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or would do."""

    path: str
    dry_run: bool
    before: CheckReport
    after: CheckReport | None = None
    """A deep check of the result; None when nothing was changed."""
    repaired: list[str] = field(default_factory=list)
    """What was made anew: collections by name, and files.  A "transaction" was given up."""
    kept: int = 0
    """Records of the repaired collections that are still there."""
    losses: list[Loss] = field(default_factory=list)
    """The first 10,000; all of them are in the report file."""
    lost: dict[str, int] = field(default_factory=dict)
    """How much was lost, by what it is; one where nobody knows how many."""
    quarantine: str | None = None
    """Where the damaged files are now."""

    @property
    def changed(self) -> bool:
        """Whether something had to be repaired."""
        return bool(self.repaired)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and the database is sound."""
        return not self.lost and (self.after or self.before).ok

    def to_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False, default=str)


class LossLog:
    """Takes losses down: into a report, and as JSON lines into a file."""

    MOST = 10_000

    def __init__(self, report: RepairReport, lines: TextIO | None) -> None:
        self._report = report
        self._lines = lines

    def add(self, loss: Loss) -> None:
        """One more."""
        report = self._report
        report.lost[loss.what] = report.lost.get(loss.what, 0) + max(1, loss.count)
        if len(report.losses) < self.MOST:
            report.losses.append(loss)
        if self._lines is not None:
            line = {**asdict(loss), "collection_id": str(loss.collection_id)}
            self._lines.write(json.dumps(line, ensure_ascii=False) + "\n")
