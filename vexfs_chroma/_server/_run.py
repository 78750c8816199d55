"""One server process: sockets, signals, start and stop.

SIGTERM, SIGINT or SIGHUP: no new connections, idle ones are closed, requests that run are answered
(for `shutdown_seconds` at most), the database is closed.  What was acknowledged was stored before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from vexfs_chroma._server import _log as log
from vexfs_chroma._server import _observing
from vexfs_chroma._server._app import App
from vexfs_chroma._server._config import ConfigError
from vexfs_chroma._server._connection import Connections
from vexfs_chroma._server._dispatch import Arrivals
from vexfs_chroma._server._tls import context_of
from vexfs_chroma._signals import ending
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from vexfs_chroma._server._config import ServerConfig

_BACKLOG = 2048
_SWEEP_SECONDS = 0.5
# A thread that decodes a large body must not keep short requests waiting for long.
_SWITCH_SECONDS = 0.001


def open_app(config: ServerConfig) -> tuple[App, Callable[[], None]]:
    """The application on its database, and what closes both."""
    from chromadb.config import Settings

    from vexfs_chroma._client import client_of_all

    options = config.database
    client = client_of_all(
        config.server.path,
        Settings(allow_reset=config.server.allow_reset),
        durability=options.durability,
        read_only=options.read_only,
        busy_timeout=options.busy_timeout,
        quantization=options.quantization,
        memory_limit=options.memory_limit,
    )
    with contextlib.ExitStack() as opened:
        opened.callback(client.close)
        app = App(client._server, config)  # type: ignore[arg-type]
        opened.callback(app.close)
        _observing.watch(app)
        for observing in (_observing.trace(app), _observing.sample_recall(app)):
            if observing is not None:
                opened.callback(observing.close)
        return app, opened.pop_all().close


def listen(config: ServerConfig) -> socket.socket:
    """A socket on the address.

    Raises OSError with what to do about it.
    """
    host, port = config.server.host, config.server.port
    sock = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise OSError(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror or error}"
        ) from error
    return sock


def url_of(sock: socket.socket, *, tls: bool) -> str:
    """Where a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{port}"


def run(
    config: ServerConfig,
    source: socket.socket,
    url: str,
    started: Callable[[], None] = lambda: None,
    *,
    is_worker: bool = False,
) -> None:
    """Serve at `url` until SIGTERM, SIGINT or SIGHUP.

    Connections come from `source`, which listens.  That of a worker is its end of a Channel; a
    worker ends when its standard input does, too.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    context = _tls(config)
    log.event(logging.INFO, "opening", path=config.server.path)
    app, close = open_app(config)
    try:
        with contextlib.closing(_new_loop()) as loop:
            announce = partial(_announce, url, started)
            loop.run_until_complete(
                _serve(app, config, source, context, announce, is_worker=is_worker)
            )
    finally:
        close()
        log.event(logging.INFO, "stopped")


def _announce(url: str, started: Callable[[], None]) -> None:
    log.event(logging.INFO, "started", version=__version__, url=url)
    started()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    context, problems = context_of(config.tls)
    if problems:
        raise ConfigError(problems)
    return context


async def _serve(
    app: App,
    config: ServerConfig,
    source: socket.socket,
    context: ssl.SSLContext | None,
    started: Callable[[], None],
    *,
    is_worker: bool,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in ending():
        loop.add_signal_handler(number, stop.set)
    connections = Connections(app)
    arrivals: Arrivals | asyncio.Server
    patience = None if context is None else config.limits.read_seconds
    if is_worker:
        loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is written to it any more
        arrivals = Arrivals(source, connections.make, context, patience)
        connections.lost = arrivals.lost
    else:
        arrivals = await loop.create_server(
            connections.make,
            sock=source,
            ssl=context,
            ssl_handshake_timeout=patience,
            backlog=_BACKLOG,
        )
    gc.freeze()  # what the imports made is not looked through again, which takes 50 ms
    started()
    while not stop.is_set():
        due = loop.time() + _SWEEP_SECONDS
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), _SWEEP_SECONDS)
            break
        app.waits.looped(loop.time() - due)
        connections.sweep()
    log.event(logging.INFO, "stopping", connections=len(connections.open))
    arrivals.close()
    connections.stop()
    end = loop.time() + config.server.shutdown_seconds
    while connections.open and loop.time() < end:
        await asyncio.sleep(0.02)
        connections.sweep()
    if connections.open:
        log.event(logging.WARNING, "connections_cut_off", connections=len(connections.open))
        connections.abort()
    await asyncio.sleep(0)
