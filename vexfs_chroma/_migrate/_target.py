"""The vexfs database that records are copied into.

A collection is filled under a name of its own, UNFINISHED and the one that it is to have, and gets
that one when it is whole.  So whatever ends the copying, no collection looks like one that is whole
and is not; one that is to be replaced is there until then; and the next attempt begins anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from chromadb.errors import ChromaError, InternalError, InvalidArgumentError, NotFoundError

from vexfs_chroma._client import client_of_all
from vexfs_chroma._errors import (
    CorruptionError,
    DatabaseLockedError,
    ReadOnlyError,
    StorageFullError,
    StoragePermissionError,
)
from vexfs_chroma._names import check_name, check_str

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from numpy.typing import NDArray
    from typing_extensions import Self

    from vexfs_chroma._api import VexfsAPI

CONFLICTS = ("fail", "skip", "replace")
UNFINISHED = "unfinished-import-"
_LONGEST = 400  # of the name behind it; a name has at most 512 characters

TARGET_FAILS = (
    CorruptionError,
    DatabaseLockedError,
    ReadOnlyError,
    StorageFullError,
    StoragePermissionError,
)
"""Errors that concern no collection, but the whole target."""


class ConflictError(ValueError):
    """Collections of these names are in the target already; nothing was changed."""


class Batch:
    """Records that are written together."""

    __slots__ = ("documents", "ids", "metadatas", "uris", "vectors")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.documents: list[str | None] = []
        self.uris: list[str | None] = []
        self.metadatas: list[dict[str, Any] | None] = []

    def append(
        self,
        id: str,
        vector: NDArray[np.float32],
        document: str | None,
        uri: str | None,
        metadata: dict[str, Any] | None,
    ) -> None:
        """Add one record."""
        self.ids.append(id)
        self.vectors.append(vector)
        self.documents.append(document)
        self.uris.append(uri)
        self.metadatas.append(metadata)

    def split(self) -> Iterator[Batch]:
        """Every record as a batch of its own."""
        for row in zip(
            self.ids, self.vectors, self.documents, self.uris, self.metadatas, strict=True
        ):
            single = Batch()
            single.append(*row)
            yield single


class Target:
    """An open vexfs database."""

    def __init__(self, path: str | Path) -> None:
        self._client = client_of_all(path)
        self._api = cast("VexfsAPI", self._client._server)

    def close(self) -> None:
        """Close it."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, tenant: str, database: str, name: str) -> bool:
        """Whether there is such a collection."""
        try:
            self._api.get_collection(name, tenant, database)
        except NotFoundError:
            return False
        return True

    def make_tenant(self, tenant: str) -> None:
        """Make a tenant if it is not there, and may have this name; databases can do without."""
        try:
            self._api.get_tenant(tenant)
        except NotFoundError:
            with contextlib.suppress(InvalidArgumentError):
                self._api.create_tenant(tenant)

    def make_database(self, tenant: str, database: str) -> None:
        """Make a database, and its tenant, if they are not there."""
        self.make_tenant(tenant)
        try:
            self._api.get_database(database, tenant)
        except NotFoundError:
            self._api.create_database(database, tenant)

    def check_name(self, name: str) -> None:
        """Raise when no collection can have this name; before it is filled under another one."""
        check_str("name", name)
        check_name("name", name)
        if name.startswith(UNFINISHED):
            raise InvalidArgumentError(
                f"an import that did not finish left it: {UNFINISHED} is how such names begin; "
                "delete it in the source, or rename it"
            )

    def create(
        self,
        tenant: str,
        database: str,
        name: str,
        metadata: dict[str, Any] | None,
        configuration: dict[str, Any] | None,
        schema: dict[str, Any] | None,
    ) -> UUID:
        """Begin a collection that is to have this name, by its schema if there is one."""
        self.abandon(tenant, database, name)
        begun = unfinished(name)
        if schema is not None:
            return self._api.restore_collection(begun, schema, metadata, tenant, database).id
        return self._api.create_collection_from_json(
            begun,
            None,
            configuration,
            metadata,
            get_or_create=False,
            tenant=tenant,
            database=database,
        ).id

    def finish(self, id: UUID, home: tuple[str, str, str], *, replaces: bool) -> None:
        """Give a collection that is whole its name, in the place of one that has it."""
        if not replaces and self.has(*home):
            raise InternalError(f"Collection [{home[2]}] already exists")
        self._api.take_name(id, home[2])

    def abandon(self, tenant: str, database: str, name: str) -> None:
        """Remove what was begun of a collection, if anything was."""
        with contextlib.suppress(NotFoundError):
            self._api.delete_collection(unfinished(name), tenant, database)

    def write(self, collection: UUID, batch: Batch) -> Iterator[tuple[Batch, str]]:
        """Write a batch.  Yields the records that are refused, one by one, and why."""
        try:
            self._add(collection, batch)
        except (InvalidArgumentError, TypeError, UnicodeEncodeError, ValueError) as error:
            if len(batch.ids) == 1:
                yield batch, _reason(error)
                return
            for single in batch.split():
                yield from self.write(collection, single)

    def _add(self, collection: UUID, batch: Batch) -> None:
        if not batch.ids:
            return
        lengths = set(map(len, batch.vectors))
        if len(lengths) > 1:
            raise InvalidArgumentError(f"vectors of {len(lengths)} different dimensions")
        self._api.restore_records(
            collection,
            batch.ids,
            np.stack(batch.vectors),
            batch.documents,
            batch.metadatas,
            batch.uris,
        )

    def count(self, collection: UUID) -> int:
        """How many records the collection has."""
        return self._api._count(collection)


def unfinished(name: str) -> str:
    """The name of a collection until it is whole."""
    if len(name) <= _LONGEST:
        return UNFINISHED + name
    return f"{UNFINISHED}{name[:_LONGEST]}x{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def existing(target: Target, wanted: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The collections among `wanted` (tenant, database, name) that are there already."""
    found = []
    for tenant, database, name in wanted:
        with contextlib.suppress(ChromaError, TypeError):
            if target.has(tenant, database, name):
                found.append((tenant, database, name))
    return found
