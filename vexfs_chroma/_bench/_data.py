"""Rows to measure with: real ones where VEXFS_DATA names them, else generated."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 20261121
WORDNET = "wordnet-minilm-384-cosine"


@dataclass(slots=True)
class Rows:
    """Records, and queries that are none of them."""

    name: str
    ids: list[str]
    vectors: NDArray[np.float32]
    documents: list[str]
    metadatas: list[dict[str, Any]]
    queries: NDArray[np.float32]


def load(n: int) -> Rows:
    """The first `n` rows of WordNet under VEXFS_DATA, or generated ones like them."""
    folder = os.environ.get("VEXFS_DATA")
    return _wordnet(Path(folder), n) if folder else generate(n)


def _wordnet(folder: Path, n: int) -> Rows:
    spec = importlib.util.spec_from_file_location("vexfs_data_load", folder / "load.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"VEXFS_DATA={folder} has no load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    base, queries, _, _, texts, metadatas = module.load(WORDNET)
    n = min(n, len(base))
    return Rows(
        name="WordNet glosses, all-MiniLM-L6-v2, 384 dimensions",
        ids=[f"synset-{i}" for i in range(n)],
        vectors=np.ascontiguousarray(base[:n], dtype=np.float32),
        documents=texts[:n],
        metadatas=metadatas[:n],
        queries=np.ascontiguousarray(queries, dtype=np.float32),
    )


def generate(n: int, dimension: int = 384) -> Rows:
    """Clustered unit vectors and short texts from numpy's default generator (SEED)."""
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((256, dimension))
    raw = centres[random.integers(0, 256, n + 1000)] + random.standard_normal((n + 1000, dimension))
    unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    words = np.array([f"word{i}" for i in range(5000)])
    texts = [" ".join(words[random.zipf(1.3, 12) % 5000]) for _ in range(n)]
    return Rows(
        name=f"generated, {dimension} dimensions, seed {SEED}",
        ids=[f"row-{i}" for i in range(n)],
        vectors=unit[:n],
        documents=texts,
        metadatas=[{"group": i % 10, "even": i % 2 == 0, "tag": f"t{i % 97}"} for i in range(n)],
        queries=unit[n:],
    )
