"""What is put under load: a server of ours or of Chroma, which is started here; one that runs
already; or the embedded client, in the process of the users.  And the rows that it holds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from vexfs_chroma._load import _http
from vexfs_chroma._signals import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from vexfs_chroma._load._world import World

VEXFS, CHROMA, INPROC = "vexfs", "chroma", "inproc"
BATCH = 1000
_START_S, _STOP_S = 60.0, 30.0

Progress = "Callable[[str, int, int], None]"


class NotReachableError(ConnectionError):
    """No server where one should be."""


def check_target(target: str) -> None:
    """Raise ValueError unless it is a target."""
    if target not in (VEXFS, CHROMA, INPROC) and not _is_url(target):
        raise ValueError(f"no target {target!r}: {VEXFS}, {CHROMA}, {INPROC}, or http://HOST:PORT")


def _is_url(target: str) -> bool:
    try:
        parts = urlsplit(target)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False


class Server:
    """A server in a process of its own, on a free port of this machine."""

    def __init__(self, kind: str, database: Path, log: Path) -> None:
        self._kind, self._database, self._log = kind, database, log
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of its first process, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._database.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._log.open("ab") as log, held():
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    _command(self._kind, self._database, self.port),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that kill() gets its workers, too
                )
            self._wait(self._process)
        except BaseException:  # an interruption, too: no signal of ours reaches its session
            self.stop()
            raise

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_S
        while not answers(self.url):
            if process.poll() is not None or time.monotonic() > end:
                raise NotReachableError(f"the server did not start; its last words: {self._tail()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, with kill -9."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        process = self._process
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_S)
        finally:  # who interrupts the waiting does not want to wait
            self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _tail(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "none"


def _command(kind: str, database: Path, port: int) -> list[str]:
    where = ["--path", str(database), "--host", "127.0.0.1", "--port", str(port)]
    if kind == VEXFS:
        return [sys.executable, "-m", "vexfs_chroma._cli", "serve", *where]
    beside = Path(sys.executable).with_name("chroma")
    program = str(beside) if beside.is_file() else shutil.which("chroma")
    if program is None:
        raise FileNotFoundError("the program `chroma` is not there; it comes with chromadb")
    return [program, "run", *where]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a server is there."""
    with contextlib.closing(_http.Connection(url, timeout=5.0)) as connection:
        try:
            connection.call("GET", f"{_http.API}/heartbeat")
        except (OSError, _http.HttpError, msgspec.DecodeError):
            return False
    return True


# ---- rows ----------------------------------------------------------------------------------------


def fill(url: str, world: World, progress: Any = lambda *_: None) -> float | None:
    """See to it that a server has the rows of `world` and no others; rows per second, if it did
    not have them.
    """
    with contextlib.closing(_http.Connection(url)) as connection:
        path = _http.collection_path(connection, world.collection_name)
        if path is not None:
            connection.call("POST", f"{path}/delete", b'{"where":{"kind":"own"}}')
            if connection.call("GET", f"{path}/count") == world.scenario.rows:
                _http.wait_until_indexed(connection, path)
                return None
            connection.call("DELETE", f"{_http.DATABASE}/collections/{world.collection_name}")
        about = {
            "name": world.collection_name,
            "configuration": {"hnsw": {"space": "cosine"}},
            "metadata": {"scenario": world.scenario.name, "made_by": "load test"},
        }
        made = connection.call("POST", f"{_http.DATABASE}/collections", msgspec.json.encode(about))
        path = f"{_http.DATABASE}/collections/{made['id']}"
        rate = _add(
            world,
            lambda numbers: connection.call("POST", f"{path}/add", _http.base_rows(world, numbers)),
            progress,
        )
        _http.wait_until_indexed(connection, path)
    return rate


def fill_directory(path: Path, world: World, progress: Any = lambda *_: None) -> float | None:
    """fill() of the database in a directory, by the embedded client."""
    import vexfs_chroma

    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(vexfs_chroma.PersistentClient(path=path)) as client:
        names = {collection.name for collection in client.list_collections()}
        if world.collection_name in names:
            collection = client.get_collection(world.collection_name, embedding_function=None)
            collection.delete(where={"kind": "own"})
            if collection.count() == world.scenario.rows:
                collection.wait_for_index()
                return None
            client.delete_collection(world.collection_name)
        collection = client.create_collection(
            world.collection_name,
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
        )

        def add(numbers: range) -> None:
            collection.add(
                ids=[f"b{number}" for number in numbers],
                embeddings=world.vectors[numbers.start : numbers.stop],
                metadatas=[world.metadata(number) for number in numbers],
                documents=[world.text(n) for n in numbers] if world.scenario.documents else None,
            )

        rate = _add(world, add, progress)
        collection.wait_for_index()
    return rate


def _add(world: World, add: Callable[[range], object], progress: Any) -> float:
    rows, started = world.scenario.rows, time.perf_counter()
    for at in range(0, rows, BATCH):
        add(range(at, min(at + BATCH, rows)))
        progress("filling", min(at + BATCH, rows), rows)
    return rows / (time.perf_counter() - started)


# ---- memory and descriptors ----------------------------------------------------------------------


class Sample(NamedTuple):
    """What a process and its children have, at a time."""

    at: float
    resident: int
    """Bytes."""
    descriptors: int
    """Open files, sockets and the like."""


class ResourceWatch:
    """Samples of a process and its children, every second; none without /proc."""

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.samples: list[Sample] = []

    def _watch(self) -> None:
        over = False
        while not over:
            pid = self._pid()
            found = sample_of(pid) if pid is not None else None
            if found is not None:
                self.samples.append(found)
            over = self._over.wait(1.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def resource_figures(samples: Sequence[Sample]) -> dict[str, float]:
    """What became of memory and descriptors from the second quarter of the samples to the last.

    Memory in terms of what it was.  Descriptors are few, so that some more would be a large part
    of them, and where they are many a leak would be a small one: they are counted, not compared.
    """
    if not samples:
        return {}
    found = {"descriptors_peak": float(max(sample.descriptors for sample in samples))}
    if quarter := len(samples) // 4:
        early, late = samples[quarter : 2 * quarter], samples[-quarter:]
        found["memory_growth"] = sum(s.resident for s in late) / sum(s.resident for s in early)
        more = sum(s.descriptors for s in late) - sum(s.descriptors for s in early)
        found["descriptors_growth"] = more / quarter
    return found


def sample_of(pid: int) -> Sample | None:
    """Of a process and its children now; None when it has gone, or must not be looked at."""
    family = list(_family(pid))
    resident, descriptors = sum(map(_resident, family)), sum(map(_descriptors, family))
    return Sample(time.time(), resident, descriptors) if resident and descriptors else None


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text("ascii").split():
                yield from _family(int(child))


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return 0
