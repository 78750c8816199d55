"""Connections, shared out among worker processes.

The parent accepts, and hands every connection to the worker that has the fewest, over a pair of
Unix sockets (SCM_RIGHTS).  The kernel's own way to share a port (SO_REUSEPORT) goes by a hash of
the addresses: of 32 connections, one worker often gets 20.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import selectors
import socket
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

_GIVEN = b"+"  # from the parent, with a connection
_CLOSED = b"-"  # to the parent: one is closed
_BURST = 256  # connections that are accepted before anything else is looked at
# What accept() fails with where the next attempt may do better, though nobody knows when.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Channel:
    """The way from the parent to one worker.

    It outlives the worker: connections on their way to one that dies reach its successor.
    """

    def __init__(self) -> None:
        self.end, self.workers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.end.setblocking(False)
        self.workers_end.setblocking(False)
        self.connections = 0
        """That were handed over and are not closed."""
        self.given = 0
        """All that were ever handed over."""
        self.is_open = False
        """Whether there is a worker that takes connections."""

    def give(self, connection: socket.socket) -> bool:
        """Hand it over; False when the worker has not taken a great many others yet."""
        try:
            socket.send_fds(self.end, [_GIVEN], [connection.fileno()])
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS, *_SHORTAGES):
                return False
            raise
        self.connections += 1
        self.given += 1
        return True

    def hear(self) -> None:
        """Take note of the connections that were closed."""
        with contextlib.suppress(BlockingIOError):
            closed = len(self.end.recv(65536))
            # A worker that died left its count; a successor may close what it never counted.
            self.connections = max(0, self.connections - closed)

    def restart(self) -> None:
        """The worker died, and with it its connections; another is to come."""
        self.connections, self.is_open = 0, False

    def close(self) -> None:
        """Both ends."""
        self.end.close()
        self.workers_end.close()


class Dispatcher:
    """Accepts connections, for the channels that are open."""

    def __init__(self, listening: socket.socket, channels: Sequence[Channel]) -> None:
        self._listening = listening
        self._channels = channels
        self._held: socket.socket | None = None
        """A connection that nobody would take."""
        self._selector = selectors.DefaultSelector()
        for channel in channels:
            self._selector.register(channel.end, selectors.EVENT_READ, channel.hear)
        self._is_accepting = False
        self._is_short = False
        """Whether the system had no descriptor or memory left for another one."""

    def run(self, seconds: float) -> None:
        """Share out what comes in that time, or part of it."""
        was_short, self._is_short = self._is_short, False  # then nothing is accepted for a while
        is_anybody = any(channel.is_open for channel in self._channels)
        self._accept_if(is_anybody and self._settle() and not was_short)
        for key, _ in self._selector.select(seconds):
            key.data()

    def _accept_if(self, accepting: bool) -> None:
        if accepting != self._is_accepting:
            self._is_accepting = accepting
            if accepting:
                self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
            else:  # connections wait in the backlog
                self._selector.unregister(self._listening)

    def _accept(self) -> None:
        for _ in range(_BURST):
            try:
                self._held, _ = self._listening.accept()
            except OSError as error:
                self._is_short = error.errno in _SHORTAGES
                return  # or nobody is there any more
            if not self._settle():
                self._accept_if(False)
                return

    def _settle(self) -> bool:
        """Give the held connection away; False when nobody takes it."""
        if self._held is None:
            return True
        channels = [channel for channel in self._channels if channel.is_open]
        for channel in sorted(channels, key=lambda channel: (channel.connections, channel.given)):
            if channel.give(self._held):
                self._held.close()
                self._held = None
                return True
        return False

    def close(self) -> None:
        """Accept nothing more."""
        self._selector.close()
        if self._held is not None:
            self._held.close()


class Arrivals:
    """A worker's end of a channel: makes protocols for the connections that come."""

    def __init__(
        self,
        channel: socket.socket,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        patience: float | None,
    ) -> None:
        """`patience`: the seconds that the handshake of TLS may take."""
        self._channel = channel
        self._make = make
        self._context, self._patience = context, patience
        self._loop = asyncio.get_running_loop()
        self._greetings: set[asyncio.Task[object]] = set()
        self._untold = 0
        self._loop.add_reader(channel.fileno(), self._take)

    def _take(self) -> None:
        for _ in range(_BURST):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._channel, len(_GIVEN), 1)
            except OSError:
                return
            if not data:  # the parent is gone
                self.close()
                return
            if not descriptors:  # none is left to this process: the client sees it closed
                self.lost()
                continue
            connection = socket.socket(fileno=descriptors[0])
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            greeting = self._loop.create_task(
                self._loop.connect_accepted_socket(
                    self._make,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=self._patience,
                )
            )
            self._greetings.add(greeting)
            greeting.add_done_callback(partial(self._greeted, connection))

    def _greeted(self, connection: socket.socket, greeting: asyncio.Task[object]) -> None:
        self._greetings.discard(greeting)
        if greeting.cancelled() or greeting.exception() is not None:  # no TLS, or gone
            connection.close()
            self.lost()

    def lost(self) -> None:
        """One is closed."""
        self._untold += 1
        with contextlib.suppress(OSError):  # a parent that is busy is told with the next one
            self._untold -= self._channel.send(_CLOSED * self._untold)

    def close(self) -> None:
        """Take nothing more."""
        self._loop.remove_reader(self._channel.fileno())
