"""A few rounds of the kill loop (kill_loop.py); `make crash` does a thousand.

It runs as a program of its own, because it forks its writers: pytest may have threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LOOP = Path(__file__).with_name("kill_loop.py")
SEED = os.environ.get("VEXFS_CRASH_SEED", "1")


def kill_loop(directory: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    json_file = directory / "counts.json"
    command = [sys.executable, str(LOOP), "--seed", SEED, "--json", str(json_file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads(json_file.read_text())


def test_kill_smoke(tmp_path: Path) -> None:
    done, counts = kill_loop(tmp_path, "--rounds", "25")
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert counts["failures"] == []
    assert counts["kills"] == 25
    assert counts["kills_in_recovery"] > 0
    assert counts["acknowledged"] > 25, (
        "the writers wrote too little for the kills to mean anything"
    )
