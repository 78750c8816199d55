"""One server process: sockets, signals, start and stop.

SIGTERM or SIGINT: no new connections, idle ones are closed, requests that run are answered (for
`shutdown_seconds` at most), the database is closed.  What was acknowledged was stored before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

from vexfs_chroma._server import _log as log
from vexfs_chroma._server import _observing
from vexfs_chroma._server._app import App
from vexfs_chroma._server._config import ConfigError
from vexfs_chroma._server._connection import Connections
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vexfs_chroma._server._config import ServerConfig

_BACKLOG = 2048
_SWEEP_SECONDS = 0.5
# A thread that decodes a large body must not keep short requests waiting for long.
_SWITCH_SECONDS = 0.001


def open_app(config: ServerConfig) -> tuple[App, Callable[[], None]]:
    """The application on its database, and what closes both."""
    from chromadb.config import Settings

    from vexfs_chroma._client import PersistentClient

    options = config.database
    client = PersistentClient(
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
        tracing = _observing.trace(app)
        if tracing is not None:
            opened.callback(tracing.close)
        return app, opened.pop_all().close


def listen(config: ServerConfig, n: int = 1) -> list[socket.socket]:
    """Sockets on the address, one for each process; the kernel shares connections out among them.

    Raises OSError with what to do about it.
    """
    host, port = config.server.host, config.server.port
    sockets: list[socket.socket] = []
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if n > 1:
            _refuse_taken(family, kind, protocol, address)
        for _ in range(n if sys.platform == "linux" else 1):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if n > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            address = sock.getsockname()  # the port, where any would do
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise OSError(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror or error}"
        ) from error
    return sockets + [sockets[0].dup() for _ in range(n - len(sockets))]


def _refuse_taken(family: int, kind: int, protocol: int, address: Any) -> None:
    """Raise OSError where somebody listens, also one who would share the port (SO_REUSEPORT)."""
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def url_of(sock: socket.socket, *, tls: bool) -> str:
    """Where a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{port}"


def run(
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    started: Callable[[], None] = lambda: None,
    *,
    follow_stdin: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, or until standard input ends if that is to be followed."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    context = _tls(config)
    log.event(logging.INFO, "opening", path=config.server.path)
    app, close = open_app(config)
    try:
        with contextlib.closing(_new_loop()) as loop:
            loop.run_until_complete(
                _serve(app, config, sockets, context, started, follow_stdin=follow_stdin)
            )
    finally:
        close()
        log.event(logging.INFO, "stopped")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    tls = config.tls
    if tls.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError, too
        what = f"[tls] certificate = {tls.certificate!r}, key = {tls.key!r}: {error}"
        raise ConfigError(
            [f"{what}; both must be PEM files that may be read, and belong together"]
        ) from error
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            raise ConfigError(
                [f"[tls] client_ca = {tls.client_ca!r}: {error}; it must be a readable PEM file"]
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _serve(
    app: App,
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    context: ssl.SSLContext | None,
    started: Callable[[], None],
    *,
    follow_stdin: bool,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if follow_stdin:
        loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is written to it any more
    connections = Connections(app)
    servers = [
        await loop.create_server(connections.make, sock=sock, ssl=context, backlog=_BACKLOG)
        for sock in sockets
    ]
    log.event(
        logging.INFO,
        "started",
        version=__version__,
        url=url_of(sockets[0], tls=context is not None),
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
    for server in servers:
        server.close()
    connections.stop()
    end = loop.time() + config.server.shutdown_seconds
    while connections.open and loop.time() < end:
        await asyncio.sleep(0.02)
        connections.sweep()
    if connections.open:
        log.event(logging.WARNING, "connections_cut_off", connections=len(connections.open))
        connections.abort()
    await asyncio.sleep(0)
