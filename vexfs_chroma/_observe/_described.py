"""What a slow operation was about: each function takes the arguments of the method that it is for.

Shapes and numbers only, see _slow.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.execution.expression.plan import Search

from vexfs_chroma._observe._observer import watched
from vexfs_chroma._observe._slow import shape

if TYPE_CHECKING:
    from uuid import UUID


def _collection(api: Any, id: UUID) -> dict[str, Any]:
    with contextlib.suppress(Exception):  # it may be gone
        entry = api._catalog.find_collection_by_id(id)
        if entry is not None:
            return {
                "tenant": entry.tenant,
                "database": entry.database,
                "collection": entry.name,
            }
    return {"collection": str(id)}


def _selection(ids: Any, where: Any, where_document: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ids is not None:
        found["ids"] = len(ids)
    if where:
        found["where"] = shape(where)
    if where_document:
        found["where_document"] = shape(where_document)
    return found


def write(
    api: Any,
    _op: str,
    collection_id: UUID,
    ids: Any,
    vectors: Any,
    documents: Any,
    *_: Any,
    **__: Any,
) -> dict[str, Any]:
    """Of add, update and upsert."""
    found = _collection(api, collection_id) | {"rows": len(ids), "documents": documents is not None}
    if vectors is not None:
        found["dimension"] = int(vectors.shape[1])
    return found


def count(api: Any, collection_id: UUID, *_: Any, **__: Any) -> dict[str, Any]:
    """Of count."""
    return _collection(api, collection_id)


def get(
    api: Any,
    collection_id: UUID,
    ids: Any = None,
    where: Any = None,
    limit: int | None = None,
    offset: int | None = None,
    where_document: Any = None,
    include: Any = (),
    **_: Any,
) -> dict[str, Any]:
    """Of get."""
    found = _collection(api, collection_id) | _selection(ids, where, where_document)
    return found | {"limit": limit, "offset": offset, "include": sorted(include)}


def get_ordered(
    api: Any,
    collection_id: UUID,
    ids: Any,
    where: Any,
    where_document: Any,
    include: Any,
    order: Any,
    limit: int | None,
    offset: int | None,
) -> dict[str, Any]:
    """Of get in an order."""
    found = _collection(api, collection_id) | _selection(ids, where, where_document)
    found |= {"limit": limit, "offset": offset, "include": sorted(include)}
    return found | {"order_by": order.key, "descending": order.descending}


def count_records(api: Any, collection_id: UUID, where: Any, where_document: Any) -> dict[str, Any]:
    """Of count with filters."""
    return _collection(api, collection_id) | _selection(None, where, where_document)


def aggregate(
    api: Any,
    collection_id: UUID,
    kind: str,
    keys: Any,
    where: Any,
    where_document: Any,
    limit: int | None = None,
) -> dict[str, Any]:
    """Of distinct, facets, min_max and keys, which count, too."""
    found = _collection(api, collection_id) | _selection(None, where, where_document)
    names = None if keys is None else [str(key)[:100] for key in list(keys)[:16]]
    return found | {"aggregate": kind, "keys": names, "limit": limit}


def delete(
    api: Any,
    collection_id: UUID,
    ids: Any = None,
    where: Any = None,
    where_document: Any = None,
    limit: int | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Of delete."""
    found = _collection(api, collection_id) | _selection(ids, where, where_document)
    return found | {"limit": limit}


def transaction(_api: Any, kept: Any) -> dict[str, Any]:
    """Of the end of a transaction, whose writes are operations, too."""
    writes, collections = kept.size
    return {"writes": writes, "collections": collections}


def query(
    api: Any,
    collection_id: UUID,
    query_embeddings: Any,
    ids: Any,
    n_results: int,
    where: Any,
    where_document: Any,
    include: Any,
    *,
    exact: bool = False,
) -> dict[str, Any]:
    """Of query, with how it was answered."""
    found = _collection(api, collection_id) | _selection(ids, where, where_document)
    found |= {"k": n_results, "vectors": len(query_embeddings), "include": sorted(include)}
    if exact:
        found["exact"] = True
    with contextlib.suppress(Exception):  # nothing was asked yet
        found["plan"] = msgspec.to_builtins(watched.plan.read())
    return found


def _as_json(payload: Any) -> dict[str, Any]:
    """What of a search is described."""
    if isinstance(payload, dict):
        return payload
    if isinstance(payload, Search):
        return {"filter": None if payload._where is None else payload._where.to_dict()}
    return {}


def search(api: Any, collection_id: UUID, payloads: Any, *_: Any, **__: Any) -> dict[str, Any]:
    """Of search: filters alone, since rank expressions have values everywhere."""
    filters = [shape(one["filter"]) for one in map(_as_json, payloads) if "filter" in one]
    found = _collection(api, collection_id) | {"searches": len(payloads)}
    return found | {"where": filters[:4]} if filters else found
