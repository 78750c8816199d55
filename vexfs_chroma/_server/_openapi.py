"""The OpenAPI 3.1 document of the server, made from the table of routes, and its page.

Bodies are described by the structs that decode them, answers by the schemas below; what every route
may answer besides comes from what it is: whether it has a body, a tenant, a role.
"""

from __future__ import annotations

import base64
import hashlib
import html
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from vexfs_chroma._memory import MemoryReport
from vexfs_chroma._query_plan import QueryPlan
from vexfs_chroma._recall import RecallReport
from vexfs_chroma._server._auth import ROLES
from vexfs_chroma._tuning import Tuning
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._server._routes import Route

_STRING: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_UUID: dict[str, Any] = {"type": "string", "format": "uuid"}
_OBJECT: dict[str, Any] = {"type": "object"}
_MAYBE_OBJECT: dict[str, Any] = {"type": ["object", "null"]}
_MAYBE_STRING: dict[str, Any] = {"type": ["string", "null"]}
_NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
_UINT32: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}


def _list(items: dict[str, Any], *, maybe: bool = False) -> dict[str, Any]:
    return {"type": ["array", "null"] if maybe else "array", "items": items}


def _map(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_VALUE: dict[str, Any] = {"type": ["boolean", "integer", "number", "string"]}
_MAYBE_COUNT: dict[str, Any] = {"type": ["integer", "null"], "minimum": 0}
_RECORDS = _map(
    ids=_list(_STRING),
    embeddings=_list(_NUMBERS, maybe=True),
    documents=_list(_MAYBE_STRING, maybe=True),
    uris=_list(_MAYBE_STRING, maybe=True),
    metadatas=_list(_MAYBE_OBJECT, maybe=True),
    include=_list(_STRING),
)
_DATABASE = _map(id=_UUID, name=_STRING, tenant=_STRING)
_COLLECTION = _map(
    id=_UUID,
    name=_STRING,
    configuration_json=_OBJECT,
    schema=_MAYBE_OBJECT,
    metadata=_MAYBE_OBJECT,
    dimension={"type": ["integer", "null"]},
    tenant=_STRING,
    database=_STRING,
    log_position=_COUNT,
    version=_COUNT,
)
ANSWERS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "count": _COUNT,
    "string": _STRING,
    "Empty": {"type": "object", "maxProperties": 0},
    "Heartbeat": _map(**{"nanosecond heartbeat": {"type": "integer"}}),
    "Health": _map(is_executor_ready={"type": "boolean"}, is_log_client_ready={"type": "boolean"}),
    "Checklist": _map(
        max_batch_size=_COUNT,
        supports_base64_encoding={"type": "boolean"},
        vexfs_extensions=_COUNT,
    ),
    "Identity": _map(user_id=_STRING, tenant=_STRING, databases=_list(_STRING)),
    "Tenant": _map(name=_STRING, resource_name=_MAYBE_STRING),
    "Database": _DATABASE,
    "Databases": _list(_DATABASE),
    "Collection": _COLLECTION,
    "Collections": _list(_COLLECTION),
    "Deleted": _map(deleted=_COUNT),
    "ForkCount": _map(count=_COUNT),
    "IndexingStatus": _map(
        op_indexing_progress={"type": "number"},
        num_unindexed_ops=_COUNT,
        num_indexed_ops=_COUNT,
        total_ops=_COUNT,
    ),
    "Records": _RECORDS,
    "Nearest": _map(
        ids=_list(_list(_STRING)),
        embeddings=_list(_list(_NUMBERS), maybe=True),
        documents=_list(_list(_MAYBE_STRING), maybe=True),
        uris=_list(_list(_MAYBE_STRING), maybe=True),
        metadatas=_list(_list(_MAYBE_OBJECT), maybe=True),
        distances=_list(_list({"type": ["number", "null"]}), maybe=True),
        include=_list(_STRING),
    ),
    "Found": _map(
        ids=_list(_list(_STRING)),
        documents=_list(_list(_MAYBE_STRING, maybe=True)),
        embeddings=_list(_list({"type": ["array", "null"]}, maybe=True)),
        metadatas=_list(_list(_MAYBE_OBJECT, maybe=True)),
        scores=_list(_list({"type": ["number", "null"]}, maybe=True)),
    ),
    "Error": {
        "type": "object",
        "properties": {"error": _STRING, "message": _STRING, "step": _COUNT},
        "required": ["error", "message"],
    },
    # Beyond Chroma.  Values may be null: no JSON has NaN.
    "Values": _map(values=_list(_VALUE)),
    "Facets": _map(
        facets={
            "type": "object",
            "additionalProperties": _list(_map(value=_VALUE, records=_COUNT)),
        }
    ),
    "Range": _map(range={**_list(_VALUE, maybe=True), "minItems": 2, "maxItems": 2}),
    "MetadataKeys": _map(
        keys={
            "type": "object",
            "additionalProperties": _map(records=_COUNT, types=_list(_STRING)),
        }
    ),
    "OrderedRecords": _map(**_RECORDS["properties"], next=_MAYBE_STRING),
    "CollectionStats": _map(
        rows=_COUNT,
        dimension=_MAYBE_COUNT,
        space={"type": "string", "enum": ["l2", "cosine", "ip"]},
        disk_bytes=_COUNT,
        files=_map(vectors=_COUNT, payloads=_COUNT),
        unflushed=_map(rows=_COUNT, bytes=_COUNT),
        index=_map(
            from_rows=_MAYBE_COUNT,
            indexed_rows=_COUNT,
            unindexed_rows=_COUNT,
            bytes=_COUNT,
            quantization=_MAYBE_STRING,
            max_neighbors=_COUNT,
            ef_construction=_COUNT,
            ef_search=_COUNT,
        ),
        documents=_map(raw_bytes=_COUNT, stored_bytes=_COUNT),
        metadatas=_map(raw_bytes=_COUNT, stored_bytes=_COUNT),
    ),
    "Progress": _map(done={"type": "boolean"}),
}
_WORDS = {
    400: "The request cannot mean anything",
    401: "No credential, or a wrong one",
    403: "Not with this credential, or not allowed by the configuration",
    404: "There is no such thing",
    409: "There is one already",
    413: "The body is larger than the server takes",
    415: "The body is not application/json",
    422: "The body does not have the shape that it must have",
    429: "The server has too many requests; try again after Retry-After seconds",
    500: "An error of the server",
    501: "Not supported",
    503: "Not now, or not in time; try again after Retry-After seconds",
    507: "The disk of the server is full",
}
_QUERY = {
    "limit": _UINT32,
    "offset": _UINT32,
    "read_level": {
        "type": "string",
        "enum": ["index_and_wal", "index_only", "index_and_bounded_wal"],
    },
}
_CREATES = {"create_tenant", "create_database", "create_collection", "fork_collection"}


