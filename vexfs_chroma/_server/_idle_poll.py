"""Staying awake for a client that is about to ask again.

A processor that has nothing to do sleeps, and wakes up slowly and with cold caches, above all in a
virtual machine: a client that asks one question after the other waits longer for that than for the
answer.  So the event loop looks for the next request for a moment before it sleeps, as the halt
polling of KVM and the reactor of Seastar do, where that pays: there is one connection, so nobody
else waits for this processor, and its requests came that soon after their answers so far.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_RECENT = 8  # requests that the mean gap is about
_LONG = 8  # moments; a longer gap says no more


class IdlePoll:
    """Keeps an event loop awake for at most `seconds` after an answer.  Times are the clock's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._seconds = seconds
        self._gap = seconds * _LONG
        self._answered = self._until = 0.0
        self._is_polling = False

    def asked(self, now: float) -> None:
        """A request came."""
        gap = min(now - self._answered, self._seconds * _LONG)
        self._gap += (gap - self._gap) / _RECENT
        self._until = now

    def answered(self) -> None:
        """It has its answer, and its connection is the only one."""
        self._answered = now = self._clock()
        if self._gap < self._seconds:
            self._until = now + self._seconds
            if not self._is_polling:
                self._is_polling = True
                self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        """A turn of the loop that does not sleep."""
        if self._clock() < self._until:
            self._loop.call_soon(self._poll)
        else:
            self._is_polling = False
