"""HttpAPI: chromadb's own client of a server, with our connections under it.

Every call, URL, JSON and error is chromadb's; only how bytes get to the server and back is ours,
and that arrays are written as JSON without becoming lists first.  It speaks to any server of
Chroma's.  Where a proxy is configured (HTTP_PROXY and the like), httpx does the work, as before.
"""

from __future__ import annotations

import contextlib
import math
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httpx
import numpy as np
import orjson
from chromadb.api.base_http_client import BaseHTTPClient
from chromadb.api.fastapi import FastAPI
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.api.types import (
    Embeddings,
    GetResult,
    IDs,
    Include,
    IncludeMetadataDocumentsDistances,
    QueryResult,
    ReadLevel,
    SearchResult,
    Where,
    WhereDocument,
    deserialize_metadata,
)
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.errors import ChromaError, InvalidArgumentError
from typing_extensions import override

from vexfs_chroma._errors import NotOfferedError
from vexfs_chroma._http_wire import Answer, Wire
from vexfs_chroma._kept import keeping, kept_for
from vexfs_chroma._names import as_read_level
from vexfs_chroma._remote import not_offered
from vexfs_chroma._remote_transaction import WRITES, RemoteTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from chromadb.config import System
    from chromadb.execution.expression.plan import Search
    from numpy.typing import NDArray


_SHOWN = 80
"""Characters of a value that an error shows."""


_BEYOND = 1e39
"""Infinity for a server, which reckons in single precision."""