def document(routes: Sequence[Route]) -> bytes:
    """The document as JSON."""
    bodies: set[type] = {route.body for route in routes if route.body is not None}
    bodies |= {MemoryReport, QueryPlan, RecallReport, Tuning}
    _, schemas = msgspec.json.schema_components(
        sorted(bodies, key=lambda body: body.__name__), ref_template="#/components/schemas/{name}"
    )
    schemas.update(ANSWERS)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.answer:
            paths.setdefault(route.template, {})[route.method.lower()] = _operation(route)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "vexfs_chroma",
                "description": "Chroma's HTTP API, version 2.",
                "version": __version__,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "ApiKeyAuth": {"type": "apiKey", "in": "header", "name": "x-chroma-token"},
                    "Bearer": {"type": "http", "scheme": "bearer"},
                    "Basic": {"type": "http", "scheme": "basic"},
                },
            },
        }
    )


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": _summary(route),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _STRING}
            for name in route.parameters
        ]
        + [{"name": name, "in": "query", "schema": _QUERY[name]} for name in route.query],
        "responses": {
            str(route.status): {"description": "Done", "content": _json(route.answer)},
            **{
                str(status): {"description": _WORDS[status], "content": _json("Error")}
                for status in statuses(route)
            },
        },
    }
    if route.role:
        operation["security"] = [{}, {"ApiKeyAuth": []}, {"Bearer": []}, {"Basic": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(route.body.__name__)}
    return operation


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def statuses(route: Route) -> list[int]:
    """What a route may answer besides its own status."""
    found = {400, 413, 429, 500, 503}
    if route.parameters:
        found.add(404)
    if route.role:
        found |= {401, 403}
    if route.role >= ROLES["write"]:
        found |= {403, 507}
    if route.body is not None:
        found |= {404, 415, 422}
    if route.name in _CREATES:
        found.add(409)
    if "function" in route.name or route.name == "search":
        found.add(501)
    return sorted(found)


def _summary(route: Route) -> str:
    return (route.handler.__doc__ or "").strip().split("\n")[0]


# -- the page --------------------------------------------------------------------------------------

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}
code{font:14px ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #8884;padding:.4rem .6rem .4rem 0;text-align:left;vertical-align:top}
.role{color:#777}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
)


def page(routes: Sequence[Route]) -> bytes:
    """The table of routes as a page."""
    roles = {number: name for name, number in ROLES.items()}
    rows = "".join(
        f"<tr><td><code>{route.method}</code></td><td><code>{html.escape(route.template)}</code>"
        f"</td><td>{_fields(route)}</td><td class=role>{roles.get(route.role, 'anybody')}</td>"
        f"<td>{route.status}, {', '.join(map(str, statuses(route)))}</td></tr>"
        for route in routes
        if route.answer
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>vexfs_chroma API</title><style>{_STYLE}</style>"
        f"<h1>vexfs_chroma {html.escape(__version__)}: Chroma's HTTP API, version 2</h1>"
        "<p>The same for programs: <a href='/openapi.json'>/openapi.json</a>.</p>"
        "<table><tr><th>Method<th>Path<th>Fields of the body<th>Role<th>Statuses</tr>"
        f"{rows}</table></html>"
    ).encode()


def _fields(route: Route) -> str:
    if route.body is None:
        return ""
    fields = msgspec.structs.fields(route.body)
    names = [
        f"<b>{html.escape(field.encode_name)}</b>" if field.required else html.escape(field.name)
        for field in fields
    ]
    return ", ".join(names)
