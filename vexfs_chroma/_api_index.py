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

    def takes_text_ranges(self, collection_id: UUID, key: str) -> bool:
        """Whether a key may be compared with a text by order: it has strings, or nothing yet."""
        with self._using(collection_id) as collection:
            types = collection.engine.metadata_keys().get(key, 0)
        return not types or bool(types & _engine.KEY_STRING)

    def wait_for_index(self, collection_id: UUID, timeout: float | None = None) -> None:
        """Have everything that is written by now in the graph, where one is wanted."""
        with self._using(collection_id) as collection:
            try:
                collection.engine.wait_for_index(timeout)
            except TimeoutError:
                # Other work may go on, if only a look at whether there is any.
                info = collection.engine.info()
                if info.rows >= info.index_rows and info.unindexed_rows:
                    raise

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


def _left_to_index(info: _engine.CollectionInfo) -> int:
    """Rows that the graph is to have and has not: none below its threshold, nor in a short tail."""
    if info.rows < info.index_rows:
        return 0
    tail = info.memtable_rows if info.memtable_rows < _engine.TAIL_ROWS else 0
    return max(0, info.unindexed_rows - tail)
