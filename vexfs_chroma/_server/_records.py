"""Handlers of routes on records: .../collections/{collection_id}/..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import orjson
from chromadb.api.types import ReadLevel

from vexfs_chroma._server import _vectors
from vexfs_chroma._server._bodies import as_metadatas
from vexfs_chroma._server._errors import HttpError, invalid
from vexfs_chroma._server._json import encode, nested
from vexfs_chroma._server._limits import check_filters, check_results, check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._bodies import (
        AddRecords,
        DeleteRecords,
        GetRecords,
        QueryRecords,
        UpdateRecords,
    )
    from vexfs_chroma._server._request import Request

EMPTY = b"{}"
_READ_LEVELS = tuple(level.value for level in ReadLevel)


def collection_id(request: Request) -> UUID:
    """The collection that the path names."""
    try:
        return UUID(request.values[2])
    except ValueError as error:
        raise invalid("Collection ID is not a valid UUIDv4") from error


# -- writes ----------------------------------------------------------------------------------------


def add(app: App, request: Request) -> bytes:
    """POST .../add."""
    return _write(app, request, "add")


def upsert(app: App, request: Request) -> bytes:
    """POST .../upsert."""
    return _write(app, request, "upsert")


def _write(app: App, request: Request, op: str) -> bytes:
    body: AddRecords = request.payload
    id, limits = collection_id(request), app.config.limits
    check_rows(len(body.ids), limits)
    vectors = _vectors.rows_of(body.embeddings, limits.dimension)
    _check_lengths(body, 0 if vectors is None else len(vectors))
    metadatas = as_metadatas(
        body.metadatas, keep_none=op != "add", keep_empty=lambda: app.api.keeps_empty_lists(id)
    )
    if len(set(body.ids)) == len(body.ids):
        if body.ids:
            app.api.write_columns(op, id, body.ids, vectors, body.documents, metadatas, body.uris)
        return EMPTY
    parts = list(_unlike(body.ids, keep_first=op == "add"))
    if len(parts) > 1:  # what is refused has done nothing
        app.api.check_columns(op, id, body.ids, vectors, metadatas, body.uris)
    for rows in parts:
        part = _Part(rows)
        app.api.write_columns(
            op,
            id,
            part.of(body.ids),
            None if vectors is None else vectors[rows],
            part.of(body.documents),
            part.of(metadatas),
            part.of(body.uris),
        )
    return EMPTY


def update(app: App, request: Request) -> bytes:
    """POST .../update: records with an embedding and records without are two batches."""
    body: UpdateRecords = request.payload
    id, limits = collection_id(request), app.config.limits
    check_rows(len(body.ids), limits)
    present, vectors = _vectors.some_rows_of(body.embeddings, limits.dimension)
    _check_lengths(body, len(body.ids) if present is None else len(present))
    metadatas = as_metadatas(
        body.metadatas, keep_none=True, keep_empty=lambda: app.api.keeps_empty_lists(id)
    )
    place = {row: i for i, row in enumerate(r for r, has in enumerate(present or ()) if has)}
    parts = [
        some
        for rows in _unlike(body.ids)
        for some in ([r for r in rows if r in place], [r for r in rows if r not in place])
        if some
    ]
    if len(parts) > 1:  # what is refused has done nothing
        app.api.check_columns("update", id, body.ids, vectors, metadatas, body.uris)
    for some in parts:
        part, some_vectors = _Part(some), None
        if vectors is not None and some[0] in place:
            some_vectors = vectors[[place[row] for row in some]]
        app.api.write_columns(
            "update",
            id,
            part.of(body.ids),
            some_vectors,
            part.of(body.documents),
            part.of(metadatas),
            part.of(body.uris),
        )
    return EMPTY


class _Part:
    """Some rows of every column."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows

    def of(self, column: Any) -> Any:
        return None if column is None else [column[row] for row in self._rows]


def _unlike(ids: Sequence[str], *, keep_first: bool = False) -> Iterator[list[int]]:
    """The rows, in batches that have no id twice: the engine takes nothing else.

    An id that is given again comes in a later batch, or not at all.
    """
    seen: set[str] = set()
    rows: list[int] = []
    for row, id in enumerate(ids):
        if id in seen:
            if keep_first:
                continue
            yield rows
            seen, rows = set(), []
        seen.add(id)
        rows.append(row)
    if rows:
        yield rows


def _check_lengths(body: AddRecords | UpdateRecords, vectors: int) -> None:
    n = len(body.ids)
    columns = (body.metadatas, body.documents, body.uris)
    if vectors != n or any(column is not None and len(column) != n for column in columns):
        raise invalid("Inconsistent number of IDs, embeddings, documents, URIs and metadatas")


def delete(app: App, request: Request) -> bytes:
    """POST .../delete."""
    body: DeleteRecords = request.payload
    id = collection_id(request)
    check_filters(body.where, body.where_document, app.config.limits)
    is_filtered = body.where is not None or body.where_document is not None
    if body.limit is not None and not is_filtered:
        raise invalid(
            "Validation error: limit, where: limit can only be specified when a where clause is "
            "provided"
        )
    ids = body.ids
    if ids and not is_filtered and len(set(ids)) != len(ids):
        ids = list(dict.fromkeys(ids))
    done = app.api._delete(id, ids, body.where, body.where_document, body.limit)
    deleted = len(body.ids) if body.ids and not is_filtered else done["deleted"]
    return encode({"deleted": deleted})


