"""Waiting for the engine's background work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vexfs_chroma._engine._handle import Handle
from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import lib

_SLICE = 0.1  # seconds in one call, so that Ctrl-C and close() from another thread get through


def wait_idle(handle: Handle, wait: Callable[[Any, int], int], timeout: float | None) -> None:
    """Call `wait(pointer, milliseconds)` until it is idle; None: however long it takes."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
        with handle as pointer:
            status = wait(pointer, max(0, round(left * 1000)))
            if status != lib.VEX_ERR_BUSY:
                return check(status)
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"background work is not done after {timeout} seconds")
