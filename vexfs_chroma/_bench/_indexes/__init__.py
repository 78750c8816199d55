"""The libraries that the engine benchmark compares, each behind the same few methods."""

from __future__ import annotations

import importlib

from vexfs_chroma._bench._indexes._base import EF_CONSTRUCTION, EFS, Index, M, Setup, SkippedError

__all__ = [
    "EFS",
    "EF_CONSTRUCTION",
    "INDEXES",
    "OURS",
    "SLOW",
    "Index",
    "M",
    "Setup",
    "SkippedError",
    "find",
]

OURS = "vexfs_chroma"
_GRAPHS = "vexfs_chroma._bench._indexes._graphs"
_DATABASES = "vexfs_chroma._bench._indexes._databases"

INDEXES: dict[str, str] = {
    OURS: "vexfs_chroma._bench._indexes._ours:Vexfs",
    "hnswlib": f"{_GRAPHS}:Hnswlib",
    "faiss-hnsw": f"{_GRAPHS}:FaissFlat",
    "faiss-hnsw-sq8": f"{_GRAPHS}:FaissSq8",
    "usearch-f32": f"{_GRAPHS}:Usearch",
    "usearch-i8": f"{_GRAPHS}:UsearchI8",
    "svs-vamana": f"{_GRAPHS}:Svs",
    "svs-vamana-lvq": f"{_GRAPHS}:SvsLvq",
    "vsag-hnsw": f"{_GRAPHS}:VsagHnsw",
    "vsag-hgraph-sq8": f"{_GRAPHS}:VsagHgraph",
    "scann": f"{_GRAPHS}:Scann",
    "zvec": f"{_DATABASES}:Zvec",
    "zvec-int8": f"{_DATABASES}:ZvecInt8",
    "qdrant-edge": f"{_DATABASES}:Qdrant",
    "qdrant-edge-int8": f"{_DATABASES}:QdrantInt8",
    "lancedb": f"{_DATABASES}:Lancedb",
    "vectorlite": f"{_DATABASES}:Vectorlite",
    "milvus-lite": f"{_DATABASES}:MilvusLite",
    "sqlite-vec": f"{_DATABASES}:SqliteVec",
    "exact": f"{_GRAPHS}:Exact",
}
"""Module and class of each; they are imported where they are measured."""

SLOW = frozenset({"lancedb", "milvus-lite", "sqlite-vec", "exact"})
"""These take a millisecond and more for a query: fewer are made."""


def find(place: str) -> type[Index]:
    """The class at "module:class"."""
    module, _, name = place.partition(":")
    found: type[Index] = getattr(importlib.import_module(module), name)
    return found
