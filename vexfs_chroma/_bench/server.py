"""``python -m vexfs_chroma._bench.server``: `vexctl serve` beside `chroma run`, on the same data.

Both servers run at once, but only one of them has anything to do at a time: they take turns,
`--rounds` times, and the table shows medians.  Load comes from wrk where that is installed, else
from a generator in this process, over keep-alive connections that always have one request under
way.  "CPU" is what the server's processes used, which other work on the machine changes least.  Of
writes it counts until they rest: ours indexes records after the answer, Chroma's before.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chromadb
import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SEED = 20261129
DIMENSION = 384
K = 10
CATEGORIES = 10  # a filter leaves a tenth
CLUSTERS = 200
ADD_ROWS = 100
LOAD_ROWS = 1000
QUERIES = 200
_STALL_SECONDS = 60
_REST_SECONDS = 1.5  # longer than records wait in memory, once there are many
_REST_CPU = 0.03
_BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"
_TARGETS = {  # of ratios to Chroma's server, with one worker
    "query": ("requests per second", 6.0),
    "filtered query": ("requests per second", 20.0),
    "add 100": ("requests per second", 8.0),
    "HttpClient query": ("requests per second", 2.5),
}
_P99_MOST = 0.25  # of Chroma's, for queries


@dataclass(slots=True)
class Server:
    """One of the two."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    path: str = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request, outside of what is measured."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data,
            {"content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())

    def cpu_seconds(self) -> list[float]:
        """Of its process and then each of that one's children, so far; Linux alone knows."""
        parent = self.process.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            return [_cpu_seconds(pid) for pid in (parent, *map(int, children))]
        return [0.0]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rest(server: Server) -> None:
    """Wait until it has done all that requests left to do, a minute at most."""
    end = time.perf_counter() + _STALL_SECONDS
    used = _REST_CPU + 1
    while used > _REST_CPU and time.perf_counter() < end:
        before = sum(server.cpu_seconds())
        time.sleep(_REST_SECONDS)
        used = sum(server.cpu_seconds()) - before


@dataclass(slots=True)
class Figure:
    """One measurement."""

    requests: float = 0
    """Per second."""
    p50: float = 0
    p99: float = 0
    """Milliseconds."""
    cpu: float = 0
    """Microseconds of a request."""
    busiest: float = 1
    """Of several workers, the part of their CPU that the busiest used."""


_FIGURES = [field.name for field in dataclasses.fields(Figure)]


@dataclass(slots=True)
class Data:
    """Rows in clusters, on the unit sphere."""

    centers: NDArray[np.float32]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))

    def rows(self, n: int) -> NDArray[np.float32]:
        """`n` more of them."""
        picked = self.centers[self.rng.integers(0, len(self.centers), n)]
        noise = self.rng.standard_normal(picked.shape).astype(np.float32)
        found = picked + 0.6 * noise
        unit: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


def _new_data() -> Data:
    rng = np.random.default_rng(SEED - 1)
    return Data(rng.standard_normal((CLUSTERS, DIMENSION)).astype(np.float32))


def _records(vectors: NDArray[np.float32], first: int) -> dict[str, Any]:
    numbers = range(first, first + len(vectors))
    return {
        "ids": [f"record-{i}" for i in numbers],
        "embeddings": [base64.b64encode(row.tobytes()).decode() for row in vectors],
        "documents": [f"the text of record number {i}" for i in numbers],
        "metadatas": [{"category": f"c{i % CATEGORIES}", "number": i} for i in numbers],
    }


def _query(row: NDArray[np.float32], where: dict[str, Any] | None) -> bytes:
    body: dict[str, Any] = {
        "query_embeddings": [[float(str(number)) for number in row]],
        "n_results": K,
        "include": ["documents", "metadatas", "distances"],
    }
    if where is not None:
        body["where"] = where
    return json.dumps(body).encode()


# -- servers ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def servers(folder: Path, workers: int) -> Iterator[list[Server]]:
    """Chroma's and ours, on free ports."""
    running: list[Server] = []
    try:
        for name in ("chroma", "vexfs"):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            home = folder / name
            home.mkdir()
            running.append(Server(name, port, _start(name, home, port, workers)))
        for server in running:
            _wait(server)
        yield running
    finally:
        for server in running:
            server.process.send_signal(signal.SIGTERM)
        for server in running:
            server.process.wait(60)


