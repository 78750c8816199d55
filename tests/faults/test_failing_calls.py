"""System calls that fail, as Python sees it: EIO of syncs and of reading every kind of file.

A library with failing calls is compiled and preloaded into processes of their own
(failing_calls.c, failing_child.py).  Call by call, in C: csrc/tests/t_faults_*.c.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from failing_child import SCENARIOS

pytestmark = pytest.mark.faults

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or shutil.which(compiler[0]) is None:
        pytest.skip("needs Linux and a C compiler, to make system calls fail")
    library = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    source = str(HERE / "failing_calls.c")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*compiler, *flags, source, "-o", str(library), "-ldl"], check=True)
    return library


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_fail(shim: Path, scenario: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {shim}".strip(),
        "VEXFS_INDEX_ROWS": "100",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "failing_child.py"), scenario, str(tmp_path / "db")],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
