"""chromadb's Client, with collections of a class of ours."""

from __future__ import annotations

import abc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from chromadb.api.client import Client
from chromadb.api.types import DefaultEmbeddingFunction
from typing_extensions import override

from vexfs_chroma._collection import Collection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
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

    # -- beyond chromadb ---------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several writes, to any collections, of which all happen or none does.

            with client.transaction():
                chunks.delete(where={"document": "a"})
                chunks.add(ids=..., documents=...)
                sources.upsert(ids=["a"], metadatas=[{"chunks": 7}])

        add(), update(), upsert() and delete() of collections of this directory (on a server: of the
        client's database), called in the block by the same thread or task, are kept, and carried
        out when it ends: in their order, and all or none of them, also when the process is killed
        or the machine stops in between.  When the block raises, nothing is written.  Reads in the
        block see what was there before it.  What a write would raise is raised at once, or at the
        end, on a server with the number of the write (`steps[0]` is the first).  delete() with a
        filter comes before every other write of the block to its collection.  Everything else
        (creating collections, say) is not part of it.  Others see one collection a moment before
        the next.

        A disk that fails or is full after the transaction is stored raises, too, and it happens all
        the same: before the next write, or when the database is opened.  The message says so.

        To a server all goes as one request, within the limits of one.  A connection that breaks
        before the answer leaves open whether all happened or nothing, as of any write.

        Raises:
            InvalidArgumentError: in another transaction; a filter after other writes; on a server,
                a collection of another database.
            NotOfferedError: the server is Chroma's.
        """
        with self._all_or_none():
            yield

    @abc.abstractmethod
    def _all_or_none(self) -> AbstractContextManager[None]:
        """The same, of the database that this is a client of."""
