"""What our collections ask of their database beyond chromadb's ServerAPI.

VexfsAPI answers in this process, `_remote.py` over HTTP.  Filters come as the engine is to have
them: chromadb has checked its part.  Every method raises NotFoundError for a collection that was
deleted, and chromadb's errors as the methods of Collection document them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import numpy as np
    from chromadb.api.types import (
        DeleteResult,
        Embeddings,
        GetResult,
        IDs,
        Include,
        QueryResult,
        Where,
        WhereDocument,
    )
    from numpy.typing import NDArray

    from vexfs_chroma._aggregates import KeySummary, Value, ValueCount
    from vexfs_chroma._api_pages import Order
    from vexfs_chroma._memory import MemoryReport
    from vexfs_chroma._query_plan import QueryPlan
    from vexfs_chroma._recall import RecallReport


class Extensions(Protocol):
    """A database of ours, wherever it is."""

    # -- records: chromadb's operations, also in a form that needs no conversion -------------------

    def _get(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: WhereDocument | None = None,
        include: Include = ...,
    ) -> GetResult:
        """The selected records in order of insertion."""

    def _delete(self, collection_id: UUID, ids: IDs | None = None) -> DeleteResult:
        """Delete records by id."""

    def write_plain(
        self,
        op: str,
        collection_id: UUID,
        ids: list[str],
        vectors: NDArray[np.float32] | None,
        documents: list[str | None] | None,
        metadatas: list[dict[str, Any] | None] | None,
    ) -> None:
        """Add, update or upsert (`op`) what `_plain` found to need no conversion."""

    def query_records(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings | NDArray[np.float32],
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
        include: Include,
        *,
        exact: bool = False,
    ) -> QueryResult:
        """The nearest records of each query; `exact`: without the graph."""

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
        """How query_records is answered."""

    def get_ordered(
        self,
        collection_id: UUID,
        ids: Any,
        where: Any,
        where_document: Any,
        include: Any,
        order: Order,
        limit: int | None,
        offset: int | None,
    ) -> tuple[GetResult, str | None]:
        """Records in an order, and the token of the next page; None when there is none."""

    # -- metadata ----------------------------------------------------------------------------------

    def takes_text_ranges(self, collection_id: UUID, key: str) -> bool:
        """Whether a key may be compared with a text by order."""

    def count_records(self, collection_id: UUID, where: Any, where_document: Any) -> int:
        """How many records meet both filters."""

    def distinct_values(
        self, collection_id: UUID, key: str, where: Any, where_document: Any, limit: int | None
    ) -> list[Value]:
        """The different values under a key, ascending."""

    def value_counts(
        self,
        collection_id: UUID,
        keys: Sequence[str],
        where: Any,
        where_document: Any,
        limit: int | None,
    ) -> dict[str, list[ValueCount]]:
        """The values under each key with their records, most first."""

    def value_range(
        self, collection_id: UUID, key: str, where: Any, where_document: Any
    ) -> tuple[Value, Value] | None:
        """The least and the greatest value under a key; None when there is none."""

    def key_summaries(
        self, collection_id: UUID, where: Any, where_document: Any
    ) -> dict[str, KeySummary]:
        """How many records have each key, and of which types."""

    # -- the index and the collection as a whole ---------------------------------------------------

    def recall_check(self, collection_id: UUID, n: int, k: int, seed: int) -> RecallReport:
        """How many of the nearest of n records queries find."""

    def reindex_collection(
        self,
        id: UUID,
        space: str | None,
        max_neighbors: int | None,
        ef_construction: int | None,
    ) -> None:
        """Change what is not None, and have the graph built anew."""

    def reembed_collection(
        self,
        id: UUID,
        embed: Callable[[list[str]], Any],
        function: dict[str, Any] | None,
        batch_size: int,
        progress: Callable[[int, int], None] | None,
    ) -> int:
        """Give all records embeddings of their documents; returns how many there are."""

    def wait_for_index(self, collection_id: UUID, timeout: float | None = None) -> None:
        """Have everything that is written by now in the graph; raises TimeoutError."""

    def collection_stats(self, collection_id: UUID) -> dict[str, Any]:
        """How the collection is stored and indexed."""

    def collection_memory(self, id: UUID) -> MemoryReport:
        """What the collection has in memory."""

    def expire_records(self, id: UUID) -> int:
        """Delete the records that have expired; returns how many."""

    def unload_collection(self, id: UUID) -> None:
        """Give back the memory of what can be loaded again."""
