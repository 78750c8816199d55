"""The rows of a scenario, the queries, and what the right answers are.

Rows and queries are `Generator`'s of _bench: clustered, anisotropic unit vectors, the same on every
machine; distances are cosine.  Row n has the id `b<n>`, the group n % 10 and, where the scenario
has texts, a text that is made from n.  These *base rows* never change, so that brute force, once,
says what is nearest to each query.

Users also write rows of their own among them, `v<user>-<n>`, in versions: vector and text of each
version follow from id and version, so that everybody can tell whether an answer about them is true.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _data, _vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vexfs_chroma._load._scenarios import Scenario

GROUPS = 10
QUERIES = 500
FORMAT = 1  # of the files, and of what the rows look like
_QUERIES_CHUNK = 2_000_000
_WORDS = (
    "river",
    "stone",
    "market",
    "winter",
    "harbour",
    "engine",
    "letter",
    "garden",
    "copper",
    "signal",
    "window",
    "forest",
    "paper",
    "valley",
    "bridge",
    "silver",
    "morning",
    "record",
    "cloud",
    "anchor",
    "lantern",
    "method",
    "island",
    "number",
    "pattern",
    "castle",
    "summer",
    "vessel",
    "mirror",
    "orchard",
)
_WORDS_IN_TEXT = 60

Matrix = Any  # numpy arrays of float32 (n, d) or (d,)


class World:
    """Rows, queries and the truth, in files of one folder; made where they are not there yet."""

    def __init__(self, folder: Path, scenario: Scenario, seed: int) -> None:
        self.scenario, self.seed = scenario, seed
        about = {
            "format": FORMAT,
            "generator": "vexfs_chroma._bench._vectors.Generator",
            "generator_seed": _data.SEED,
            "rows": scenario.rows,
            "dimension": scenario.dimension,
            "k": scenario.k,
            "queries": QUERIES,
            "seed": seed,
        }
        text = json.dumps(about | {"documents": scenario.documents}, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = folder / f"{scenario.rows}x{scenario.dimension}-{self.fingerprint}"
        if not (self.folder / "about.json").is_file():
            _make(self.folder, about)
        mapped = np.load(self.folder / "base.npy", mmap_mode="r")
        self.vectors: Matrix = mapped.view(np.ndarray)  # whose rows are found in less time
        self.queries: Matrix = np.load(self.folder / "queries.npy")
        self.near: NDArray[np.float64] = np.load(self.folder / "near.npy")
        """Distances of the k nearest base rows of each query, ascending."""
        self.near_in_group: NDArray[np.float64] = np.load(self.folder / "near_in_group.npy")
        """The same among the rows of the query's group."""

    @property
    def collection_name(self) -> str:
        """Of the collection that holds the rows."""
        return f"load-{self.scenario.name}-{self.fingerprint}"

    def group_of_query(self, number: int) -> int:
        """The group that filtered queries with this vector ask for."""
        return number % GROUPS

    def text(self, number: int) -> str:
        """Of a base row."""
        return text_of(f"passage {number}", number)

    def metadata(self, number: int) -> dict[str, Any]:
        """Of a base row."""
        return {"group": number % GROUPS, "kind": "base"}

    def own_row(self, id: str, version: int) -> OwnRow:
        """A version of a row that a user writes: near some base row."""
        digest = hashlib.sha256(f"{id}/{version}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        base = self.vectors[int(random.integers(len(self.vectors)))]
        noise = random.standard_normal(len(base), dtype=np.float32)
        vector = base + noise * np.float32(0.5 / np.sqrt(len(base)))
        vector /= np.linalg.norm(vector)
        metadata = {"group": digest[8] % GROUPS, "kind": "own", "version": version}
        text = text_of(f"{id} version {version}", version) if self.scenario.documents else None
        return OwnRow(vector.astype(np.float32), metadata, text)


@dataclasses.dataclass(slots=True, frozen=True)
class OwnRow:
    """One version of a row."""

    vector: Matrix
    metadata: dict[str, Any]
    text: str | None


def text_of(title: str, number: int) -> str:
    """A text that follows from its arguments."""
    words, state = [title], number
    for _ in range(_WORDS_IN_TEXT):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        words.append(_WORDS[(state >> 8) % len(_WORDS)])
    return " ".join(words)


def distances(vectors: Matrix, query: Matrix) -> NDArray[np.float64]:
    """Cosine distances of rows (n, d) from one query (d,), in float64."""
    near, wide = np.asarray(vectors, dtype=np.float64), np.asarray(query, dtype=np.float64)
    lengths = np.linalg.norm(near, axis=1) * np.linalg.norm(wide)
    found: NDArray[np.float64] = 1 - (near @ wide) / np.maximum(lengths, 1e-30)
    return found


def _make(folder: Path, about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows, dimension, k = about["rows"], about["dimension"], about["k"]
    make = _vectors.Generator(dimension)
    base = np.lib.format.open_memmap(
        folder / "base.npy", mode="w+", dtype=np.float32, shape=(rows, dimension)
    )
    for chunk, at in enumerate(range(0, rows, _vectors.CHUNK)):
        end = min(at + _vectors.CHUNK, rows)
        base[at:end] = make.rows(end - at, chunk)
    base.flush()
    queries = make.rows(about["queries"], _QUERIES_CHUNK + about["seed"])
    np.save(folder / "queries.npy", queries)
    np.save(folder / "near.npy", _vectors.nearest_distances(base, queries, "cosine", k))
    in_group = np.full((len(queries), k), np.inf)
    for group in range(GROUPS):
        chosen, part = queries[group::GROUPS], np.ascontiguousarray(base[group::GROUPS])
        in_group[group::GROUPS] = _vectors.nearest_distances(part, chosen, "cosine", k)
    np.save(folder / "near_in_group.npy", in_group)
    (folder / "about.json").write_text(json.dumps(about, indent=1), "utf-8")
