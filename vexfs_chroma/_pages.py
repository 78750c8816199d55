"""Pages: records in an order, and all records batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import IncludeMetadataDocuments
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._api_pages import read_order
from vexfs_chroma._api_records import as_count
from vexfs_chroma._names import as_integer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chromadb.api.types import GetResult, Include, Where, WhereDocument

    from vexfs_chroma._extensions import Extensions


class Pages(ChromaCollection):
    """Reading a collection from one end to the other."""

    if TYPE_CHECKING:

        @property
        def _api(self) -> Extensions: ...
        def _nest(self, found: Any) -> None: ...

    def iter_batches(
        self,
        batch_size: int = 1000,
        *,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocuments,
    ) -> Iterator[GetResult]:
        """All records, or those that meet the filters, in batches, as get() gives them.

        Which records these are, and their order (of insertion), is settled when the first batch is
        asked for: what is added later is left out.  A record that is deleted before its batch is
        read is left out, so a batch may be smaller; one that is changed is given as it is then.
        Keeps the ids of all records in memory meanwhile.

        Args:
            batch_size: Records in a batch, at least 1.
            where: A filter on metadata.
            where_document: A filter on documents.
            include: As for get().

        Raises:
            InvalidArgumentError: A `batch_size` that there is not.
            ValueError: What get() refuses; when the first batch is asked for.
        """
        size = as_integer(batch_size)
        if size is None or size < 1:
            raise InvalidArgumentError(f"batch_size must be a positive int, got {batch_size!r}")
        return self._batches(size, where, where_document, include)

    def _batches(
        self, size: int, where: Any, where_document: Any, include: Include
    ) -> Iterator[GetResult]:
        ids = self.get(where=where, where_document=where_document, include=[])["ids"]
        for start in range(0, len(ids), size):
            batch = self.get(ids=ids[start : start + size], include=include)
            if batch["ids"]:
                yield batch

    def _get_ordered(
        self,
        ids: Any,
        where: Any,
        limit: int | None,
        offset: int | None,
        where_document: Any,
        include: Include,
        order_by: Any,
        descending: Any,
        after: Any,
    ) -> GetResult:
        """get() in an order, with the token of the next page."""
        order = read_order(order_by, descending, after)
        limit, offset = as_count("limit", limit), as_count("offset", offset)
        request = self._validate_and_prepare_get_request(ids, where, where_document, include)
        found, token = self._api.get_ordered(
            self.id,
            request["ids"],
            request["where"],
            request["where_document"],
            request["include"],
            order,
            limit,
            offset,
        )
        result = self._transform_get_response(response=found, include=request["include"])
        self._nest(result)
        result["next"] = token  # type: ignore[typeddict-unknown-key]
        return result
