"""Databases that run in the process, by their own interfaces: vectors and keys, no metadata."""

from __future__ import annotations

import abc
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench._indexes._base import Index, Matrix, Setup, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 1000
FIELD = "v"


class Zvec(Index):
    """zvec, HNSW over float32."""

    distribution = "zvec"
    note = "HNSW, float32; its quickest call, which returns its internal ids"
    _quantize = "UNDEFINED"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        zvec = self._zvec = importlib.import_module("zvec")
        zvec.init(query_threads=1, optimize_threads=1, log_level=zvec.LogLevel.ERROR)
        parameters = zvec.HnswIndexParam(
            metric_type=zvec.MetricType.COSINE if setup.space == "cosine" else zvec.MetricType.L2,
            m=setup.m,
            ef_construction=setup.ef_construction,
            quantize_type=getattr(zvec.QuantizeType, self._quantize),
        )
        kind = zvec.DataType.VECTOR_FP32
        field = zvec.VectorSchema(FIELD, kind, setup.dimension, parameters)
        self._path = setup.path("collection")
        schema = zvec.CollectionSchema("bench", vectors=field)
        self._collection = zvec.create_and_open(self._path, schema)

    def build(self, vectors: Matrix) -> None:
        """Insert, and have the index built; then open it for reading, which its quick call asks."""
        zvec = self._zvec
        for at in range(0, len(vectors), BATCH):
            part = range(at, min(at + BATCH, len(vectors)))
            self._collection.insert([zvec.Doc(str(i), vectors={FIELD: vectors[i]}) for i in part])
        self._collection.optimize(zvec.OptimizeOption(concurrency=1))
        self._collection.flush()
        self._collection.close()
        self._collection = zvec.open(self._path, zvec.CollectionOption(read_only=True))

    def set_knob(self, value: int) -> None:
        """Set ef."""
        refined = self._quantize != "UNDEFINED"
        self._parameters = self._zvec.HnswQueryParam(ef=value, is_using_refiner=refined)

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        wanted = self._zvec.Query(FIELD, vector=query, param=self._parameters)
        return self._collection.query_internal_ids(wanted, topk=k)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """The keys that belong to internal ids, which are numbers."""
        found = self._collection.resolve_internal_ids(answer[answer >= 0])
        return [int(key) for key in found]

    def bytes(self) -> int | None:
        """Of the collection."""
        return size_of(self._path)

    def close(self) -> None:
        """Close the collection."""
        self._collection.close()


class ZvecInt8(Zvec):
    """zvec, HNSW over a byte per element."""

    note = "HNSW, INT8, refined by float32; its quickest call, which returns its internal ids"
    _quantize = "INT8"


class Qdrant(Index):
    """Qdrant's engine in the process."""

    distribution = "qdrant-edge-py"
    note = "one shard, HNSW over float32, optimised before it is searched"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        edge = self._edge = importlib.import_module("qdrant_edge")
        distance = edge.Distance.Cosine if setup.space == "cosine" else edge.Distance.Euclid
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=setup.dimension, distance=distance),
            hnsw_config=edge.HnswIndexConfig(setup.m, setup.ef_construction, 10, 1),
            optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=10),
            quantization_config=self._quantization(edge),
            max_search_threads=1,
        )
        self._path = setup.path("shard")
        self._shard = edge.EdgeShard.create(self._path, config)

    def _quantization(self, edge: Any) -> Any:
        return None

    def build(self, vectors: Matrix) -> None:
        """Upsert, and have the index built."""
        edge = self._edge
        for at in range(0, len(vectors), BATCH):
            part = range(at, min(at + BATCH, len(vectors)))
            points = [edge.Point(i, vectors[i].tolist()) for i in part]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.optimize()
        self._shard.flush()

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._parameters = self._edge.SearchParams(hnsw_ef=value)

    def prepare(self, query: Matrix) -> Any:
        """One vector, which it takes as it is."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        edge = self._edge
        wanted = edge.SearchRequest(edge.Query.Nearest(query), k, params=self._parameters)
        return self._shard.search(wanted)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers."""
        return [int(point.id) for point in answer]

    def bytes(self) -> int | None:
        """Of the shard."""
        return size_of(self._path)

    def close(self) -> None:
        """Close the shard."""
        self._shard.close()


class QdrantInt8(Qdrant):
    """Qdrant's engine over a byte per element."""

    note = "one shard, HNSW, scalar quantisation int8, rescored, optimised before it is searched"

    def _quantization(self, edge: Any) -> Any:
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=True)


