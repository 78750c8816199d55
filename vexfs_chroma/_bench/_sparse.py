"""Sparse vectors of texts, as ChromaBm25EmbeddingFunction makes them, for any of its settings; and
which of them are nearest.

The words are those of Chroma's own tokenizer.  They are counted once, and each is stemmed once:
the function does both again for every text, which takes minutes for a hundred thousand.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chromadb.base_types import SparseVector
    from numpy.typing import NDArray

K, B, AVG_DOC_LENGTH = 1.2, 0.75, 256.0
"""How ChromaBm25EmbeddingFunction comes."""

Sparse = tuple[list[int], list[float]]
"""Indices, ascending, and their values."""

_TOKEN_MAX_LENGTH = 40
_ROUNDING = 1e-5  # of dot products in single precision


class Counts:
    """How often each index is in each text."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises ValueError without the package snowballstemmer, as the function does."""
        from chromadb.utils.embedding_functions.schemas.bm25_tokenizer import (
            DEFAULT_CHROMA_BM25_STOPWORDS,
            Bm25Tokenizer,
            Murmur3AbsHasher,
            get_english_stemmer,
        )

        stemmer = _Remembered(get_english_stemmer().stem)
        tokenizer = Bm25Tokenizer(stemmer, DEFAULT_CHROMA_BM25_STOPWORDS, _TOKEN_MAX_LENGTH)
        index_of = functools.cache(Murmur3AbsHasher().hash)
        self._texts: list[tuple[list[int], list[int]]] = []
        for text in texts:
            counted = sorted(Counter(map(index_of, tokenizer.tokenize(text))).items())
            self._texts.append(([index for index, _ in counted], [count for _, count in counted]))
        self.mean_length = float(np.mean([sum(counts) for _, counts in self._texts]))

    def vectors(
        self, avg_doc_length: float = AVG_DOC_LENGTH, k: float = K, b: float = B
    ) -> list[SparseVector]:
        """What the function makes of the texts with these settings."""
        from chromadb.base_types import SparseVector

        made = []
        for indices, counts in self._texts:
            held_back = k * (1 - b + b * sum(counts) / avg_doc_length)
            values = [count * (k + 1) / (count + held_back) for count in counts]
            made.append(SparseVector(indices, values))
        return made


class _Remembered:
    """A stemmer that stems each word once."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        self.stem = functools.cache(stem)


class Exact:
    """What queries should find: the rows with the largest dot products, all of them read."""

    def __init__(self, stored: Sequence[Sparse], queries: Sequence[Sparse]) -> None:
        rows = np.repeat(np.arange(len(stored)), [len(indices) for indices, _ in stored])
        indices = np.array([index for indices, _ in stored for index in indices], np.int64)
        order = np.argsort(indices, kind="stable")
        self._rows, self._indices = rows[order], indices[order]
        self._values = np.array([value for _, values in stored for value in values])[order]
        self._scores = [self._dots(len(stored), query) for query in queries]

    def _dots(self, n: int, query: Sparse) -> NDArray[np.float64]:
        dots = np.zeros(n)
        for index, value in zip(*query, strict=True):
            start, end = np.searchsorted(self._indices, [index, index + 1])
            dots[self._rows[start:end]] += value * self._values[start:end]
        return dots

    def keep(self, least: int) -> list[int]:
        """Go on with the queries that have `least` rows above 0; tells which these are."""
        kept = [i for i, scores in enumerate(self._scores) if (scores > 0).sum() >= least]
        self._scores = [self._scores[i] for i in kept]
        return kept

    def recall(self, limit: int, found: Sequence[Sequence[int]]) -> float:
        """The mean share of the best `limit` rows above 0 that was found; equal ones count."""
        shares = []
        for scores, rows in zip(self._scores, found, strict=False):
            best = np.sort(scores[scores > 0])[-limit:]
            good = scores[list(rows)] >= best[0] * (1 - _ROUNDING)
            shares.append(min(int(good.sum()), len(best)) / len(best))
        return float(np.mean(shares))
