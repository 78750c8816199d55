"""Sparse vectors of texts, as ChromaBm25EmbeddingFunction makes them, for any of its settings.

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

K, B, AVG_DOC_LENGTH = 1.2, 0.75, 256.0
"""How ChromaBm25EmbeddingFunction comes."""

_TOKEN_MAX_LENGTH = 40


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
