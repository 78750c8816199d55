"""POST .../databases/{database}/vexfs/transaction: writes of which all happen or none does.

Each step is a request on its own, to the handler of its route; the API keeps what these write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from vexfs_chroma._server import _records
from vexfs_chroma._server._bodies import AddRecords, DeleteRecords, UpdateRecords, decode
from vexfs_chroma._server._limits import check_rows, check_steps
from vexfs_chroma._server._request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from vexfs_chroma._server._app import App
    from vexfs_chroma._server._bodies import Transaction

    Handler = Callable[[App, Request], bytes]

_adding = msgspec.json.Decoder(AddRecords)
_STEPS: dict[str, tuple[msgspec.json.Decoder[Any], Handler]] = {
    "add": (_adding, _records.add),
    "upsert": (_adding, _records.upsert),
    "update": (msgspec.json.Decoder(UpdateRecords), _records.update),
    "delete": (msgspec.json.Decoder(DeleteRecords), _records.delete),
}


def transaction(app: App, request: Request) -> bytes:
    """POST .../vexfs/transaction: writes to any collections, of which all happen or none does."""
    body: Transaction = request.payload
    limits, rows = app.config.limits, 0
    check_steps(len(body.steps), limits)
    with app.api.transaction():
        for number, step in enumerate(body.steps):
            request.step = number
            decoder, handler = _STEPS[step.operation]
            one = Request(request.method, request.path, "", request.headers)
            one.values = (*request.values, step.collection_id)
            app.check_home(one)
            one.payload = decode(decoder, bytes(step.body))
            if step.operation != "delete":
                rows += len(one.payload.ids)
                check_rows(rows, limits)
            handler(app, one)
        request.step = None
    return _records.EMPTY
