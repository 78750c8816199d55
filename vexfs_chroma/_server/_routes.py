"""The routes: one table, which the router and the OpenAPI document are made from."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from vexfs_chroma._server import (
    _bodies,
    _collections,
    _extensions,
    _observing,
    _openapi,
    _page,
    _records,
    _system,
    _transaction,
    _tuning,
)
from vexfs_chroma._server._auth import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._request import Request, Response

    Handler = Callable[[App, Request], bytes | Response]

API = "/api/v2"
TENANT = API + "/tenants/{tenant}"
DATABASE = TENANT + "/databases/{database}"
COLLECTIONS = DATABASE + "/collections"
NAMED = COLLECTIONS + "/{name}"
COLLECTION = COLLECTIONS + "/{collection_id}"

ANYBODY, READ, WRITE, ADMIN = 0, ROLES["read"], ROLES["write"], ROLES["admin"]


class Route(NamedTuple):
    """What one method on one path does."""

    method: str
    template: str
    name: str
    """The operation: the label of metrics, and operationId."""
    handler: Handler
    role: int
    """That the caller must have at least; ANYBODY: without authentication, too."""
    answer: str
    """The schema of the answer in the OpenAPI document; "" for what is not in it."""
    body: type[msgspec.Struct] | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    """Parameters in the query string."""
    kind: bytes = b"application/json"
    headers: tuple[tuple[str, str], ...] = ()
    """Of every answer."""
    decoder: Any = None
    is_predictable: bool = True
    """Whether requests that look alike take about as long, so that short ones need no thread."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters in the path, in order."""
        return tuple(part[1:-1] for part in self.template.split("/") if part[:1] == "{")

    @property
    def is_by_id(self) -> bool:
        """Whether the path names a collection by its id, and its database besides."""
        return self.parameters[2:3] == ("collection_id",)


_PAGED = ("limit", "offset")


def _get(
    template: str, handler: Handler, answer: str, role: int = READ, query: tuple[str, ...] = ()
) -> Route:
    return Route("GET", template, handler.__name__, handler, role, answer, query=query)


def _post(
    template: str,
    handler: Handler,
    body: type[msgspec.Struct] | None,
    answer: str,
    role: int = WRITE,
    status: int = 200,
) -> Route:
    return Route("POST", template, handler.__name__, handler, role, answer, body, status)


def _delete(template: str, handler: Handler, role: int) -> Route:
    return Route("DELETE", template, handler.__name__, handler, role, "Empty")


def _extension(
    name: str, handler: Handler, body: type[msgspec.Struct] | None, answer: str, role: int = READ
) -> Route:
    """Below a collection, where Chroma has nothing and never will: its routes are words of its own.

    How long they take depends on what they are about.
    """
    template = f"{COLLECTION}/vexfs/{name}"
    made = (
        _get(template, handler, answer, role)
        if body is None
        else _post(template, handler, body, answer, role)
    )
    return made._replace(is_predictable=False)


def _document(template: str, handler: Handler) -> Route:
    return _get(template, handler, "", ANYBODY)._replace(
        kind=b"text/html; charset=utf-8", headers=_openapi.PAGE_HEADERS
    )


