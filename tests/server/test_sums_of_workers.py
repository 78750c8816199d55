"""Whichever worker is asked tells what all of them did."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from server_kit import DEFAULT, Server, run_server


class _Caller:
    """One connection, so that one worker answers."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        self.pid: int = json.loads(self.ask("GET", "/vexfs/facts"))["pid"]

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, sent, {"content-type": "application/json"})
        with self._connection.getresponse() as response:
            assert response.status < 300
            return response.read()

    def syncs(self) -> float:
        found = re.search(
            rb"^vexfs_wal_syncs_total (\S+)", self.ask("GET", "/metrics"), re.MULTILINE
        )
        assert found
        return float(found[1])

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def two_callers(server: Server) -> Iterator[tuple[_Caller, _Caller]]:
    """Connections to two workers."""
    with contextlib.ExitStack() as stack:
        callers = [_Caller(server) for _ in range(2)]
        for caller in callers:
            stack.callback(caller.close)
        assert callers[0].pid != callers[1].pid
        yield callers[0], callers[1]


def _soon(caller: _Caller, least: float) -> float:
    """What a caller is told, as soon as it is so much."""
    deadline = time.monotonic() + 20
    while (told := caller.syncs()) < least and time.monotonic() < deadline:
        time.sleep(0.1)
    return told


def test_counters_of_the_engine(tmp_path: Path) -> None:
    """Of a worker that nobody asks for them, too, and of one that has ended."""
    with run_server(tmp_path, "--workers", "2") as server, two_callers(server) as (asked, other):
        made = json.loads(other.ask("POST", DEFAULT + "/collections", {"name": "things"}))
        path = f"{DEFAULT}/collections/{made['id']}/upsert"

        def write(first: int, end: int) -> None:
            for i in range(first, end):
                other.ask("POST", path, {"ids": [str(i)], "embeddings": [[1, 2]]})

        write(0, 20)
        assert _soon(asked, 20) >= 20
        write(20, 40)
        os.kill(other.pid, signal.SIGTERM)
        assert _soon(asked, 40) >= 40
