"""Exit codes, and how errors become messages.

0    fine
1    the job was done, and found a problem: something was lost, damaged, or differs
2    the command line is wrong
3    the job could not be done: no such database, in use, not permitted, disk full, ...
4    no server answers where one should be
130  interrupted: Ctrl-C; of jobs that have processes of their own SIGTERM and SIGHUP, too
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from typing import TYPE_CHECKING

import typer
from chromadb.errors import ChromaError
from rich.console import Console

from vexfs_chroma._errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBLEM = 1
FAILED = 3
NOT_REACHABLE = 4
INTERRUPTED = 130

WIDE = 150
"""Characters of a line of a table, where the output is no terminal."""
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE

# Names of the database are shown, also in tables, and may have brackets: nothing is markup.
out = Console(highlight=False, soft_wrap=True, markup=False, width=_WIDTH)
"""For results."""
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
"""For everything else: progress, warnings, errors."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say why the job in this block could not be done, a line a reason, and exit with FAILED."""
    try:
        yield
    except (ChromaError, OSError, ValueError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise  # as outside of this block: the end, without a word
        for text in getattr(error, "problems", None) or [_text(error)]:
            err.print(f"vexctl: {text}", markup=False)
        code = NOT_REACHABLE if isinstance(error, ConnectionError) else FAILED
        raise typer.Exit(code) from error
    except (KeyboardInterrupt, typer.Abort) as error:  # Abort: while something was asked
        with contextlib.suppress(OSError):  # the terminal may be gone
            err.print("vexctl: interrupted")
        raise typer.Exit(INTERRUPTED) from error


def _nobody_reads() -> bool:
    """Whether the other end of standard output is gone, as with `| head`."""
    watched = select.poll()
    try:
        watched.register(sys.stdout, select.POLLOUT)
        return any(found & (select.POLLERR | select.POLLHUP) for _, found in watched.poll(0))
    except (OSError, ValueError):  # no file of the system's, or closed
        return False


def _text(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        return "the disk is full where the output, or a copy, goes; make room and try again"
    if isinstance(error, OSError) and error.strerror:  # without the number
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, CorruptionError) and "vexctl" not in text:
        text += ". `vexctl check` tells what is damaged, `vexctl repair` saves what can be read"
    return text


def finish(*, ok: bool) -> None:
    """End a command whose job was done."""
    if not ok:
        raise typer.Exit(PROBLEM)
