"""client.transaction() over HTTP: the requests of a block, kept to be the steps of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._kept import Kept

if TYPE_CHECKING:
    from vexfs_chroma._http_api import HttpAPI

WRITES = frozenset({"add", "update", "upsert", "delete"})
"""The last part of the routes that write records, and the names of their steps."""


class RemoteTransaction(Kept):
    """The writes of a block, in their order."""

    def __init__(self, api: HttpAPI, tenant: str, database: str) -> None:
        super().__init__(api)
        self._api = api
        self._database = f"/tenants/{tenant}/databases/{database}"
        self._steps: list[dict[str, Any]] = []

    def keep(self, path: str, body: dict[str, Any], sent: bytes) -> dict[str, Any]:
        """Keep a request; `sent`: its body as JSON.  Gives what the server would answer.

        Raises InvalidArgumentError for another database, and what counting raises.
        """
        collection, _, operation = path.rpartition("/")
        database, _, id = collection.rpartition("/collections/")
        if database != self._database:
            raise InvalidArgumentError(
                "a transaction on a server is about one database, that of the client when it began"
            )
        answer = {"deleted": self._count(collection, body)} if operation == "delete" else {}
        step = {"collection_id": id, "operation": operation, "body": orjson.Fragment(sent)}
        self._steps.append(step)
        return answer

    def _count(self, collection: str, body: dict[str, Any]) -> int:
        """How many records a deletion would delete now; of ids alone, those given."""
        ids = body["ids"]
        filters = {"where": body["where"], "where_document": body["where_document"]}
        if not any(filters.values()):
            return len(ids or ())
        if ids is None:
            path = collection + "/vexfs/count"
            there: int = self._api.ask_extension("transaction()", "post", path, filters)
        else:
            wanted = {"ids": ids, **filters, "include": []}
            there = len(self._api._make_request("post", collection + "/get", json=wanted)["ids"])
        limit = body.get("limit")
        return there if limit is None else min(there, limit)

    def commit(self) -> None:
        """Send everything.  Raises what the server answers, as of any write."""
        if self._steps:
            path = self._database + "/vexfs/transaction"
            self._api.ask_extension("transaction()", "post", path, {"steps": self._steps})
