"""Vectors to search: sets of VEXFS_DATA, or generated ones; what the nearest rows are, and how many
of them somebody found.

Recall is by distance: a row that was found counts when it is not farther than the k-th nearest, so
that of equally near rows any will do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _data
from vexfs_chroma._bench._indexes._base import Matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SETS = {
    "wordnet": ("wordnet-minilm-384-cosine", "cosine"),
    "fashion": ("fashion-mnist-784-euclidean", "l2"),
    "sift": ("sift-photo-200k-128-euclidean", "l2"),
}
GENERATED = "generated"
CLUSTERS = 1000
_DECAY = 0.6  # the i-th direction has a spread of 1 / (1 + i) ** _DECAY
_NOISE = 0.7  # of a row about its centre, relative to the spread of the centres
CHUNK = 50_000
_QUERIES_SEED = 1_000_000
_BLOCK_BYTES = 1 << 28
_SPARE = 40  # candidates beyond k of which exact distances are computed


@dataclass(slots=True)
class Vectors:
    """Rows to index and queries that are none of them, in files."""

    name: str
    space: str
    folder: Path
    rows: int
    dimension: int

    def base(self) -> Matrix:
        """All rows, in memory."""
        found: Matrix = np.load(self.folder / "base.npy")
        return found

    def mapped(self) -> Matrix:
        """All rows, read when they are looked at."""
        found: Matrix = np.load(self.folder / "base.npy", mmap_mode="r")
        return found

    def queries(self) -> Matrix:
        """All queries."""
        found: Matrix = np.load(self.folder / "queries.npy")
        return found

    def farthest(self) -> NDArray[np.float64]:
        """The distance of the k-th nearest row of every query."""
        found: NDArray[np.float64] = np.load(self.folder / "farthest.npy")
        return found


def available() -> list[str]:
    """The names of the sets that can be loaded."""
    return [*SETS, GENERATED] if os.environ.get("VEXFS_DATA") else [GENERATED]


def prepare(
    name: str,
    folder: Path,
    *,
    rows: int | None = None,
    dimension: int = 384,
    space: str = "cosine",
    n_queries: int = 1000,
    k: int = 10,
) -> Vectors:
    """Write a set into `folder`: at most `rows` rows, all of them when None; and its truth.

    `dimension` and `space` are for generated ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name == GENERATED:
        found = _generated(folder, rows or 50_000, dimension, space, n_queries)
    else:
        found = _stored(name, folder, rows, n_queries)
    queries = found.queries()
    np.save(folder / "farthest.npy", farthest(found.mapped(), queries, found.space, k))
    return found


def _stored(name: str, folder: Path, rows: int | None, n_queries: int) -> Vectors:
    where = os.environ.get("VEXFS_DATA")
    if not where:
        raise ValueError(f"the data set {name!r} needs VEXFS_DATA, the directory of data sets")
    module = _data.loader(Path(where))
    full, space = SETS[name]
    base, queries, *_ = module.load(full, as_float32=True, with_metadata=False)
    base = np.ascontiguousarray(base[:rows], dtype=np.float32)
    np.save(folder / "base.npy", base)
    np.save(folder / "queries.npy", np.ascontiguousarray(queries[:n_queries], dtype=np.float32))
    return Vectors(f"{name}-{base.shape[1]}", space, folder, *base.shape)


def _generated(folder: Path, rows: int, dimension: int, space: str, n_queries: int) -> Vectors:
    base = np.lib.format.open_memmap(
        folder / "base.npy", mode="w+", dtype=np.float32, shape=(rows, dimension)
    )
    make = Generator(dimension)
    for number, at in enumerate(range(0, rows, CHUNK)):
        end = min(at + CHUNK, rows)
        base[at:end] = make.rows(end - at, number)
    base.flush()
    np.save(folder / "queries.npy", make.rows(n_queries, _QUERIES_SEED))
    name = f"generated-{dimension}"
    return Vectors(name, space, folder, rows, dimension)


