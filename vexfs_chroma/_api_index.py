"""What there is to ask about a collection and its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chromadb.api.types import IndexingStatus
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from typing_extensions import override

from vexfs_chroma import _engine
from vexfs_chroma._api_records import RecordOperations

if TYPE_CHECKING:
    from uuid import UUID

    import numpy as np
    from chromadb.api.types import Embeddings, IDs, Where, WhereDocument
    from numpy.typing import NDArray

    from vexfs_chroma._query_plan import QueryPlan
    from vexfs_chroma._recall import RecallReport


class IndexOperations(RecordOperations):
    """The part of the interface that tells how a collection is stored and indexed."""

    @override
    def _get_indexing_status(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> IndexingStatus:
        with self._using(collection_id) as collection:
            info = collection.engine.info()
            left = _left_to_index(info)
            if left:
                collection.engine.want_index()  # whoever asks wants to see it become ready
        return IndexingStatus(
            num_indexed_ops=info.rows - left,
            num_unindexed_ops=left,
            total_ops=info.rows,
            op_indexing_progress=(info.rows - left) / info.rows if info.rows else 1.0,
        )

    def query_plan(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings | NDArray[np.float32],
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
        *,
        exact: bool = False,
    ) -> QueryPlan:
        """How query_records is answered, which is tried out, for people."""
        from vexfs_chroma._query_plan import make_query_plan

        plan, info = self.explain_query(
            collection_id, query_embeddings, ids, n_results, where, where_document, exact=exact
        )
        return make_query_plan(plan, info, len(query_embeddings))

    def recall_check(self, collection_id: UUID, n: int, k: int, seed: int) -> RecallReport:
        """How many of the nearest of n records queries find, compared with exact search."""
        from vexfs_chroma._recall import check_recall

        return check_recall(self, collection_id, n, k, seed)

    def wait_for_index(self, collection_id: UUID, timeout: float | None = None) -> None:
        """Have everything that is written by now in the graph, where one is wanted."""
        with self._using(collection_id) as collection:
            try:
                collection.engine.wait_for_index(timeout)
            except TimeoutError:
                if not _is_indexed(collection.engine.info()):
                    raise

    def build_index(self, collection_id: UUID, *, flush: bool) -> bool:
        """Have the graph built, and tell whether nothing of it is left to do.  Waits for nothing.

        `flush`: have what is in memory in files first, so that the graph gets that, too.
        """
        with self._using(collection_id) as collection:
            try:
                if flush:
                    collection.engine.wait_for_index(0)
                else:
                    collection.engine.want_index()
                    collection.engine.wait_idle(0)
            except TimeoutError:
                return _is_indexed(collection.engine.info())
        return True

    def collection_stats(self, collection_id: UUID) -> dict[str, Any]:
        """The figures of a collection, as `Collection.stats()` documents them."""
        with self._using(collection_id) as collection:
            info, graph = collection.engine.info(), collection.graph
        return {
            "rows": info.rows,
            "dimension": info.dimension or None,
            "space": info.space,
            "disk_bytes": info.disk_bytes,
            "files": {"vectors": info.vector_files, "payloads": info.payload_files},
            "unflushed": {"rows": info.memtable_rows, "bytes": info.memtable_bytes},
            "index": {
                "from_rows": None if info.index_rows == _engine.NO_INDEX else info.index_rows,
                "indexed_rows": info.rows - info.unindexed_rows,
                "unindexed_rows": info.unindexed_rows,
                "bytes": info.index_bytes,
                "quantization": info.quantization,
                **graph,
            },
            "documents": {
                "raw_bytes": info.raw_document_bytes,
                "stored_bytes": info.stored_document_bytes,
            },
            "metadatas": {
                "raw_bytes": info.raw_metadata_bytes,
                "stored_bytes": info.stored_metadata_bytes,
            },
        }


def _is_indexed(info: _engine.CollectionInfo) -> bool:
    """Whether the graph is done although other work goes on, if only a look for any."""
    return info.rows < info.index_rows or not info.unindexed_rows


def _left_to_index(info: _engine.CollectionInfo) -> int:
    """Rows that the graph is to have and has not: none below its threshold, nor in a short tail."""
    if info.rows < info.index_rows:
        return 0
    tail = info.memtable_rows if info.memtable_rows < _engine.TAIL_ROWS else 0
    return max(0, info.unindexed_rows - tail)
