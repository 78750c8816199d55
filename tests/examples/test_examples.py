"""The examples run, as their users run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_builds_then_reuses(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("rich")
    first = run("01_quickstart.py", "--path", tmp_path, "--limit", "300")
    assert "embed and store 300 texts" in first
    assert "300 texts in" in first
    again = run("01_quickstart.py", "--path", tmp_path, "--limit", "300", "who knows")
    assert "Using what an earlier run built" in again
    assert "embed and store" not in again
    assert "who knows" in again
    fewer = run("01_quickstart.py", "--path", tmp_path, "--limit", "200", "who knows")
    assert "embed and store 200 texts" in fewer
