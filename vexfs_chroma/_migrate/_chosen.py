"""What a caller chose of a source, and where it is to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError, NotFoundError

from vexfs_chroma._places import is_inside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path


def check_chosen(
    source: str | Path, what: str, wanted: Collection[str] | None, found: Iterable[str]
) -> None:
    """Raise NotFoundError for a name that was chosen and is not there."""
    for name in sorted(set(wanted or ()).difference(found)):
        raise NotFoundError(f"{source} has no {what} {name!r}; nothing was copied")


def check_outside(source: Path, target: Path) -> None:
    """Raise InvalidArgumentError for a target in the source itself."""
    if is_inside(target, source):
        raise InvalidArgumentError(
            f"{target} is in the directory that is copied; give another one to copy into"
        )
