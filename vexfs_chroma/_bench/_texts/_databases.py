"""Databases that run in the process and have both vectors and text."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

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

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEVER = 10**9  # KB of vectors from which there is a graph


class Lancedb(TextIndex):
    """LanceDB, HNSW over a byte per element and its inverted index."""

    distribution = "lancedb"
    note = "IVF_HNSW_SQ of one partition, m 32; FTS without stemming and stop words; indexes after"
    modes: ClassVar[Sequence[str]] = (TEXT, DENSE, HYBRID)

    def add(self) -> None:
        """One table."""
        lancedb, arrow = (importlib.import_module(name) for name in ("lancedb", "pyarrow"))
        given = self.given
        columns = {
            "id": arrow.array(np.arange(len(given.documents))),
            "body": arrow.array(given.documents),
        }
        if given.vectors is not None:
            flat = arrow.array(given.vectors.ravel())
            columns["v"] = arrow.FixedSizeListArray.from_arrays(flat, given.vectors.shape[1])
        database = lancedb.connect(str(self.folder / "database"))
        self._table = database.create_table("bench", arrow.table(columns))

    def finish(self) -> None:
        """Its indexes."""
        index = importlib.import_module("lancedb.index")
        rerankers = importlib.import_module("lancedb.rerankers")
        words = index.FTS(stem=False, remove_stop_words=False, with_position=False)
        self._table.create_index("body", config=words)
        names = ["body_idx"]
        if self.given.vectors is not None:
            graph = index.HnswSq(
                distance_type="cosine", num_partitions=1, m=2 * M, ef_construction=EF_CONSTRUCTION
            )
            self._table.create_index("v", config=graph)
            names.append("v_idx")
        self._table.wait_for_index(names)
        self._reranker = rerankers.RRFReranker(K=RRF_K)

    def search(self, mode: str, query: Asked, limit: int) -> Any:
        """One query by its builder."""
        if mode == TEXT:
            found = self._table.search(query.text, query_type="fts", fts_columns="body")
            return found.limit(limit).select(["id"]).to_arrow()
        if mode == DENSE:
            found = self._table.search(query.vector, "v").distance_type("cosine").nprobes(1)
            return found.ef(max(EF_SEARCH, limit)).limit(limit).select(["id"]).to_arrow()
        found = self._table.search(query_type="hybrid", vector_column_name="v", fts_columns="body")
        found = found.vector(query.vector).text(query.text).rerank(self._reranker)
        found = found.distance_type("cosine").nprobes(1).ef(max(EF_SEARCH, limit))
        return found.limit(limit).select(["id"]).to_arrow()

    def rows_of(self, answer: Any) -> Sequence[int]:
        """A column has the numbers."""
        return [int(row) for row in answer["id"].to_pylist()]


class Zvec(TextIndex):
    """zvec, HNSW over float32, sparse vectors and its full text."""

    distribution = "zvec"
    note = "HNSW, float32; FTS, lower case; batches of 1,000, flushed at the end, then optimised"
    modes: ClassVar[Sequence[str]] = (TEXT, DENSE, SPARSE, HYBRID)
    _batch = 1000

    def __init__(self, folder: str, given: Given) -> None:
        super().__init__(folder, given)
        zvec = self._zvec = importlib.import_module("zvec")
        zvec.init(query_threads=1, optimize_threads=1, log_level=zvec.LogLevel.ERROR)
        text = zvec.FieldSchema("body", zvec.DataType.STRING, index_param=zvec.FtsIndexParam())
        vectors = []
        if given.vectors is not None:
            graph = zvec.HnswIndexParam(
                metric_type=zvec.MetricType.COSINE, m=M, ef_construction=EF_CONSTRUCTION
            )
            kind, width = zvec.DataType.VECTOR_FP32, given.vectors.shape[1]
            vectors.append(zvec.VectorSchema("v", kind, width, graph))
        if given.sparse is not None:
            flat = zvec.FlatIndexParam(metric_type=zvec.MetricType.IP)
            kind = zvec.DataType.SPARSE_VECTOR_FP32
            vectors.append(zvec.VectorSchema("s", kind, index_param=flat))
        if not vectors:
            vectors.append(zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, 1))
        schema = zvec.CollectionSchema("bench", fields=[text], vectors=vectors)
        self._collection = zvec.create_and_open(str(self.folder / "collection"), schema)

    def add(self) -> None:
        """Insert in batches; flush."""
        given, zvec = self.given, self._zvec
        short = np.ones(1, dtype=np.float32)
        for at in range(0, len(given.documents), self._batch):
            docs = []
            for row in range(at, min(at + self._batch, len(given.documents))):
                vectors: dict[str, Any] = {}
                if given.vectors is not None:
                    vectors["v"] = given.vectors[row]
                if given.sparse is not None:
                    vectors["s"] = dict(zip(*given.sparse[row], strict=True))
                fields = {"body": given.documents[row]}
                docs.append(zvec.Doc(str(row), vectors=vectors or {"v": short}, fields=fields))
            self._collection.insert(docs)
        self._collection.flush()

    def finish(self) -> None:
        """Have the indexes built."""
        self._collection.optimize(self._zvec.OptimizeOption(concurrency=1))
        self._collection.flush()
        self._fuse = self._zvec.RrfReRanker(rank_constant=RRF_K)
        self._effort = self._zvec.HnswQueryParam(ef=EF_SEARCH)

    def prepare(self, asked: Asked) -> Any:
        """Sparse vectors are dictionaries."""
        sparse = None if asked.sparse is None else dict(zip(*asked.sparse, strict=True))
        return asked.text, asked.vector, sparse

    def search(self, mode: str, query: Any, limit: int) -> Any:
        """One query without fields."""
        zvec, (text, vector, sparse) = self._zvec, query
        by_text = zvec.Query("body", fts=zvec.Fts(match_string=text))
        if mode == TEXT:
            return self._collection.query(by_text, topk=limit, output_fields=[])
        if mode == SPARSE:
            asked = zvec.Query("s", vector=sparse)
            return self._collection.query(asked, topk=limit, output_fields=[])
        by_vector = zvec.Query("v", vector=vector, param=self._effort)
        if mode == DENSE:
            return self._collection.query(by_vector, topk=limit, output_fields=[])
        return self._collection.query(
            [by_vector, by_text], topk=limit, output_fields=[], reranker=self._fuse
        )

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Keys are numbers."""
        return [int(doc.id) for doc in answer]


