"""What the engine benchmark asks of a library."""

from __future__ import annotations

import abc
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Matrix = NDArray[np.float32]
"""Rows of float32, or one of them."""

M = 16
EF_CONSTRUCTION = 100
EFS = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800)


class SkippedError(Exception):
    """This library cannot be measured here; the text tells why."""


@dataclass(slots=True, frozen=True)
class Setup:
    """What every index is built with."""

    space: str  # "l2" or "cosine"
    dimension: int
    rows: int
    folder: str  # an empty directory of its own
    m: int = M
    ef_construction: int = EF_CONSTRUCTION

    def path(self, name: str) -> str:
        """A file or directory of the index."""
        return str(Path(self.folder) / name)


class Index(abc.ABC):
    """One library in one configuration, used by one thread.

    `build` and `search` are timed, and do what a user of the library would: they are given arrays
    of float32 and convert them where the library takes something else.  Whatever else is needed is
    done in `prepare` and `rows_of`, which are not timed.
    """

    distribution: ClassVar[str]  # on the package index
    note: ClassVar[str] = ""  # how it is set up, for the report
    knob: ClassVar[str] = "ef"  # what is varied for more recall or more speed
    knobs: ClassVar[Sequence[int]] = ()  # its values; (): as for everyone else

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @classmethod
    def version(cls) -> str:
        """Of the library."""
        return importlib.metadata.version(cls.distribution)

    @abc.abstractmethod
    def build(self, vectors: Matrix) -> None:
        """Index all rows; a row is known by its number."""

    @abc.abstractmethod
    def set_knob(self, value: int) -> None:
        """Search with this much effort from now on."""

    def prepare(self, query: Matrix) -> Any:
        """The vector of a query as an array in the shape that `search` wants: here, one row."""
        return query.reshape(1, -1)

    @abc.abstractmethod
    def search(self, query: Any, k: int) -> Any:
        """One query."""

    @abc.abstractmethod
    def rows_of(self, answer: Any) -> Sequence[int]:
        """The numbers of the rows that `search` found, nearest first."""

    def bytes(self) -> int | None:
        """The size of the index with its vectors on disk; None where it cannot be told."""
        return None

    def extra(self, queries: Matrix, k: int) -> dict[str, float]:
        """Further figures for the knob that is set, by name."""
        return {}

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End the use of it."""


def size_of(path: str) -> int:
    """The bytes of a file, or of all files of a directory."""
    place = Path(path)
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files)