class Lancedb(Index):
    """LanceDB with its HNSW over a byte per element."""

    distribution = "lancedb"
    note = "IVF_HNSW_SQ, one partition, m 2 M"
    knobs = (10, 20, 40, 80, 150, 300)

    def build(self, vectors: Matrix) -> None:
        """A table of all rows, and its index."""
        lancedb, arrow = (importlib.import_module(name) for name in ("lancedb", "pyarrow"))
        lance_index = importlib.import_module("lancedb.index")
        self._path = self.setup.path("database")
        flat = arrow.array(vectors.ravel())
        columns = {
            "id": arrow.array(np.arange(len(vectors))),
            FIELD: arrow.FixedSizeListArray.from_arrays(flat, self.setup.dimension),
        }
        self._table = lancedb.connect(self._path).create_table("bench", arrow.table(columns))
        config = lance_index.HnswSq(
            distance_type=self.setup.space,
            num_partitions=1,
            m=2 * self.setup.m,
            ef_construction=self.setup.ef_construction,
        )
        self._table.create_index(FIELD, config=config)
        self._table.wait_for_index([f"{FIELD}_idx"])

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._ef = value

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        found = self._table.search(query, FIELD).distance_type(self.setup.space).nprobes(1)
        return found.ef(max(self._ef, k)).limit(k).select(["id", "_distance"]).to_arrow()

    def rows_of(self, answer: Any) -> Sequence[int]:
        """A column has the numbers."""
        return [int(row) for row in answer["id"].to_pylist()]

    def bytes(self) -> int | None:
        """Of the database."""
        return size_of(self._path)


class MilvusLite(Index):
    """Milvus Lite, HNSW over float32."""

    distribution = "milvus-lite"
    note = "HNSW, float32; lists of floats in and out, as its interface wants"
    knobs = (10, 20, 40, 80, 150, 300)

    def build(self, vectors: Matrix) -> None:
        """Insert, have the index built, and load it."""
        lite = importlib.import_module("milvus_lite")
        self._path = self.setup.path("database")
        self._database = lite.MilvusLite(self._path)
        number = lite.FieldSchema(name="id", dtype=lite.DataType.INT64, is_primary=True)
        vector = lite.FieldSchema(
            name=FIELD, dtype=lite.DataType.FLOAT_VECTOR, dim=self.setup.dimension
        )
        schema = lite.CollectionSchema([number, vector])
        self._collection = self._database.create_collection("bench", schema)
        for at in range(0, len(vectors), BATCH):
            part = range(at, min(at + BATCH, len(vectors)))
            self._collection.insert([{"id": i, FIELD: vectors[i].tolist()} for i in part])
        self._metric = "COSINE" if self.setup.space == "cosine" else "L2"
        parameters = {"M": self.setup.m, "efConstruction": self.setup.ef_construction}
        index = {"index_type": "HNSW", "metric_type": self._metric, "params": parameters}
        self._collection.create_index(FIELD, index)
        self._collection.flush()
        self._collection.load()

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._parameters = {"params": {"ef": value}}

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._collection.search(
            [query.tolist()],
            top_k=k,
            metric_type=self._metric,
            anns_field=FIELD,
            output_fields=["id"],
            search_params=self._parameters,
        )

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers."""
        return [int(hit["id"]) for hit in answer[0]]

    def bytes(self) -> int | None:
        """Of the database."""
        return size_of(self._path)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


class _Sqlite(Index):
    """An extension of SQLite, which apsw loads: Python's own sqlite3 may not."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        path = self._extension()
        self._file = setup.path("database.sqlite")
        self._connection = importlib.import_module("apsw").Connection(self._file)
        self._connection.enable_load_extension(True)
        self._connection.load_extension(path)
        self._connection.execute(self._table())

    @abc.abstractmethod
    def _extension(self) -> str:
        """Path of the extension to load."""

    @abc.abstractmethod
    def _table(self) -> str:
        """The statement that creates the table."""

    def build(self, vectors: Matrix) -> None:
        """Insert in one transaction."""
        rows = ((i, vector.tobytes()) for i, vector in enumerate(vectors))
        with self._connection:
            self._connection.executemany("insert into bench(rowid, v) values (?, ?)", rows)

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._ef = value

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Row ids are numbers."""
        return [int(row) for row, _ in answer]

    def bytes(self) -> int | None:
        """Of the database."""
        return size_of(self._file)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class SqliteVec(_Sqlite):
    """sqlite-vec, which compares with all rows."""

    distribution = "sqlite-vec"
    note = "all rows, float32, by apsw"
    knobs = (1,)

    def _extension(self) -> str:
        return str(importlib.import_module("sqlite_vec").loadable_path())

    def _table(self) -> str:
        metric = "cosine" if self.setup.space == "cosine" else "L2"
        column = f"v float[{self.setup.dimension}] distance_metric={metric}"
        return f"create virtual table bench using vec0({column})"

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        sql = "select rowid, distance from bench where v match ? and k = ?"
        return self._connection.execute(sql, (query.tobytes(), k)).fetchall()


class Vectorlite(_Sqlite):
    """vectorlite: hnswlib in SQLite."""

    distribution = "vectorlite-py"
    note = "HNSW, float32, by apsw; the index is in memory"

    def _extension(self) -> str:
        return str(importlib.import_module("vectorlite_py").vectorlite_path())

    def _table(self) -> str:
        setup = self.setup
        space = "cosine" if setup.space == "cosine" else "l2"
        graph = f"max_elements={setup.rows}, M={setup.m}, ef_construction={setup.ef_construction}"
        columns = f"v float32[{setup.dimension}] {space}, hnsw({graph})"
        return f"create virtual table bench using vectorlite({columns})"

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        sql = "select rowid, distance from bench where knn_search(v, knn_param(?, ?, ?))"
        return self._connection.execute(sql, (query.tobytes(), k, self._ef)).fetchall()

    def bytes(self) -> int | None:
        """Unknown: it is not written."""
        return None
