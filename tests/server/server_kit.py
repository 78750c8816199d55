"""Servers for tests: ours, and Chroma's beside it.  Both in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

API = "/api/v2"
DEFAULT = API + "/tenants/default_tenant/databases/default_database"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def error(self) -> str | None:
        found = self.json if self.status >= 400 else None
        return found.get("error") if isinstance(found, dict) else None


class Server:
    """A running server; a call is one request on a connection of its own."""

    def __init__(self, host: str, port: int, process: subprocess.Popen[bytes]) -> None:
        self.host, self.port, self.process = host, port, process
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """One request; a body that is not bytes is sent as JSON."""
        sent = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())

    def raw(self, data: bytes, timeout: float = 10) -> bytes:
        """Bytes as they are, and whatever comes back until the connection is closed or idle."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as sock:
            sock.sendall(data)
            received = b""
            with contextlib.suppress(OSError):
                while chunk := sock.recv(65536):
                    received += chunk
                    sock.settimeout(1)
            return received

    def memory(self) -> int:
        """Bytes of memory that the process has now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024


@contextlib.contextmanager
def run_server(
    path: Path, *arguments: str, config: str | None = None, variables: dict[str, str] | None = None
) -> Iterator[Server]:
    """`vexctl serve` on a free port; `config`: the text of its vexfs.toml."""
    command = [sys.executable, "-m", "vexfs_chroma._cli", "serve", "--port", "0"]
    command += ["--path", str(path / "data"), *arguments]
    if config is not None:
        (path / "server.toml").write_text(config)
        command += ["--config", str(path / "server.toml")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VEXFS_")}
    with (path / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=path,
            env={**environment, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.search(r"at https?://([0-9.]+):(\d+)", line)
        if found is None:
            stop(process)
            raise AssertionError(f"no server: {line} {(path / 'server.log').read_text()}")
        try:
            yield Server(found[1], int(found[2]), process)
        finally:
            stop(process)


@contextlib.contextmanager
def running(app: Any, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of an application (App) in a thread of this process."""
    from vexfs_chroma._server._connection import Connections

    loop, stop = asyncio.new_event_loop(), threading.Event()
    sock = socket.create_server(("127.0.0.1", 0))

    async def serve() -> None:
        connections = Connections(app)
        server = await loop.create_server(connections.make, sock=sock, ssl=context)
        while not stop.is_set():
            await asyncio.sleep(0.02)
            connections.sweep()
        server.close()
        connections.abort()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        stop.set()
        thread.join(10)
        loop.close()
        app.close()


@contextlib.contextmanager
def client_of(make: Any, server: Server, **arguments: Any) -> Iterator[Any]:
    """A client of a server; chromadb's leaves its connections to the garbage collector.

    It has two pools of them: its own, and that of the admin client within it.
    """
    with make(**{"host": server.host, "port": server.port, **arguments}) as client:
        try:
            yield client
        finally:
            client._server._session.close()
            client._admin_client._server._session.close()


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a server as its user would; returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        if process.stdout is not None:
            process.stdout.close()
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode


def free_port() -> int:
    """A port for a program that must be told one, or one that is to be used again.

    It is below those that systems give to whoever asks for any, so the tests that run beside this
    one do not get it in the meantime.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextlib.contextmanager
def run_chroma(path: Path) -> Iterator[Server]:
    """Chroma's own server."""
    port = free_port()
    config = path / "chroma.yaml"
    config.write_text(
        f'port: {port}\nlisten_address: "127.0.0.1"\npersist_path: "{path / "chroma"}"\n'
        "allow_reset: true\n"
    )
    program = Path(sys.executable).parent / "chroma"
    with (path / "chroma.log").open("wb") as log:
        process = subprocess.Popen([program, "run", config], stdout=log, stderr=log, cwd=path)
        server = Server("127.0.0.1", port, process)
        try:
            deadline = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError):
                    server.call("GET", API + "/heartbeat")
                    break
                log_text = (path / "chroma.log").read_text(errors="replace")
                assert process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def workers_of(server: Server) -> list[int]:
    """The living processes of a server with several."""
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if is_alive(pid)]


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
