"""Handlers of routes on tenants, databases and collections."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError, NotFoundError

from vexfs_chroma._names import is_ip_address
from vexfs_chroma._server._bodies import Sparse, unfit
from vexfs_chroma._server._errors import invalid
from vexfs_chroma._server._json import encode
from vexfs_chroma._server._records import EMPTY, collection_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chromadb.types import Collection, Database

    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._bodies import CreateCollection, UpdateCollection
    from vexfs_chroma._server._request import Request

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")


def list_tenants(app: App, request: Request) -> bytes:
    """GET /vexfs/tenants: the names of those that the caller reaches."""
    limit, offset = _page(app, request)
    principal, found = request.principal, app.api.list_tenants()
    if principal is not None:
        found = [name for name in found if principal.reaches(name, None)]
    page = found[offset or 0 :] if limit is None else found[offset or 0 :][:limit]
    return encode({"total": len(found), "tenants": page})


def create_tenant(app: App, request: Request) -> bytes:
    """POST /tenants."""
    app.api.create_tenant(request.payload.name)
    return EMPTY


def get_tenant(app: App, request: Request) -> bytes:
    """GET /tenants/{tenant}."""
    return encode({"name": app.api.get_tenant(request.values[0])["name"], "resource_name": None})


def update_tenant(app: App, request: Request) -> bytes:
    """PATCH /tenants/{tenant}: takes a name that is of use in Chroma's cloud alone."""
    return EMPTY


def list_databases(app: App, request: Request) -> bytes:
    """GET /tenants/{tenant}/databases: those that the caller reaches."""
    limit, offset = _page(app, request)
    tenant, principal = request.values[0], request.principal
    if principal is None or principal.databases == ("*",):
        found = app.api.list_databases(limit, offset, tenant)
    else:
        every = app.api.list_databases(None, None, tenant)
        reached = [d for d in every if principal.reaches(tenant, d["name"])][offset or 0 :]
        found = reached if limit is None else reached[:limit]
    return encode([_database(database) for database in found])


def create_database(app: App, request: Request) -> bytes:
    """POST /tenants/{tenant}/databases."""
    name = request.payload.name
    if not _NAME.fullmatch(name):
        raise invalid(
            "Expected a name containing 3-512 characters from [a-zA-Z0-9._-], starting and ending "
            f"with a character in [a-zA-Z0-9]. Got: {name}"
        )
    if ".." in name:
        raise invalid(
            f"Expected a name that does not contains two consecutive periods (..). Got {name}"
        )
    if is_ip_address(name):
        raise invalid(f"Expected a name that is not a valid ip address. Got {name}")
    app.check_reach(request, request.values[0], name)
    app.api.create_database(name, request.values[0])
    return EMPTY


def get_database(app: App, request: Request) -> bytes:
    """GET /tenants/{tenant}/databases/{database}."""
    tenant, database = request.values
    return encode(_database(app.api.get_database(database, tenant)))


def delete_database(app: App, request: Request) -> bytes:
    """DELETE /tenants/{tenant}/databases/{database}."""
    tenant, database = request.values
    app.api.delete_database(database, tenant)
    return EMPTY


def _database(database: Database) -> dict[str, Any]:
    return {"id": str(database["id"]), "name": database["name"], "tenant": database["tenant"]}


# The place in a configuration or schema, which is only a part of the body.
_AT_COLUMN = re.compile(r" at line \d+ column \d+$")

# -- collections -----------------------------------------------------------------------------------


def list_collections(app: App, request: Request) -> bytes:
    """GET .../collections."""
    limit, offset = _page(app, request)
    tenant, database = request.values
    found = app.api.list_collections(limit, offset, tenant, database)
    return encode([_collection(collection) for collection in found])


def count_collections(app: App, request: Request) -> bytes:
    """GET .../collections_count."""
    tenant, database = request.values
    return encode(app.api.count_collections(tenant, database))


def create_collection(app: App, request: Request) -> bytes:
    """POST .../collections."""
    body: CreateCollection = request.payload
    tenant, database = request.values
    metadata = _metadata("metadata", body.metadata, keep_none=False)
    with _typed():
        made = app.api.create_collection_from_json(
            body.name,
            body.schema,
            body.configuration,
            metadata,
            get_or_create=body.get_or_create,
            tenant=tenant,
            database=database,
        )
    return encode(_collection(made))


