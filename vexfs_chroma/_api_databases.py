"""Tenants and databases: names in the catalog."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from chromadb.api import ServerAPI
from chromadb.config import DEFAULT_TENANT
from chromadb.errors import NotFoundError
from chromadb.types import Database, Tenant
from typing_extensions import override

from vexfs_chroma._api_records import as_count
from vexfs_chroma._names import check_database_name, check_str, check_tenant_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma import _engine
    from vexfs_chroma._catalog import Catalog, Removed


class DatabaseOperations(ServerAPI):
    """The part of the interface that is about tenants and databases."""

    @abc.abstractmethod
    def _opened(self) -> tuple[Catalog, _engine.Database]:
        """Catalog and engine."""

    @abc.abstractmethod
    def _drop(self, removed: Removed) -> None:
        """Remove directories of collections that the catalog no longer has."""

    @override
    def create_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        check_database_name(name)
        check_str("tenant", tenant)
        self._opened()[0].create_database(name, tenant)

    @override
    def get_database(self, name: str, tenant: str = DEFAULT_TENANT) -> Database:
        check_database_name(name)
        check_str("tenant", tenant)
        found = self._opened()[0].find_database(name, tenant)
        if found is None:
            raise NotFoundError(f"Database [{name}] not found. Are you sure it exists?")
        return Database(id=found.id, name=found.name, tenant=found.tenant)

    @override
    def delete_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        check_str("name", name)
        check_str("tenant", tenant)
        self._drop(self._opened()[0].delete_database(name, tenant))

    @override
    def list_databases(
        self,
        limit: int | None = None,
        offset: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Sequence[Database]:
        limit, offset = as_count("limit", limit), as_count("offset", offset)
        found = self._opened()[0].list_databases(tenant, limit, offset or 0)
        return [Database(id=d.id, name=d.name, tenant=d.tenant) for d in found]

    @override
    def create_tenant(self, name: str) -> None:
        check_tenant_name(name)
        self._opened()[0].create_tenant(name)

    @override
    def get_tenant(self, name: str) -> Tenant:
        check_str("name", name)
        if not self._opened()[0].has_tenant(name):
            raise NotFoundError(f"Tenant [{name}] not found")
        return Tenant(name=name)

    def list_tenants(self) -> list[str]:
        """All tenants, by name; chromadb's interface has no such call."""
        return self._opened()[0].list_tenants()