ROUTES: tuple[Route, ...] = (
    _get(API, _system.heartbeat, "Heartbeat", ANYBODY)._replace(name="heartbeat_root"),
    _get(API + "/heartbeat", _system.heartbeat, "Heartbeat", ANYBODY),
    _get(API + "/version", _system.version, "string", ANYBODY),
    _get(API + "/healthcheck", _system.healthcheck, "Health", ANYBODY),
    _get(API + "/pre-flight-checks", _system.pre_flight_checks, "Checklist", ANYBODY),
    _get(API + "/auth/identity", _system.identity, "Identity"),
    _post(API + "/reset", _system.reset, None, "boolean", ADMIN),
    _get(API + "/collections/{crn}", _collections.get_collection_by_crn, "Collection"),
    _post(API + "/tenants", _collections.create_tenant, _bodies.CreateTenant, "Empty", ADMIN),
    _get(TENANT, _collections.get_tenant, "Tenant"),
    _post(TENANT, _collections.update_tenant, _bodies.UpdateTenant, "Empty", ADMIN)._replace(
        method="PATCH"
    ),
    _get(TENANT + "/databases", _collections.list_databases, "Databases", query=_PAGED),
    _post(
        TENANT + "/databases",
        _collections.create_database,
        _bodies.CreateDatabase,
        "Empty",
        ADMIN,
    ),
    _get(DATABASE, _collections.get_database, "Database"),
    _delete(DATABASE, _collections.delete_database, ADMIN),
    _get(DATABASE + "/collections_count", _collections.count_collections, "count"),
    _get(COLLECTIONS, _collections.list_collections, "Collections", query=_PAGED),
    _post(COLLECTIONS, _collections.create_collection, _bodies.CreateCollection, "Collection"),
    _get(COLLECTIONS + "/by-id/{collection_id}", _collections.get_collection_by_id, "Collection"),
    # By name; all other routes on a collection take its id.
    _get(NAMED, _collections.get_collection, "Collection"),
    _delete(NAMED, _collections.delete_collection, WRITE),
    _post(COLLECTION, _collections.update_collection, _bodies.UpdateCollection, "Empty")._replace(
        method="PUT"
    ),
    _post(COLLECTION + "/add", _records.add, _bodies.AddRecords, "Empty", status=201),
    _post(COLLECTION + "/upsert", _records.upsert, _bodies.AddRecords, "Empty"),
    _post(COLLECTION + "/update", _records.update, _bodies.UpdateRecords, "Empty"),
    _post(COLLECTION + "/delete", _records.delete, _bodies.DeleteRecords, "Deleted"),
    _post(COLLECTION + "/get", _records.get, _bodies.GetRecords, "Records", READ),
    _post(COLLECTION + "/query", _records.query, _bodies.QueryRecords, "Nearest", READ),
    _post(COLLECTION + "/search", _records.search, _bodies.SearchRecords, "Found", READ),
    _get(COLLECTION + "/count", _records.count, "count", query=("read_level",)),
    _get(COLLECTION + "/indexing_status", _records.indexing_status, "IndexingStatus"),
    _post(COLLECTION + "/fork", _collections.fork_collection, _bodies.ForkCollection, "Collection"),
    _get(COLLECTION + "/fork_count", _collections.fork_count, "ForkCount"),
    _post(
        COLLECTION + "/functions/attach", _records.attach_function, _bodies.AttachFunction, "Empty"
    ),
    _get(COLLECTION + "/functions/{function}", _records.get_function, "Empty"),
    _post(
        COLLECTION + "/attached_functions/{function}/detach",
        _records.detach_function,
        _bodies.DetachFunction,
        "Empty",
    ),
    _extension("count", _extensions.count_matching, _bodies.CountRecords, "count"),
    _extension("distinct", _extensions.distinct, _bodies.ValuesOfKey, "Values"),
    _extension("facets", _extensions.facets, _bodies.CountValues, "Facets"),
    _extension("min_max", _extensions.min_max, _bodies.RangeOfKey, "Range"),
    _extension("keys", _extensions.metadata_keys, _bodies.CountRecords, "MetadataKeys"),
    _extension("get", _extensions.get_ordered, _bodies.GetOrdered, "OrderedRecords"),
    _extension("query", _extensions.query_exactly, _bodies.QueryExactly, "Nearest"),
    _extension("explain", _extensions.explain, _bodies.ExplainQuery, "QueryPlan"),
    _extension("recall_check", _extensions.recall_check, _bodies.CheckRecall, "RecallReport"),
    _extension("stats", _extensions.collection_stats, None, "CollectionStats"),
    _extension("memory", _extensions.collection_memory, None, "MemoryReport"),
    _extension("reindex", _extensions.reindex, _bodies.Reindex, "Empty", WRITE),
    _extension("build_index", _extensions.build_index, _bodies.BuildIndex, "Progress", WRITE),
    _post(COLLECTION + "/vexfs/expire", _extensions.expire, None, "Deleted"),
    _post(COLLECTION + "/vexfs/unload", _extensions.unload, None, "Empty"),
    _post(DATABASE + "/vexfs/transaction", _transaction.transaction, _bodies.Transaction, "Empty"),
    _extension("tuning", _tuning.tuning, _bodies.MeasureTuning, "Tuning"),
    _get("/openapi.json", _system.openapi, "", ANYBODY),
    _get("/livez", _observing.livez, "", ANYBODY),
    _get("/readyz", _observing.readyz, "", ANYBODY),
    _get("/metrics", _observing.metrics, "")._replace(kind=_observing.METRICS_KIND),
    _get("/vexfs/facts", _observing.facts, ""),
    _get("/vexfs/slow-log", _observing.slow_log, ""),
    _get("/vexfs/history", _observing.history, ""),
    _get("/vexfs/tenants", _collections.list_tenants, ""),
    _document("/docs/", _system.docs),
    _document("/docs", _system.docs)._replace(
        name="docs_redirect", status=303, headers=(("location", "/docs/"),)
    ),
)

