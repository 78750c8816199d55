"""Our HttpClient: the same as chromadb's, on Chroma's server and on ours, and on difficult ones."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromadb
import httpx
import numpy as np
import pytest
from server_kit import Server, client_of, free_port, run_server, stop
from typing_extensions import override

import vexfs_chroma
from vexfs_chroma._http_wire import Wire
from vexfs_chroma._server._auth import hash_token
from vexfs_chroma.api import HttpAPI

MAKERS = {"chromadb": chromadb.HttpClient, "vexfs": vexfs_chroma.HttpClient}


def attempt(call: Callable[[], Any]) -> Any:
    try:
        found = call()
    except Exception as error:
        return type(error), str(error)
    return plain(found)


def plain(value: Any) -> Any:
    """The same without arrays."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def calls(client: Any) -> list[Any]:
    """What a program may do, and what it is told."""
    vectors = np.random.default_rng(3).random((20, 8), dtype=np.float32)
    made = client.create_collection("things", metadata={"a": 1}, embedding_function=None)
    ids = [f"id {i} \u00e9\u4e2d" for i in range(20)]
    told: list[Any] = [
        made.name,
        made.metadata,
        attempt(
            lambda: made.add(ids=ids, embeddings=vectors, documents=[f"d{i}" for i in range(20)])
        ),
        attempt(lambda: made.upsert(ids=["x"], embeddings=[[1] * 8], metadatas=[{"n": [1, 2]}])),
        attempt(lambda: made.update(ids=["x"], metadatas=[{"m": True}], uris=["u"])),
        attempt(made.count),
        attempt(lambda: made.get(ids=["x", ids[3]], include=["embeddings", "metadatas", "uris"])),
        attempt(lambda: made.get(where={"m": True})),
        attempt(lambda: made.get(where_document={"$contains": "d1"}, limit=3, offset=1)),
        attempt(lambda: made.peek(2)),
        attempt(lambda: made.query(query_embeddings=vectors[:2], n_results=3)),
        attempt(
            lambda: made.query(
                query_embeddings=vectors[0].tolist(),
                where={"m": True},
                include=["embeddings", "distances", "uris"],
            )
        ),
        attempt(lambda: made.query(query_embeddings=[[1.0, 2.0]], n_results=3)),
        attempt(lambda: made.query(query_embeddings=vectors[:1], n_results=0)),
        attempt(lambda: made.get(where={"a": {"$bad": 1}})),
        attempt(lambda: made.delete(ids=["x"])),
        attempt(lambda: made.delete(where={"none": 1})),
        attempt(lambda: made.modify(name="renamed")),
        attempt(lambda: client.get_collection("missing")),
        attempt(lambda: client.create_collection("renamed", embedding_function=None)),
        attempt(lambda: client.get_or_create_collection("renamed", embedding_function=None).name),
        attempt(lambda: [found.name for found in client.list_collections(limit=5, offset=0)]),
        attempt(client.count_collections),
        attempt(client.get_version),
        attempt(lambda: client.set_tenant("nobody")),
        attempt(lambda: client.delete_collection("missing")),
        attempt(lambda: client.delete_collection("renamed")),
        attempt(client.reset),
    ]
    return told


