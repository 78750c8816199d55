"""POST .../vexfs/tuning: what `ef` costs and brings, measured on records of a collection.

An exact search reads all records, so there is one measurement at a time in each process, of a
limited number of queries and of limited time; it ends early when nobody waits for it any more.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from vexfs_chroma._server._errors import busy
from vexfs_chroma._server._records import collection_id
from vexfs_chroma._tuning import measure

if TYPE_CHECKING:
    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._bodies import MeasureTuning
    from vexfs_chroma._server._request import Request

_SECONDS = 15.0
_measuring = threading.Lock()


def tuning(app: App, request: Request) -> bytes:
    """POST .../vexfs/tuning: recall and time of queries by `ef`, and of exact ones."""
    body: MeasureTuning = request.payload
    if not _measuring.acquire(blocking=False):
        raise busy("another measurement is running; try again when it has ended", 5)
    try:
        found = measure(
            app.api,
            collection_id(request),
            queries=body.queries,
            k=body.k,
            efs=body.ef,
            seed=body.seed,
            seconds=min(_SECONDS, app.config.limits.request_seconds / 2),
            stopped=lambda: request.abandoned,
        )
    finally:
        _measuring.release()
    return msgspec.json.encode(found)
