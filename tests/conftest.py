"""What all Python tests share: hypothesis profiles and engine databases.

Hypothesis: `--hypothesis-profile=fast` (default here), `slow` for the nightly run.  A failure
prints the blob that reproduces it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromadb.api.shared_system_client import SharedSystemClient
from hypothesis import HealthCheck, settings
from tally import TALLY

from vexfs_chroma import _engine

os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")

_quiet = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("fast", max_examples=50, **_quiet)
settings.register_profile("slow", max_examples=2000, **_quiet)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="module", autouse=True)
def no_ephemeral_client_of_another_file() -> None:
    """One that was left open would be shared, and refuse other settings."""
    for identifier in list(SharedSystemClient._identifier_to_system):
        if identifier.endswith("ephemeral"):
            SharedSystemClient._identifier_to_refcount.pop(identifier, None)
            SharedSystemClient._identifier_to_system.pop(identifier).stop()


@pytest.fixture(params=["memory", "disk"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_engine.Database]:
    """An empty engine database, once in memory and once on disk."""
    path = None if request.param == "memory" else str(tmp_path / "database")
    database = _engine.Database(path, durability="normal")
    yield database
    database.close()


@pytest.fixture
def collection(database: _engine.Database) -> Iterator[_engine.Collection]:
    """An empty l2 collection of that database."""
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    yield collection
    collection.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands over what it counted ..."""
    handed_over = getattr(session.config, "workeroutput", None)
    if handed_over is not None:
        handed_over["tally"] = TALLY.as_dict()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """... to the one that started it; one that died has nothing to hand over."""
    handed_over = getattr(node, "workeroutput", {})
    if "tally" in handed_over:
        TALLY.add(handed_over["tally"])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TALLY.calls:
        terminalreporter.write_line(f"contract: {TALLY}")
