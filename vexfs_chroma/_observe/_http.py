"""Counts requests of the server: for each route, by class of status, with times and bytes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma import _buckets
from vexfs_chroma._observe import _cells
from vexfs_chroma._observe._observer import BITS, BUCKETS, FIRST_BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterable

UNMATCHED = "unmatched"
"""Requests of paths that are none of the API: one label for all."""
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_PLAIN = (*CLASSES, "ns", "received", "sent")


class HttpCounters:
    """Of this process."""

    def __init__(self, routes: Iterable[str]) -> None:
        self._lock = threading.Lock()
        names: list[str] = []
        self._first: dict[str, int] = {}
        for route in [*routes, UNMATCHED]:
            if route in self._first:
                continue
            self._first[route] = len(names)
            names += [f"http.{route}.{what}" for what in _PLAIN]
            names += [f"http.{route}.bucket.{number}" for number in range(BUCKETS)]
        directory = os.environ.get(_cells.VARIABLE)
        self.cells = _cells.Cells(names, Path(directory) if directory else None)

    def observe(self, request: Any, response: Any, seconds: float) -> None:
        """An observer of the server's App."""
        route = UNMATCHED if request.route is None else request.route.name
        first, ns = self._first.get(route, self._first[UNMATCHED]), int(seconds * 1e9)
        bucket = min(max(_buckets.bucket_of(ns, BITS) - FIRST_BUCKET, 0), BUCKETS - 1)
        values, kind = self.cells.values, min(max(response.status // 100, 1), 5) - 1
        with self._lock:
            values[first + kind] += 1
            values[first + 5] += ns
            values[first + 6] += len(request.body)
            values[first + 7] += len(response.body)
            values[first + len(_PLAIN) + bucket] += 1
