"""Several processes on one database and one port.

The parent accepts connections and shares them out evenly (_dispatch.py); a worker that died is
started again, and what waits for it meanwhile is kept.  A worker stops when its standard input
ends, that is, also when the parent was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
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
from vexfs_chroma._server._dispatch import Channel, Dispatcher
from vexfs_chroma._server._observing import shared_counters
from vexfs_chroma._signals import ending

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_YOUNG_SECONDS = 5.0
_DEATHS_MOST = 5
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0


def serve(config: ServerConfig, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; `announce` is told the URL once requests are answered.

    Raises OSError when the address cannot be had, and whatever opening the database raises.
    """
    listening = _run.listen(config)
    url = _run.url_of(listening, tls=config.tls.certificate is not None)
    with listening:
        if config.server.workers == 1:
            _run.run(config, listening, url, lambda: announce(url))
        else:
            with shared_counters():
                _Workers(config, listening, url).run(lambda: announce(url))


class _Worker:
    """One child process."""

    def __init__(self, config: ServerConfig, url: str) -> None:
        self._message = msgspec.json.encode((url, config)) + b"\n"
        self.channel = Channel()
        self.deaths = 0
        """In a row, each soon after its start."""
        self.again_at: float | None = None
        """When to start it again, of one that died."""
        self.start()

    def start(self) -> None:
        """Start the process (again)."""
        self.again_at = None
        ready, ready_end = os.pipe()
        self._ready = os.fdopen(ready, "rb", buffering=0)
        fd = self.channel.workers_end.fileno()
        self.process = subprocess.Popen(  # noqa: S603  (this package, by this interpreter)
            [sys.executable, "-m", __name__, str(fd), str(ready_end)],
            stdin=subprocess.PIPE,
            pass_fds=(fd, ready_end),
        )
        os.close(ready_end)
        self.started = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(self._message)
            self.process.stdin.flush()

    def wait_until_ready(self) -> bool:
        """Wait until it answers requests; False when it ended instead."""
        self.channel.is_open = self._ready.read(1) == b"1"
        return self.channel.is_open

    def look_whether_ready(self) -> None:
        """Open its channel when it answers requests."""
        if not self.channel.is_open and select.select([self._ready], [], [], 0)[0]:
            self.wait_until_ready()

    def end(self, seconds: float) -> None:
        """Wait for its end; kill it when that takes longer."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.event(logging.ERROR, "worker_killed", "it does not end", worker=self.process.pid)
            self.process.kill()
            self.process.wait()
        self.close()
        self.channel.close()

    def close(self) -> None:
        """Give back the pipes to a process that ended."""
        self.channel.restart()
        self._ready.close()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def died(self) -> bool:
        """Whether it is not running any more."""
        return self.process.poll() is not None


class _Workers:
    """The parent's view of all."""

    def __init__(self, config: ServerConfig, listening: socket.socket, url: str) -> None:
        self._config = config
        self._listening = listening
        self._stop = threading.Event()
        for number in ending():
            signal.signal(number, lambda *_: self._stop.set())
        # The first makes the database, where there is none.
        self._workers = [_Worker(config, url)]
        self._is_up = self._workers[0].wait_until_ready()
        if self._is_up:
            self._workers += [_Worker(config, url) for _ in range(1, config.server.workers)]

    def run(self, announce: Callable[[], None]) -> None:
        """Watch over them until a signal comes."""
        try:
            if not self._is_up or not all(w.wait_until_ready() for w in self._workers[1:]):
                raise OSError("a worker could not start; its message is above")
            announce()
            with contextlib.closing(
                Dispatcher(self._listening, [worker.channel for worker in self._workers])
            ) as dispatcher:
                while not self._stop.is_set():
                    dispatcher.run(_POLL_SECONDS)
                    self._watch()
            self._listening.close()
        finally:
            self._end()

    def _watch(self) -> None:
        for worker in self._workers:
            if worker.again_at is not None:
                if time.monotonic() >= worker.again_at:
                    worker.start()
            elif worker.died():
                self._note_death(worker)
            else:
                worker.look_whether_ready()

    def _note_death(self, worker: _Worker) -> None:
        code, now = worker.process.returncode, time.monotonic()
        is_young = now - worker.started < _YOUNG_SECONDS
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
        worker.close()
        worker.again_at = now + (0.1 * 2**worker.deaths if is_young else 0)

    def _end(self) -> None:
        for worker in self._workers:
            if not worker.died():
                worker.process.terminate()
        end = time.monotonic() + self._config.server.shutdown_seconds + _GRACE_SECONDS
        for worker in self._workers:
            worker.end(max(0.0, end - time.monotonic()))


def _work(channel: int, ready: int) -> None:
    """The main function of a worker."""
    import socket

    url, config = msgspec.json.decode(sys.stdin.buffer.readline(), type=tuple[str, ServerConfig])
    log.set_up(config.log)

    def started() -> None:
        os.write(ready, b"1")
        os.close(ready)

    _run.run(config, socket.socket(fileno=channel), url, started, is_worker=True)


if __name__ == "__main__":
    try:
        _work(int(sys.argv[1]), int(sys.argv[2]))
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"worker: {error}")
    except Exception as error:  # noqa: BLE001  (chromadb's errors among them: one line each)
        sys.exit(f"worker: {type(error).__name__}: {error}")
