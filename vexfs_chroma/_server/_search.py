"""The payloads of POST .../search, as the API takes them.

The API wants chromadb's Search objects for their `to_dict()` alone, which is the JSON that clients
send; so the JSON need not become objects first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vexfs_chroma._server._limits import check_filters, check_found

if TYPE_CHECKING:
    from vexfs_chroma._server._config import LimitsSection


class Payload:
    """One search, in the place of chromadb's Search."""

    __slots__ = ("_parts",)

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def to_dict(self) -> dict[str, Any]:
        """All parts; those that are not given as a Search without arguments has them."""
        given = self._parts
        return {
            "filter": given.get("filter"),
            "rank": given.get("rank"),
            "group_by": given.get("group_by") or {},
            "limit": given.get("limit") or {"offset": 0},
            "select": given.get("select") or {"keys": []},
        }


def search_objects(payloads: list[dict[str, Any]], limits: LimitsSection) -> list[Any]:
    """One Search for each payload.  What all may find together is limited."""
    check_found(payloads, limits)
    for payload in payloads:
        clause = payload.get("filter")
        if clause:
            check_filters(clause, None, limits)
    return [Payload(payload) for payload in payloads]
