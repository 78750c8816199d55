"""Records on their way out of a vexfs database and back in, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from chromadb.base_types import SparseVector

from vexfs_chroma._client import client_of_all

if TYPE_CHECKING:
    from collections.abc import Collection as CollectionOf
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from chromadb.types import Collection as CollectionModel
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vexfs_chroma._api import VexfsAPI

_EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]


@dataclass(slots=True)
class Page:
    """Some records: one row of `vectors` and one item of each list for each."""

    ids: list[str]
    vectors: NDArray[np.float32]
    documents: list[str | None]
    uris: list[str | None]
    metadatas: list[dict[str, Any] | None]

    def content(self) -> Iterator[dict[str, Any]]:
        """Everything but the vector of each record, as JSON knows it; nothing for None."""
        for id, document, uri, metadata in zip(
            self.ids, self.documents, self.uris, self.metadatas, strict=True
        ):
            record: dict[str, Any] = {"id": id}
            if document is not None:
                record["document"] = document
            if uri is not None:
                record["uri"] = uri
            if metadata:
                record["metadata"] = {k: _to_json(v) for k, v in metadata.items()}
            yield record


def metadata_from_json(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """The metadata that `content` made this of."""
    if not metadata:
        return None
    return {
        key: SparseVector.from_dict(value) if isinstance(value, dict) else value
        for key, value in metadata.items()
    }


def _to_json(value: Any) -> Any:
    return value.to_dict() if isinstance(value, SparseVector) else value


class SourceDatabase:
    """A vexfs database that is read, and only read."""

    def __init__(self, path: str | Path) -> None:
        """Raises NotFoundError when there is none."""
        try:
            self._client = client_of_all(path, read_only=True)
        except ValueError:  # it is open in this process, to be written
            self._client = client_of_all(path)
        self._api = cast("VexfsAPI", self._client._server)

    def close(self) -> None:
        """Close it.  Idempotent."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def databases(
        self, tenants: CollectionOf[str] | None, databases: CollectionOf[str] | None
    ) -> list[tuple[str, str]]:
        """(tenant, database) of all that were chosen; None or nothing chooses all."""
        return [
            (tenant, database["name"])
            for tenant in self._api.list_tenants()
            if not tenants or tenant in tenants
            for database in self._api.list_databases(tenant=tenant)
            if not databases or database["name"] in databases
        ]

    def collections(
        self, homes: list[tuple[str, str]], names: CollectionOf[str] | None
    ) -> list[CollectionModel]:
        """The chosen collections in these databases, oldest first."""
        return [
            model
            for tenant, database in homes
            for model in self._api.list_collections(tenant=tenant, database=database)
            if not names or model.name in names
        ]

    def newest(self, model: CollectionModel) -> CollectionModel:
        """What the collection is now; its dimension is known from the first record on."""
        return self._api.get_collection_by_id(model.id, model.tenant, model.database)

    def ids(self, collection: UUID) -> list[str]:
        """The ids of all records, in order of insertion."""
        return self._api._get(collection, include=[])["ids"]

    def pages(self, collection: UUID, ids: list[str], size: int) -> Iterator[Page]:
        """These records, `size` at a time, without those that were deleted meanwhile."""
        for first in range(0, len(ids), size):
            got = self._api._get(
                collection,
                ids=ids[first : first + size],
                include=_EVERYTHING,  # type: ignore[arg-type]
            )
            if got["ids"]:
                yield Page(
                    got["ids"],
                    np.asarray(got["embeddings"], np.float32),
                    cast("list[str | None]", got["documents"]),
                    cast("list[str | None]", got["uris"]),
                    cast("list[dict[str, Any] | None]", got["metadatas"]),
                )
