"""Connections are shared out evenly among workers, and none is lost between two of them."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from server_kit import DEFAULT, Server, run_server, workers_of

from vexfs_chroma._server._dispatch import Channel, Dispatcher


class Crowd:
    """A listening socket, channels whose workers are this test, and clients."""

    def __init__(self, channels: int) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listening.setblocking(False)
        self.channels = [Channel() for _ in range(channels)]
        self.dispatcher = Dispatcher(self.listening, self.channels)
        self.clients: list[socket.socket] = []

    def come(self, n: int) -> None:
        """New clients."""
        for _ in range(n):
            self.clients.append(socket.create_connection(self.listening.getsockname()))

    def run(self) -> None:
        """Let the dispatcher do all that there is to do."""
        for _ in range(4):
            self.dispatcher.run(0.02)

    def counts(self) -> list[int]:
        return [channel.connections for channel in self.channels]

    def close(self) -> None:
        self.dispatcher.close()
        for each in (self.listening, *self.channels, *self.clients):
            each.close()


@pytest.fixture
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    made = Crowd(request.param)
    yield made
    made.close()


def taken(channel: Channel) -> list[socket.socket]:
    """What its worker receives."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            _, descriptors, _, _ = socket.recv_fds(channel.workers_end, 1, 1)
            found.append(socket.socket(fileno=descriptors[0]))
    return found


def close_all(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


@pytest.mark.parametrize("crowd", [3], indirect=True)
def test_the_worker_with_the_fewest_gets_the_next(crowd: Crowd) -> None:
    for channel in crowd.channels:
        channel.is_open = True
    seed = 20261130
    rng = random.Random(seed)
    held: list[list[socket.socket]] = [[] for _ in crowd.channels]
    for _ in range(40):
        crowd.come(rng.randrange(1, 12))
        before = crowd.counts()
        crowd.run()
        for sockets, channel in zip(held, crowd.channels, strict=True):
            sockets += taken(channel)
        counts = crowd.counts()
        assert [len(sockets) for sockets in held] == counts, f"seed {seed}"
        gained = [now for now, then in zip(counts, before, strict=True) if now > then]
        assert max(gained) <= min(counts) + 1, f"seed {seed}"  # nobody with more got one
        for sockets, channel in zip(held, crowd.channels, strict=True):
            gone = [sockets.pop() for _ in range(rng.randrange(len(sockets) + 1))]
            close_all(gone)
            assert channel.workers_end.send(b"-" * len(gone)) == len(gone)
        crowd.run()
        assert [len(sockets) for sockets in held] == crowd.counts(), f"seed {seed}"
    for sockets in held:
        close_all(sockets)


@pytest.mark.parametrize("crowd", [2], indirect=True)
def test_one_after_the_other_takes_turns(crowd: Crowd) -> None:
    for channel in crowd.channels:
        channel.is_open = True
    for _ in range(20):
        crowd.come(1)
        crowd.run()
        for channel in crowd.channels:
            for each in taken(channel):
                each.close()
                channel.workers_end.send(b"-")
        crowd.run()
    assert [channel.given for channel in crowd.channels] == [10, 10]


@pytest.mark.parametrize("crowd", [2], indirect=True)
def test_connections_wait_while_no_worker_is_there(crowd: Crowd) -> None:
    crowd.come(5)
    crowd.run()
    assert crowd.counts() == [0, 0]
    crowd.channels[1].is_open = True
    crowd.run()
    crowd.run()
    assert crowd.counts() == [0, 5]
    close_all(taken(crowd.channels[1]))


@pytest.mark.parametrize("crowd", [1], indirect=True)
def test_what_was_on_its_way_to_a_dead_worker_reaches_the_next(crowd: Crowd) -> None:
    (channel,) = crowd.channels
    channel.is_open = True
    crowd.come(3)
    crowd.run()
    channel.restart()  # it never took them
    assert (channel.connections, channel.is_open) == (0, False)
    found = taken(channel)
    assert len(found) == 3
    peers = {client.getsockname() for client in crowd.clients}
    assert {each.getpeername() for each in found} == peers
    close_all(found)
    channel.workers_end.send(b"---")
    crowd.run()
    assert channel.connections == 0  # never below


@pytest.mark.parametrize("crowd", [1], indirect=True)
def test_without_descriptors_it_waits(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not ask again and again, and goes on when there are some."""
    (channel,) = crowd.channels
    channel.is_open = True
    asked = []

    class Short:
        def __init__(self, listening: socket.socket) -> None:
            self.fileno = listening.fileno

        def accept(self) -> None:
            asked.append(1)
            raise OSError(errno.EMFILE, "Too many open files")

    crowd.come(3)
    monkeypatch.setattr(crowd.dispatcher, "_listening", Short(crowd.listening))
    for _ in range(10):
        crowd.dispatcher.run(0.001)
    assert len(asked) == 5  # every other run waits
    monkeypatch.setattr(crowd.dispatcher, "_listening", crowd.listening)
    crowd.run()
    assert channel.connections == 3
    close_all(taken(channel))


@pytest.mark.parametrize("crowd", [1], indirect=True)
def test_a_worker_that_takes_nothing_is_waited_for(crowd: Crowd) -> None:
    (channel,) = crowd.channels
    channel.is_open = True
    channel.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    n = 64
    crowd.come(n)
    crowd.run()
    assert 0 < channel.connections < n
    found: list[socket.socket] = []
    for _ in range(n):
        found += taken(channel)
        crowd.run()
        if len(found) == n:
            break
    assert len(found) == len({each.getpeername() for each in found}) == n
    close_all(found)


@pytest.mark.multiproc
def test_load_splits_evenly(tmp_path: Path) -> None:
    """32 connections, two workers: 16 each, whatever their ports; of a worker that died, too."""
    with run_server(tmp_path, "--workers", "2") as server:
        assert sorted(descriptors_of_workers(server, 32)) == [16, 16]
        victim = workers_of(server)[0]
        os.kill(victim, signal.SIGKILL)
        end = time.monotonic() + 60
        while victim in workers_of(server) or not all(sockets_of(p) for p in workers_of(server)):
            assert time.monotonic() < end
            time.sleep(0.05)
        for _ in range(20):
            assert server.call("GET", DEFAULT + "/collections_count").json == 0
        while sorted(descriptors_of_workers(server, 8)) != [4, 4]:  # once the new one is up
            assert time.monotonic() < end
            time.sleep(0.05)


def descriptors_of_workers(server: Server, n: int) -> list[int]:
    """How many of `n` connections each worker gets."""
    before = {pid: sockets_of(pid) for pid in workers_of(server)}
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
            stack.callback(connection.close)
            connection.request("GET", "/api/v2/heartbeat")
            assert connection.getresponse().read()
        return [sockets_of(pid) - open_before for pid, open_before in before.items()]


def sockets_of(pid: int) -> int:
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found