class Qdrant(TextIndex):
    """Qdrant's engine in the process: HNSW over float32, sparse vectors, and its text index."""

    distribution = "qdrant-edge-py"
    note = "one shard, HNSW, float32; word tokenizer with BM25 scoring; flushed at the end"
    modes: ClassVar[Sequence[str]] = (TEXT, DENSE, SPARSE, HYBRID)

    def __init__(self, folder: str, given: Given) -> None:
        super().__init__(folder, given)
        edge = self._edge = importlib.import_module("qdrant_edge")
        width = 1 if given.vectors is None else given.vectors.shape[1]
        threshold = _NEVER if given.vectors is None else 10
        config = edge.EdgeConfig(
            vectors={"v": edge.EdgeVectorParams(size=width, distance=edge.Distance.Cosine)},
            sparse_vectors={"s": edge.EdgeSparseVectorParams()} if given.sparse else None,
            hnsw_config=edge.HnswIndexConfig(M, EF_CONSTRUCTION, 10, 1),
            optimizers=edge.EdgeOptimizersConfig(
                default_segment_number=1, indexing_threshold=threshold
            ),
            max_search_threads=1,
        )
        path = self.folder / "shard"
        self._shard = edge.EdgeShard.create(str(path), config)
        words = edge.TextIndexParams(
            tokenizer=edge.TokenizerType.Word, lowercase=True, scoring=True
        )
        self._shard.update(edge.UpdateOperation.create_field_index("body", words))

    def add(self) -> None:
        """Upsert in batches; flush."""
        given, edge = self.given, self._edge
        for at in range(0, len(given.documents), BATCH):
            points = []
            for row in range(at, min(at + BATCH, len(given.documents))):
                vectors: dict[str, Any] = {"v": [1.0]}
                if given.vectors is not None:
                    vectors["v"] = given.vectors[row].tolist()
                if given.sparse is not None:
                    vectors["s"] = edge.SparseVector(*given.sparse[row])
                points.append(edge.Point(row, vectors, {"body": given.documents[row]}))
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.flush()

    def finish(self) -> None:
        """Have the indexes built."""
        self._shard.optimize()
        self._shard.flush()
        self._effort = self._edge.SearchParams(hnsw_ef=EF_SEARCH)

    def prepare(self, asked: Asked) -> Any:
        """What its queries are made of."""
        edge = self._edge
        vector = None if asked.vector is None else asked.vector.tolist()
        sparse = None if asked.sparse is None else edge.SparseVector(*asked.sparse)
        return asked.text, vector, sparse

    def search(self, mode: str, query: Any, limit: int) -> Any:
        """One query; fused, two queries before it."""
        edge, (text, vector, sparse) = self._edge, query
        if mode == HYBRID:
            parts = [
                edge.Prefetch(limit, edge.Query.Nearest(vector, using="v"), params=self._effort),
                edge.Prefetch(limit, self._words(text)),
            ]
            fused = edge.Fusion.Rrf(k=RRF_K)
            return self._shard.query(edge.QueryRequest(RESULTS, query=fused, prefetches=parts))
        if mode == TEXT:
            return self._shard.query(edge.QueryRequest(limit, query=self._words(text)))
        if mode == SPARSE:
            wanted = edge.Query.Nearest(sparse, using="s")
        else:
            wanted = edge.Query.Nearest(vector, using="v")
        return self._shard.query(edge.QueryRequest(limit, query=wanted, params=self._effort))

    def _words(self, text: str) -> Any:
        return self._edge.TextQuery("body", text, self._edge.Bm25Params(K1, B))

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers."""
        return [int(point.id) for point in answer]

    def close(self) -> None:
        """Close the shard."""
        self._shard.close()
