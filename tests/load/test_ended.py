"""Load tests that are ended by a signal: nothing that they started goes on."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vexfs_chroma._cli import _exit
from vexfs_chroma._load import _run, _targets
from vexfs_chroma._signals import as_interrupts, held

MOST_S = 120.0


def wait(what: str, met: Callable[[], object]) -> None:
    end = time.monotonic() + MOST_S
    while not met():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def is_gone(group: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def heed_signals() -> None:
    """What runs in the background of a shell, or under nohup, ignores some, as do its children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def run(command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "vexfs_chroma._cli", *command.split()],
            cwd=tmp_path,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_signals,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if not is_gone(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def pid_of_the_server(log: Path) -> int:
    """What it said of itself, in its log."""
    text = log.read_text("utf-8") if log.exists() else ""
    found = re.search(r" started pid=(\d+) ", text)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_server_ends_with_the_job(
    tmp_path: Path, start: Callable[[str], subprocess.Popen[str]], number: signal.Signals
) -> None:
    if importlib.util.find_spec("locust") is None:  # not imported: it patches the process
        pytest.skip("Locust is not installed")
    job = start("load-test run --scenario mixed --scale 0.01 --time 300 --output out")
    folder = tmp_path / "out" / "mixed-vexfs"
    log = folder / "server.log"
    # One signal comes while rows are made and stored, the others under load.
    wait("the server", lambda: pid_of_the_server(log))
    if number != signal.SIGHUP:
        wait("the users", lambda: (folder / _run.STARTED).exists())
    server = pid_of_the_server(log)
    job.send_signal(number)
    _, errors = job.communicate(timeout=MOST_S)
    assert job.returncode == _exit.INTERRUPTED, errors
    assert errors.splitlines()[-1] == "vexctl: interrupted"
    assert is_gone(job.pid)  # Locust is in its group
    assert is_gone(server)  # which has a session, and so a group, of its own
    assert " stopped " in log.read_text("utf-8")  # it closed its database


def test_a_benchmark_leaves_no_files(
    tmp_path: Path, start: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    job = start("bench engine --quick --runs 1000 --peers vexfs_chroma")
    wait("its folder", lambda: list(tmp_path.glob("vexfs-bench-*/*")))
    job.terminate()
    _, errors = job.communicate(timeout=MOST_S)
    assert job.returncode == _exit.INTERRUPTED, errors
    assert is_gone(job.pid)
    assert not list(tmp_path.glob("vexfs-bench-*"))


def test_no_import_that_loses_interrupts_comes_later() -> None:
    code = """
import sys
from vexfs_chroma._signals import as_interrupts
with as_interrupts():
    before = set(sys.modules)
    import numpy
    numpy.random.default_rng(1).random(3)
    print(*sorted(set(sys.modules) - before))
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []


def test_a_server_whose_start_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _targets.Server(_targets.VEXFS, tmp_path / "data", tmp_path / "log")
    pids = []

    def interrupted(_: str) -> bool:
        pids.append(server.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(_targets, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert is_gone(pids[0])


def test_waiting_for_a_server_to_stop_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _targets.Server(_targets.VEXFS, tmp_path / "data", tmp_path / "log")
    server.start()
    pid = server.pid
    process = server._process
    wait_for_it = process.wait

    def wait(timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return wait_for_it()

    monkeypatch.setattr(process, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    assert is_gone(pid)


def test_signals_that_are_held() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), as_interrupts():
        with held():
            signal.raise_signal(signal.SIGTERM)
            done = True
        pytest.fail("the signal was lost")
    assert done


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with as_interrupts(), held():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
