"""HTTP itself: bodies of any size, pipelines, limits, slow and rude clients."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bench_kit import CHUNKED, HEAD, post, statuses
from server_kit import API, DEFAULT, Server, run_server, stop


@pytest.mark.parametrize("rows", [10, 2000])
@pytest.mark.parametrize("coded", [True, False])
def test_large_bodies(server: Server, collection: str, rows: int, coded: bool) -> None:
    vectors = np.random.default_rng(5).random((rows, 3), dtype=np.float32)
    embeddings = [
        base64.b64encode(row.tobytes()).decode() if coded else [float(str(f)) for f in row]
        for row in vectors
    ]
    documents = ["x" * 1000] * rows
    body = {"ids": [f"r{i}" for i in range(rows)], "embeddings": embeddings, "documents": documents}
    assert server.call("POST", collection + "/add", body).status == 201
    found = server.call("POST", collection + "/get", {"include": ["embeddings"], "offset": 3})
    assert np.array_equal(np.array(found.json["embeddings"], dtype=np.float32), vectors)


def test_a_body_in_single_bytes(server: Server, collection: str) -> None:
    request = post(collection + "/get", b'{"ids": ["a"], "include": []}')
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(request)):
            sock.sendall(request[i : i + 1])
        answer = sock.recv(65536)
    assert statuses(answer) == [200]
    assert b'"ids":["a"]' in answer


def test_chunked_bodies(server: Server, collection: str) -> None:
    chunks = b'5\r\n{"ids\r\n9\r\n": ["a"]}\r\n0\r\n\r\n'
    head = HEAD % (collection + "/get").encode() + CHUNKED
    assert statuses(server.raw(head + chunks)) == [200]


def test_pipelined_requests_are_answered_in_order(server: Server, collection: str) -> None:
    requests = b"".join(
        post(f"{collection}/get", json.dumps({"ids": [name], "include": []}).encode())
        + post(f"{collection}/upsert", b'{"ids": ["p"], "embeddings": [[1, 2, 3]]}')
        for name in "abcabcabc"
    )
    answer = server.raw(requests)
    assert statuses(answer) == [200] * 18
    ids = [json.loads(body)["ids"] for body in _bodies(answer) if b"ids" in body]
    assert ids == [["a"], ["b"], ["c"]] * 3


def _bodies(answer: bytes) -> list[bytes]:
    return [part.split(b"\r\n\r\n", 1)[1] for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_keep_alive_and_close(server: Server) -> None:
    once = b"GET /api/v2/version HTTP/1.1\r\nhost: localhost\r\n"
    assert statuses(server.raw((once + b"\r\n") * 3)) == [200] * 3
    assert statuses(server.raw(once + b"connection: close\r\n\r\n" + once + b"\r\n")) == [200]
    assert b"connection: close" in server.raw(b"GET /api/v2/version HTTP/1.0\r\n\r\n")


def test_expect_continue(server: Server, collection: str) -> None:
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        body = b'{"ids": ["a"]}'
        whole = post(collection + "/get", body, b"expect: 100-continue")
        sock.sendall(whole[: -len(body)])
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(body)
        assert statuses(sock.recv(65536)) == [200]
    refused = post("/nothing", b"{}", b"expect: 100-continue")[:-2]
    assert statuses(server.raw(refused)) == [404]


def test_an_upgrade_is_not_taken_up(server: Server) -> None:
    lines = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n"
    request = b"GET /api/v2/version HTTP/1.1\r\nhost: localhost\r\n"
    assert statuses(server.raw(request + lines + request + b"\r\n")) == [200, 200]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /api/v2/tenants HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 100,
    ],
)
def test_what_is_not_http(server: Server, rubbish: bytes) -> None:
    answer = server.raw(rubbish)
    assert statuses(answer) == [400]
    assert server.call("GET", API + "/heartbeat").status == 200


def test_a_path_of_any_bytes(server: Server) -> None:
    for path in (b"/api/v2/tenants/\xc3\xa9", b"/api/v2/tenants/\xff", b"/\xe4%c3%a4"):
        assert statuses(server.raw(b"GET " + path + b" HTTP/1.1\r\n\r\n")) == [400]
    for path in ("/%", "/%zz", "/api/v2/tenants/%", "/api/v2/tenants/%00", "/%2e%2e/%2e%2e/etc"):
        assert server.call("GET", path).status == 404
    absolute = b"GET http://elsewhere/api/v2/version HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert statuses(server.raw(absolute)) == [200]


def test_a_head_without_end(server: Server) -> None:
    request = b"GET /api/v2/version HTTP/1.1\r\n"
    assert statuses(server.raw(request + b"x: " + b"y" * 40_000)) == [431]
    assert statuses(server.raw(b"GET /" + b"y" * 40_000)) == [431]
    many = b"".join(b"x%d: y\r\n" % i for i in range(10_000))
    assert statuses(server.raw(request + many)) == [431]


LIMITS = """
[limits]
body_bytes = 20000
buffered_bytes = 50000
connections = 8
rows = 10
dimension = 8
results = 100
filter_depth = 5
regex_chars = 50
request_seconds = 20.0
read_seconds = 2.0
idle_seconds = 2.0
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with low limits."""
    with run_server(tmp_path_factory.mktemp("small"), config=LIMITS) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
        server.collection = f"{DEFAULT}/collections/{made.json['id']}"  # type: ignore[attr-defined]
        yield server


def test_limits(small: Server) -> None:
    path = small.collection  # type: ignore[attr-defined]
    refused = {
        "add": [
            {"ids": list("abcdefghijk"), "embeddings": [[1, 2]] * 11},
            {"ids": ["a"], "embeddings": [[1] * 9]},
            {"ids": ["a"], "embeddings": [base64.b64encode(b"0000" * 9).decode()]},
        ],
        "update": [{"ids": ["a"], "embeddings": [[1] * 9]}],
        "query": [
            {"query_embeddings": [[1, 2]] * 11, "n_results": 10},
            {"query_embeddings": [[1] * 9], "n_results": 10},
            {"query_embeddings": [[1, 2]], "where": _nested(6)},
        ],
        "search": [
            {"searches": [{"limit": {"limit": 101}}]},
            {"searches": [{"limit": {"limit": 26}}] * 4},
            {"searches": [{"rank": {"$abs": {"$knn": {"query": [1, 2], "limit": 101}}}}]},
            {
                "searches": [
                    {"rank": {"$sum": [{"$val": 1}, {"$bm25": {"query": "a", "limit": 101}}]}}
                ]
            },
        ],
        "get": [
            {"where": _nested(6)},
            {"where_document": {"$and": [{"$regex": "x" * 51}]}},
            {"where": {"#document": {"$not_regex": "x" * 51}}},
        ],
        "delete": [{"where": _nested(6)}],
    }
    for operation, bodies in refused.items():
        for body in bodies:
            answer = small.call("POST", f"{path}/{operation}", body)
            assert (answer.status, answer.error) == (400, "InvalidArgumentError"), body
            assert "limit" in answer.json["message"] or "deeper" in answer.json["message"], body
    assert small.call("POST", path + "/get", {"where": _nested(5)}).status == 200
    body = {"ids": list("abcdefghij"), "embeddings": [[1] * 8] * 10}
    assert small.call("POST", path + "/add", body).status == 201
    assert small.call("GET", API + "/pre-flight-checks").json["max_batch_size"] == 10


def test_431(small: Server) -> None:
    """The head is limited as documented, in however few pieces it comes."""
    path = DEFAULT + "/collections"
    for long in (33_000, 300_000):
        head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nx-long: {'x' * long}\r\n\r\n".encode()
        assert statuses(small.raw(head)) == [431]
    assert statuses(
        small.raw(f"GET /{'x' * 33_000} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    ) == [431]
    fine = (
        f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {'x' * 30_000}\r\n\r\n"
    )
    assert statuses(small.raw(fine.encode())) == [200]


def _nested(depth: int) -> dict:
    clause: dict = {"a": 1}
    for _ in range(depth - 1):
        clause = {"$and": [clause, {"b": 2}]}
    return clause


def test_413(small: Server) -> None:
    path = small.collection + "/get"  # type: ignore[attr-defined]
    body = b'{"ids": ["' + b"x" * 30_000 + b'"]}'
    assert small.call("POST", path, body).error == "InvalidArgumentError"
    assert statuses(small.raw(post(path, body) + post(path, b"{}"))) == [413, 200]
    chunks = b"".join(b"1000\r\n" + b" " * 0x1000 + b"\r\n" for _ in range(100)) + b"0\r\n\r\n"
    head = HEAD % path.encode() + CHUNKED
    assert statuses(small.raw(head + chunks + post(path, b"{}"))) == [413, 200]


def test_slow_clients_are_cut_off_and_hold_little(small: Server) -> None:
    """More bodies than may be buffered: the rest gets 503; then read_seconds ends them all."""
    path = small.collection + "/get"  # type: ignore[attr-defined]
    head = post(path, b"x" * 15_000)[:-14_000]
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection((small.host, small.port), timeout=10))
            for _ in range(5)
        ]
        for sock in opened:
            sock.sendall(head)
        refused = _answered(opened, 2)
        assert len(refused) == 2
        assert statuses(refused[0].recv(65536)) == [503]
        begun = time.monotonic()
        for sock in opened:
            with contextlib.suppress(ConnectionError):
                while sock.recv(65536):
                    pass
        assert time.monotonic() - begun < 9
    assert small.call("POST", path, b"{}").status == 200


def _answered(opened: list[socket.socket], least: int) -> list[socket.socket]:
    """Those that have something to read, as soon as so many have."""
    deadline = time.monotonic() + 10
    while True:
        answered = [sock for sock in opened if _peek(sock)]
        if len(answered) >= least or time.monotonic() > deadline:
            return answered
        time.sleep(0.01)


def _peek(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(10)


def test_idle_and_too_many_connections(small: Server) -> None:
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection((small.host, small.port), timeout=10))
            for _ in range(9)
        ]
        assert [statuses(sock.recv(65536)) for sock in _answered(opened, 1)] == [[503]]
        for sock in opened:  # idle_seconds
            with contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
    assert small.call("GET", API + "/version").status == 200


def test_a_client_that_does_not_read(small: Server) -> None:
    path = small.collection  # type: ignore[attr-defined]
    body = {"ids": ["big"], "embeddings": [[1] * 8], "documents": ["x" * 15_000]}
    assert small.call("POST", path + "/upsert", body).status == 200
    one = post(path + "/get", b'{"ids": ["big"]}')
    before = small.memory()
    with socket.create_connection((small.host, small.port), timeout=30) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(OSError):
            for _ in range(20_000):  # up to 300 MB of answers
                sock.sendall(one)
    assert small.memory() - before < 150 * 2**20
    assert small.call("GET", API + "/version").status == 200


def test_too_many_requests_at_once(tmp_path: Path) -> None:
    """Two may wait; of twenty writes at once the others get 429, and what was accepted is there."""
    config = "[limits]\nwaiting = 2\n[server]\nthreads = 1\n"
    with run_server(tmp_path, config=config) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
        path = f"{DEFAULT}/collections/{made.json['id']}"
        answers = []

        def write(i: int) -> None:
            body = {"ids": [f"{i}-{j}" for j in range(500)], "embeddings": [[i, 1]] * 500}
            answers.append((i, server.call("POST", path + "/add", body)))

        threads = [threading.Thread(target=write, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for _, answer in answers if answer.status != 201]
        for answer in refused:
            assert (answer.status, answer.error) == (429, "RateLimitError")
            assert answer.headers["retry-after"] == "1"
        assert refused
        done = {i for i, answer in answers if answer.status == 201}
        found = server.call("POST", path + "/get", {"include": []}).json["ids"]
    assert sorted(found) == sorted(f"{i}-{j}" for i in done for j in range(500))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_that_is_gone(tmp_path: Path, workers: str) -> None:
    """SIGHUP is as SIGTERM, but where the process was told to ignore it, as by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    try:
        with run_server(tmp_path, "--workers", workers) as server:
            server.process.send_signal(signal.SIGHUP)
            assert server.process.wait(60) == 0
        assert " stopped " in (tmp_path / "server.log").read_text()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with run_server(tmp_path, "--workers", workers) as server:
            server.process.send_signal(signal.SIGHUP)
            assert server.call("GET", API + "/heartbeat").status == 200
            assert stop(server.process) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_answers_what_runs(tmp_path: Path, workers: int) -> None:
    """SIGTERM under load: every answer is whole, and everything acknowledged is there later."""
    with run_server(tmp_path, "--workers", str(workers)) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
        path = f"{DEFAULT}/collections/{made.json['id']}"
        acknowledged: list[str] = []
        broken: list[object] = []

        def write(name: int) -> None:
            for i in range(100_000):
                body = {"ids": [f"{name}-{i}"], "embeddings": [[1, 2]]}
                try:
                    answer = server.call("POST", path + "/add", body)
                except ConnectionRefusedError:
                    return
                except OSError:  # it came when nobody listened any more
                    return
                if answer.status != 201:
                    broken.append(answer)
                    return
                acknowledged.append(f"{name}-{i}")

        threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        assert stop(server.process) == 0
        for thread in threads:
            thread.join(30)
    assert not broken
    assert acknowledged
    with run_server(tmp_path) as server:
        found = server.call("POST", path + "/get", {"include": []}).json["ids"]
    assert set(acknowledged) <= set(found)
