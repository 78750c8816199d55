"""The recall of queries as they come: now and then one is answered again, exactly.

A thread of its own does that, after the client has its answer.  Only queries that walk a graph
count, the first vector of each, and none of collections that an exact search would take long to
read.  Counted are, over all processes of a server:

    recall.samples     queries that were answered again
    recall.expected    the nearest records of these, at most n_results each
    recall.found       ... of which the query finds so many; what is equally near counts as found
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._observe import _cells
from vexfs_chroma._recall import count_hits
from vexfs_chroma._server import _log as log
from vexfs_chroma._server import _vectors
from vexfs_chroma._server._records import collection_id

if TYPE_CHECKING:
    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._request import Request, Response

MOST_ELEMENTS = 2**28
"""Numbers that an exact search may read: a GiB of float32."""
_MOST_RESULTS = 1000
_NAMES = ("recall.samples", "recall.expected", "recall.found")


class RecallSampler:
    """Samples the queries of this process."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._seconds = 60 / app.config.server.recall_samples
        self._due = 0.0
        self._wanted: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._is_busy = False
        directory = os.environ.get(_cells.VARIABLE)
        self.cells = _cells.Cells(_NAMES, Path(directory) if directory else None)
        self._thread = threading.Thread(target=self._run, name="vexfs-recall", daemon=True)
        self._thread.start()

    def observe(self, request: Request, response: Response, seconds: float) -> None:
        """An observer of the server's App."""
        if request.route is None or request.route.name != "query" or response.status != 200:
            return
        now = time.monotonic()
        if now >= self._due and not self._is_busy:
            self._due, self._is_busy = now + self._seconds, True
            self._wanted.put(request)

    def _run(self) -> None:
        while (request := self._wanted.get()) is not None:
            try:
                self._sample(request)
            except Exception as error:  # noqa: BLE001  (the collection may be gone, say)
                log.event(logging.DEBUG, "no_recall_sample", str(error))
            self._is_busy = False

    def _sample(self, request: Request) -> None:
        api, body = self._app.api, request.payload
        id, k = collection_id(request), body.n_results or 10
        queries = _vectors.rows_of(
            body.query_embeddings, self._app.config.limits.dimension, base64=False
        )
        if queries is None or k > _MOST_RESULTS:
            return
        what = (id, queries[:1], body.ids, k, body.where, body.where_document)
        plan, info = api.explain_query(*what)
        if plan.why != "graph" or info.rows * queries.shape[1] > MOST_ELEMENTS:
            return
        found, exact = (api.query_records(*what, ["distances"], exact=e) for e in (False, True))
        (ids, distances), (nearest, limits) = _first(found), _first(exact)
        self.count(len(nearest), count_hits(ids, distances, nearest, limits))

    def count(self, expected: int, found: int) -> None:
        """A sample."""
        for cell, n in enumerate((1, expected, found)):
            self.cells.values[cell] += n

    def close(self) -> None:
        """End the thread."""
        self._wanted.put(None)
        self._thread.join()


def _first(found: Any) -> tuple[list[str], Any]:
    return found["ids"][0], np.asarray(found["distances"][0], np.float32)