class HttpAPI(FastAPI):
    """A server of Chroma's, as chromadb's `ServerAPI`."""

    def __init__(self, system: System) -> None:
        self._wire: Wire | None = None
        self._offers_extensions = False
        try:
            super().__init__(system)
            if not _has_proxy(self._api_url):
                self._wire = self._connections(system.settings.chroma_server_ssl_verify)
        except BaseException:
            # chromadb has put the System into its cache already, where nobody would stop it.
            if hasattr(self, "_session"):
                self._session.close()
            shared = SharedSystemClient._identifier_to_system
            for identifier in [name for name, known in shared.items() if known is system]:
                del shared[identifier]
            raise

    def _connections(self, verify: bool | str | None) -> Wire:
        context = None
        if self._api_url.startswith("https"):
            context = httpx.create_ssl_context(verify=True if verify is None else verify)
        return Wire(self._api_url, dict(self._session.headers), context, self.keepalive_secs)

    @override
    def stop(self) -> None:
        super().stop()
        self._session.close()
        if self._wire is not None:
            self._wire.close()

    @override
    def _make_request(self, method: str, path: str, **kwargs: Any) -> Any:
        if method == "post" and path.rpartition("/")[2] in WRITES:
            kept = kept_for(self, RemoteTransaction)
            if kept is not None:
                return kept.keep(path, kwargs["json"], _to_json(kwargs["json"]))
        if self._wire is None:
            return super()._make_request(method, path, **kwargs)
        return orjson.loads(self._send(method, path, **kwargs))

    def _send(self, method: str, path: str, json: Any = None, params: Any = None) -> bytes:
        """The body of the answer; raises chromadb's errors."""
        assert self._wire is not None
        target = urllib.parse.quote(path, safe="/")
        if params:
            target += "?" + urllib.parse.urlencode(params)
        body = None if json is None else _to_json(json)
        answer = self._wire.request(method.upper(), target, body)
        if not 200 <= answer.status < 300:
            _raise(answer, method, self._api_url + target)
        return answer.body

    @override
    def _count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> int:
        return super()._count(collection_id, tenant, database, as_read_level(read_level))

    @override
    def _search(
        self,
        collection_id: UUID,
        searches: list[Search],
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        level = as_read_level(read_level)
        payloads = cast("list[Search]", list(map(_Payload, searches)))
        return super()._search(collection_id, payloads, tenant, database, level)

    @override
    def _query(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings,
        ids: IDs | None = None,
        n_results: int = 10,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocumentsDistances,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> QueryResult:
        return self.query_records(
            collection_id,
            query_embeddings,
            ids,
            n_results,
            where,
            where_document,
            include,
            tenant,
            database,
        )

    # -- beyond chromadb's interface ---------------------------------------------------------------

    def query_records(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings | NDArray[np.float32],
        ids: IDs | None,
        n_results: int,
        where: Where | None,
        where_document: WhereDocument | None,
        include: Include,
        tenant: str,
        database: str,
        *,
        exact: bool = False,
    ) -> QueryResult:
        """_query, which can be told to be exact, where the server is ours."""
        path = f"/tenants/{tenant}/databases/{database}/collections/{collection_id}"
        body = {
            "ids": ids,
            "query_embeddings": query_embeddings,
            "n_results": n_results,
            "where": where,
            "where_document": where_document,
            "include": [name for name in include if name != "data"],
        }
        if exact:
            found = self.ask_extension("query(exact=True)", "post", path + "/vexfs/query", body)
        else:
            found = self._make_request("post", path + "/query", json=body)
        return QueryResult(
            ids=found["ids"],
            distances=found.get("distances"),
            embeddings=found.get("embeddings"),
            metadatas=_read_metadatas(found.get("metadatas")),
            documents=found.get("documents"),
            uris=found.get("uris"),
            data=None,
            included=include,
        )

    def read_records(self, found: Any, include: Include) -> GetResult:
        """The answer of a server to get, as chromadb's interface gives it."""
        return GetResult(
            ids=found["ids"],
            embeddings=found.get("embeddings"),
            documents=found.get("documents"),
            uris=found.get("uris"),
            included=include,
            data=None,
            metadatas=_read_metadatas(found.get("metadatas")),
        )

    @contextlib.contextmanager
    def transaction(self, tenant: str, database: str) -> Iterator[None]:
        """Keep what this context writes to records of a database, and send it as one request."""
        if not self.offers_extensions():
            raise not_offered("transaction()")
        with keeping(RemoteTransaction(self, tenant, database)) as kept:
            yield
        kept.commit()

    def ask_extension(self, what: str, method: str, path: str, body: Any = None) -> Any:
        """The answer of a route that only servers of ours have; `what`: its name for people.

        Raises NotOfferedError where there is none, and chromadb's errors.
        """
        arguments = {} if body is None else {"json": body}
        try:
            return self._make_request(method, path, **arguments)
        except (ChromaError, httpx.HTTPError):
            raise  # an answer of ours, or none
        except Exception as error:  # chromadb's, of an answer that is no error of Chroma's
            if self.offers_extensions():
                raise
            raise not_offered(what) from error

    def offers_extensions(self) -> bool:
        """Whether the server is one of ours; asked once, unless it is not."""
        if not self._offers_extensions:
            try:
                said = self._make_request("get", "/pre-flight-checks")
            except httpx.RemoteProtocolError:
                # A server may close the connection on which it just refused a body unread.
                said = self._make_request("get", "/pre-flight-checks")
            self._offers_extensions = isinstance(said, dict) and "vexfs_extensions" in said
        return self._offers_extensions


class _Payload:
    """A search as it is sent: JSON has no infinity, so null would take its place, or no default."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def to_dict(self) -> dict[str, Any]:
        payload = self._search.to_dict()
        return {**payload, "rank": _finite(payload.get("rank"))}


def _finite(rank: Any) -> Any:
    """A rank expression without infinities; raises InvalidArgumentError where it has NaN."""
    if isinstance(rank, dict):
        return {name: x if name == "query" else _finite(x) for name, x in rank.items()}
    if isinstance(rank, list):
        return list(map(_finite, rank))
    if not isinstance(rank, float | np.floating) or math.isfinite(rank):
        return rank
    if math.isnan(rank):
        raise InvalidArgumentError("Invalid search: NaN in an expression cannot be sent as JSON")
    return math.copysign(_BEYOND, rank)


def _to_json(value: Any) -> bytes:
    """The JSON that a server is sent; raises orjson's TypeError, which tells where to look."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        path, part = _find_unsendable("", value)
        shown = repr(part)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
        raise TypeError(f"{error}: {path.lstrip('.')} cannot be sent, got {shown}") from error


def _find_unsendable(path: str, value: Any) -> tuple[str, Any]:
    """The innermost part of a value that has no JSON, and its place."""
    parts: Any = ()
    if isinstance(value, dict):
        parts = [(f"{path}.{name}", part) for name, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{path}[{i}]", part) for i, part in enumerate(value)]
    for place, part in parts:
        if not _is_sendable(part):
            return _find_unsendable(place, part)
    return path, value


def _is_sendable(value: Any) -> bool:
    try:
        orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return False
    return True


def _read_metadatas(metadatas: Any) -> Any:
    """Metadata of a list of records, or of one for each query, with SparseVectors in it."""
    if metadatas is None:
        return None
    for i, one in enumerate(metadatas):
        if isinstance(one, list):
            metadatas[i] = _read_metadatas(one)
        elif one and any(type(value) is dict for value in one.values()):
            metadatas[i] = deserialize_metadata(one)
    return metadatas


def _has_proxy(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    proxies = urllib.request.getproxies()
    if parts.scheme not in proxies and "all" not in proxies:
        return False
    return not urllib.request.proxy_bypass(parts.hostname or "")


def _raise(answer: Answer, method: str, url: str) -> None:
    response = httpx.Response(
        answer.status,
        headers=[(n, v) for n, v in answer.headers if n.lower() != "content-encoding"],
        content=answer.body,
        request=httpx.Request(method.upper(), url),
    )
    try:
        BaseHTTPClient._raise_chroma_error(response)
    except ChromaError as error:
        if answer.status == HTTPStatus.NOT_IMPLEMENTED:
            raise NotOfferedError(str(error)) from error
        raise
