"""Rows to measure with: real ones where VEXFS_DATA names them, else generated; and the files by
which the parent hands them to its children, batch by batch, so that no child holds them all.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

SEED = 20261121
WORDNET = "wordnet-minilm-384-cosine"
BATCH = 5000  # chromadb refuses more than 5461 records at once
_WORDNET_FILTERS = (
    "lexfile_eq_rare",
    "lexfile_eq_narrow",
    "lexfile_in_set",
    "pos_eq_verb",
    "n_lemmas_eq_1",
)


@dataclass(slots=True)
class Filter:
    """A filter of queries, and the share of the rows that it leaves (known to the parent)."""

    name: str
    where: dict[str, Any] | None = None
    where_document: dict[str, Any] | None = None
    share: float = 0.0

    @property
    def label(self) -> str:
        """The name with the share."""
        return f"{self.name} ({100 * self.share:.2g} %)"

    def arguments(self) -> dict[str, Any]:
        """What `query` and `get` take."""
        given = {"where": self.where, "where_document": self.where_document}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(slots=True)
class Rows:
    """Records, queries that are none of them, and filters."""

    name: str
    ids: list[str]
    vectors: NDArray[np.float32]
    documents: list[str]
    metadatas: list[dict[str, Any]]
    queries: NDArray[np.float32]
    filters: list[Filter] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Some records in a row."""

    ids: list[str]
    vectors: NDArray[np.float32]
    documents: list[str]
    metadatas: list[dict[str, Any]]

    def part(self, at: int, end: int) -> Batch:
        """Records `at` to `end` of these."""
        s = slice(at, end)
        return Batch(self.ids[s], self.vectors[s], self.documents[s], self.metadatas[s])

    def arguments(self) -> dict[str, Any]:
        """What `add` and `upsert` take."""
        return {
            "ids": self.ids,
            "embeddings": self.vectors,
            "documents": self.documents,
            "metadatas": self.metadatas,
        }


def load(n: int) -> Rows:
    """The first `n` rows of WordNet under VEXFS_DATA, or generated ones like them."""
    folder = os.environ.get("VEXFS_DATA")
    return _wordnet(Path(folder), n) if folder else generate(n)


def loader(folder: Path) -> ModuleType:
    """The module load.py of a directory of data sets."""
    spec = importlib.util.spec_from_file_location("vexfs_data_load", folder / "load.py")
    if spec is None or spec.loader is None or not (folder / "load.py").is_file():
        raise SystemExit(f"VEXFS_DATA={folder} has no load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _wordnet(folder: Path, n: int) -> Rows:
    module = loader(folder)
    base, queries, _, _, texts, metadatas = module.load(WORDNET)
    n = min(n, len(base))
    wheres = {entry["name"]: entry["where"] for entry in module.load_filters(WORDNET)}
    filters = [Filter(name, wheres[name]) for name in _WORDNET_FILTERS]
    filters += [
        Filter('$contains word "person"', None, {"$contains": "person"}),
        Filter('$contains phrase "red wine"', None, {"$contains": "red wine"}),
        Filter('$contains phrase "of the"', None, {"$contains": "of the"}),
        Filter('noun and $contains "water"', {"pos": {"$eq": "noun"}}, {"$contains": "water"}),
    ]
    return Rows(
        name="WordNet glosses, all-MiniLM-L6-v2, 384 dimensions",
        ids=[f"synset-{i}" for i in range(n)],
        vectors=np.ascontiguousarray(base[:n], dtype=np.float32),
        documents=texts[:n],
        metadatas=metadatas[:n],
        queries=np.ascontiguousarray(queries, dtype=np.float32),
        filters=filters,
    )


def generate(n: int, dimension: int = 384, n_queries: int = 1000) -> Rows:
    """Clustered unit vectors and short texts from numpy's default generator (SEED)."""
    random = np.random.default_rng(SEED)
    total = n + n_queries
    centres = random.standard_normal((256, dimension))
    raw = centres[random.integers(0, 256, total)] + random.standard_normal((total, dimension))
    unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    words = np.array([f"word{i}" for i in range(5000)])
    texts = [" ".join(words[random.zipf(1.3, 12) % 5000]) for _ in range(n)]
    tags, scores = random.integers(0, 200, n).tolist(), random.integers(0, 1000, n).tolist()
    return Rows(
        name=f"generated, {dimension} dimensions, seed {SEED}",
        ids=[f"row-{i}" for i in range(n)],
        vectors=unit[:n],
        documents=texts,
        metadatas=[
            {"tag": f"t{tag}", "score": score, "even": score % 2 == 0}
            for tag, score in zip(tags, scores, strict=True)
        ],
        queries=unit[n:],
        filters=[
            Filter("tag", {"tag": {"$eq": "t7"}}),
            Filter("score", {"score": {"$lt": 50}}),
            Filter("even", {"even": {"$eq": True}}),
            Filter('$contains word "word40"', None, {"$contains": "word40"}),
            Filter('$contains phrase "word2 word3"', None, {"$contains": "word2 word3"}),
            Filter('even and $contains "word9"', {"even": {"$eq": True}}, {"$contains": "word9"}),
        ],
    )


# ---- what the children read ----------------------------------------------------------------------


def save(rows: Rows, folder: Path) -> None:
    """Write `rows` for `Stored`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, at in enumerate(range(0, len(rows.ids), BATCH)):
        s = slice(at, at + BATCH)
        batch = Batch(rows.ids[s], rows.vectors[s].copy(), rows.documents[s], rows.metadatas[s])
        (folder / f"batch-{number}").write_bytes(pickle.dumps(batch, protocol=5))
    np.save(folder / "vectors.npy", rows.vectors)
    np.save(folder / "queries.npy", rows.queries)
    (folder / "ids").write_bytes(pickle.dumps(rows.ids))
    (folder / "filters").write_bytes(pickle.dumps(rows.filters))


@dataclass(slots=True, frozen=True)
class Stored:
    """What `save` wrote, read piece by piece."""

    folder: Path

    def _read(self, name: str) -> Any:
        return pickle.loads((self.folder / name).read_bytes())

    def n_batches(self) -> int:
        """How many batches there are."""
        return len(list(self.folder.glob("batch-*")))

    def batch(self, number: int) -> Batch:
        """One of the batches."""
        batch: Batch = self._read(f"batch-{number}")
        return batch

    def ids(self) -> list[str]:
        """Of all records."""
        ids: list[str] = self._read("ids")
        return ids

    def filters(self) -> list[Filter]:
        """All of them."""
        filters: list[Filter] = self._read("filters")
        return filters

    def vectors(self) -> NDArray[np.float32]:
        """Of all records."""
        vectors: NDArray[np.float32] = np.load(self.folder / "vectors.npy")
        return vectors

    def queries(self) -> NDArray[np.float32]:
        """All of them."""
        queries: NDArray[np.float32] = np.load(self.folder / "queries.npy")
        return queries
