"""What a caller chose of a source, and where it is to go."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError, NotFoundError

from vexfs_chroma._places import is_inside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_chosen(
    source: str | Path, what: str, wanted: Collection[str] | None, found: Iterable[str]
) -> None:
    """Raise NotFoundError for a name that was chosen and is not there."""
    for name in sorted(set(wanted or ()).difference(found)):
        raise NotFoundError(f"{source} has no {what} {name!r}; nothing was copied")


def check_names(**given: object) -> None:
    """Raise InvalidArgumentError for an argument that is no list of names; None: all."""
    for argument, names in given.items():
        if names is None:
            continue
        if (
            not isinstance(names, Collection)
            or isinstance(names, str | bytes)
            or not all(isinstance(name, str) for name in names)
        ):
            raise InvalidArgumentError(f"{argument} must be a list of names, got {names!r}")


def check_batch(batch: object) -> None:
    """Raise InvalidArgumentError for what is no number of records."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InvalidArgumentError(f"batch must be an int of at least 1, got {batch!r}")


def check_outside(source: Path, target: Path) -> None:
    """Raise InvalidArgumentError for a target in the source itself."""
    if is_inside(target, source):
        raise InvalidArgumentError(
            f"{target} is in the directory that is copied; give another one to copy into"
        )