# -- reads -----------------------------------------------------------------------------------------


def get(app: App, request: Request) -> bytes:
    """POST .../get."""
    body: GetRecords = request.payload
    id = collection_id(request)
    check_filters(body.where, body.where_document, app.config.limits)
    rows = app.api.get_rows(
        id, body.ids, body.where, body.limit, body.offset, body.where_document, list(body.include)
    )
    return encode(
        {
            "ids": rows.ids,
            "embeddings": rows.vectors,
            "documents": rows.documents,
            "uris": rows.uris,
            "metadatas": rows.metadatas,
            "include": body.include,
        }
    )


def query(app: App, request: Request) -> bytes:
    """POST .../query."""
    return nearest_records(app, request)


def nearest_records(app: App, request: Request, *, exact: bool = False) -> bytes:
    """The answer to a query."""
    body: QueryRecords = request.payload
    id, limits = collection_id(request), app.config.limits
    check_filters(body.where, body.where_document, limits)
    include = body.include
    queries = _vectors.rows_of(body.query_embeddings, limits.dimension, base64=False)
    k = 10 if body.n_results is None else body.n_results
    n = 0 if queries is None else len(queries)
    check_results(n, k, limits)
    if queries is None or not k:
        app.api._count(id)  # is there such a collection?
        return encode(_nearest({}, [0] * n, include))
    rows = app.api.query_rows(
        id, queries, body.ids, k, body.where, body.where_document, list(include), exact=exact
    )
    return encode(_nearest(_columns(rows), rows.counts, include))


def nearest_together(app: App, requests: Sequence[Request]) -> list[bytes] | None:
    """The answers to queries that differ in their vectors only, by one call; None: not so."""
    body: QueryRecords = requests[0].payload
    id, limits = collection_id(requests[0]), app.config.limits
    check_filters(body.where, None, limits)
    k = 10 if body.n_results is None else body.n_results
    parts = [
        _vectors.rows_of(r.payload.query_embeddings, limits.dimension, base64=False)
        for r in requests
    ]
    queries = [part for part in parts if part is not None]
    if len(queries) < len(parts) or len({part.shape[1] for part in queries}) > 1 or not k:
        return None
    for part in queries:
        check_results(len(part), k, limits)
    rows = app.api.query_rows_together(
        len(parts), id, np.concatenate(queries), k, body.where, list(body.include)
    )
    answers, query, row = [], 0, 0
    for part in queries:
        counts = rows.counts[query : query + len(part)]
        own = slice(row, row + sum(counts))
        found = {
            name: None if column is None else column[own] for name, column in _columns(rows).items()
        }
        answers.append(encode(_nearest(found, counts, body.include)))
        query, row = query + len(part), own.stop
    return answers


def _columns(rows: Any) -> dict[str, Any]:
    return {
        "ids": rows.ids,
        "embeddings": rows.vectors,
        "documents": rows.documents,
        "uris": rows.uris,
        "metadatas": rows.metadatas,
        "distances": rows.distances,
    }


def _nearest(found: dict[str, Any], counts: list[int], include: list[Any]) -> dict[str, Any]:
    """An answer to queries, of columns that are flat over all of them."""
    answer: dict[str, Any] = {"ids": nested(found.get("ids", ()), counts)}
    for name in ("embeddings", "documents", "uris", "metadatas", "distances"):
        answer[name] = nested(found.get(name, ()), counts) if name in include else None
    answer["include"] = include
    return answer


def search(app: App, request: Request) -> bytes:
    """POST .../search: the payloads go to the API as chromadb's Search objects give them."""
    from vexfs_chroma._server._search import search_objects

    body = request.payload
    found = app.api._search(
        collection_id(request),
        search_objects(body.searches, app.config.limits),
        read_level=ReadLevel(body.read_level),
    )
    return encode(dict(found))


def count(app: App, request: Request) -> bytes:
    """GET .../count."""
    level = request.query and app.query_values(request).get("read_level", _READ_LEVELS[0])
    if level and level not in _READ_LEVELS:
        known = ", ".join(f"`{name}`" for name in _READ_LEVELS)
        raise invalid(
            "Failed to deserialize query string: read_level: unknown variant "
            f"`{level}`, expected one of {known}"
        )
    if level:
        return b"%d" % app.api._count(collection_id(request), read_level=ReadLevel(level))
    return b"%d" % app.api._count(collection_id(request))


def indexing_status(app: App, request: Request) -> bytes:
    """GET .../indexing_status."""
    status = app.api._get_indexing_status(collection_id(request))
    return orjson.dumps(
        {
            "op_indexing_progress": status.op_indexing_progress,
            "num_unindexed_ops": status.num_unindexed_ops,
            "num_indexed_ops": status.num_indexed_ops,
            "total_ops": status.total_ops,
        }
    )


# -- what Chroma's server has for its cloud --------------------------------------------------------


def attach_function(app: App, request: Request) -> bytes:
    """POST .../functions/attach."""
    raise _no_functions()


def get_function(app: App, request: Request) -> bytes:
    """GET .../functions/{name}."""
    raise HttpError(404, "NotFoundError", "Attached function not found")


def detach_function(app: App, request: Request) -> bytes:
    """POST .../attached_functions/{name}/detach."""
    raise _no_functions()


def _no_functions() -> HttpError:
    return HttpError(501, "ChromaError", "attached functions are not supported by this server")
