"""HttpAPI: chromadb's own client of a server, with our connections under it.

Every call, URL, JSON and error is chromadb's; only how bytes get to the server and back is ours,
and that arrays are written as JSON without becoming lists first.  It speaks to any server of
Chroma's.  Where a proxy is configured (HTTP_PROXY and the like), httpx does the work, as before.
"""

from __future__ import annotations

import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from chromadb.api.base_http_client import BaseHTTPClient
from chromadb.api.fastapi import FastAPI
from chromadb.api.types import (
    Embeddings,
    IDs,
    Include,
    IncludeMetadataDocumentsDistances,
    QueryResult,
    Where,
    WhereDocument,
    deserialize_metadata,
)
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from typing_extensions import override

from vexfs_chroma._http_wire import Answer, Wire

if TYPE_CHECKING:
    from uuid import UUID

    from chromadb.config import System


class HttpAPI(FastAPI):
    """A server of Chroma's, as chromadb's `ServerAPI`."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        verify = system.settings.chroma_server_ssl_verify
        self._wire: Wire | None = None
        if not _has_proxy(self._api_url):
            context = None
            if self._api_url.startswith("https"):
                context = httpx.create_ssl_context(verify=True if verify is None else verify)
            self._wire = Wire(
                self._api_url, dict(self._session.headers), context, self.keepalive_secs
            )

    @override
    def stop(self) -> None:
        super().stop()
        self._session.close()
        if self._wire is not None:
            self._wire.close()

    @override
    def _make_request(self, method: str, path: str, **kwargs: Any) -> Any:
        if self._wire is None:
            return super()._make_request(method, path, **kwargs)
        return orjson.loads(self._send(method, path, **kwargs))

    def _send(self, method: str, path: str, json: Any = None, params: Any = None) -> bytes:
        """The body of the answer; raises chromadb's errors."""
        assert self._wire is not None
        target = urllib.parse.quote(path, safe="/")
        if params:
            target += "?" + urllib.parse.urlencode(params)
        body = None if json is None else orjson.dumps(json, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._wire.request(method.upper(), target, body)
        if not 200 <= answer.status < 300:
            _raise(answer, method, self._api_url + target)
        return answer.body

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
        if self._wire is None:
            return super()._query(
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
        text = self._send(
            "POST",
            f"/tenants/{tenant}/databases/{database}/collections/{collection_id}/query",
            {
                "ids": ids,
                "query_embeddings": query_embeddings,
                "n_results": n_results,
                "where": where,
                "where_document": where_document,
                "include": [name for name in include if name != "data"],
            },
        )
        found = orjson.loads(text)
        metadatas = found.get("metadatas")
        if metadatas is not None and b'"#type"' in text:  # sparse vectors
            metadatas = [
                part and [m if m is None else deserialize_metadata(m) for m in part]
                for part in metadatas
            ]
        return QueryResult(
            ids=found["ids"],
            distances=found.get("distances"),
            embeddings=found.get("embeddings"),
            metadatas=metadatas,
            documents=found.get("documents"),
            uris=found.get("uris"),
            data=None,
            included=include,
        )


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
    BaseHTTPClient._raise_chroma_error(response)