@pytest.mark.parametrize("kind", ["server", "chroma"])
def test_the_same_as_chromadbs(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(kind)
    told = {}
    for name, make in MAKERS.items():
        with client_of(make, server) as client:
            told[name] = calls(client)
    for ours, theirs in zip(told["vexfs"], told["chromadb"], strict=True):
        assert ours == theirs


def test_it_is_ours(server: Server) -> None:
    with vexfs_chroma.HttpClient(host=server.url) as client:
        assert type(client._server) is HttpAPI
        assert client.heartbeat() > 0
    with pytest.raises(ValueError, match="Could not connect to a Chroma server"):
        vexfs_chroma.HttpClient(port=1)
    settings = chromadb.Settings(chroma_server_host="elsewhere")
    with pytest.raises(ValueError, match=r"settings\[elsewhere\] is different"):
        vexfs_chroma.HttpClient(host="here", settings=settings)


def test_tokens(tmp_path: Path) -> None:
    config = f'[[auth.tokens]]\nname = "n"\nrole = "write"\nhash = "{hash_token("secret")}"\n'
    with run_server(tmp_path, config=config) as server:
        for make in MAKERS.values():
            with client_of(make, server, headers={"X-Chroma-Token": "secret"}) as c:
                assert c.get_or_create_collection("things", embedding_function=None).count() == 0
        with pytest.raises(Exception, match="token is not valid"):
            vexfs_chroma.HttpClient(host=server.url, headers={"X-Chroma-Token": "guess"})
        settings = chromadb.Settings(
            chroma_client_auth_provider="chromadb.auth.token_authn.TokenAuthClientProvider",
            chroma_client_auth_credentials="secret",
        )
        with vexfs_chroma.HttpClient(host=server.host, port=server.port, settings=settings) as c:
            assert c.count_collections() == 1


def test_many_threads(server: Server) -> None:
    vectors = np.eye(64, dtype=np.float32)
    with vexfs_chroma.HttpClient(host=server.host, port=server.port) as client:
        made = client.create_collection("things", embedding_function=None)
        made.add(ids=[str(i) for i in range(64)], embeddings=vectors)
        wrong: list[Any] = []

        def ask(first: int) -> None:
            for i in range(first, 64, 8):
                found = made.query(query_embeddings=vectors[i : i + 1], n_results=1)["ids"]
                if found != [[str(i)]]:
                    wrong.append((i, found))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_server_that_was_started_again(tmp_path: Path) -> None:
    with run_server(tmp_path, "--port", str(free_port())) as server:
        client = vexfs_chroma.HttpClient(host=server.host, port=server.port)
        made = client.create_collection("things", embedding_function=None)
        made.add(ids=["a"], embeddings=[[1, 2]])
        stop(server.process)
        with pytest.raises(httpx.ConnectError):
            made.count()
        with run_server(tmp_path, "--port", str(server.port)):
            assert made.count() == 1
        client.close()


def test_children(server: Server) -> None:
    """A forked child does not use its parent's connections."""
    with vexfs_chroma.HttpClient(host=server.host, port=server.port) as client:
        made = client.create_collection("things", embedding_function=None)
        made.add(ids=["a"], embeddings=[[1, 2]])
        pid = os.fork()
        if not pid:
            os._exit(0 if all(made.count() == 1 for _ in range(50)) else 1)
        assert all(made.count() == 1 for _ in range(50))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_proxies_are_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    with vexfs_chroma.HttpClient(host="127.0.0.1", port=server.port) as client:
        assert client._server._wire is None  # type: ignore[attr-defined]
        assert client.heartbeat() > 0
        made = client.create_collection("things", embedding_function=None)
        made.add(ids=["a"], embeddings=[[1, 2]])
        assert made.query(query_embeddings=[[1, 2]], n_results=1)["ids"] == [["a"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_tls(tmp_path: Path, workers: int) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    config = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    with run_server(tmp_path, "--workers", str(workers), config=config) as server:
        for _ in range(5):  # no TLS: the connection is closed
            assert b"HTTP" not in server.raw(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for make in MAKERS.values():
            settings = chromadb.Settings(chroma_server_ssl_verify=str(certificate))
            with client_of(make, server, host="localhost", ssl=True, settings=settings) as client:
                made = client.get_or_create_collection("things", embedding_function=None)
                made.upsert(ids=["a"], embeddings=[[1, 2]], documents=["x" * 500_000])
                assert len(made.get()["documents"][0]) == 500_000
        with pytest.raises(ValueError, match="Could not connect"):
            vexfs_chroma.HttpClient(host="localhost", port=server.port, ssl=True)


# -- answers that another server, or a proxy before it, may give -----------------------------------


@contextlib.contextmanager
def answering(*answers: bytes, pieces: int = 1 << 30) -> Iterator[str]:
    """A server that gives these answers, each on its own connection, and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                for i in range(0, len(answer), pieces):
                    sock.sendall(answer[i : i + pieces])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v2"
    finally:
        thread.join(10)
        listener.close()


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n[1,\r\n5;x=y\r\n22, 3\r\n1\r\n]\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1,22, 3] ",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nCONTENT-LENGTH: 9\r\n\r\n[1,22, 3]",
        b"HTTP/1.0 200 OK\r\n\r\n[1,22, 3]",
        CHUNKED,
    ],
)
def test_forms_of_answers(answer: bytes, pieces: int) -> None:
    with answering(answer, pieces=pieces) as url, contextlib.closing(Wire(url, {}, None, 40)) as w:
        found = w.request("GET", "/x", None)
    assert (found.status, found.body.strip()) == (200, b"[1,22, 3]")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[1", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000, httpx.HTTPError),
    ],
)
def test_broken_answers(answer: bytes, error: type[Exception]) -> None:
    with answering(answer) as url, pytest.raises(error):
        Wire(url, {}, None, 40).request("GET", "/x", None)


def test_headers_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="line breaks"):
        Wire("http://x", {"a": "b\r\nc: d"}, None, 40)


def test_a_server_that_closes_the_connection_on_which_it_refused() -> None:
    """Then what it offers is asked for again, on another one."""
    asked = []

    class Refusing(HttpAPI):
        def __init__(self) -> None:
            self._offers_extensions = False

        @override
        def _make_request(self, method: str, path: str, **kwargs: Any) -> Any:
            asked.append(path)
            if path != "/pre-flight-checks":
                raise Exception("")
            if len(asked) == 2:
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            return {"max_batch_size": 1}

    with pytest.raises(vexfs_chroma.NotOfferedError, match="does not offer it"):
        Refusing().ask_extension("it", "post", "/x", {})
    assert asked == ["/x", "/pre-flight-checks", "/pre-flight-checks"]


def test_connections_are_kept_in_a_program_with_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("the hard limit of open files is below 2,048: no number gets above 1,023")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        """One connection, and no other."""
        sock, _ = listener.accept()
        with sock:
            while sock.recv(65536):
                sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join, 10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1024):
            stack.callback(os.close, os.dup(listener.fileno()))
        wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}", {}, None, 40)
        stack.callback(listener.close)
        stack.callback(wire.close)
        for _ in range(5):
            assert wire.request("GET", "/", None).status == 200
            (one,) = wire._idle
            assert one.sock.fileno() > 1023
            assert one.is_usable(40)
