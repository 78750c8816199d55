"""Several processes on one database and one port.

The parent binds one socket for each worker, so that the kernel shares connections out evenly
(SO_REUSEPORT; elsewhere than on Linux all accept from one), and keeps them: while a worker that
died is started again, its connections wait in the backlog.  A worker stops when its standard input
ends, that is, also when the parent was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from vexfs_chroma._server import _log as log
from vexfs_chroma._server import _run
from vexfs_chroma._server._config import ServerConfig
from vexfs_chroma._server._observing import shared_counters

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

_YOUNG_SECONDS = 5.0
_DEATHS_MOST = 5
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0


def serve(config: ServerConfig, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is told the URL once requests are answered.

    Raises OSError when the address cannot be had, and whatever opening the database raises.
    """
    n = config.server.workers
    sockets = _run.listen(config, n)
    url = _run.url_of(sockets[0], tls=config.tls.certificate is not None)
    try:
        if n == 1:
            _run.run(config, sockets, started=lambda: announce(url))
        else:
            with shared_counters():
                _Workers(config, sockets).run(lambda: announce(url))
    finally:
        for sock in sockets:
            sock.close()


class _Worker:
    """One child process."""

    def __init__(self, config: ServerConfig, sock: socket.socket) -> None:
        self._config, self._socket = config, sock
        self.deaths = 0
        """In a row, each soon after its start."""
        self.start()

    def start(self) -> None:
        """Start the process (again)."""
        ready, ready_end = os.pipe()
        self._ready = os.fdopen(ready, "rb", buffering=0)
        fd = self._socket.fileno()
        self.process = subprocess.Popen(  # noqa: S603  (this package, by this interpreter)
            [sys.executable, "-m", __name__, str(fd), str(ready_end)],
            stdin=subprocess.PIPE,
            pass_fds=(fd, ready_end),
        )
        os.close(ready_end)
        self.started = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(msgspec.json.encode(self._config) + b"\n")
            self.process.stdin.flush()

    def is_ready(self) -> bool:
        """Wait until it answers requests; False when it ended instead, and its pipe with it."""
        with self._ready:
            return self._ready.read(1) == b"1"

    def end(self, seconds: float) -> None:
        """Wait for its end; kill it when that takes longer."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.event(logging.ERROR, "worker_killed", "it does not end", worker=self.process.pid)
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Give back the pipes to a process that ended."""
        self._ready.close()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def died(self) -> bool:
        """Whether it is not running any more."""
        return self.process.poll() is not None


class _Workers:
    """The parent's view of all."""

    def __init__(self, config: ServerConfig, sockets: Sequence[socket.socket]) -> None:
        self._config = config
        self._stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        # The first makes the database, where there is none.
        self._workers = [_Worker(config, sockets[0])]
        self._is_up = self._workers[0].is_ready()
        if self._is_up:
            self._workers += [_Worker(config, sock) for sock in sockets[1:]]

    def run(self, announce: Callable[[], None]) -> None:
        """Watch over them until a signal comes."""
        try:
            if not self._is_up or not all(worker.is_ready() for worker in self._workers[1:]):
                raise OSError("a worker could not start; its message is above")
            announce()
            while not self._stop.wait(_POLL_SECONDS):
                for worker in self._workers:
                    if worker.died():
                        self._replace(worker)
        finally:
            self._end()

    def _replace(self, worker: _Worker) -> None:
        code = worker.process.returncode
        is_young = time.monotonic() - worker.started < _YOUNG_SECONDS
        worker.deaths = worker.deaths + 1 if is_young else 1
        if worker.deaths > _DEATHS_MOST:
            raise OSError(f"a worker ended {worker.deaths} times in a row (last: {code})")
        log.event(
            logging.ERROR,
            "worker_ended",
            "it is started again",
            worker=worker.process.pid,
            code=code,
        )
        self._stop.wait(0.1 * 2**worker.deaths if is_young else 0)
        if not self._stop.is_set():
            worker.close()
            worker.start()

    def _end(self) -> None:
        for worker in self._workers:
            if not worker.died():
                worker.process.terminate()
        end = time.monotonic() + self._config.server.shutdown_seconds + _GRACE_SECONDS
        for worker in self._workers:
            worker.end(max(0.0, end - time.monotonic()))


def _work(listening: int, ready: int) -> None:
    """The main function of a worker."""
    import socket

    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=ServerConfig)
    log.set_up(config.log)
    sock = socket.socket(fileno=listening)

    def started() -> None:
        os.write(ready, b"1")
        os.close(ready)

    _run.run(config, [sock], started, follow_stdin=True)


if __name__ == "__main__":
    try:
        _work(int(sys.argv[1]), int(sys.argv[2]))
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"worker: {error}")
    except Exception as error:  # noqa: BLE001  (chromadb's errors among them: one line each)
        sys.exit(f"worker: {type(error).__name__}: {error}")
