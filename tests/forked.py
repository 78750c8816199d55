"""Processes for tests that kill them by the hundred: forked from one that has imported everything.

The one that forks must have no threads, so it is a program of its own, not pytest.  numpy's
OpenBLAS starts some, unless this module was imported first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["ANONYMIZED_TELEMETRY"] = "False"


def check_may_fork() -> None:
    """Stop the program when it has threads already."""
    if len(list(Path("/proc/self/task").glob("*"))) > 1:
        raise SystemExit("something has started threads, so this process must not fork")


class Child:
    """A process that does `work`, and ends with status 1 when it returns or raises."""

    def __init__(self, work: Callable[[], object], failed: Callable[[str], object]) -> None:
        """`failed` is called, in the child, with the text of what `work` raised."""
        self._status: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
                failed(traceback.format_exc())
            finally:
                sys.stderr.flush()
                os._exit(1)

    def is_alive(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None

    def wait_until(self, there: Callable[[], bool], seconds: float = 60) -> None:
        """Until that is so, or it is gone."""
        deadline = time.monotonic() + seconds
        while not there() and self.is_alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"a process does not get anywhere within {seconds} s")
            time.sleep(0.0005)

    def kill(self) -> bool:
        """False when it had ended by itself."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)
        assert self._status is not None
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == signal.SIGKILL
