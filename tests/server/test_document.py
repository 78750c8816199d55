"""The OpenAPI document and the page of the routes."""

from __future__ import annotations

import json
import re

from server_kit import Server

from vexfs_chroma._server import _openapi
from vexfs_chroma._server._routes import ROUTES


def test_the_document_has_every_route_of_chroma(server: Server, chroma: Server) -> None:
    def operations(document: dict) -> set[tuple[str, str]]:
        return {
            (re.sub(r"\{[^}]*\}", "{}", path), method)
            for path, methods in document["paths"].items()
            for method in methods
        }

    answer = server.call("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["openapi"] == "3.1.0"
    theirs = operations(chroma.call("GET", "/openapi.json").json)
    beyond = operations(answer.json) - theirs
    ours = {(path, method) for path, method in beyond if "/collections/{}/vexfs/" in path}
    assert len(ours) == sum(
        bool(route.answer) and route.is_by_id and "/vexfs/" in route.template for route in ROUTES
    )
    database = "/api/v2/tenants/{}/databases/{}"
    assert beyond - ours == {("/api/v2", "get"), (database + "/vexfs/transaction", "post")}
    assert theirs <= operations(answer.json)


def test_references_and_ids_are_sound() -> None:
    document = json.loads(_openapi.document(ROUTES))
    names = re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(names) <= set(document["components"]["schemas"])
    ids = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            given = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert given == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]


def test_the_page(server: Server) -> None:
    redirect = server.call("GET", "/docs")
    assert (redirect.status, redirect.headers["location"]) == (303, "/docs/")
    page = server.call("GET", "/docs/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.body.decode()
    assert "<script" not in text
    assert "http" not in re.sub(r"HTTP API", "", text)  # nothing of anybody else's
    for route in ROUTES:
        assert not route.answer or route.template in text
