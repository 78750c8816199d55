"""Runs load tests: rows, servers, Locust in a process of its own, kills, the verdict."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._load import _gates, _scenarios, _shapes, _targets
from vexfs_chroma._load._result import Result
from vexfs_chroma._load._world import World
from vexfs_chroma._signals import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vexfs_chroma._load._scenarios import Scenario

    Progress = Callable[[str, int, int], None]

STARTED = "started"  # a file that Locust makes when the users start
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_DOWN_S = 1.0  # between a kill and the start after it
_GRACE_S = 180.0  # for Locust, beyond the time of the test
_POLL_S = 0.25


@dataclass(slots=True, frozen=True)
class Plan:
    """What is to be run."""

    scenarios: Sequence[Scenario]
    targets: Sequence[str]
    output: Path
    """Gets a folder of reports for each run."""
    data: Path
    """Rows and databases, which the next run uses again."""
    scale: float = 1.0
    seconds: float | None = None
    users: int | None = None
    rate: float | None = None
    seed: int = 1
    runs: int = 1
    processes: int = 1
    shape: str | None = None
    slo: Path | None = None

    def check(self) -> None:
        """Raise ValueError, ImportError or OSError for what cannot be run, before anything is."""
        if importlib.util.find_spec("locust") is None:
            raise ImportError("load tests need Locust: pip install 'vexfs-chroma[load]'")
        _gates.load_levels(self.slo or _gates.DEFAULT_FILE, _scenarios.SCENARIOS)
        for scenario in self.scenarios:
            users, seconds = self.users or scenario.users, self.seconds or scenario.seconds
            _shapes.stages(self.shape or scenario.shape, users, seconds)
        for target in self.targets:
            _targets.check_target(target)
            if "://" in target and not _targets.answers(target):
                raise _targets.NotReachableError(f"no server answers at {target}")
            for scenario in self.scenarios:
                if scenario.kills and target not in (_targets.VEXFS, _targets.CHROMA):
                    raise ValueError(
                        f"{scenario.name} kills the server: it needs the target vexfs or chroma, "
                        f"which are started here, not {target}"
                    )


def run(plan: Plan, progress: Progress, done: Callable[[Result], None]) -> list[Result]:
    """Every scenario on every target, in turn; tells every result when it is there."""
    plan.check()
    results = []
    for number in range(plan.runs):
        for scenario in plan.scenarios:
            for target in plan.targets:
                result = _run_one(plan, scenario.scaled(plan.scale), target, number, progress)
                results.append(result)
                done(result)
    return results


def folder_of(plan: Plan, scenario: str, target: str, number: int) -> Path:
    """Where the reports of one run are."""
    place = "url" if "://" in target else target
    return plan.output / f"{scenario}-{place}{f'-{number + 1}' if plan.runs > 1 else ''}"


def _run_one(
    plan: Plan, scenario: Scenario, target: str, number: int, progress: Progress
) -> Result:
    folder = folder_of(plan, scenario.name, target, number)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("result.json", STARTED):
        (folder / name).unlink(missing_ok=True)
    progress(f"{scenario.name}: rows and truth", 0, 1)
    world = World(plan.data, scenario, plan.seed)
    progress(f"{scenario.name}: rows and truth", 1, 1)
    title = f"{scenario.name} on {target}"
    events: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        server: _targets.Server | None = None
        if target == _targets.INPROC:
            rate = _targets.fill_directory(plan.data / target, world, _renamed(progress, title))
        else:
            if "://" not in target:
                server = _targets.Server(target, plan.data / target, folder / "server.log")
                stack.enter_context(server)
            url = target if server is None else server.url
            rate = _targets.fill(url, world, _renamed(progress, title))
        command = _command(plan, scenario, target if server is None else server.url, folder)
        locust = stack.enter_context(_locust(command, folder / "locust.log"))
        pid = (lambda: locust.pid) if server is None else (lambda: server.pid)
        watch = stack.enter_context(_targets.ResourceWatch(pid)) if "://" not in target else None
        if server is not None and scenario.kills:
            every = _seconds(plan, scenario) / (scenario.kills + 1)
            stack.enter_context(_Killer(server, scenario.kills, every, folder / STARTED, events))
        code = _wait(locust, title, _seconds(plan, scenario), folder / STARTED, progress)
    result = _load(folder, code)
    result.target, result.events, result.fill_rows_per_second = target, events, rate
    result.figures["run"]["kills"] = float(sum(event["what"] == "killed" for event in events))
    if watch is not None:
        for sample in watch.samples:
            at = sample.at - result.started
            result.memory.append([at, sample.resident])
            result.descriptors.append([at, sample.descriptors])
        result.figures["run"] |= _targets.resource_figures(watch.samples)
    result.judge(plan.slo)
    result.save(folder / "result.json")
    return result


def _renamed(progress: Progress, title: str) -> Progress:
    return lambda step, done, total: progress(f"{title}: {step}", done, total)


def _seconds(plan: Plan, scenario: Scenario) -> float:
    return plan.seconds or scenario.seconds


def _command(plan: Plan, scenario: Scenario, target: str, folder: Path) -> list[str]:
    options = {
        "--scenario": scenario.name,
        "--scale": plan.scale,
        "--target": target,
        "--seed": plan.seed,
        "--users": plan.users or scenario.users,
        "--run-time": f"{math.ceil(_seconds(plan, scenario))}s",
        "--data": plan.data,
        "--results": folder,
        "--html": folder / "locust.html",
        "--csv": folder / "locust",
    }
    if plan.rate is not None:
        options["--rate"] = plan.rate
    if plan.shape is not None:
        options["--load-shape"] = plan.shape
    if plan.slo is not None:
        options["--slo"] = plan.slo
    if plan.processes > 1:
        options["--processes"] = plan.processes
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--only-summary", "--loglevel", "INFO"]
    return command + [str(part) for option in options.items() for part in option]


@contextlib.contextmanager
def _locust(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process: subprocess.Popen[bytes] | None = None
        try:
            with held():
                process = subprocess.Popen(  # noqa: S603 - our own command
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
            yield process
        finally:
            if process is not None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then see to it."""
    try:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
    finally:
        process.kill()  # one that has ended does not mind
        process.wait()


