"""Make every query that is not to be exact walk the graph, however few the rows.

Importing this does so where VARIABLE is set, to tell other processes: the one that reads for the
property tests, and pytest (`-p forced`) for suites that know nothing of graphs.
"""

from __future__ import annotations

import os
from typing import Any

from vexfs_chroma import _engine

VARIABLE = "VEXFS_PROPERTY_GRAPH"


def force_graph() -> Any:
    """Returns the original Collection.query."""
    original = _engine.Collection.query

    def query(self: _engine.Collection, *arguments: Any, **how: Any) -> _engine.Rows:
        return original(self, *arguments, **{"walk": True, **how})

    _engine.Collection.query = query  # type: ignore[method-assign]
    return original


if VARIABLE in os.environ:
    force_graph()
