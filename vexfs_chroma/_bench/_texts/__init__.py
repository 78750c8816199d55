"""The libraries that `vexctl bench text` compares, each behind the same few methods."""

from __future__ import annotations

from vexfs_chroma._bench._texts._base import (
    DENSE,
    HYBRID,
    SPARSE,
    TEXT,
    Asked,
    Given,
    TextIndex,
)

__all__ = ["DENSE", "HYBRID", "LIBRARIES", "OURS", "SLOW", "SPARSE", "TEXT", "Asked", "Given",
           "TextIndex"]  # fmt: skip

OURS = "vexfs_chroma"
_WORDS = "vexfs_chroma._bench._texts._words"
_DATABASES = "vexfs_chroma._bench._texts._databases"

LIBRARIES: dict[str, str] = {
    OURS: "vexfs_chroma._bench._texts._ours:Vexfs",
    "tantivy": f"{_WORDS}:Tantivy",
    "bm25s": f"{_WORDS}:Bm25s",
    "sqlite-fts5": f"{_WORDS}:Fts5",
    "lancedb": f"{_DATABASES}:Lancedb",
    "zvec": f"{_DATABASES}:Zvec",
    "qdrant-edge": f"{_DATABASES}:Qdrant",
    "vsag": "vexfs_chroma._bench._texts._inverted:Vsag",
}
"""Module and class of each; they are imported where they are measured."""

SLOW = frozenset({"bm25s", "sqlite-fts5", "lancedb"})
"""These take several milliseconds for a query: fewer are made."""
