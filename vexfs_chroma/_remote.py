"""What our collections can do beyond chromadb's, over HTTP: the client of the routes in `vexfs/`.

A server of Chroma's own has none of these routes, and answers 404 without saying which thing is
missing.  Only then is its pre-flight answer looked at, where a server of ours says that it has
them: so nothing costs a request more, and a lost collection is never taken for another server.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.api.types import GetResult

from vexfs_chroma._aggregates import KeySummary, ValueCount
from vexfs_chroma._errors import NotOfferedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from chromadb.api.types import DeleteResult, IDs, QueryResult

    from vexfs_chroma._aggregates import Value
    from vexfs_chroma._api_pages import Order
    from vexfs_chroma._http_api import HttpAPI
    from vexfs_chroma._memory import MemoryReport
    from vexfs_chroma._query_plan import QueryPlan
    from vexfs_chroma._recall import RecallReport

_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.5
"""Seconds between two looks at the graph that is waited for."""


class RemoteDatabase:
    """A database of a server, as `Extensions` describes it.

    Every method but those of chromadb's interface raises NotOfferedError where the server is
    Chroma's.
    """

    def __init__(self, api: HttpAPI, tenant: str, database: str) -> None:
        self._api, self._tenant, self._database = api, tenant, database

    def _ask(self, what: str, id: UUID, name: str, body: Any = None) -> Any:
        """The answer of a route in `vexfs/`; `what`: the caller's name for it."""
        return self._api.ask_extension(
            what,
            "get" if body is None else "post",
            f"/tenants/{self._tenant}/databases/{self._database}/collections/{id}/vexfs/{name}",
            body,
        )

    def check_offered(self, what: str) -> None:
        """Raise NotOfferedError where the server is Chroma's."""
        if not self._api.offers_extensions():
            raise not_offered(what)

    # -- records -----------------------------------------------------------------------------------

    def _get(self, collection_id: UUID, *arguments: Any, **named: Any) -> GetResult:
        named |= {"tenant": self._tenant, "database": self._database}
        return self._api._get(collection_id, *arguments, **named)

    def _delete(self, collection_id: UUID, ids: IDs | None = None) -> DeleteResult:
        return self._api._delete(collection_id, ids, tenant=self._tenant, database=self._database)

    def write_plain(self, op: str, collection_id: UUID, ids: Any, *columns: Any) -> None:
        """Add, update or upsert (`op`) embeddings, documents and metadata."""
        vectors, documents, metadatas = columns
        named = {"tenant": self._tenant, "database": self._database}
        if op == "add":
            self._api._add(ids, collection_id, vectors, metadatas, documents, None, **named)
        elif op == "update":
            self._api._update(collection_id, ids, vectors, metadatas, documents, None, **named)
        else:
            self._api._upsert(collection_id, ids, vectors, metadatas, documents, None, **named)

    def query_records(
        self,
        collection_id: UUID,
        query_embeddings: Any,
        ids: Any,
        n_results: int,
        where: Any,
        where_document: Any,
        include: Any,
        *,
        exact: bool = False,
    ) -> QueryResult:
        """The nearest records of each query; `exact`: without the graph."""
        return self._api.query_records(
            collection_id,
            query_embeddings,
            ids,
            n_results,
            where,
            where_document,
            include,
            self._tenant,
            self._database,
            exact=exact,
        )

    def query_plan(
        self,
        collection_id: UUID,
        query_embeddings: Any,
        ids: Any,
        n_results: int,
        where: Any,
        where_document: Any,
        *,
        exact: bool = False,
    ) -> QueryPlan:
        """How query_records is answered."""
        from vexfs_chroma._query_plan import QueryPlan

        body = {
            "query_embeddings": query_embeddings,
            "ids": ids,
            "n_results": n_results,
            "exact": exact,
            **_filters(where, where_document),
        }
        return msgspec.convert(self._ask("explain()", collection_id, "explain", body), QueryPlan)

    def get_ordered(
        self,
        collection_id: UUID,
        ids: Any,
        where: Any,
        where_document: Any,
        include: Any,
        order: Order,
        limit: int | None,
        offset: int | None,
    ) -> tuple[GetResult, str | None]:
        """Records in an order, and the token of the next page; None when there is none."""
        body = {
            "ids": ids,
            "limit": limit,
            "offset": offset,
            "include": [name for name in include if name != "data"],
            "order_by": order.key,
            "descending": order.descending,
            "after": None if order.after is None else order.token(),
            **_filters(where, where_document),
        }
        found = self._ask("get(order_by=...)", collection_id, "get", body)
        return self._api.read_records(found, include), found["next"]

    # -- metadata ----------------------------------------------------------------------------------

    def takes_text_ranges(self, collection_id: UUID, key: str) -> bool:
        """Whether a key may be compared with a text by order; no, where the server is Chroma's."""
        if not self._api.offers_extensions():
            return False
        model = self._api.get_collection_by_id(collection_id, self._tenant, self._database)
        types = (model.serialized_schema or {}).get("keys", {}).get(key)
        return not types or "string" in types

    def count_records(self, collection_id: UUID, where: Any, where_document: Any) -> int:
        """How many records meet both filters."""
        body = _filters(where, where_document)
        count: int = self._ask("count(where=...)", collection_id, "count", body)
        return count

    def distinct_values(
        self, collection_id: UUID, key: str, where: Any, where_document: Any, limit: int | None
    ) -> list[Value]:
        """The different values under a key, ascending."""
        body = {"key": key, "limit": limit, **_filters(where, where_document)}
        values: list[Value] = self._ask("distinct()", collection_id, "distinct", body)["values"]
        return values

    def value_counts(
        self,
        collection_id: UUID,
        keys: Sequence[str],
        where: Any,
        where_document: Any,
        limit: int | None,
    ) -> dict[str, list[ValueCount]]:
        """The values under each key with their records, most first."""
        body = {"keys": keys, "limit": limit, **_filters(where, where_document)}
        found = self._ask("facets()", collection_id, "facets", body)["facets"]
        return {
            key: [ValueCount(one["value"], one["records"]) for one in values]
            for key, values in found.items()
        }

    def value_range(
        self, collection_id: UUID, key: str, where: Any, where_document: Any
    ) -> tuple[Value, Value] | None:
        """The least and the greatest value under a key; None when there is none."""
        body = {"key": key, **_filters(where, where_document)}
        ends = self._ask("min_max()", collection_id, "min_max", body)["range"]
        return None if ends is None else (ends[0], ends[1])

    def key_summaries(
        self, collection_id: UUID, where: Any, where_document: Any
    ) -> dict[str, KeySummary]:
        """How many records have each key, and of which types."""
        body = _filters(where, where_document)
        found = self._ask("keys()", collection_id, "keys", body)["keys"]
        return {
            key: KeySummary(about["records"], tuple(about["types"])) for key, about in found.items()
        }

    # -- the index and the collection as a whole ---------------------------------------------------

    def recall_check(self, collection_id: UUID, n: int, k: int, seed: int) -> RecallReport:
        """How many of the nearest of n records queries find."""
        from vexfs_chroma._recall import RecallReport

        body = {"n": n, "k": k, "seed": seed}
        found = self._ask("recall_check()", collection_id, "recall_check", body)
        return msgspec.convert(found, RecallReport)

    def reindex_collection(
        self,
        id: UUID,
        space: str | None,
        max_neighbors: int | None,
        ef_construction: int | None,
    ) -> None:
        """Change what is not None, and have the graph built anew."""
        body = {"space": space, "max_neighbors": max_neighbors, "ef_construction": ef_construction}
        self._ask("reindex()", id, "reindex", body)

    def reembed_collection(
        self,
        id: UUID,
        embed: Callable[[list[str]], Any],
        function: dict[str, Any] | None,
        batch_size: int,
        progress: Callable[[int, int], None] | None,
    ) -> int:
        """Not over HTTP: the embedding function is here, and the records are there."""
        raise NotOfferedError(
            "reembed() works where the database is: open its directory with PersistentClient, also "
            "while the server runs"
        )

    def wait_for_index(self, collection_id: UUID, timeout: float | None = None) -> None:
        """Have everything that is written by now in the graph; raises TimeoutError.

        The server is asked again and again: nothing waits there.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, body = _FIRST_WAIT, {"flush": True}
        while not self._ask("wait_for_index()", collection_id, "build_index", body)["done"]:
            left = _LONGEST_WAIT if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the graph is not done after {timeout} seconds")
            time.sleep(min(pause, left))
            pause, body = min(pause * 1.5, _LONGEST_WAIT), {"flush": False}

    def collection_stats(self, collection_id: UUID) -> dict[str, Any]:
        """How the collection is stored and indexed."""
        stats: dict[str, Any] = self._ask("stats()", collection_id, "stats")
        return stats

    def collection_memory(self, id: UUID) -> MemoryReport:
        """What the collection has in memory, and the server's process besides."""
        from vexfs_chroma._memory import MemoryReport

        return msgspec.convert(self._ask("memory()", id, "memory"), MemoryReport)

    def expire_records(self, id: UUID) -> int:
        """Delete the records that have expired, by the server's clock; returns how many."""
        deleted: int = self._ask("expire()", id, "expire", {})["deleted"]
        return deleted

    def unload_collection(self, id: UUID) -> None:
        """Give back the server's memory of what can be loaded again."""
        self._ask("unload()", id, "unload", {})


def not_offered(what: str) -> NotOfferedError:
    """The error where a server of Chroma's own is asked for something of ours."""
    return NotOfferedError(
        f"this server is Chroma's (or an older release of vexfs_chroma): it does not offer {what}"
    )


def _filters(where: Any, where_document: Any) -> dict[str, Any]:
    """The part of a body; an empty filter is none, as in get()."""
    return {"where": where or None, "where_document": where_document or None}
