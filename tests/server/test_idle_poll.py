"""Staying awake for the next request of the only connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from server_kit import running

from vexfs_chroma._server import _connection
from vexfs_chroma._server._config import load
from vexfs_chroma._server._idle_poll import IdlePoll
from vexfs_chroma._server._run import open_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WINDOW = 200e-6
TURN = 10e-6


class Loop:
    """An event loop with a clock of its own: a turn takes TURN."""

    def __init__(self) -> None:
        self.now = 1.0
        self.turns = 0
        self._calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def run(self, seconds: float) -> None:
        """Time goes by, with turns as long as something is to be called."""
        end = self.now + seconds
        while self._calls and self.now < end:
            calls, self._calls = self._calls, []
            self.now += TURN
            self.turns += 1
            for call in calls:
                call()
        self.now = max(self.now, end)


def _asked(loop: Loop, poll: IdlePoll, times: int, gap: float) -> int:
    """So many requests, each so long after the answer before it; how many turns had no sleep."""
    before = loop.turns
    for _ in range(times):
        poll.asked(loop.now)
        loop.now += 100e-6  # the answer is made
        poll.answered()
        loop.run(gap)
    return loop.turns - before


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def poll(loop: Loop) -> IdlePoll:
    return IdlePoll(loop, WINDOW, clock=lambda: loop.now)  # type: ignore[arg-type]


def test_a_client_that_asks_at_once_finds_the_loop_awake(loop: Loop, poll: IdlePoll) -> None:
    _asked(loop, poll, 30, gap=100e-6)
    assert _asked(loop, poll, 100, gap=100e-6) == pytest.approx(100 * 100e-6 / TURN, rel=0.15)


def test_a_client_that_takes_its_time_costs_nothing(loop: Loop, poll: IdlePoll) -> None:
    assert _asked(loop, poll, 100, gap=1.5 * WINDOW) == 0


def test_the_loop_sleeps_when_nobody_asks(loop: Loop, poll: IdlePoll) -> None:
    _asked(loop, poll, 30, gap=100e-6)
    before = loop.turns
    loop.run(1.0)
    assert loop.turns - before <= WINDOW / TURN + 1


def test_habits_change(loop: Loop, poll: IdlePoll) -> None:
    _asked(loop, poll, 100, gap=100e-6)
    _asked(loop, poll, 30, gap=1.0)
    assert _asked(loop, poll, 10, gap=1.0) == 0
    _asked(loop, poll, 30, gap=100e-6)
    assert _asked(loop, poll, 10, gap=100e-6) > 0


def test_one_call_at_a_time_is_under_way(loop: Loop, poll: IdlePoll) -> None:
    """Requests in one turn of the loop, as a pipeline sends them."""
    _asked(loop, poll, 30, gap=100e-6)
    for _ in range(50):
        poll.asked(loop.now)
        poll.answered()
    before = loop.turns
    loop.run(50e-6)
    assert loop.turns - before <= 50e-6 / TURN + 1
    assert len(loop._calls) == 1


def test_a_server_polls_for_a_connection_that_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, close = open_app(load(given={"server": {"path": str(tmp_path / "db")}}, environment={}))
    answered: list[int] = []

    def ask(connection: socket.socket) -> None:
        connection.sendall(b"GET /api/v2/heartbeat HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")

    monkeypatch.setattr(_connection, "usable_cpus", lambda: 2)
    monkeypatch.setattr(IdlePoll, "answered", lambda _self: answered.append(app.connections))
    with running(app) as port, socket.create_connection(("127.0.0.1", port), 30) as one:
        ask(one)
        with socket.create_connection(("127.0.0.1", port), 30) as other:
            ask(other)
            ask(one)
    close()
    assert answered == [1]
