"""Writes a directory of Chroma's, with chromadb's own engine."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any, cast

from chromadb.api.client import Client
from chromadb.base_types import SparseVector
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError

from vexfs_chroma import _install
from vexfs_chroma._migrate._source import schema_parameters

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from chromadb.types import Collection as CollectionModel
    from typing_extensions import Self

    from vexfs_chroma._migrate._pages import Page

_IMPLEMENTATION = "chromadb.api.rust.RustBindingsAPI"


class ChromaWriter:
    """A directory of Chroma's that is being written."""

    def __init__(self, path: Path) -> None:
        if _install.is_installed():
            raise InvalidArgumentError(
                "chromadb is served by vexfs_chroma in this process, so it cannot write a Chroma "
                "directory; call vexfs_chroma.uninstall() first"
            )
        settings = Settings(
            chroma_api_impl=_IMPLEMENTATION,
            is_persistent=True,
            persist_directory=str(path),
            anonymized_telemetry=False,
        )
        self._path = path
        self._client = Client(settings=settings)
        self._api: Any = self._client._server
        self._admin = self._client._admin_client  # one of our own would outlive close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def make_database(self, tenant: str, database: str) -> None:
        """Make a database, and its tenant, if they are not there."""
        if tenant != DEFAULT_TENANT:
            try:
                self._admin.get_tenant(tenant)
            except NotFoundError:
                with contextlib.suppress(InvalidArgumentError):  # its databases can do without
                    self._admin.create_tenant(tenant)
        if (tenant, database) != (DEFAULT_TENANT, DEFAULT_DATABASE):
            self._admin.create_database(database, tenant)

    def collection(self, model: CollectionModel, rows: int) -> _Sink:
        """A new collection like this one."""
        return _Sink(self._path, self._api, self._create(model), model)

    def _create(self, model: CollectionModel) -> UUID:
        """Create it by its schema; or by its configuration, if Chroma then shows another one.

        Chroma drops the embedding function of a schema that says nothing but the defaults.
        """
        try:
            made = self._create_from(model, None, json.dumps(model.serialized_schema))
        except ChromaError:
            made = None
        if made is None or made.configuration != model.configuration_json:
            if made is not None:
                self._api.delete_collection(model.name, model.tenant, model.database)
            configuration = {
                "hnsw": schema_parameters(model.serialized_schema),
                "embedding_function": model.configuration_json["embedding_function"],
            }
            made = self._create_from(model, json.dumps(configuration), None)
        return cast("UUID", made.id)

    def _create_from(
        self, model: CollectionModel, configuration: str | None, schema: str | None
    ) -> Any:
        return self._api.bindings.create_collection(
            model.name,
            configuration,
            schema,
            model.metadata or None,
            False,
            model.tenant,
            model.database,
        )


class _Sink:
    """A collection that is being written."""

    def __init__(self, path: Path, api: Any, id: UUID, model: CollectionModel) -> None:
        self._path, self._api, self._id, self._name = path, api, id, model.name
        self._home = {"tenant": model.tenant, "database": model.database}
        self._most: int = api.get_max_batch_size()
        self.incomplete = 0
        """Records without their sparse vectors, which a local database of Chroma cannot have."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nothing stays of a collection that could not be read to its end: nobody could tell."""
        if kind is not None and issubclass(kind, ChromaError):
            self._api.delete_collection(self._name, **self._home)

    def write(self, page: Page) -> None:
        """Append some records."""
        metadatas = [self._storable(metadata) for metadata in page.metadatas]
        for first in range(0, len(page.ids), self._most):
            part = slice(first, first + self._most)
            try:
                self._api._add(
                    page.ids[part],
                    self._id,
                    list(page.vectors[part]),
                    metadatas[part],
                    page.documents[part],
                    page.uris[part],
                    **self._home,
                )
            except ChromaError as error:
                raise self._failed(error) from error

    def _failed(self, error: ChromaError) -> OSError:
        """What failed in Chroma ends the export: it may hang when it is asked for anything more.

        It does not always say that a disk is full.
        """
        free = shutil.disk_usage(self._path).free
        return OSError(
            f"nothing of the export was kept, as Chroma could not write collection {self._name}: "
            f"{error} ({free >> 20} MiB are free where it goes)"
        )

    def _storable(self, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
        kept = {
            key: value
            for key, value in (metadata or {}).items()
            if not isinstance(value, SparseVector) and value != []
        }
        self.incomplete += len(kept) < len(metadata or {})
        return kept or None

    def count(self) -> int:
        """How many records Chroma counts."""
        return int(self._api._count(self._id, **self._home))
