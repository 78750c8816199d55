"""Jobs that have processes and temporary files of their own, and must not leave them behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_ENDING = ("SIGTERM", "SIGHUP")


def ending() -> list[signal.Signals]:
    """The signals that end a server: also that of a terminal which is gone, but not under nohup."""
    found = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt in the block, as SIGINT does.

    By default they end the process, and nothing is cleaned up.  A signal that the process was told
    to ignore, as by nohup, stays ignored.
    """
    # numpy imports it at its first use, and the Cython modules in it clear whatever is raised while
    # they register their classes: an interrupt there would be lost.
    import numpy.random  # noqa: F401

    with _handled(_ENDING, signal.default_int_handler):
        yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Signals that would end the job wait until the block is over, so that it is done or not."""
    arrived: list[int] = []
    with _handled((*_ENDING, "SIGINT"), lambda number, _: arrived.append(number)):
        yield
    for number in arrived:
        signal.raise_signal(number)


@contextlib.contextmanager
def _handled(
    names: tuple[str, ...], handler: Callable[[int, FrameType | None], object]
) -> Iterator[None]:
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other one may, or gets them
        for name in names:
            number = getattr(signal, name)
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
