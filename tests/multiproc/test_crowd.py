"""Writers and readers that are killed all the time (crowd.py), for 20 seconds; `make crowd`: more.

It runs as a program of its own, because it forks its processes: pytest may have threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from crowd import ROWS, SLOTS, Wrong, batches_in, done_of, ids_of, state_after

CROWD = Path(__file__).with_name("crowd.py")


def test_crowd(tmp_path: Path) -> None:
    json_file = tmp_path / "counts.json"
    command = [sys.executable, str(CROWD), "--seconds", "20", "--json", str(json_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(json_file.read_text())
    assert counts["failures"] == []
    assert min(counts["killed_writers"], counts["killed_readers"]) > 0
    assert min(counts["acknowledged"], counts["looks"]) > 100


# ---- the readers do see what is wrong ------------------------------------------------------------


def found(writer: int, slots: dict[int, int]) -> dict[str, Any]:
    """What a get gives when these slots hold these operations."""
    rows = [(slot, number, row) for slot, number in slots.items() for row in range(ROWS)]
    return {
        "ids": [ids_of(writer, slot)[row] for slot, _, row in rows],
        "documents": [f"operation {number}" for _, number, _ in rows],
        "metadatas": [{"operation": number} for _, number, _ in rows],
        "embeddings": [[float(writer), float(number), float(row)] for _, number, row in rows],
    }


def test_what_is_right_is_no_failure() -> None:
    for done in range(9 * SLOTS):
        seen = batches_in(found(1, state_after(done))).get(1, {})
        assert done_of(1, seen, done, done + 1) == done


@pytest.mark.parametrize("column", ["documents", "metadatas", "embeddings"])
def test_a_mixture_is_noticed(column: str) -> None:
    mixture = found(1, {0: 0})
    mixture[column][3] = found(1, {0: SLOTS})[column][3]
    with pytest.raises(Wrong):
        batches_in(mixture)


def test_parts_and_doubles_are_noticed() -> None:
    whole = found(1, {0: 0})
    with pytest.raises(Wrong, match="part of a batch"):
        batches_in({name: column[1:] for name, column in whole.items()})
    with pytest.raises(Wrong, match="twice"):
        batches_in({name: column + column[:1] for name, column in whole.items()})


def test_going_back_is_noticed() -> None:
    with pytest.raises(Wrong, match="never wrote"):
        done_of(1, state_after(40), 41, 42)
    with pytest.raises(Wrong, match="never wrote"):
        done_of(1, {**state_after(40), 1: 1}, 0, 42)
