"""The little of Chroma's HTTP interface that a load test needs: paths, bodies, a plain connection.

The same for our server and for Chroma's.
"""

from __future__ import annotations

import base64
import http.client
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._load._world import OwnRow, World

API = "/api/v2"
DATABASE = f"{API}/tenants/default_tenant/databases/default_database"
_TIMEOUT_S = 300.0


class HttpError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text[:200]}")
        self.status = status


class Connection:
    """Requests one after the other, on one connection, which is made anew when it broke."""

    def __init__(self, url: str, timeout: float = _TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a server: http://HOST:PORT")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._prefix = parts.path.rstrip("/")

    def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON of an answer.  Raises HttpError, or OSError when nobody answers."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, self._prefix + path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            self._connection.close()
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except OSError:
            self._connection.close()
            raise
        if response.status >= 300:
            raise HttpError(response.status, content.decode("utf-8", "replace"))
        return msgspec.json.decode(content) if content else None

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class Bodies:
    """Requests of one world, as bytes.  What is sent again and again is made once."""

    def __init__(self, world: World) -> None:
        scenario = world.scenario
        self._queries = [_vector(query) for query in world.queries]
        include = ["metadatas", "distances"] + (["documents"] if scenario.documents else [])
        self._about = msgspec.json.encode({"n_results": scenario.k, "include": include})[1:]
        self._group = [
            msgspec.json.encode({"where": {"group": group}})[1:-1] + b"," for group in range(10)
        ]

    def query(self, numbers: Sequence[int], group: int | None) -> bytes:
        """Some queries of the world."""
        vectors = b",".join([self._queries[number] for number in numbers])
        where = b"" if group is None else self._group[group]
        return b'{"query_embeddings":[' + vectors + b"]," + where + self._about

    def query_own(self, row: OwnRow) -> bytes:
        """The query for a row."""
        return b'{"query_embeddings":[' + _vector(row.vector) + b"]," + self._about

    @staticmethod
    def get(ids: Sequence[str]) -> bytes:
        """Rows by id."""
        return msgspec.json.encode({"ids": ids, "include": ["metadatas", "embeddings"]})

    @staticmethod
    def upsert(ids: Sequence[str], rows: Sequence[OwnRow]) -> bytes:
        """Write rows."""
        body: dict[str, Any] = {
            "ids": ids,
            "embeddings": [_base64(row.vector) for row in rows],
            "metadatas": [row.metadata for row in rows],
        }
        if rows[0].text is not None:
            body["documents"] = [row.text for row in rows]
        return msgspec.json.encode(body)

    @staticmethod
    def delete(ids: Sequence[str]) -> bytes:
        """Delete rows."""
        return msgspec.json.encode({"ids": ids})


def base_rows(world: World, numbers: range) -> bytes:
    """The request that adds base rows."""
    block = np.ascontiguousarray(world.vectors[numbers.start : numbers.stop], dtype="<f4")
    body: dict[str, Any] = {
        "ids": [f"b{number}" for number in numbers],
        "embeddings": [_base64(row) for row in block],
        "metadatas": [world.metadata(number) for number in numbers],
    }
    if world.scenario.documents:
        body["documents"] = [world.text(number) for number in numbers]
    return msgspec.json.encode(body)


def _vector(row: Any) -> bytes:
    """As JSON: the shortest digits that make the same float32, as Chroma's client sends them."""
    found: bytes = orjson.dumps(np.ascontiguousarray(row), option=orjson.OPT_SERIALIZE_NUMPY)
    return found


def _base64(row: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(row, dtype="<f4").tobytes()).decode("ascii")


def collection_path(connection: Connection, name: str) -> str | None:
    """The path of a collection; None where there is none of that name."""
    try:
        found = connection.call("GET", f"{DATABASE}/collections/{quote(name)}")
    except HttpError as error:
        if error.status == 404:
            return None
        raise
    return f"{DATABASE}/collections/{found['id']}"


def wait_until_indexed(connection: Connection, path: str, timeout: float = 600.0) -> None:
    """Until the index has every row; servers that do not tell are not waited for."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            status = connection.call("GET", f"{path}/indexing_status")
        except HttpError:
            return
        if status["op_indexing_progress"] >= 1.0:
            return
        time.sleep(0.2)
    raise TimeoutError(f"the index was not built within {timeout:.0f} s")
