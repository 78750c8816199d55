"""Records in an order, page by page: what Chroma has no call for."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _records
from vexfs_chroma._api_records import RecordOperations, _clause, as_count, get_result
from vexfs_chroma._observe import _described
from vexfs_chroma._observe._observer import observed

if TYPE_CHECKING:
    from uuid import UUID

    from chromadb.api.types import GetResult

    from vexfs_chroma import _engine

INSERTION = "#insertion"
"""What to order by for the order of insertion; no metadata key begins like that."""


class Order(msgspec.Struct, array_like=True):
    """An order of records, and where in it to go on; as text it is the token of a page."""

    version: int
    key: str
    descending: bool
    after: bytes | None = None

    def token(self) -> str:
        """The text that `read_order` reads."""
        return urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")


def read_order(order_by: Any, descending: Any, after: Any) -> Order:
    """The order that get() is asked for.  Raises InvalidArgumentError for what is none."""
    if not isinstance(descending, bool):
        raise InvalidArgumentError(f"descending must be True or False, got {descending!r}")
    if order_by is not None and (
        not isinstance(order_by, str) or not order_by or not _records.is_text(order_by)
    ):
        raise InvalidArgumentError(
            f"order_by must be a metadata key or {INSERTION!r}, got {order_by!r}"
        )
    if order_by is not None and order_by[0] in "#$" and order_by != INSERTION:
        raise InvalidArgumentError(f"records can be ordered by a metadata key, not by {order_by!r}")
    asked = Order(1, INSERTION if order_by is None else order_by, descending)
    if after is None:
        return asked
    found = _read_token(after)
    if (order_by is not None or descending) and (found.key, found.descending) != (
        asked.key,
        asked.descending,
    ):
        raise InvalidArgumentError("after is the token of a page in another order")
    return found


def _read_token(token: Any) -> Order:
    try:
        blob = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        order = msgspec.msgpack.decode(blob, type=Order)
    except (AttributeError, ValueError, msgspec.DecodeError) as error:
        raise InvalidArgumentError(
            f'after must be the "next" of an earlier get(), got {token!r}'
        ) from error
    if order.version != 1 or order.after is None:
        raise InvalidArgumentError("after is the token of another version")
    return order


class PageOperations(RecordOperations):
    """The part of the interface that gives records in an order."""

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
        """_get in an order, and the token of the next page; None when there is none."""
        rows, token = self.ordered_rows(
            collection_id, ids, where, where_document, include, order, limit, offset
        )
        return get_result(rows, include), token

    @observed("get", _described.get_ordered)
    def ordered_rows(
        self,
        collection_id: UUID,
        ids: Any,
        where: Any,
        where_document: Any,
        include: Any,
        order: Order,
        limit: int | None,
        offset: int | None,
    ) -> tuple[_engine.Rows, str | None]:
        """get_ordered with arrays of float32."""
        limit, offset = as_count("limit", limit), as_count("offset", offset)
        clause = _clause(where, where_document)
        with self._using(collection_id) as collection:
            if clause is not None:
                clause.check(collection.indexes)
            rows, last = collection.engine.get_ordered(
                ids,
                None if clause is None else clause.filter,
                key=None if order.key == INSERTION else order.key,
                descending=order.descending,
                after=order.after,
                offset=offset or 0,
                limit=limit,
                documents="documents" in include,
                metadatas="metadatas" in include,
                uris="uris" in include,
                vectors="embeddings" in include,
            )
            rows.metadatas = _records.visible_metadatas(collection.engine, rows.metadatas)
        more = last is not None and limit is not None and len(rows.ids) == limit
        token = Order(1, order.key, order.descending, last).token() if more else None
        return rows, token
