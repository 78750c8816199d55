"""chromadb's Client, with collections of a class of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from chromadb.api.client import Client
from chromadb.api.types import DefaultEmbeddingFunction
from typing_extensions import override

from vexfs_chroma._collection import Collection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from chromadb.api.collection_configuration import CreateCollectionConfiguration
    from chromadb.api.types import (
        CollectionMetadata,
        DataLoader,
        EmbeddingFunction,
        Loadable,
        Schema,
    )

CollectionT = TypeVar("CollectionT", bound=Collection)

_DEFAULT_EMBEDDING: EmbeddingFunction[Any] = cast(
    "EmbeddingFunction[Any]", DefaultEmbeddingFunction()
)


class CollectionsClient(Client, Generic[CollectionT]):
    """chromadb's Client, whose collections are of `_collection_class`."""

    _collection_class: type[CollectionT]

    @override
    def list_collections(
        self, limit: int | None = None, offset: int | None = None
    ) -> Sequence[CollectionT]:
        return [
            self._collection_class.from_chroma(found)
            for found in super().list_collections(limit, offset)
        ]

    @override
    def create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: CollectionMetadata | None = None,
        embedding_function: EmbeddingFunction[Any] | None = _DEFAULT_EMBEDDING,
        data_loader: DataLoader[Loadable] | None = None,
        get_or_create: bool = False,
    ) -> CollectionT:
        return self._collection_class.from_chroma(
            super().create_collection(
                name=name,
                schema=schema,
                configuration=configuration,
                metadata=metadata,
                embedding_function=embedding_function,
                data_loader=data_loader,
                get_or_create=get_or_create,
            )
        )

    @override
    def get_collection(
        self,
        name: str,
        embedding_function: EmbeddingFunction[Any] | None = _DEFAULT_EMBEDDING,
        data_loader: DataLoader[Loadable] | None = None,
    ) -> CollectionT:
        return self._collection_class.from_chroma(
            super().get_collection(name, embedding_function, data_loader)
        )

    @override
    def get_collection_by_id(
        self,
        id: UUID,
        embedding_function: EmbeddingFunction[Any] | None = _DEFAULT_EMBEDDING,
        data_loader: DataLoader[Loadable] | None = None,
    ) -> CollectionT:
        return self._collection_class.from_chroma(
            super().get_collection_by_id(id, embedding_function, data_loader)
        )

    @override
    def get_or_create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: CollectionMetadata | None = None,
        embedding_function: EmbeddingFunction[Any] | None = _DEFAULT_EMBEDDING,
        data_loader: DataLoader[Loadable] | None = None,
    ) -> CollectionT:
        return self._collection_class.from_chroma(
            super().get_or_create_collection(
                name=name,
                schema=schema,
                configuration=configuration,
                metadata=metadata,
                embedding_function=embedding_function,
                data_loader=data_loader,
            )
        )
