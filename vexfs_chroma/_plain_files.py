"""Telling files from what only has the name of one."""

from __future__ import annotations

import os
from pathlib import Path


def is_no_file(path: str | Path) -> bool:
    """Whether there is something that is no plain file: a directory, a pipe, a link to nothing."""
    return os.path.lexists(path) and not os.path.isfile(path)  # noqa: PTH113 - no ELOOP
