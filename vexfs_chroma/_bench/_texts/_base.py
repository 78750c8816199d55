"""What the benchmark of full text and hybrid search asks of a library."""

from __future__ import annotations

import abc
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vexfs_chroma._bench._sparse import Sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEXT, DENSE, SPARSE, HYBRID = "BM25", "dense", "sparse", "hybrid"
K1, B, RRF_K = 1.2, 0.75, 60
M, EF_CONSTRUCTION, EF_SEARCH = 16, 100, 100
BATCH = 5000
RESULTS = 10


@dataclass(slots=True)
class Given:
    """What is indexed; rows are known by their numbers.  None: this is not asked for."""

    documents: list[str]
    vectors: NDArray[np.float32] | None = None  # unit vectors, for cosine
    sparse: list[Sparse] | None = None


@dataclass(slots=True)
class Asked:
    """A query in all its forms."""

    text: str
    vector: NDArray[np.float32] | None = None
    sparse: Sparse | None = None


class TextIndex(abc.ABC):
    """One library, used by one thread.

    `add`, `finish` and `search` are timed, and do what a user of the library would.  Hybrid search
    is reciprocal rank fusion of the first rows of dense and of text, with equal weights.
    """

    distribution: ClassVar[str] = ""  # on the package index; "": with Python
    note: ClassVar[str] = ""  # how it is set up, and when an add is acknowledged
    modes: ClassVar[Sequence[str]] = (TEXT,)

    def __init__(self, folder: str, given: Given) -> None:
        self.folder = Path(folder)
        self.given = given

    @classmethod
    def version(cls) -> str:
        """Of the library."""
        return importlib.metadata.version(cls.distribution)

    @abc.abstractmethod
    def add(self) -> None:
        """Store everything, until the library says that it has it."""

    def finish(self) -> None:  # noqa: B027 - some have nothing left to do
        """Whatever else is needed before searches are as quick as they get."""

    def prepare(self, asked: Asked) -> Any:
        """A query as a user has it at hand; not timed."""
        return asked

    @abc.abstractmethod
    def search(self, mode: str, query: Any, limit: int) -> Any:
        """One query: the best `limit`; of HYBRID the best ten of what is fused of so many.

        The answer has the numbers that the rows were added with, and their scores.
        """

    def core(self, mode: str, query: Any, limit: int) -> Callable[[], object] | None:
        """A call of the compiled part of the library alone, for the same query.

        What it is asked is made before, and what it finds is not read.  None: that cannot be told
        apart.
        """
        return None

    @abc.abstractmethod
    def rows_of(self, answer: Any) -> Sequence[int]:
        """The numbers of the rows that `search` found, best first."""

    def bytes(self) -> int | None:
        """All that is on disk; None where nothing is."""
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return sum(file.stat().st_blocks * 512 for file in files)

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End the use of it."""