class Generator:
    """Clustered, anisotropic unit vectors: the same for the same dimension, on every machine.

    Rows lie about CLUSTERS centres of unequal weight; the spread of both falls from direction to
    direction as it does in the embeddings of text, and the directions are turned at random.
    """

    def __init__(self, dimension: int) -> None:
        random = np.random.default_rng([_data.SEED, dimension])
        turned, _ = np.linalg.qr(random.standard_normal((dimension, dimension)))
        spread = (1 + np.arange(dimension)) ** -_DECAY
        self._turn = (spread[:, None] * turned).astype(np.float32)
        self._centres = random.standard_normal((CLUSTERS, dimension)).astype(np.float32)
        weights = random.pareto(2.0, CLUSTERS) + 0.1
        self._shares = weights / weights.sum()
        self._dimension = dimension

    def rows(self, n: int, chunk: int) -> Matrix:
        """The first `n` rows of a chunk."""
        random = np.random.default_rng([_data.SEED, self._dimension, chunk])
        of = random.choice(CLUSTERS, n, p=self._shares)
        raw = random.standard_normal((n, self._dimension), dtype=np.float32) * np.float32(_NOISE)
        raw += self._centres[of]
        out: Matrix = raw @ self._turn
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out


# ---- truth ---------------------------------------------------------------------------------------


def distances(base: Matrix, rows: NDArray[Any], queries: Matrix, space: str) -> NDArray[np.float64]:
    """Of every query (n, d) to rows of its own (n, k), in float64."""
    near, wide = base[rows].astype(np.float64), queries.astype(np.float64)[:, None, :]
    if space == "l2":
        squares: NDArray[np.float64] = ((near - wide) ** 2).sum(axis=2)
        return squares
    products = (near * wide).sum(axis=2)
    lengths = np.linalg.norm(near, axis=2) * np.linalg.norm(wide, axis=2)
    cosines: NDArray[np.float64] = 1 - products / np.maximum(lengths, 1e-30)
    return cosines


def farthest(base: Matrix, queries: Matrix, space: str, k: int) -> NDArray[np.float64]:
    """The distance of the k-th nearest row of every query; of the farthest if there are fewer."""
    kth: NDArray[np.float64] = nearest_distances(base, queries, space, k)[:, -1]
    return kth


def nearest_distances(base: Matrix, queries: Matrix, space: str, k: int) -> NDArray[np.float64]:
    """The distances of the k nearest rows of every query (of all, if there are fewer), ascending.

    Candidates are found in float32, k and some more of them; their distances are float64.
    """
    n, k = len(base), min(k, len(base))
    wanted = min(k + _SPARE, n)
    best = np.full((len(queries), 0), np.inf, dtype=np.float32)
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    step = max(1, _BLOCK_BYTES // (4 * len(queries)))
    for at in range(0, n, step):
        block = np.asarray(base[at : at + step])
        near = _float32_distances(block, queries, space)
        keep = min(wanted, len(block))
        chosen = np.argpartition(near, keep - 1, axis=1)[:, :keep]
        best = np.concatenate([best, np.take_along_axis(near, chosen, axis=1)], axis=1)
        rows = np.concatenate([rows, chosen + at], axis=1)
        keep = min(wanted, best.shape[1])
        kept = np.argpartition(best, keep - 1, axis=1)[:, :keep]
        best = np.take_along_axis(best, kept, axis=1)
        rows = np.take_along_axis(rows, kept, axis=1)
    exact = np.concatenate(
        [
            distances(base, rows[at : at + 100], queries[at : at + 100], space)
            for at in range(0, len(queries), 100)
        ]
    )
    nearest: NDArray[np.float64] = np.sort(exact, axis=1)[:, :k]
    return nearest


def _float32_distances(block: Matrix, queries: Matrix, space: str) -> Matrix:
    """What orders the rows of a block as their distance from each query does."""
    products: Matrix = queries @ block.T
    if space == "l2":
        products *= -2
        products += np.einsum("ij,ij->i", block, block)[None, :]
    else:
        products /= -np.maximum(np.linalg.norm(block, axis=1), 1e-30)[None, :]
    return products


def recall(
    vectors: Vectors, base: Matrix, queries: Matrix, found: Sequence[Sequence[int]], k: int
) -> float:
    """The mean share of the k nearest rows that were found, for the first queries."""
    kth = vectors.farthest()[: len(found)]
    wanted = min(k, vectors.rows)
    table = np.full((len(found), wanted), -1, dtype=np.int64)
    for line, rows in zip(table, found, strict=True):
        unique = list(dict.fromkeys(rows))[:wanted]
        line[: len(unique)] = unique
    near = distances(base, np.maximum(table, 0), queries[: len(found)], vectors.space)
    tolerance = 1e-6 * np.maximum(kth, 1.0)
    hits = (near <= (kth + tolerance)[:, None]) & (table >= 0)
    return float(hits.mean())
