"""The libraries that are compared: how each is opened, told to finish its work, and closed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any

PERSISTENT = "persistent"
EPHEMERAL = "ephemeral"
VECTORS_ONLY = "vectors only"

M = 16
EF_CONSTRUCTION = 100
EF_SEARCH = 100
HNSW = {  # Chroma's defaults, said aloud
    "space": "cosine",
    "max_neighbors": M,
    "ef_construction": EF_CONSTRUCTION,
    "ef_search": EF_SEARCH,
}
COLLECTION = "bench"


@dataclass(slots=True, frozen=True)
class Peer:
    """A library and where it keeps its data."""

    name: str
    module: str
    distribution: str
    storage: str

    @property
    def ours(self) -> bool:
        """Whether it is the library that is measured, not one that it is measured against."""
        return self.module == "vexfs_chroma"

    def installed(self) -> bool:
        """Whether it can be measured here."""
        return importlib.util.find_spec(self.module) is not None

    def version(self) -> str:
        """Of the library."""
        return importlib.metadata.version(self.distribution)

    def load(self) -> Any:
        """The imported module."""
        return importlib.import_module(self.module)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("vexfs_chroma", "vexfs_chroma", "vexfs-chroma", PERSISTENT),
        Peer("chromadb", "chromadb", "chromadb", PERSISTENT),
        Peer("vexfs_chroma-ephemeral", "vexfs_chroma", "vexfs-chroma", EPHEMERAL),
        Peer("chromadb-ephemeral", "chromadb", "chromadb", EPHEMERAL),
        Peer("hnswlib", "hnswlib", "hnswlib", VECTORS_ONLY),
    )
}


def open_client(peer: Peer, path: str) -> Any:
    """A client of Chroma's interface, as it is without settings: the environment keeps it quiet."""
    module = peer.load()
    return module.EphemeralClient() if peer.storage == EPHEMERAL else module.PersistentClient(path)


def create(client: Any) -> Any:
    """The collection to measure with, empty."""
    return client.create_collection(
        COLLECTION, embedding_function=None, configuration={"hnsw": HNSW}
    )


def wait_until_indexed(peer: Peer, collection: Any, query: Any) -> None:
    """Return when a query of all rows is answered by the index.

    We are asked to wait; chromadb takes into its index, when it is queried, what was added.
    """
    if peer.ours:
        collection.wait_for_index()
    collection.query(query_embeddings=[query], n_results=1, include=["distances"])
