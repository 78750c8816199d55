"""client.transaction() over HTTP: the writes of a block are one request, and all happen or none."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from chromadb.errors import ChromaError, InternalError, InvalidArgumentError, NotFoundError
from server_kit import API, DEFAULT, Answer, Server, run_server

import vexfs_chroma
from vexfs_chroma import NotOfferedError, RemoteClient
from vexfs_chroma._server._auth import hash_token

PATH = DEFAULT + "/vexfs/transaction"


@pytest.fixture
def client(server: Server) -> Iterator[RemoteClient]:
    with vexfs_chroma.HttpClient(host=server.host, port=server.port) as client:
        yield client


def made(client: Any, *names: str) -> list[Any]:
    return [client.create_collection(name, embedding_function=None) for name in names]


def held(collection: Any) -> dict[str, Any]:
    got = collection.get(include=["embeddings", "documents", "metadatas"])
    rows = zip(got["embeddings"], got["documents"], got["metadatas"], strict=True)
    return {
        id: (vector.tolist(), document, metadata)
        for id, (vector, document, metadata) in zip(got["ids"], rows, strict=True)
    }


def step(operation: str, collection: Any, body: Any) -> dict[str, Any]:
    id = collection if isinstance(collection, str) else str(collection.id)
    return {"collection_id": id, "operation": operation, "body": body}


# -- the client ------------------------------------------------------------------------------------


def write_everything(client: Any) -> Any:
    first, second = made(client, "first", "second")
    second.add(
        ids=["old", "new", "far"],
        embeddings=[[1, 1], [2, 2], [3, 3]],
        metadatas=[{"of": "a"}, {"of": "a"}, {"of": "b"}],
    )
    vectors = np.array([[1, 2], [3, 4]], dtype=np.float32)
    with client.transaction():
        told = second.delete(ids=["old", "far", "none"], where={"of": "a"})
        first.add(ids=["a", "b"], embeddings=vectors, documents=["x", "y"])
        vectors[:] = 0  # which is the caller's
        second.add(ids=["old"], embeddings=[[5, 6]], metadatas=[{"of": "b", "n": [1, 2]}])
        first.update(ids=["b"], metadatas=[{"n": 1}])
        assert first.delete(ids=["a", "none"]) == {"deleted": 2}  # ids given, as elsewhere
        before = first.count(), sorted(held(second))
    return told, before, held(first), held(second)


def test_all_of_it(client: RemoteClient) -> None:
    """The same as in process."""
    local = vexfs_chroma.EphemeralClient()
    expected = write_everything(local)
    assert expected[:2] == ({"deleted": 1}, (0, ["far", "new", "old"]))
    assert write_everything(client) == expected
    for name in ("first", "second"):
        local.delete_collection(name)
    local.close()


def test_deletions_tell_what_is_there(client: RemoteClient) -> None:
    (first,) = made(client, "first")
    n, documents = range(5), [f"text {i}" for i in range(5)]
    first.add(
        ids=[str(i) for i in n],
        embeddings=[[i, 1] for i in n],
        documents=documents,
        metadatas=[{"n": i} for i in n],
    )
    for selection, deleted in (
        ({"where": {"n": {"$gte": 1}}}, 4),
        ({"where": {"n": {"$gte": 1}}, "limit": 2}, 2),
        ({"ids": ["0", "3"], "where_document": {"$contains": "3"}}, 1),
        ({"where": {"n": {"$exists": False}}}, 0),
    ):
        with pytest.raises(KeyError), client.transaction():
            assert first.delete(**selection) == {"deleted": deleted}  # type: ignore[arg-type]
            raise KeyError
    with client.transaction():
        first.delete(where={"n": {"$gte": 1}}, limit=2)
    assert list(held(first)) == ["0", "3", "4"]


@pytest.mark.parametrize("wrong", ["raised", "dimension", "first", "nan", "filter", "gone", "bad"])
def test_or_nothing(client: RemoteClient, wrong: str) -> None:
    first, second, third = made(client, "first", "second", "third")
    for collection in (first, second):
        collection.add(ids=["a"], embeddings=[[1, 2]], documents=["before"])
    before = held(first), held(second), {}
    raises: Any = {"raised": KeyError, "gone": NotFoundError}.get(wrong, InvalidArgumentError)
    texts = {
        "dimension": r"^steps\[3\]: Collection expecting embedding with dimension of 2, got 3",
        "first": r"^steps\[4\]: Collection expecting embedding with dimension of 2, got 3",
        "nan": r"^steps\[3\]: .*NaN",
        "filter": r"^steps\[3\]: in a transaction",
        "gone": r"^steps\[3\]: Collection \[.*\] does not exist",
    }

    def write() -> None:
        with client.transaction():
            first.upsert(ids=["a", "b"], embeddings=[[9, 9], [8, 8]], documents=["after", None])
            second.delete(ids=["a"])
            second.add(ids=["a"], embeddings=[[7, 7]])
            if wrong == "raised":
                raise KeyError
            if wrong == "dimension":
                second.add(ids=["c"], embeddings=[[1, 2, 3]])
            elif wrong == "first":
                third.add(ids=["c"], embeddings=[[1, 2]])
                third.add(ids=["d"], embeddings=[[1, 2, 3]])
            elif wrong == "nan":
                second.add(ids=["c"], embeddings=[[1, float("nan")]])
            elif wrong == "filter":
                second.delete(where_document={"$contains": "before"})
            elif wrong == "bad":
                third.delete(where={"#bad": {"$gt": 1}, "n": {"$contains_text": ""}})
            else:
                third.add(ids=["c"], embeddings=[[1, 2]])
                client.delete_collection("third")

    with pytest.raises(Exception, match=texts.get(wrong)) as caught:
        write()
    if wrong != "bad":
        assert caught.type is raises
    assert (held(first), held(second)) == before[:2]
    assert wrong == "gone" or held(third) == {}
    first.add(ids=["d"], embeddings=[[3, 3]])  # and writing goes on
    assert first.count() == 2


def test_what_it_is_not(client: RemoteClient, server: Server) -> None:
    """Nested, about another database, or a request where there is nothing to write."""
    (first,) = made(client, "first")
    server.call("POST", API + "/tenants/default_tenant/databases", {"name": "other"})
    with vexfs_chroma.HttpClient(host=server.host, port=server.port) as another:
        another.set_database("other")
        (elsewhere,) = made(another, "first")
        client.set_database("other")
        theirs = client.get_collection("first", embedding_function=None)
        client.set_database("default_database")
        with client.transaction():
            first.add(ids=["a"], embeddings=[[1, 2]])
            elsewhere.add(ids=["b"], embeddings=[[1, 2]])  # by a client of its own
            assert elsewhere.count() == 1
            with pytest.raises(InvalidArgumentError, match="about one database"):
                theirs.add(ids=["c"], embeddings=[[1, 2]])
            with (
                pytest.raises(InvalidArgumentError, match="do not nest"),
                another.transaction(),
            ):
                pass
        assert (list(held(first)), list(held(elsewhere))) == (["a"], ["b"])
    begun = requests(server)
    with client.transaction():
        assert first.count() == 1
    assert requests(server) == begun


def requests(server: Server, route: str = "transaction") -> int:
    text = server.call("GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("vexfs_http_requests_total")]
    return int(sum(float(line.split()[-1]) for line in lines if f'route="{route}"' in line))


def test_other_threads_have_no_part_in_it(client: RemoteClient) -> None:
    (first,) = made(client, "first")
    with pytest.raises(KeyError), client.transaction():
        first.add(ids=["a"], embeddings=[[1, 2]])
        thread = threading.Thread(target=first.add, args=(["b"], [[3.0, 4.0]]))
        thread.start()
        thread.join()
        raise KeyError
    assert list(held(first)) == ["b"]


def test_many_threads(client: RemoteClient) -> None:
    """Each has its own, all at once: what two collections have of each stays the same."""
    first, second = made(client, "first", "second")
    problems: list[BaseException] = []

    def work(of: int) -> None:
        try:
            for turn in range(10):
                with client.transaction():
                    first.upsert(ids=[f"{of}"], embeddings=[[of, turn]])
                    second.upsert(ids=[f"{of}"], embeddings=[[of, turn]])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(of,)) for of in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert held(first) == held(second) == {f"{of}": ([of, 9], None, None) for of in range(4)}


def test_in_tasks(client: RemoteClient) -> None:
    (first,) = made(client, "first")

    async def one(n: int) -> None:
        with client.transaction():
            first.add(ids=[f"a{n}"], embeddings=[[1, 2]])
            await asyncio.sleep(0)
            first.add(ids=[f"b{n}"], embeddings=[[1, 2]])

    async def run() -> None:
        await asyncio.gather(*(one(n) for n in range(4)))

    asyncio.run(run())
    assert first.count() == 8


def test_what_comes_late_is_refused(client: RemoteClient) -> None:
    (first,) = made(client, "first")
    with client.transaction():
        first.add(ids=["a"], embeddings=[[1, 2]])
        context = contextvars.copy_context()
    with pytest.raises(InvalidArgumentError, match="has ended"):
        context.run(first.add, ["b"], [[1.0, 2.0]])
    assert context.run(first.count) == 1

    def again() -> None:
        with client.transaction():
            first.add(ids=["c"], embeddings=[[1, 2]])

    context.run(again)
    assert list(held(first)) == ["a", "c"]


def test_chromas_server_does_not_offer_it(chroma: Server) -> None:
    with vexfs_chroma.HttpClient(host=chroma.host, port=chroma.port) as client:
        (first,) = made(client, "first")
        with (
            pytest.raises(NotOfferedError, match=r"transaction\(\)"),
            client.transaction(),
        ):
            first.add(ids=["a"], embeddings=[[1, 2]])
        first.add(ids=["b"], embeddings=[[1, 2]])
        assert list(held(first)) == ["b"]


def test_through_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    with vexfs_chroma.HttpClient(host="127.0.0.1", port=server.port) as client:
        first, second = made(client, "first", "second")
        with client.transaction():
            first.add(ids=["a"], embeddings=np.ones((1, 2), np.float32), documents=["é"])
            second.add(ids=["b"], embeddings=[[1, 2]])
        assert held(first) == {"a": ([1, 1], "é", None)}
        assert list(held(second)) == ["b"]


# -- clients and connections that are gone ---------------------------------------------------------

KILLED = """
import os, signal, sys
import vexfs_chroma
client = vexfs_chroma.HttpClient(host=sys.argv[1], port=int(sys.argv[2]))
first = client.get_collection("first", embedding_function=None)
second = client.get_collection("second", embedding_function=None)
with client.transaction():
    first.add(ids=["a"], embeddings=[[1, 2]])
    second.add(ids=["a"], embeddings=[[1, 2]])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_client_leaves_nothing(client: RemoteClient, server: Server) -> None:
    first, second = made(client, "first", "second")
    command = [sys.executable, "-c", KILLED, server.host, str(server.port)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    steps = [step("add", one, {"ids": ["a"], "embeddings": [[1, 2]]}) for one in (first, second)]
    body = json.dumps({"steps": steps}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    )
    for end in (0, 1, len(body) // 2, len(body) - 1):  # killed while it was sent
        with socket.create_connection((server.host, server.port)) as sock:
            sock.sendall(head + body[:end])
    assert (first.count(), second.count()) == (0, 0)
    with socket.create_connection((server.host, server.port)) as sock:  # and one that was not
        sock.sendall(head + body)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    assert (first.count(), second.count()) == (1, 1)


@contextmanager
def losing_answers(server: Server) -> Iterator[tuple[int, list[str]]]:
    """The port of a proxy that passes on every request, and loses answers to transactions."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[str] = []

    def one(sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as file:
            while line := file.readline():
                method, path, _ = line.decode().split(" ")
                headers = http.client.parse_headers(file)
                body = file.read(int(headers.get("content-length", 0)))
                seen.append(path)
                answer = server.call(method, path, body or None)
                if path == PATH:
                    assert answer.status == 200
                    return
                head = f"HTTP/1.1 {answer.status} X\r\ncontent-length: {len(answer.body)}\r\n\r\n"
                sock.sendall(head.encode() + answer.body)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(sock,)).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_it_is_sent_once(server: Server) -> None:
    """Also when the answer is lost: it was carried out, or not, and nobody does it again."""
    with (
        losing_answers(server) as (port, seen),
        vexfs_chroma.HttpClient(host="127.0.0.1", port=port) as client,
    ):
        (first,) = made(client, "first")
        with pytest.raises(httpx.HTTPError), client.transaction():
            first.add(ids=["a"], embeddings=[[1, 2]])
        assert seen.count(PATH) == 1
        assert first.count() == 1


# -- the route -------------------------------------------------------------------------------------


@pytest.fixture
def other(server: Server) -> str:
    """The id of an empty collection."""
    return str(server.call("POST", DEFAULT + "/collections", {"name": "other"}).json["id"])


GOOD = {"ids": ["x", "y", "x"], "embeddings": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}
ERRORS: list[tuple[str, Any]] = [
    ("add", {"ids": ["x"], "embeddings": [[1, 2]]}),
    ("upsert", {"ids": ["x"], "embeddings": [[1, 2]]}),
    ("update", {"ids": ["a"], "embeddings": [[1, 2]]}),
    ("add", {"ids": ["x"], "embeddings": []}),
    ("add", {"ids": ["x", "y"], "embeddings": [[1, 2, 3], [1, 2]]}),
    ("add", {"ids": [""], "embeddings": [[1, 2, 3]]}),
    ("add", {"ids": ["i" * 70_000], "embeddings": [[1, 2, 3]]}),
    ("add", {"ids": ["x"], "embeddings": [[1, 2, 1e300]]}),
    ("add", {"ids": ["x"], "embeddings": ["AAAA"]}),
    ("add", {"ids": ["x"], "embeddings": ["?"]}),
    ("add", {"ids": [1], "embeddings": [[1, 2, 3]]}),
    ("add", {"ids": ["x"], "embeddings": [[1, 2, 3]], "metadatas": [{"a": {"b": 1}}]}),
    ("add", {"ids": ["x"], "embeddings": [[1, 2, 3]], "metadatas": [{"a": [1, "b"]}]}),
    ("add", {"ids": ["x"], "embeddings": [[1, 2, 3]], "documents": []}),
    ("add", {"ids": ["x"]}),
    ("add", {}),
    ("add", None),
    ("add", []),
    ("update", {"ids": ["a", "b"], "embeddings": [None, [1, 2]]}),
    ("delete", {}),
    ("delete", {"ids": []}),
    ("delete", {"ids": ["a"], "limit": 1}),
    ("delete", {"where": {}}),
    ("delete", {"where": {"n": {"$bad": 1}}}),
    ("delete", {"where_document": {"$regex": "("}}),
    ("delete", {"where": {"n": 1}, "limit": -1}),
]


def records(server: Server, *ids: str) -> list[Any]:
    body = {"include": ["embeddings", "documents", "metadatas"]}
    return [server.call("POST", f"{DEFAULT}/collections/{id}/get", body).json for id in ids]


def post(server: Server, *steps: Any) -> Answer:
    return server.call("POST", PATH, {"steps": list(steps)})


@pytest.mark.parametrize(("operation", "body"), ERRORS)
def test_errors_are_those_of_the_route(
    server: Server, collection: str, other: str, operation: str, body: Any
) -> None:
    id = collection.rpartition("/")[2]
    before = records(server, id, other)
    expected = server.call("POST", f"{collection}/{operation}", body or json.dumps(body).encode())
    answer = post(
        server,
        step("add", other, GOOD),
        step("upsert", other, GOOD),
        step(operation, id, body),
    )
    if expected.status < 400:  # of Chroma's a deletion without anything, too
        assert (answer.status, answer.json) == (200, {})
        return
    message = "steps[2]: " + expected.json["message"]
    assert answer.status == expected.status
    assert answer.json == {**expected.json, "message": message, "step": 2}
    assert records(server, id, other) == before


def test_places_of_collections(server: Server, collection: str, other: str) -> None:
    """Unknown, malformed, or of another database: nothing is done."""
    id = collection.rpartition("/")[2]
    before = records(server, id, other)
    path = f"{API}/tenants/default_tenant/databases"
    assert server.call("POST", path, {"name": "beside"}).status == 200
    theirs = server.call("POST", f"{path}/beside/collections", {"name": "things"}).json["id"]
    for wrong, status, name in (
        (str(uuid.uuid4()), 404, "NotFoundError"),
        (theirs, 404, "NotFoundError"),
        ("", 400, "InvalidArgumentError"),
        ("things", 400, "InvalidArgumentError"),
        ("../" + id, 400, "InvalidArgumentError"),
    ):
        answer = post(server, step("add", id, GOOD), step("add", wrong, GOOD))
        assert (answer.status, answer.error, answer.json["step"]) == (status, name, 1), wrong
    assert records(server, id, other) == before
    answer = post(server, step("add", id.upper(), GOOD))
    assert answer.status == 200


HOSTILE = [
    (b"", 400),
    (b"{", 400),
    (b"null", 422),
    (b"[]", 422),
    (b"{}", 422),
    (b'{"steps":null}', 422),
    (b'{"steps":{}}', 422),
    (b'{"steps":[null]}', 422),
    (b'{"steps":[{}]}', 422),
    (b'{"steps":[[]]}', 422),
    (b'{"steps":[{"collection_id":"ID","operation":"drop","body":{}}]}', 422),
    (b'{"steps":[{"collection_id":"ID","operation":["add"],"body":{}}]}', 422),
    (b'{"steps":[{"collection_id":1,"operation":"add","body":{}}]}', 422),
    (b'{"steps":[{"collection_id":"ID","operation":"add"}]}', 422),
    (b'{"steps":[{"collection_id":"ID","operation":"add","body":{"ids":[}}]}', 400),
    (b'{"steps":[{"collection_id":"ID","operation":"add","body":NaN}]}', 400),
    (b'{"steps":[{"collection_id":"ID","operation":"add","body":"\xff"}]}', 422),
    (b'{"steps":[STEP,{"collection_id":"ID","operation":"delete","body":{"ids":["\xff"]}}]}', 400),
    (b'{"steps":[{"collection_id":"ID","operation":"add","body":' + b"[" * 5000 + b"}]}", 400),
    (
        b'{"steps":[{"collection_id":"ID","operation":"add","body":'
        + b"[" * 5000
        + b"]" * 5000
        + b"}]}",
        400,
    ),
    (b'{"steps":[STEP,{"collection_id":"ID","operation":"add","body":"{}"}]}', 422),
    (
        b'{"steps":[STEP,{"collection_id":"ID","operation":"delete","body":{"where":{"n":'
        + b"9" * 400
        + b"}}}]}",
        400,
    ),
    (
        b'{"steps":[STEP,{"collection_id":"ID","operation":"add","body":%b}]}'
        % b'{"ids":["\\ud800"],"embeddings":[[1,2,3]]}',
        400,
    ),
    (b'{"steps":[STEP]}x', 400),
    (b'{"steps":[STEP,]}', 400),
    (b'{"steps":[STEP', 400),
]


@pytest.mark.parametrize(("body", "status"), HOSTILE)
def test_hostile_bodies(server: Server, collection: str, body: bytes, status: int) -> None:
    id = collection.rpartition("/")[2]
    before = records(server, id)
    good = json.dumps(step("delete", id, {"ids": ["a", "b"]})).encode()
    answer = server.call("POST", PATH, body.replace(b"STEP", good).replace(b"ID", id.encode()))
    assert (answer.status, set(answer.json) - {"step"}) == (status, {"error", "message"}), answer
    assert records(server, id) == before


def test_limits(tmp_path: Path) -> None:
    config = "[limits]\nsteps = 3\nrows = 5\nbody_bytes = 4096\n"
    with run_server(tmp_path, config=config) as server:
        id = server.call("POST", DEFAULT + "/collections", {"name": "abc"}).json["id"]

        def rows(n: int) -> Any:
            return step(
                "upsert", id, {"ids": [str(i) for i in range(n)], "embeddings": [[1, 2]] * n}
            )

        answer = post(server, *[rows(1)] * 4)
        assert (answer.status, answer.error) == (400, "InvalidArgumentError")
        assert "4 writes in one transaction, more than the server's limit of 3" in str(answer.json)
        answer = post(server, rows(3), rows(2), rows(1))
        assert (answer.status, answer.json["step"]) == (400, 2)
        assert "6 records in one request" in answer.json["message"]
        large = {"ids": ["a"], "embeddings": [[1, 2]], "documents": ["x" * 5000]}
        assert post(server, step("add", id, large)).status == 413
        assert records(server, id)[0]["ids"] == []
        assert post(server, rows(3), step("delete", id, {"ids": ["7"] * 9}), rows(2)).json == {}
        assert records(server, id)[0]["ids"] == ["0", "1", "2"]


def test_a_database_that_is_read_only(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        id = server.call("POST", DEFAULT + "/collections", {"name": "abc"}).json["id"]
    with run_server(tmp_path, config="[database]\nread_only = true\n") as server:
        answer = post(server, step("add", id, GOOD))
        plain = server.call("POST", f"{DEFAULT}/collections/{id}/add", GOOD)
        assert (
            (answer.status, answer.error) == (plain.status, plain.error) == (403, "InternalError")
        )
        with (
            vexfs_chroma.HttpClient(host=server.host, port=server.port) as client,
            pytest.raises(InternalError, match="read-only"),
            client.transaction(),
        ):
            client.get_collection("abc", embedding_function=None).delete(ids=["a"])


def test_rights(tmp_path: Path) -> None:
    """The role `write`, and collections that one reaches; every route is in test_auth.py, too."""
    scope = 'tenant = "default_tenant"\ndatabases = ["default_database"]\n'
    config = "".join(
        f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash_token(name)}"\nrole = "{role}"\n{extra}'
        for name, role, extra in (
            ("root", "admin", ""),
            ("read", "read", ""),
            ("part", "write", scope),
        )
    )
    with run_server(tmp_path, config=config) as server:
        server.headers = {"x-chroma-token": "root"}
        path = f"{API}/tenants/default_tenant/databases"
        assert server.call("POST", path, {"name": "beside"}).status == 200
        theirs = server.call("POST", f"{path}/beside/collections", {"name": "things"}).json["id"]
        ours = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json["id"]
        steps = [step("add", ours, GOOD), step("add", theirs, GOOD)]

        def told(who: str, path: str) -> tuple[int, str | None]:
            answer = server.call("POST", path, {"steps": steps}, {"x-chroma-token": who})
            return answer.status, answer.error

        assert told("guessed", PATH) == (401, "AuthorizationError")
        assert told("read", PATH) == (403, "AuthError")
        assert told("part", PATH) == (404, "NotFoundError")
        assert told("part", path + "/beside/vexfs/transaction") == (403, "AuthError")
        assert told("root", path + "/beside/vexfs/transaction") == (404, "NotFoundError")
        assert records(server, ours)[0]["ids"] == []
        with vexfs_chroma.HttpClient(
            host=server.host, port=server.port, headers={"X-Chroma-Token": "read"}
        ) as reader:
            things = reader.get_collection("things", embedding_function=None)
            with pytest.raises(ChromaError, match="may only read"), reader.transaction():
                things.add(ids=["a"], embeddings=[[1, 2, 3]])
        del steps[1]
        assert told("part", PATH) == (200, None)
        assert records(server, ours)[0]["ids"] == ["x", "y"]


def test_steps_that_are_several_batches(server: Server, collection: str, other: str) -> None:
    """Ids that come twice, and updates of records with and without an embedding."""
    id = collection.rpartition("/")[2]
    update = {"ids": ["a", "b"], "embeddings": [[9, 9, 9], None], "metadatas": [{"n": 7}, {"n": 8}]}
    upsert = {"ids": ["z", "z"], "embeddings": [[1, 2, 3], [3, 2, 1]]}
    answer = post(
        server, step("update", id, update), step("upsert", id, upsert), step("add", other, GOOD)
    )
    assert (answer.status, answer.json) == (200, {})
    here, there = records(server, id, other)
    assert here["embeddings"] == [[9, 9, 9], [0, 1, 0], [0, 0, 1], [3, 2, 1]]
    assert here["metadatas"][:2] == [{"n": 7}, {"n": 8}]
    assert (there["ids"], there["embeddings"]) == (["x", "y"], [[1, 2, 3], [4, 5, 6]])


def test_it_is_as_documented(server: Server, collection: str) -> None:
    document = server.call("GET", "/openapi.json").json
    template = API + "/tenants/{tenant}/databases/{database}/vexfs/transaction"
    operation = document["paths"][template]["post"]

    def validate(value: Any, described: Any) -> None:
        schema = described["content"]["application/json"]["schema"]
        jsonschema.validate(value, {**schema, "components": document["components"]})

    id = collection.rpartition("/")[2]
    steps = [step("add", id, GOOD), step("delete", id, {"ids": ["a"]})]
    validate({"steps": steps}, operation["requestBody"])
    answer = post(server, *steps)
    assert answer.status == 200
    validate(answer.json, operation["responses"]["200"])
    validate(post(server, step("add", "x", {})).json, operation["responses"]["400"])
    with pytest.raises(jsonschema.ValidationError):
        validate({"steps": [step("drop", id, {})]}, operation["requestBody"])


def test_it_is_counted_and_slow(tmp_path: Path) -> None:
    with run_server(tmp_path, variables={"VEXFS_SLOW_MS": "0"}) as server:
        id = server.call("POST", DEFAULT + "/collections", {"name": "abc"}).json["id"]
        assert post(server, step("add", id, GOOD), step("delete", id, {"ids": ["x"]})).json == {}
        assert post(server, step("add", id, {})).status == 422
        assert requests(server) == 2
        text = server.call("GET", "/metrics").body.decode()
        assert 'vexfs_operations_total{operation="transaction",status="ok"} 1.0' in text
        (slow,) = [
            one
            for one in server.call("GET", "/vexfs/slow-log").json
            if one["operation"] == "transaction"
        ]
        assert (slow["writes"], slow["collections"]) == (2, 1)
        assert slow["request_id"]