def get_collection(app: App, request: Request) -> bytes:
    """GET .../collections/{name}."""
    tenant, database, name = request.values
    return encode(_collection(app.api.get_collection(name, tenant, database)))


def get_collection_by_id(app: App, request: Request) -> bytes:
    """GET .../collections/by-id/{id}."""
    tenant, database, id = request.values
    return encode(_collection(app.api.get_collection_by_id(id, tenant, database)))


def get_collection_by_crn(app: App, request: Request) -> bytes:
    """GET /collections/{tenant}:{database}:{name}."""
    parts = request.values[0].split(":")
    if len(parts) != 3:
        raise invalid("a collection resource name is tenant:database:collection")
    tenant, database, name = parts
    app.check_reach(request, tenant, database)
    return encode(_collection(app.api.get_collection(name, tenant, database)))


def update_collection(app: App, request: Request) -> bytes:
    """PUT .../collections/{id}."""
    body: UpdateCollection = request.payload
    id = collection_id(request)
    metadata = _metadata("new_metadata", body.new_metadata, keep_none=True)
    with _typed():
        try:
            app.api.modify_collection_from_json(id, body.new_name, metadata, body.new_configuration)
        except NotFoundError as error:
            raise NotFoundError(f"Collection [{id}] does not exist.") from error
    return EMPTY


def delete_collection(app: App, request: Request) -> bytes:
    """DELETE .../collections/{name}."""
    tenant, database, name = request.values
    app.api.delete_collection(name, tenant, database)
    return EMPTY


def fork_collection(app: App, request: Request) -> bytes:
    """POST .../fork."""
    tenant, database, _ = request.values
    made = app.api._fork(collection_id(request), request.payload.new_name, tenant, database)
    return encode(_collection(made))


def fork_count(app: App, request: Request) -> bytes:
    """GET .../fork_count."""
    tenant, database, _ = request.values
    return encode({"count": app.api._fork_count(collection_id(request), tenant, database)})


def _collection(model: Collection) -> dict[str, Any]:
    configuration = dict(model.configuration_json)
    hnsw = configuration.get("hnsw")
    if hnsw:  # what Chroma's server leaves out
        configuration["hnsw"] = {
            key: value for key, value in hnsw.items() if key not in ("num_threads", "batch_size")
        }
    return {
        "id": str(model.id),
        "name": model.name,
        "configuration_json": configuration,
        "schema": model.serialized_schema,
        "metadata": model.metadata,
        "dimension": model.dimension,
        "tenant": model.tenant,
        "database": model.database,
        "log_position": model.log_position,
        "version": model.version,
    }


def _metadata(
    field: str, metadata: dict[str, Any] | None, *, keep_none: bool
) -> dict[str, Any] | None:
    if metadata is None:
        return None
    for key, value in metadata.items():
        if isinstance(value, list | Sparse):  # where Chroma's server falls down
            raise invalid(
                f"Validation error: {field}: Metadata of a collection cannot hold a list: {key}"
            )
        if value is None and not keep_none:
            raise unfit(f"null is no value of metadata - at `$.{field}.{key}`")
    return metadata


@contextlib.contextmanager
def _typed() -> Iterator[None]:
    """What Chroma's server finds out when it reads the body (422), ours does when it is used."""
    try:
        yield
    except InvalidArgumentError as error:
        if _AT_COLUMN.search(str(error)):
            text = _AT_COLUMN.sub("", str(error))
            if text == "expected value":  # a name that is no string is no JSON to Chroma
                raise invalid(f"Failed to parse the request body as JSON: {text}") from error
            raise unfit(text) from error
        raise


def _page(app: App, request: Request) -> tuple[int | None, int | None]:
    if not request.query:
        return None, None
    values = app.query_values(request)
    limit, offset = (_number(name, values.get(name)) for name in ("limit", "offset"))
    return limit, offset


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise invalid(f"Failed to deserialize query string: {name}: invalid digit found in string")
    if len(text) > 10 or int(text) >= 2**32:
        raise invalid(
            f"Failed to deserialize query string: {name}: number too large to fit in target type"
        )
    return int(text)
