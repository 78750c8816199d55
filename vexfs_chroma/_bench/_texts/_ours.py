"""vexfs_chroma, by the client that everybody uses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vexfs_chroma import _search_plain
from vexfs_chroma._bench._texts._base import (
    BATCH,
    DENSE,
    EF_CONSTRUCTION,
    EF_SEARCH,
    HYBRID,
    K1,
    RESULTS,
    RRF_K,
    SPARSE,
    TEXT,
    Asked,
    B,
    Given,
    M,
    TextIndex,
)
from vexfs_chroma._engine import _wire
from vexfs_chroma._engine._searcher import Searcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chromadb import Search

_KEY = "words"


class Vexfs(TextIndex):
    """A collection of a persistent client."""

    distribution = "vexfs-chroma"
    note = "PersistentClient, durability full: each batch is on stable storage when add() returns"
    modes: ClassVar[Sequence[str]] = (TEXT, DENSE, SPARSE, HYBRID)

    def __init__(self, folder: str, given: Given) -> None:
        import vexfs_chroma
        from vexfs_chroma import Schema, SparseVectorIndexConfig

        super().__init__(folder, given)
        self._searcher: Searcher | None = None
        self._client = vexfs_chroma.PersistentClient(self.folder / "database")
        if given.sparse is None:
            graph = {"space": "cosine", "max_neighbors": M, "ef_construction": EF_CONSTRUCTION}
            options: dict[str, Any] = {"configuration": {"hnsw": graph | {"ef_search": EF_SEARCH}}}
        else:
            from chromadb.api.types import HnswIndexConfig, VectorIndexConfig

            hnsw = HnswIndexConfig(
                max_neighbors=M, ef_construction=EF_CONSTRUCTION, ef_search=EF_SEARCH
            )
            schema = Schema().create_index(config=VectorIndexConfig(space="cosine", hnsw=hnsw))
            schema.create_index(key=_KEY, config=SparseVectorIndexConfig())
            options = {"schema": schema}
        self._collection = self._client.create_collection(
            "bench", embedding_function=None, **options
        )

    def add(self) -> None:
        """Batches; records need a vector, so there is a short one where none is asked for."""
        from vexfs_chroma import SparseVector

        given = self.given
        for at in range(0, len(given.documents), BATCH):
            end = min(at + BATCH, len(given.documents))
            vectors = np.ones((end - at, 1), dtype=np.float32)
            metadatas: list[dict[str, Any]] | None = None
            if given.vectors is not None:
                vectors = given.vectors[at:end]
            if given.sparse is not None:
                metadatas = [{_KEY: SparseVector(*vector)} for vector in given.sparse[at:end]]
            self._collection.add(
                ids=[str(row) for row in range(at, end)],
                embeddings=vectors,
                documents=given.documents[at:end],
                metadatas=metadatas,  # type: ignore[arg-type]
            )

    def finish(self) -> None:
        """Wait for the graph, and for the background to write and merge files."""
        self._collection.wait_for_index()
        self._client.wait_idle()

    def prepare(self, asked: Asked) -> Any:
        """The query vector as an embedding function gives it."""
        from vexfs_chroma import SparseVector

        sparse = None if asked.sparse is None else SparseVector(*asked.sparse)
        return asked.text, asked.vector, sparse

    def search(self, mode: str, query: Any, limit: int) -> Any:
        """One Search, its expression made within the time."""
        return self._collection.search(self._asked(mode, query, limit))

    def core(self, mode: str, query: Any, limit: int) -> Callable[[], object]:
        """The call of C, its program made before and its results freed unread."""
        api: Any = self._client._server
        collection = api._open(self._collection.id)
        read = _search_plain.read(self._asked(mode, query, limit), collection.indexes)
        if self._searcher is None:
            self._searcher = Searcher(collection.engine).__enter__()
        return partial(self._searcher.ranked, _wire.encode([read.request]))

    def _asked(self, mode: str, query: Any, limit: int) -> Search:
        from vexfs_chroma import Bm25, K, Knn, Rrf, Search

        text, vector, sparse = query
        if mode == TEXT:
            rank: Any = Bm25(text, limit=limit, k1=K1, b=B)
        elif mode == DENSE:
            rank = Knn(query=vector, limit=limit)
        elif mode == SPARSE:
            rank = Knn(query=sparse, key=_KEY, limit=limit)
        else:
            default = float(limit)
            rank = Rrf(
                [
                    Knn(query=vector, limit=limit, return_rank=True, default=default),
                    Bm25(text, limit=limit, k1=K1, b=B, return_rank=True, default=default),
                ],
                k=RRF_K,
            )
        found = RESULTS if mode == HYBRID else limit
        return Search(rank=rank).limit(found).select(K.SCORE)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers."""
        return [int(id) for id in answer["ids"][0]]

    def scored(self, text: str, limit: int) -> list[tuple[int, float]]:
        """Rows and BM25 scores of one query."""
        from vexfs_chroma import Bm25, K, Search

        rank = Bm25(text, limit=limit, k1=K1, b=B)
        found = self._collection.search(Search(rank=rank).limit(limit).select(K.SCORE))
        scores = found["scores"][0] or []
        rows = self.rows_of(found)
        return [(row, 1 - float(s or 0)) for row, s in zip(rows, scores, strict=True)]

    def close(self) -> None:
        """Close the client."""
        if self._searcher is not None:
            self._searcher.__exit__()
        self._client.close()
