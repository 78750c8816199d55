"""Make every query that is not to be exact walk the graph, however few the rows."""

from __future__ import annotations

from typing import Any

from vexfs_chroma import _engine

VARIABLE = "VEXFS_PROPERTY_GRAPH"
"""Set, it tells the reading process to do the same."""


def force_graph() -> Any:
    """Returns the original Collection.query."""
    original = _engine.Collection.query

    def query(self: _engine.Collection, *arguments: Any, **how: Any) -> _engine.Rows:
        return original(self, *arguments, **{"walk": True, **how})

    _engine.Collection.query = query  # type: ignore[method-assign]
    return original
