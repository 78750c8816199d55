"""Queries that come at the same time: one call of the engine, each with its own answer."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from server_kit import DEFAULT, running

from vexfs_chroma._observe._observer import observer
from vexfs_chroma._server import _app
from vexfs_chroma._server._bodies import decode
from vexfs_chroma._server._config import load
from vexfs_chroma._server._gather import Gatherer, is_gathered
from vexfs_chroma._server._records import nearest_records, nearest_together
from vexfs_chroma._server._request import Request, Response
from vexfs_chroma._server._run import open_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, DIMENSION = 300, 8


@pytest.fixture
def app(tmp_path: Path) -> Iterator[_app.App]:
    found, close = open_app(load(given={"server": {"path": str(tmp_path / "db")}}, environment={}))
    yield found
    close()


@pytest.fixture
def collection(app: _app.App) -> str:
    rng = np.random.default_rng(4)
    made = app.api.create_collection("gathered")
    app.api._add(
        [f"id-{i}" for i in range(ROWS)],
        made.id,
        list(rng.standard_normal((ROWS, DIMENSION)).astype(np.float32)),
        [{"n": i % 7, "even": i % 2 == 0} for i in range(ROWS)],
        [f"text {i}" for i in range(ROWS)],
    )
    return str(made.id)


def _body(rng: np.random.Generator, vectors: int = 1, **fields: Any) -> dict[str, Any]:
    return {"query_embeddings": rng.standard_normal((vectors, DIMENSION)).tolist(), **fields}


def _request(app: _app.App, collection: str, body: dict[str, Any]) -> Request:
    request = Request("POST", f"{DEFAULT}/collections/{collection}/query", "", {})
    request.body = json.dumps(body).encode()
    app.open(request)
    assert request.route is not None
    request.payload = decode(request.route.decoder, request.body)
    return request


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_results": 3, "include": []},
        {"n_results": 1000, "include": ["embeddings", "uris", "metadatas", "distances"]},
        {"where": {"n": 3}},
        {"where": {"$and": [{"n": {"$gt": 2}}, {"even": True}]}, "n_results": 100},
        {"where": {"n": 99}},
    ],
)
def test_together_queries_find_what_each_would(
    app: _app.App, collection: str, fields: dict[str, Any]
) -> None:
    rng = np.random.default_rng(5)
    for n in (2, 5, 20):
        requests = [_request(app, collection, _body(rng, 1 + i % 3, **fields)) for i in range(n)]
        found = nearest_together(app, requests)
        assert found is not None
        for request, together in zip(requests, found, strict=True):
            one, other = json.loads(nearest_records(app, request)), json.loads(together)
            distances = [one.pop("distances"), other.pop("distances")]
            assert one == other
            if distances[0] is None:
                assert distances[1] is None
            else:
                for a, b in zip(*distances, strict=True):
                    assert a == pytest.approx(b, abs=1e-5)


def test_queries_that_are_unlike_are_not_answered_together(app: _app.App, collection: str) -> None:
    rng = np.random.default_rng(6)
    other = _body(rng) | {"query_embeddings": [[1.0] * (DIMENSION + 1)]}
    for odd in (other, _body(rng) | {"query_embeddings": []}):
        requests = [_request(app, collection, body) for body in (_body(rng), odd)]
        assert nearest_together(app, requests) is None


def test_what_is_gathered(app: _app.App, collection: str) -> None:
    rng = np.random.default_rng(7)
    assert is_gathered(_request(app, collection, _body(rng, where={"n": 1})))
    assert not is_gathered(_request(app, collection, _body(rng, ids=["id-1"])))
    assert not is_gathered(
        _request(app, collection, _body(rng, where_document={"$contains": "text"}))
    )
    limited = _request(app, collection, _body(rng))
    limited.principal = SimpleNamespace(is_limited=True)  # type: ignore[assignment]
    assert not is_gathered(limited)


class _Loop:
    """What a gatherer needs of an event loop."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.errors: list[Any] = []

    def call_soon(self, *call: Any) -> None:
        self.calls.append(call)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context["exception"])

    def turn(self) -> None:
        for call, *arguments in self.calls:
            call(*arguments)


