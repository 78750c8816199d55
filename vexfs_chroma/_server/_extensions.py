"""Handlers of routes beyond Chroma: .../collections/{collection_id}/vexfs/...

Each is a method of our collections, with the same arguments and errors.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from vexfs_chroma._aggregates import check_keys
from vexfs_chroma._api_pages import read_order
from vexfs_chroma._reindex import check_parameters
from vexfs_chroma._server import _vectors
from vexfs_chroma._server._auth import forbidden
from vexfs_chroma._server._errors import invalid
from vexfs_chroma._server._json import encode
from vexfs_chroma._server._limits import (
    check_filters,
    check_listed,
    check_results,
    check_values,
)
from vexfs_chroma._server._records import EMPTY, collection_id, nearest_records

if TYPE_CHECKING:
    from uuid import UUID

    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._bodies import (
        BuildIndex,
        CheckRecall,
        CountValues,
        ExplainQuery,
        GetOrdered,
        QueryExactly,
        RangeOfKey,
        Reindex,
        ValuesOfKey,
    )
    from vexfs_chroma._server._request import Request


def _selected(app: App, request: Request) -> tuple[UUID, Any, Any]:
    """The collection and the filters of the body, within the limits."""
    where, where_document = request.payload.where, request.payload.where_document
    id = collection_id(request)
    check_filters(where, where_document, app.config.limits)
    return id, where, where_document


# -- metadata --------------------------------------------------------------------------------------


def count_matching(app: App, request: Request) -> bytes:
    """POST .../vexfs/count: how many records meet the filters."""
    id, where, where_document = _selected(app, request)
    return b"%d" % app.api.count_records(id, where, where_document)


def distinct(app: App, request: Request) -> bytes:
    """POST .../vexfs/distinct: the different values of a metadata key, ascending."""
    body: ValuesOfKey = request.payload
    check_keys("distinct", [body.key])
    id, where, where_document = _selected(app, request)
    most = check_values(1, body.limit, app.config.limits)
    values = app.api.distinct_values(id, body.key, where, where_document, most)
    check_listed(1, len(values), body.limit, app.config.limits)
    return encode({"values": values})


def facets(app: App, request: Request) -> bytes:
    """POST .../vexfs/facets: the values of metadata keys with their records, most first."""
    body: CountValues = request.payload
    check_keys("facets", body.keys)
    id, where, where_document = _selected(app, request)
    keys = list(dict.fromkeys(body.keys))
    most = check_values(len(keys), body.limit, app.config.limits)
    found = app.api.value_counts(id, keys, where, where_document, most)
    longest = max(map(len, found.values()), default=0)
    check_listed(len(keys), longest, body.limit, app.config.limits)
    return encode(
        {
            "facets": {
                key: [{"value": one.value, "records": one.records} for one in values]
                for key, values in found.items()
            }
        }
    )


def min_max(app: App, request: Request) -> bytes:
    """POST .../vexfs/min_max: the least and the greatest value of a metadata key, or null."""
    body: RangeOfKey = request.payload
    check_keys("min_max", [body.key])
    id, where, where_document = _selected(app, request)
    return encode({"range": app.api.value_range(id, body.key, where, where_document)})


def metadata_keys(app: App, request: Request) -> bytes:
    """POST .../vexfs/keys: the metadata keys with their records and types."""
    id, where, where_document = _selected(app, request)
    found = app.api.key_summaries(id, where, where_document)
    return encode(
        {
            "keys": {
                key: {"records": about.records, "types": about.types}
                for key, about in found.items()
            }
        }
    )


# -- records ---------------------------------------------------------------------------------------


def get_ordered(app: App, request: Request) -> bytes:
    """POST .../vexfs/get: records in an order, and the token of the next page."""
    body: GetOrdered = request.payload
    id, where, where_document = _selected(app, request)
    order = read_order(body.order_by, body.descending, body.after)
    rows, token = app.api.ordered_rows(
        id,
        body.ids,
        where,
        where_document,
        list(body.include),
        order,
        body.limit,
        body.offset,
    )
    return encode(
        {
            "ids": rows.ids,
            "embeddings": rows.vectors,
            "documents": rows.documents,
            "uris": rows.uris,
            "metadatas": rows.metadatas,
            "include": body.include,
            "next": token,
        }
    )


def query_exactly(app: App, request: Request) -> bytes:
    """POST .../vexfs/query: query, which can be told to do without the graph."""
    body: QueryExactly = request.payload
    return nearest_records(app, request, exact=body.exact)


def explain(app: App, request: Request) -> bytes:
    """POST .../vexfs/explain: how a query is answered, which is tried out."""
    body: ExplainQuery = request.payload
    id, where, where_document = _selected(app, request)
    limits = app.config.limits
    queries = _vectors.rows_of(body.query_embeddings, limits.dimension, base64=False)
    if queries is None:
        raise invalid("Validation error: query_embeddings: there is nothing to explain")
    check_results(len(queries), body.n_results, limits)
    plan = app.api.query_plan(
        id, queries, body.ids, body.n_results, where, where_document, exact=body.exact
    )
    return encode(dataclasses.asdict(plan))


# -- the collection as a whole ---------------------------------------------------------------------


def recall_check(app: App, request: Request) -> bytes:
    """POST .../vexfs/recall_check: how many of the nearest records queries find."""
    body: CheckRecall = request.payload
    id, limits = collection_id(request), app.config.limits
    if body.n > limits.recall_queries:
        raise invalid(
            f"{body.n} records to search for, more than the server's limit of "
            f"{limits.recall_queries}"
        )
    check_results(max(body.n, 0), max(body.k, 0), limits)
    return msgspec.json.encode(app.api.recall_check(id, body.n, body.k, body.seed))


def collection_stats(app: App, request: Request) -> bytes:
    """GET .../vexfs/stats: how the collection is stored and indexed."""
    return encode(app.api.collection_stats(collection_id(request)))


def collection_memory(app: App, request: Request) -> bytes:
    """GET .../vexfs/memory: what the collection, and the process besides, has in memory."""
    if request.principal is not None and request.principal.is_limited:
        # It tells about the whole process, as /metrics does.
        raise forbidden(f"{request.principal.name} is limited to a tenant or database")
    return encode(dataclasses.asdict(app.api.collection_memory(collection_id(request))))


def reindex(app: App, request: Request) -> bytes:
    """POST .../vexfs/reindex: another distance or graph; indexing_status tells how far it is."""
    body: Reindex = request.payload
    id = collection_id(request)
    check_parameters(
        body.space, max_neighbors=body.max_neighbors, ef_construction=body.ef_construction
    )
    app.api.reindex_collection(id, body.space, body.max_neighbors, body.ef_construction)
    return EMPTY


def build_index(app: App, request: Request) -> bytes:
    """POST .../vexfs/build_index: have the graph built, and tell whether it is; waits for nothing.

    `flush`: write what is in memory into files first, so that the graph gets that, too.
    """
    body: BuildIndex = request.payload
    done = app.api.build_index(collection_id(request), flush=body.flush)
    return encode({"done": done})


def expire(app: App, request: Request) -> bytes:
    """POST .../vexfs/expire: delete the records that have expired, by the server's clock."""
    return encode({"deleted": app.api.expire_records(collection_id(request))})


def unload(app: App, request: Request) -> bytes:
    """POST .../vexfs/unload: give back the memory of what can be loaded again."""
    app.api.unload_collection(collection_id(request))
    return EMPTY