def _start(name: str, home: Path, port: int, workers: int) -> subprocess.Popen[bytes]:
    if name == "chroma":
        program = Path(sys.executable).parent / "chroma"
        command = [str(program), "run", "--path", str(home / "data"), "--port", str(port)]
    else:
        command = [sys.executable, "-m", "vexfs_chroma._cli", "serve", "--port", str(port)]
        command += ["--path", str(home / "data"), "--workers", str(workers)]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=home, stdout=log, stderr=log)


def _wait(server: Server) -> None:
    for _ in range(600):
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            server.call("GET", "/api/v2/heartbeat")
            return
        if server.process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the server of {server.name} did not start")


# -- load ------------------------------------------------------------------------------------------


async def _generate(
    server: Server, requests: Iterator[bytes], connections: int, seconds: float
) -> list[float]:
    """The seconds of each request."""
    spent: list[float] = []
    end = time.perf_counter() + seconds

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.closing(writer):
            for request in requests:
                if (begun := time.perf_counter()) >= end:
                    return
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                if status >= 300:
                    raise RuntimeError(f"{server.name} answered {status}")
                spent.append(time.perf_counter() - begun)

    await asyncio.gather(*(connection() for _ in range(connections)))
    return spent


def _http(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def measure(
    server: Server,
    requests: Iterator[bytes],
    connections: int,
    seconds: float,
    *,
    writes: bool = False,
) -> Figure:
    """By the generator of this process; of `writes` all that they leave to be done counts, too."""
    cpu, begun = server.cpu_seconds(), time.perf_counter()
    spent = asyncio.run(_generate(server, requests, connections, seconds))
    took = time.perf_counter() - begun
    if writes:
        _rest(server)
    return _figure(server, cpu, spent, took)


def measure_by_client(server: Server, rows: NDArray[np.float32], seconds: float) -> Figure:
    """By chromadb's own HttpClient, one query after the other."""
    client = chromadb.HttpClient("127.0.0.1", server.port)
    collection = client.get_collection("bench")
    queries: Iterator[Any] = itertools.cycle([[row] for row in rows])
    spent = []
    cpu, begun = server.cpu_seconds(), time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        collection.query(query_embeddings=next(queries), n_results=K)
        spent.append(time.perf_counter() - now)
    return _figure(server, cpu, spent, time.perf_counter() - begun)


def _figure(server: Server, cpu: list[float], spent: list[float], took: float) -> Figure:
    p50, p99 = np.percentile(np.array(spent) * 1000, [50, 99])
    return Figure(len(spent) / took, float(p50), float(p99), *_used(server, cpu, len(spent)))


def _used(server: Server, before: list[float], n: int) -> tuple[float, float]:
    """Microseconds of CPU for each of `n` requests, and the busiest worker's part of them."""
    used = [now - then for now, then in zip(server.cpu_seconds(), before, strict=True)]
    workers = used[1:]
    all_of_them = sum(workers)
    busiest = max(workers) / all_of_them if len(workers) > 1 and all_of_them else 1.0
    return sum(used) / n * 1e6, busiest


_LUA = """
local bodies = {{ {bodies} }}
local i = 0
request = function()
  i = i % #bodies + 1
  return wrk.format("POST", "{path}", {{["content-type"] = "application/json"}}, bodies[i])
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.status + e.read + e.write + e.timeout))
end
"""


def measure_by_wrk(
    wrk: str,
    script: Path,
    server: Server,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
) -> Figure:
    """By wrk, with one thread."""
    listed = ",".join(f"[==[{body.decode()}]==]" for body in bodies)
    script.write_text(_LUA.format(bodies=listed, path=f"{server.path}/query"))
    cpu = server.cpu_seconds()
    whole = math.ceil(seconds)  # wrk takes no others
    command = [wrk, "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "60s", "-s"]
    ran = subprocess.run(
        [*command, str(script), f"http://127.0.0.1:{server.port}/"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)", ran.stdout)
    if found is None or int(found[5]):
        raise RuntimeError(f"{server.name}: {ran.stdout} {ran.stderr}")
    n, microseconds = int(found[1]), int(found[2])
    return Figure(
        n / microseconds * 1e6,
        float(found[3]) / 1e3,
        float(found[4]) / 1e3,
        *_used(server, cpu, n),
    )


# -- the run ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """One line of the table."""

    rows: int
    what: str
    connections: int
    chroma: Figure
    vexfs: Figure


class Bench:
    """All measurements with one number of rows."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, console: Console) -> None:
        self._arguments = arguments
        self._folder = folder
        self._console = console
        self._wrk = shutil.which("wrk")
        self._next = itertools.count()
        self.results: list[Result] = []
        self.loading: dict[tuple[int, str], float] = {}
        self.recalls: dict[tuple[int, str], float] = {}

    def run(self, rows: int) -> None:
        """Load `rows` into both, then measure."""
        folder = self._folder / str(rows)
        folder.mkdir()
        with servers(folder, self._arguments.workers) as both:
            data = _new_data()
            vectors = np.concatenate([data.rows(LOAD_ROWS) for _ in range(rows // LOAD_ROWS)])
            queries = data.rows(QUERIES)
            for server in both:
                self._load(server, vectors)
                self.recalls[rows, server.name] = _recall(server, vectors, queries)
            for what, where in (("query", None), ("filtered query", {"category": "c3"})):
                bodies = [_query(row, where) for row in queries]
                for n in self._arguments.connections:
                    self._compare(rows, what, n, both, bodies)
            self._compare(rows, "HttpClient query", 1, both, queries)
            for n in self._arguments.connections:
                self._compare(rows, f"add {ADD_ROWS}", n, both, None)

    def _load(self, server: Server, vectors: NDArray[np.float32]) -> None:
        configuration = {"hnsw": {"space": "cosine"}}
        made = server.call("POST", _BASE, {"name": "bench", "configuration": configuration})
        server.path = f"{_BASE}/{made['id']}"
        begun = time.perf_counter()
        for at in range(0, len(vectors), LOAD_ROWS):
            server.call("POST", server.path + "/add", _records(vectors[at : at + LOAD_ROWS], at))
        self.loading[len(vectors), server.name] = time.perf_counter() - begun
        if server.name == "vexfs":  # Chroma builds its graph within add
            self._wait_for_graph(server)
        took = time.perf_counter() - begun
        self._console.print(f"{len(vectors):,} records in {server.name}: {took:.1f} s")

    def _wait_for_graph(self, server: Server) -> None:
        """Until the graph has everything, or has not grown for a while."""
        done, since = -1.0, time.perf_counter()
        while done < 1.0:
            progress = server.call("GET", server.path + "/indexing_status")["op_indexing_progress"]
            if progress != done:
                done, since = progress, time.perf_counter()
            elif time.perf_counter() - since > _STALL_SECONDS:
                self._console.print(f"the graph stays at {done:.1%}")
                return
            time.sleep(0.2)

    def _compare(
        self,
        rows: int,
        what: str,
        connections: int,
        both: list[Server],
        bodies: list[bytes] | NDArray[np.float32] | None,
    ) -> None:
        figures: dict[str, list[Figure]] = {server.name: [] for server in both}
        for _ in range(self._arguments.rounds):
            for server in both:
                figures[server.name].append(self._measure(server, connections, bodies))
        chroma, ours = (_median(figures[server.name]) for server in both)
        self.results.append(Result(rows, what, connections, chroma, ours))
        ratio = ours.requests / chroma.requests
        self._console.print(f"{rows:,} {what}, {connections} connections: {ratio:.1f}x")

    def _measure(
        self, server: Server, connections: int, bodies: list[bytes] | NDArray[np.float32] | None
    ) -> Figure:
        seconds = self._arguments.seconds
        if isinstance(bodies, np.ndarray):
            return measure_by_client(server, bodies, seconds)
        if bodies is None:
            adds = itertools.islice(self._adds(server), self._arguments.adds)
            return measure(server, adds, connections, seconds, writes=True)
        if self._wrk is not None:
            script = self._folder / "load.lua"
            return measure_by_wrk(self._wrk, script, server, bodies, connections, seconds)
        requests = itertools.cycle([_http(f"{server.path}/query", body) for body in bodies])
        return measure(server, requests, connections, seconds)

    def _adds(self, server: Server) -> Iterator[bytes]:
        """Batches of new records; a few are made beforehand, and only their ids change."""
        data = _new_data()
        parts = [
            json.dumps(_records(data.rows(ADD_ROWS), 0)).encode().replace(b'"record-', b'"@-')
            for _ in range(20)
        ]
        for part in itertools.cycle(parts):
            mark = f'"n{next(self._next)}-'.encode()
            yield _http(f"{server.path}/add", part.replace(b'"@-', mark))


def _median(figures: Sequence[Figure]) -> Figure:
    return Figure(
        *(statistics.median(getattr(figure, name) for figure in figures) for name in _FIGURES)
    )


def _recall(server: Server, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """Recall at K of the server's answers."""
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    body = {"query_embeddings": queries.tolist(), "n_results": K, "include": []}
    found = server.call("POST", server.path + "/query", body)["ids"]
    hits = sum(
        len({f"record-{i}" for i in best} & set(ids))
        for best, ids in zip(truth, found, strict=True)
    )
    return hits / (len(queries) * K)


# -- the report ------------------------------------------------------------------------------------


def _show(bench: Bench, console: Console) -> None:
    table = Table(title="vexctl serve beside chroma run", box=None)
    for column in ("records", "what", "conn."):
        table.add_column(column)
    for column in (
        "chroma req/s",
        "ours",
        "ratio",
        "p50 ms",
        "p99 ms",
        "p99 ratio",
        "CPU us",
        "CPU ratio",
        "busiest",
    ):
        table.add_column(column, justify="right")
    for result in bench.results:
        theirs, ours = result.chroma, result.vexfs
        table.add_row(
            f"{result.rows:,}",
            result.what,
            str(result.connections),
            f"{theirs.requests:,.0f}",
            f"{ours.requests:,.0f}",
            f"{ours.requests / theirs.requests:.1f}x",
            f"{theirs.p50:.2f} / {ours.p50:.2f}",
            f"{theirs.p99:.2f} / {ours.p99:.2f}",
            f"{ours.p99 / theirs.p99:.2f}",
            f"{theirs.cpu:,.0f} / {ours.cpu:,.0f}",
            f"{theirs.cpu / ours.cpu:.1f}x" if ours.cpu else "-",
            f"{ours.busiest:.0%}" if ours.busiest < 1 else "-",
        )
    console.print(table)
    for (rows, name), recall in bench.recalls.items():
        console.print(
            f"{rows:,} records, {name}: recall@{K} {recall:.3f}, loaded in "
            f"{bench.loading[rows, name]:.1f} s"
        )
    for what, (unit, wanted) in _TARGETS.items():
        ratios = [r.vexfs.requests / r.chroma.requests for r in bench.results if r.what == what]
        if ratios:
            met = "met" if min(ratios) >= wanted else "missed"
            console.print(f"{what}: at least {min(ratios):.1f}x {unit}, wanted {wanted:g}x: {met}")
    tails = [r.vexfs.p99 / r.chroma.p99 for r in bench.results if r.what == "query"]
    if tails:
        met = "met" if max(tails) <= _P99_MOST else "missed"
        console.print(f"query: p99 at most {max(tails):.2f} of Chroma's, wanted {_P99_MOST}: {met}")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_number(part.strip()) for part in text.split(",")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="vexfs_chroma._bench.server",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--rows", type=_numbers, default=[10_000, 100_000])
    parser.add_argument("--connections", type=_numbers, default=[1, 8, 32])
    parser.add_argument("--rounds", type=_number, default=3)
    parser.add_argument("--seconds", type=_seconds, default=3.0)
    parser.add_argument("--adds", type=_number, help="batches of a measurement at most")
    parser.add_argument("--workers", type=_number, default=1, help="of our server")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    chosen = options(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory(prefix="vexfs-bench-server-") as folder:
        bench = Bench(chosen, Path(folder), console)
        for rows in chosen.rows:
            bench.run(rows)
    _show(bench, console)
    if chosen.json is not None:
        document = [
            {
                "rows": r.rows,
                "what": r.what,
                "connections": r.connections,
                **{
                    name: {key: getattr(figure, key) for key in _FIGURES}
                    for name, figure in (("chroma", r.chroma), ("vexfs", r.vexfs))
                },
            }
            for r in bench.results
        ]
        chosen.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