def test_groups_are_of_those_that_ask_alike(app: _app.App, collection: str) -> None:
    rng = np.random.default_rng(8)
    bodies = [
        *[_body(rng) for _ in range(40)],
        *[_body(rng, where={"n": value}) for value in (1, True, 1, 1.0)],
        _body(rng, n_results=3),
        _body(rng, include=["distances"]),
    ]
    requests = [_request(app, collection, body) for body in bodies]
    asked: list[int] = []

    def answer_all(alike: Any) -> list[Response]:
        asked.append(len(alike))
        return [Response(200, str(requests.index(request)).encode()) for request in alike]

    loop = _Loop()
    gatherer, told = Gatherer(answer_all), {}
    for number, request in enumerate(requests):
        request.abandoned = number == 7
        gathered = gatherer.add(request, loop)  # type: ignore[arg-type]
        gathered.add_done_callback(
            lambda done, number=number: told.setdefault(number, done.result())  # type: ignore[misc]
        )
    assert len(loop.calls) == 1
    loop.turn()
    assert asked == [31, 8, 2, 1, 1, 1, 1]
    assert told.pop(7).status == 503  # nobody waits for it
    assert {number: int(answer.body) for number, answer in told.items()} == {
        number: number for number in range(len(requests)) if number != 7
    }


@pytest.mark.parametrize("is_abandoned", [False, True])
def test_an_answer_that_is_not_sent_leaves_no_other_without(
    app: _app.App, collection: str, is_abandoned: bool
) -> None:
    rng = np.random.default_rng(10)
    requests = [_request(app, collection, _body(rng)) for _ in range(3)]
    requests[0].abandoned = is_abandoned
    loop, told = _Loop(), []
    gatherer = Gatherer(lambda alike: [Response(200)] * len(alike))

    def fail(_done: Any) -> None:
        raise OSError("the transport is gone")

    tell = [fail, told.append, told.append]
    for request, done in zip(requests, tell, strict=True):
        gatherer.add(request, loop).add_done_callback(done)  # type: ignore[arg-type]
    loop.turn()
    assert [type(error) for error in loop.errors] == [OSError]
    assert [done.result().status for done in told] == [200, 200]


def test_filters_too_deep_to_be_compared_are_unlike(app: _app.App, collection: str) -> None:
    rng = np.random.default_rng(11)
    requests = [_request(app, collection, _body(rng)) for _ in range(2)]
    for request in requests:
        where: dict[str, Any] = {"n": 1}
        for _ in range(100_000):
            where = {"$and": [where]}
        request.payload.where = where
    asked: list[int] = []

    def answer_all(alike: Any) -> list[Response]:
        asked.append(len(alike))
        return [Response(400)] * len(alike)

    loop, gatherer = _Loop(), Gatherer(answer_all)
    for request in requests:
        gatherer.add(request, loop).add_done_callback(lambda _done: None)  # type: ignore[arg-type]
    loop.turn()
    assert asked == [1, 1]


def test_connections_get_each_its_own_answer(
    app: _app.App, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is held up until all requests are there: they come in one turn then."""
    rng = np.random.default_rng(9)
    monkeypatch.setattr(_app, "_INLINE_SECONDS", 60.0)
    bodies = [_body(rng, where={"n": i % 2}) for i in range(12)]
    bodies[5] = {"query_embeddings": [[1.0, 2.0]], "where": {"n": 1}}
    requests = [_request(app, collection, body) for body in bodies]
    for request in requests:
        app._expected[_app._likeness(request)] = 0.0
    expected = [
        json.loads(nearest_records(app, r))["ids"] if i != 5 else None
        for i, r in enumerate(requests)
    ]
    together: list[int] = []
    all_sent, add, count = threading.Event(), app._gatherer.add, observer().read()
    ask = app.api.query_rows_together

    def add_when_all_are_there(request: Request, loop: asyncio.AbstractEventLoop) -> Any:
        assert all_sent.wait(30)
        return add(request, loop)

    def ask_counted(operations: int, *arguments: Any) -> Any:
        together.append(operations)
        return ask(operations, *arguments)

    monkeypatch.setattr(app._gatherer, "add", add_when_all_are_there)
    monkeypatch.setattr(app.api, "query_rows_together", ask_counted)
    with running(app) as port:
        sockets = [socket.create_connection(("127.0.0.1", port), 30) for _ in bodies]
        while app.connections < len(sockets):
            all_sent.wait(0.01)
        for connection, request in zip(sockets, requests, strict=True):
            head = f"POST {request.path} HTTP/1.1\r\nhost: localhost\r\n"
            head += f"content-length: {len(request.body)}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode() + request.body)
        all_sent.set()
        for number, connection in enumerate(sockets):
            answer = b"".join(iter(lambda c=connection: c.recv(65536), b""))  # type: ignore[misc]
            head, _, body = answer.partition(b"\r\n\r\n")
            if number == 5:
                assert head.startswith(b"HTTP/1.1 400 ")
                assert b"dimension" in body
            else:
                assert head.startswith(b"HTTP/1.1 200 ")
                assert json.loads(body)["ids"] == expected[number]
            connection.close()
        after = observer().read()
    assert max(together) > 1
    done = after["op.query.count"] - count.get("op.query.count", 0)
    assert done == len(bodies)
    assert after["op.query.ok"] - count.get("op.query.ok", 0) == len(bodies) - 1
