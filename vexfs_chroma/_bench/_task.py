"""Work in a process of its own: `python -m vexfs_chroma._bench._task FILE` calls the function that
FILE names, with the arguments in it, and writes what it returns beside it.

A library that is measured is imported in such a process only: its memory, its threads and its
crashes are its own.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
        "LANCE_CPU_THREADS",
    ),
    "1",
)
"""What libraries read that ask the environment how many threads to start."""

QUIET = {"ANONYMIZED_TELEMETRY": "False", "RUST_LOG": "error", "TF_CPP_MIN_LOG_LEVEL": "3"}
_LONGEST_REASON = 300


class TaskFailedError(Exception):
    """The process ended with an error, or took too long; the text is the reason in one line."""


def run_task(
    function: str,
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Any:
    """What `function` ("module:name") returns, called with `arguments`, in a fresh process.

    Arguments and result go as JSON through files in `folder`.  Raises TaskFailedError.
    """
    file = folder / "task.json"
    result = file.with_suffix(".result")
    result.unlink(missing_ok=True)
    file.write_text(json.dumps({"function": function, "arguments": dict(arguments)}), "utf-8")
    command = [sys.executable, "-m", "vexfs_chroma._bench._task", str(file)]
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | QUIET | dict(environment or {}),
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise TaskFailedError(f"took longer than {timeout:.0f} s") from error
    if done.returncode != 0:
        raise TaskFailedError(reason(done.returncode, done.stderr))
    return json.loads(result.read_text("utf-8"))


def reason(code: int, stderr: str) -> str:
    """The last line of a traceback, or that there is none."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if code < 0:
        return f"ended by signal {-code}"
    return lines[-1][:_LONGEST_REASON] if lines else f"ended with {code}"


def pin_to_one_cpu() -> None:
    """Have all threads of this process, and those to come, share one CPU: the last it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> int:
    """Do the task in the file that the command line names."""
    file = Path(sys.argv[1])
    task = json.loads(file.read_text("utf-8"))
    module, _, name = task["function"].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    found = function(**task["arguments"])
    file.with_suffix(".result").write_text(json.dumps(found), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
