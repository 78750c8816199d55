"""Nothing here tests durability: writes need not wait for the disk."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_DURABILITY", "off")
