"""The files of the page at `/`: a fixed table, so that no part of a request names a file.

    GET /            index.html
    GET /ui/NAME     each of _FILES

They are the same for everybody and show nothing by themselves: what the page shows it asks the
routes of the API for, with the credential that its user has.  Browsers keep the files and ask each
time whether they are still the same.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from vexfs_chroma._server._request import Response

if TYPE_CHECKING:
    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._request import Request

_HTML, _CSS = b"text/html; charset=utf-8", b"text/css; charset=utf-8"
_MODULE, _SVG = b"text/javascript; charset=utf-8", b"image/svg+xml"
_FILES = {
    "index.html": _HTML,
    "style.css": _CSS,
    "icon.svg": _SVG,
    "app.js": _MODULE,
    "api.js": _MODULE,
    "dom.js": _MODULE,
    "format.js": _MODULE,
    "charts.js": _MODULE,
    "boxes.js": _MODULE,
    "dashboard.js": _MODULE,
    "panels.js": _MODULE,
    "browser.js": _MODULE,
    "records.js": _MODULE,
    "filters.js": _MODULE,
    "picker.js": _MODULE,
    "tuning.js": _MODULE,
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-cache"),
)


class File(NamedTuple):
    """A file of the page, as it is sent."""

    kind: bytes
    body: bytes
    tag: str
    """The ETag: changes with the content."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Of every answer with it."""
        return (*_HEADERS, ("etag", self.tag))


def _read(name: str, kind: bytes) -> File:
    body = (resources.files("vexfs_chroma._server") / "page" / name).read_bytes()
    return File(kind, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


FILES = {
    "/" if name == "index.html" else f"/ui/{name}": _read(name, kind)
    for name, kind in _FILES.items()
}


def page(app: App, request: Request) -> Response:
    """GET / and /ui/NAME."""
    assert request.route is not None
    file = FILES[request.route.template]
    known = request.headers.get(b"if-none-match", b"").decode("latin-1")
    if known == "*" or file.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(304, headers=file.headers)
    return Response(200, file.body, file.kind, file.headers)