def _wait(
    process: subprocess.Popen[bytes],
    title: str,
    seconds: float,
    started: Path,
    progress: Progress,
) -> int | None:
    """The exit code; None when it took too long."""
    begun, users_since = time.monotonic(), None
    while process.poll() is None:
        now = time.monotonic()
        if users_since is None and started.exists():
            users_since = now
        if now - begun > seconds + _GRACE_S:
            return None
        passed = 0.0 if users_since is None else now - users_since
        progress(title, min(int(passed), int(seconds)), max(1, int(seconds)))
        time.sleep(_POLL_S)
    progress(title, max(1, int(seconds)), max(1, int(seconds)))
    return process.returncode


def _load(folder: Path, code: int | None) -> Result:
    file, log = folder / "result.json", folder / "locust.log"
    if not file.is_file():
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        ended = "did not end in time" if code is None else f"ended with exit code {code}"
        raise ChildProcessError(f"Locust {ended}; see {log}: {' / '.join(lines[-2:])}")
    return Result.load(file)


class _Killer:
    """Kills a server some times during a test, `every` seconds, and starts it again."""

    def __init__(
        self,
        server: _targets.Server,
        kills: int,
        every: float,
        started: Path,
        events: list[dict[str, Any]],
    ) -> None:
        self._server, self._kills, self._every = server, kills, every
        self._started, self._events = started, events
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while not self._started.exists():
            if self._over.wait(_POLL_S):
                return
        for _ in range(self._kills):
            if self._over.wait(self._every):
                return
            self._server.kill()
            self._note("killed")
            time.sleep(_DOWN_S)
            try:
                self._server.start()
            except OSError as error:
                self._note("not started", str(error))
                return
            self._note("answers again")

    def _note(self, what: str, why: str = "") -> None:
        self._events.append({"at": time.time(), "what": what, "why": why})

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def save_all(results: Sequence[Result], path: Path) -> None:
    """All results as one JSON file, with the verdict over all."""
    plain = [result.as_json() for result in results]
    found = {"ok": all(result.ok for result in results), "results": plain}
    path.write_text(json.dumps(found, indent=1), "utf-8")
