"""Whether one place of the file system lies in another one, whatever the paths are called."""

from __future__ import annotations

import os
from pathlib import Path

from chromadb.errors import InvalidArgumentError


def is_inside(path: str | os.PathLike[str], directory: str | os.PathLike[str]) -> bool:
    """Whether `path`, which need not exist, is that directory or lies below it.

    A directory may have several paths: links, and where it is mounted a second time.
    """
    try:
        home = Path(directory).stat()
    except OSError:
        return False
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        try:
            found = place.stat()
        except OSError:
            continue
        if os.path.samestat(home, found):
            return True
    return False


def check_report(
    report: str | os.PathLike[str] | None, *directories: str | os.PathLike[str]
) -> None:
    """Raise InvalidArgumentError for a report that would be written into one of these."""
    for directory in directories:
        if report is not None and is_inside(report, directory):
            raise InvalidArgumentError(
                f"the report {report} would be written into {directory}, over whatever has that "
                "name there; choose another place"
            )
