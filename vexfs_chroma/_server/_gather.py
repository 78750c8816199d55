"""Queries that come at the same time are answered by one call of the engine, where they ask alike.

What a query costs besides its search is shared then, and rows that several of them read are read
once.  Nobody waits for others to come: together are those that one turn of the event loop found in
the sockets, and with a single connection there is nothing to gather.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vexfs_chroma._server._request import Response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from vexfs_chroma._server._request import Request

_MOST = 32  # requests in a call


class Gathered:
    """The answer to come: a future, as far as a connection needs one, without a turn more."""

    __slots__ = ("_answer", "_tell", "request")

    def __init__(self, request: Request) -> None:
        self.request = request

    def add_done_callback(self, tell: Callable[[Gathered], object]) -> None:
        """Called when the answer is there."""
        self._tell = tell

    def result(self) -> Response:
        """The answer."""
        return self._answer

    def set_result(self, answer: Response) -> None:
        """Here it is."""
        self._answer = answer
        self._tell(self)


class Gatherer:
    """Gathers the queries of one turn of the event loop."""

    def __init__(self, answer_all: Callable[[Sequence[Request]], Sequence[Response]]) -> None:
        """`answer_all` answers requests that are alike, and never fails."""
        self._answer_all = answer_all
        self._groups: list[list[Gathered]] = []

    def add(self, request: Request, loop: asyncio.AbstractEventLoop) -> Gathered:
        """Answer it in this turn."""
        gathered = Gathered(request)
        for group in self._groups:
            if len(group) < _MOST and _are_alike(group[0].request, request):
                group.append(gathered)
                return gathered
        if not self._groups:
            loop.call_soon(self._answer_now, loop)
        self._groups.append([gathered])
        return gathered

    def _answer_now(self, loop: asyncio.AbstractEventLoop) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            wanted = [gathered for gathered in group if not gathered.request.abandoned]
            for gathered in group:
                if gathered.request.abandoned:
                    _tell(gathered, Response(503), loop)
            answers = self._answer_all([gathered.request for gathered in wanted]) if wanted else ()
            for gathered, answer in zip(wanted, answers, strict=True):
                _tell(gathered, answer, loop)


def _tell(gathered: Gathered, answer: Response, loop: asyncio.AbstractEventLoop) -> None:
    """Give one its answer; what goes wrong there is no reason to leave the others without."""
    try:
        gathered.set_result(answer)
    except Exception as error:  # noqa: BLE001  (as the loop has it with the callbacks of futures)
        loop.call_exception_handler({"message": "an answer was not sent", "exception": error})


def is_gathered(request: Request) -> bool:
    """Whether it is a query for the nearest of a collection, or of what a filter leaves of it."""
    payload, principal = request.payload, request.principal
    return (
        request.route is not None
        and request.route.name == "query"
        and payload.ids is None
        and payload.where_document is None
        and request.span is None
        and (principal is None or not principal.is_limited)
    )


def _are_alike(one: Request, other: Request) -> bool:
    """Whether they differ in their vectors only."""
    a, b = one.payload, other.payload
    return (
        one.values == other.values
        and one.principal is other.principal
        and a.n_results == b.n_results
        and a.include == b.include
        and (a.where is b.where or _have_same_text(a.where, b.where))
    )


def _have_same_text(one: object, other: object) -> bool:
    """As Python compares, 1 is True; as filters do, it is not, so their text decides."""
    try:
        return repr(one) == repr(other)
    except RecursionError:  # too deep for the limits, too; each is told so
        return False
