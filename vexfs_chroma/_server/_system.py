"""Handlers of routes on the server itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from vexfs_chroma._server import _openapi

if TYPE_CHECKING:
    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._request import Request

API_VERSION = "1.0.0"
"""What Chroma's server answers; clients compare it."""

EXTENSIONS = 1
"""Which routes there are below `vexfs/`; Chroma's server says nothing of them."""


def heartbeat(app: App, request: Request) -> bytes:
    """GET /heartbeat."""
    return b'{"nanosecond heartbeat":%d}' % app.api.heartbeat()


def version(app: App, request: Request) -> bytes:
    """GET /version."""
    return b'"' + API_VERSION.encode() + b'"'


def healthcheck(app: App, request: Request) -> bytes:
    """GET /healthcheck."""
    return b'{"is_executor_ready":true,"is_log_client_ready":true}'


def pre_flight_checks(app: App, request: Request) -> bytes:
    """GET /pre-flight-checks, where Chroma's clients ask what a server can do."""
    most = min(app.api.get_max_batch_size(), app.config.limits.rows)
    return orjson.dumps(
        {
            "max_batch_size": most,
            "supports_base64_encoding": True,
            "vexfs_extensions": EXTENSIONS,
        }
    )


def identity(app: App, request: Request) -> bytes:
    """GET /auth/identity."""
    who = request.principal
    if who is None:
        known = app.api.get_user_identity()
        return orjson.dumps(
            {"user_id": known.user_id, "tenant": known.tenant, "databases": known.databases}
        )
    return orjson.dumps(
        {"user_id": who.name, "tenant": who.tenant, "databases": list(who.databases)}
    )


def reset(app: App, request: Request) -> bytes:
    """POST /reset."""
    app.api.reset()
    return b"true"


# -- the documentation -----------------------------------------------------------------------------


def openapi(app: App, request: Request) -> bytes:
    """GET /openapi.json."""
    return _openapi.document(app.router.routes)


def docs(app: App, request: Request) -> bytes:
    """GET /docs/."""
    return _openapi.page(app.router.routes)
