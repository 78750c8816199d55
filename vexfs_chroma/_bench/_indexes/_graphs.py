"""Libraries that are an index and nothing else."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench._indexes._base import Index, Matrix, Setup, SkippedError, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def unit_rows(vectors: Matrix) -> Matrix:
    """Rows of length one, for libraries that know inner products only."""
    scaled: Matrix = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
    return np.ascontiguousarray(scaled, dtype=np.float32)


class Exact(Index):
    """All distances of all rows, by one product of matrices."""

    distribution = "numpy"
    note = "all distances, by numpy"
    knobs = (1,)

    def build(self, vectors: Matrix) -> None:
        """Keep the rows."""
        self._rows = unit_rows(vectors) if self.setup.space == "cosine" else vectors
        self._half_squares = np.einsum("ij,ij->i", self._rows, self._rows) / 2

    def set_knob(self, value: int) -> None:
        """There is none."""

    def search(self, query: Any, k: int) -> Any:
        """Nearest is what has the largest product, less half the square of the row's length."""
        scores = self._half_squares - self._rows @ query[0]
        nearest = np.argpartition(scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
        return nearest[np.argsort(scores[nearest])]

    def rows_of(self, answer: Any) -> Sequence[int]:
        """They are numbers."""
        return [int(row) for row in answer]


class Hnswlib(Index):
    """hnswlib, float32."""

    distribution = "hnswlib"
    note = "float32"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._index = importlib.import_module("hnswlib").Index(setup.space, setup.dimension)
        self._index.init_index(
            max_elements=setup.rows, M=setup.m, ef_construction=setup.ef_construction
        )
        self._index.set_num_threads(1)

    def build(self, vectors: Matrix) -> None:
        """One call."""
        self._index.add_items(vectors, num_threads=1)

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._index.set_ef(value)

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._index.knn_query(query, k=k, num_threads=1)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Labels are numbers."""
        return [int(row) for row in answer[0][0]]

    def bytes(self) -> int | None:
        """Of the saved index."""
        self._index.save_index(self.setup.path("index"))
        return size_of(self.setup.path("index"))


class FaissFlat(Index):
    """faiss, HNSW over float32."""

    distribution = "faiss-cpu"
    note = "IndexHNSWFlat; cosine: inner product of unit vectors, scaled before"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._faiss = importlib.import_module("faiss")
        self._faiss.omp_set_num_threads(1)
        inner, l2 = self._faiss.METRIC_INNER_PRODUCT, self._faiss.METRIC_L2
        self._index = self._make(inner if setup.space == "cosine" else l2)
        self._index.hnsw.efConstruction = setup.ef_construction

    def _make(self, metric: int) -> Any:
        return self._faiss.IndexHNSWFlat(self.setup.dimension, self.setup.m, metric)

    def build(self, vectors: Matrix) -> None:
        """Train where there are codes, and add."""
        rows = unit_rows(vectors) if self.setup.space == "cosine" else vectors
        if not self._index.is_trained:
            self._index.train(rows)
        self._index.add(rows)

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._index.hnsw.efSearch = value

    def search(self, query: Any, k: int) -> Any:
        """One query; its length does not change the order of inner products."""
        return self._index.search(query, k)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Labels are numbers; -1 fills up."""
        return [int(row) for row in answer[1][0] if row >= 0]

    def bytes(self) -> int | None:
        """Of the saved index."""
        self._faiss.write_index(self._index, self.setup.path("index"))
        return size_of(self.setup.path("index"))


class FaissSq8(FaissFlat):
    """faiss, HNSW over codes of a byte per element."""

    note = "IndexHNSWSQ, QT_8bit, not reranked; cosine: inner product of unit vectors"

    def _make(self, metric: int) -> Any:
        kind = self._faiss.ScalarQuantizer.QT_8bit
        return self._faiss.IndexHNSWSQ(self.setup.dimension, kind, self.setup.m, metric)


class Usearch(Index):
    """usearch, float32."""

    distribution = "usearch"
    note = "f32"
    _dtype = "f32"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._index = importlib.import_module("usearch.index").Index(
            ndim=setup.dimension,
            metric="cos" if setup.space == "cosine" else "l2sq",
            dtype=self._dtype,
            connectivity=setup.m,
            expansion_add=setup.ef_construction,
        )

    def build(self, vectors: Matrix) -> None:
        """One call."""
        self._index.add(np.arange(len(vectors)), vectors, threads=1)

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._index.expansion_search = value

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._index.search(query, k, threads=1)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Keys are numbers."""
        return [int(row) for row in answer.keys]

    def bytes(self) -> int | None:
        """Of the saved index."""
        self._index.save(self.setup.path("index"))
        return size_of(self.setup.path("index"))


class UsearchI8(Usearch):
    """usearch, a byte per element."""

    note = "i8, not reranked"
    _dtype = "i8"

    def __init__(self, setup: Setup) -> None:
        if setup.space != "cosine":
            raise SkippedError("its i8 is for cosine: other vectors are cut off at 127 or rounded")
        super().__init__(setup)


class Svs(Index):
    """Intel's scalable vector search: Vamana over float32."""

    distribution = "scalable-vs"
    note = "Vamana, float32, graph_max_degree 2 M, window_size ef_construction"
    knob = "search_window_size"

    def build(self, vectors: Matrix) -> None:
        """Build with its own alpha for the distance; cosine is inner product of unit vectors."""
        svs = importlib.import_module("svs")
        cosine = self.setup.space == "cosine"
        rows = unit_rows(vectors) if cosine else vectors
        parameters = svs.VamanaBuildParameters(
            alpha=0.95 if cosine else 1.2,
            graph_max_degree=2 * self.setup.m,
            window_size=self.setup.ef_construction,
        )
        distance = svs.DistanceType.MIP if cosine else svs.DistanceType.L2
        self._index = svs.Vamana.build(parameters, self._data(svs, rows), distance, num_threads=1)

    def _data(self, svs: Any, rows: Matrix) -> Any:
        return rows

    def set_knob(self, value: int) -> None:
        """Set the window."""
        self._index.search_window_size = value

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._index.search(query, k)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers."""
        return [int(row) for row in answer[0][0]]

    def bytes(self) -> int | None:
        """Of the saved index."""
        parts = [self.setup.path(name) for name in ("config", "graph", "data")]
        self._index.save(*parts)
        return sum(size_of(part) for part in parts)


class SvsLvq(Svs):
    """Vamana over vectors that are compressed to four bits, and eight of what is left."""

    note = "Vamana, LVQ4x8, as Svs; the rows go by a file, which counts as building"

    def _data(self, svs: Any, rows: Matrix) -> Any:
        path = self.setup.path("rows.fvecs")
        svs.write_vecs(rows, path)
        loader = svs.VectorDataLoader(path, svs.DataType.float32, self.setup.dimension)
        return svs.LVQLoader(loader, primary=4, residual=8)


class VsagHnsw(Index):
    """vsag, HNSW over float32."""

    distribution = "pyvsag"
    note = "hnsw, float32, max_degree 2 M"
    _name = "hnsw"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        module = importlib.import_module("pyvsag")
        module.set_logger_off()
        common = {"dtype": "float32", "metric_type": setup.space, "dim": setup.dimension}
        self._index = module.Index(self._name, json.dumps(common | self._parameters()))

    def _parameters(self) -> dict[str, Any]:
        setup = self.setup
        return {"hnsw": {"max_degree": 2 * setup.m, "ef_construction": setup.ef_construction}}

    def build(self, vectors: Matrix) -> None:
        """One call."""
        numbers = np.arange(len(vectors), dtype=np.int64)
        self._index.build(vectors.ravel(), numbers, len(vectors), self.setup.dimension)

    def set_knob(self, value: int) -> None:
        """Set ef."""
        self._search = json.dumps({self._name: {"ef_search": value}})

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._index.knn_search(query, k, self._search)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Ids are numbers."""
        return [int(row) for row in answer[0]]

    def bytes(self) -> int | None:
        """Of the saved index."""
        self._index.save(self.setup.path("index"))
        return size_of(self.setup.path("index"))


class VsagHgraph(VsagHnsw):
    """vsag, its own graph over codes of a byte per element."""

    note = "hgraph, sq8, reordered by float32, max_degree 2 M"
    _name = "hgraph"

    def _parameters(self) -> dict[str, Any]:
        return {
            "index_param": {
                "base_quantization_type": "sq8",
                "use_reorder": True,
                "precise_quantization_type": "fp32",
                "max_degree": 2 * self.setup.m,
                "ef_construction": self.setup.ef_construction,
                "build_thread_count": 1,
            }
        }


class Scann(Index):
    """ScaNN: a tree of clusters, quantised scores, exact ones of the best."""

    distribution = "scann"
    note = "tree of sqrt(rows) leaves, asymmetric hashing, reordered; no graph, no M, no ef"
    knob = "leaves to search"
    knobs = (1, 2, 3, 5, 8, 12, 20, 30, 45, 70, 100)
    _REORDERED = 100

    def build(self, vectors: Matrix) -> None:
        """As its manual tells for so many rows."""
        ops = importlib.import_module("scann").scann_ops_pybind
        cosine = self.setup.space == "cosine"
        rows = unit_rows(vectors) if cosine else vectors
        builder = ops.builder(rows, self._REORDERED, "dot_product" if cosine else "squared_l2")
        leaves = max(1, round(len(rows) ** 0.5))
        builder = builder.tree(leaves, min(10, leaves), training_sample_size=min(len(rows), 250000))
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        self._index = builder.reorder(self._REORDERED).build()
        self._index.set_num_threads(1)

    def set_knob(self, value: int) -> None:
        """Set how many leaves are searched, and reorder more of what more leaves give."""
        self._leaves, self._reordered = value, max(30, min(300, 10 * value))

    def prepare(self, query: Matrix) -> Any:
        """One vector."""
        return query

    def search(self, query: Any, k: int) -> Any:
        """One query."""
        return self._index.search(
            query, k, pre_reorder_num_neighbors=self._reordered, leaves_to_search=self._leaves
        )

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Positions are numbers."""
        return [int(row) for row in answer[0]]

    def bytes(self) -> int | None:
        """Of the saved index."""
        folder = self.setup.path("index")
        Path(folder).mkdir()
        self._index.serialize(folder)
        return size_of(folder)
