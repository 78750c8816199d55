"""An embedding function that needs no model file: TF-IDF reduced by SVD.

A text becomes the words and word pairs in it, and the character 3- to 5-grams, so that
"serialise" still resembles "serialization".  Both are hashed, weighted by how rare they are in
the corpus (TF-IDF) and projected on the corpus' main directions (truncated SVD, also called
latent semantic analysis).  Fitting ten thousand paragraphs takes seconds.

What was fitted is two arrays.  They are stored in one .npz file next to the database, and the
collection's configuration remembers the file: opening the collection again brings the same
vector space back, without naming the embedding function.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

from vexfs_chroma import Documents, EmbeddingFunction, Embeddings
from vexfs_chroma.utils.embedding_functions import register_embedding_function

BUCKETS = 2**14

HASHING: dict[str, Any] = {"n_features": BUCKETS, "norm": None, "alternate_sign": False}
WORDS = HashingVectorizer(ngram_range=(1, 2), stop_words="english", **HASHING)
PIECES = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **HASHING)


def term_counts(texts: Documents) -> Any:
    """Sparse matrix, a row per text: counts of word n-grams, then of character n-grams."""
    return hstack([WORDS.transform(texts), PIECES.transform(texts)], format="csr")


def term_weights(counts: Any, idf: np.ndarray) -> Any:
    """Rare terms count more, repeated terms less than proportionally; rows of length 1."""
    counts.data = np.log1p(counts.data)
    return normalize(counts.multiply(idf).tocsr())


@register_embedding_function
class TextEmbedding(EmbeddingFunction[Documents]):
    """`fit()` it to a corpus once, then `TextEmbedding(file)` embeds anything."""

    def __init__(self, file: str | Path) -> None:
        self.file = str(file)
        with np.load(file) as arrays:
            self.idf, self.directions = arrays["idf"], arrays["directions"]

    @classmethod
    def fit(cls, texts: Documents, file: str | Path, dimensions: int = 256) -> TextEmbedding:
        counts = term_counts(texts)
        idf = TfidfTransformer().fit(counts).idf_
        svd = TruncatedSVD(min(dimensions, len(texts) - 1), n_iter=3, random_state=0)
        svd.fit(term_weights(counts, idf))
        file = Path(file).resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, idf=idf, directions=svd.components_.T.astype(np.float32))
        return cls(file)

    def __call__(self, input: Documents) -> Embeddings:
        weights = term_weights(term_counts(input), self.idf)
        return list(normalize(weights @ self.directions).astype(np.float32))

    @staticmethod
    def name() -> str:
        return "tfidf_svd"

    def default_space(self) -> str:
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        return {"file": self.file}

    @staticmethod
    @lru_cache(maxsize=4)
    def _load(file: str) -> TextEmbedding:
        return TextEmbedding(file)

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> TextEmbedding:
        return TextEmbedding._load(config["file"])
