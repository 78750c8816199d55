"""A process that is asked again and again, so that libraries can be measured in turn.

Requests and replies are lines of JSON.  What else the child prints goes to its standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench._task import QUIET, TaskFailedError, reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self


class Worker:
    """An object in a process of its own, made by `make` ("module:name") with `arguments`."""

    def __init__(
        self,
        make: str,
        arguments: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Starts the process, which has `timeout` seconds for each call.

        Raises TaskFailedError when it ends or takes longer, as all calls do.
        """
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "vexfs_chroma._bench._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | QUIET | dict(environment or {}),
        )
        self.call(make, **arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, **arguments: Any) -> Any:
        """What the method `name` of the object returns."""
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise TaskFailedError("the process has no pipes")
        try:
            stdin.write(json.dumps([name, arguments]).encode() + b"\n")
            stdin.flush()
            if not select.select([stdout], [], [], self._timeout)[0]:
                raise TaskFailedError(f"took longer than {self._timeout:.0f} s")
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise TaskFailedError(self._why())
        return json.loads(line)

    def _why(self) -> str:
        code = self._child.wait()
        self._errors.seek(0)
        return reason(code, self._errors.read().decode(errors="replace"))

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._child.kill()
        self._child.wait()
        for file in (self._child.stdin, self._child.stdout, self._errors):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not read any more
                    file.close()


def main() -> None:
    """Answer until nobody asks any more."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    made: Any = None
    for line in sys.stdin:
        name, arguments = json.loads(line)
        if made is None:
            module, _, kind = name.partition(":")
            made = getattr(importlib.import_module(module), kind)(**arguments)
            answer = None
        else:
            answer = getattr(made, name)(**arguments)
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