# All of one name: the page is one thing to whoever counts requests.
PAGE_ROUTES: tuple[Route, ...] = tuple(
    _get(template, _page.page, "", ANYBODY) for template in _page.FILES
)


class Resource:
    """The routes on one path template, by method."""

    def __init__(self, template: str) -> None:
        parts = template.split("/")
        self.template = template
        self.methods: dict[str, Route] = {}
        self._words = [(i, part) for i, part in enumerate(parts) if part[:1] != "{"]
        self._literals = tuple(word for _, word in self._words)
        self._at = _getter([i for i, _ in self._words])
        self._values = _getter([i for i, part in enumerate(parts) if part[:1] == "{"])

    def match(self, parts: list[str]) -> tuple[str, ...] | None:
        """The values of the parameters, when a path of as many parts fits."""
        return self._values(parts) if self._at(parts) == self._literals else None

    @property
    def allow(self) -> str:
        """The value of the header Allow."""
        names = [
            n
            for method in self.methods
            for n in ([method, "HEAD"] if method == "GET" else [method])
        ]
        return ",".join(names)


def _shape(template: str) -> list[str]:
    """The template without the names of its parameters."""
    return ["{}" if part[:1] == "{" else part for part in template.split("/")]


def _getter(places: list[int]) -> Callable[[list[str]], tuple[str, ...]]:
    if not places:
        return lambda _: ()
    if len(places) == 1:
        (place,) = places
        return lambda parts: (parts[place],)
    return itemgetter(*places)


class Router:
    """Finds the route of a path.

    Templates are found by their number of parts and their last part, so that usually the first one
    that is looked at is the right one.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes: list[Route] = []
        self._resources: dict[tuple[int, str], list[Resource]] = {}
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """One route more."""
        if route.body is not None:
            route = route._replace(decoder=msgspec.json.Decoder(route.body))
        parts = route.template.split("/")
        last = "" if parts[-1][:1] == "{" else parts[-1]
        known = self._resources.setdefault((len(parts), last), [])
        shape = _shape(route.template)
        resource = next((r for r in known if _shape(r.template) == shape), None)
        if resource is None:
            resource = Resource(route.template)
            # Fixed words first: by-id/{id} before {collection}/{function}.
            known.append(resource)
            known.sort(key=lambda r: r.template.count("{"))
        resource.methods[route.method] = route
        self.routes.append(route)

    def find(self, parts: list[str]) -> tuple[Resource, tuple[str, ...]] | None:
        """The resource that the parts of a path name, and the values in it."""
        n = len(parts)
        for last in (parts[-1], ""):
            for resource in self._resources.get((n, last), ()):
                values = resource.match(parts)
                if values is not None and "" not in values:
                    return resource, values
            if not last:
                break
        return None
