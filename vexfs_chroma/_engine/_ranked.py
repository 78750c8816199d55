"""Ranked searches as the engine reads them (vexfs.h, "ranked search")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vexfs_chroma._engine import _wire
from vexfs_chroma._engine._vexfs import lib

if TYPE_CHECKING:
    from chromadb.base_types import SparseVector
    from numpy.typing import NDArray

R_ADD: int = lib.VEX_R_ADD
R_SUB: int = lib.VEX_R_SUB
R_MUL: int = lib.VEX_R_MUL
R_DIV: int = lib.VEX_R_DIV
R_MAX: int = lib.VEX_R_MAX
R_MIN: int = lib.VEX_R_MIN
R_ABS: int = lib.VEX_R_ABS
R_EXP: int = lib.VEX_R_EXP
R_LOG: int = lib.VEX_R_LOG

_OF_WORDS = frozenset({lib.VEX_R_TEXT, lib.VEX_R_SPARSE})
_FLOAT = np.dtype("<f4")

Step = list[Any]
"""One step of a rank expression, [operator, operand, ...]."""


class RankedSearch(msgspec.Struct, array_like=True):
    """One search; the fields are those of vexfs.h, in their order."""

    ids: list[str] | None
    filter: list[Any] | None
    program: list[Step] | None
    group: list[Any] | None
    offset: int
    limit: int
    include: int

    def weighs_words(self) -> bool:
        """Whether a score depends on how many records have a word, found or not."""
        return any(step[0] in _OF_WORDS for step in self.program or ())


def constant(value: float) -> Step:
    """The same number for every record, and no records."""
    return [lib.VEX_R_VAL, value]


def nearest(
    vector: NDArray[np.float32], limit: int, default: float | None, *, by_rank: bool
) -> Step:
    """The nearest records, with their distances."""
    return [lib.VEX_R_NEAREST, np.asarray(vector, _FLOAT).tobytes(), limit, default, by_rank]


def nearest_sparse(
    key: str, vector: SparseVector, limit: int, default: float | None, *, by_rank: bool, idf: bool
) -> Step:
    """The records whose sparse vectors under `key` are nearest, with 1 - dot product."""
    return [lib.VEX_R_SPARSE, key, _wire.sparse_as_ext(vector), idf, limit, default, by_rank]


def best_text(
    text: str, k1: float, b: float, limit: int, default: float | None, *, by_rank: bool
) -> Step:
    """The records whose documents match the words of the text best, with 1 - the BM25 score."""
    return [lib.VEX_R_TEXT, text, k1, b, limit, default, by_rank]


def group(by: list[str], order: list[str | None], k: int, *, highest: bool) -> list[Any]:
    """Of each group the k best; None in `order` is the score."""
    return [by, lib.VEX_GROUP_HIGHEST if highest else lib.VEX_GROUP_LOWEST, order, k]


def include(*, documents: bool, metadatas: bool, vectors: bool) -> int:
    """What results should hold."""
    mask: int = (
        documents * lib.VEX_INCLUDE_DOCUMENTS
        | metadatas * lib.VEX_INCLUDE_METADATAS
        | vectors * lib.VEX_INCLUDE_VECTORS
    )
    return mask
