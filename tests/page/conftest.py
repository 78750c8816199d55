"""One Chromium, and one server with a few collections, for all tests of the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from browser_kit import Browser, Page, program
from page_data import fill_server
from server_kit import Server, run_server


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if program() is None:
        pytest.skip("chromium is not installed")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server, and the ids of its collections by name."""
    folder = tmp_path_factory.mktemp("page")
    variables = {"VEXFS_INDEX_ROWS": "500", "VEXFS_SLOW_MS": "0"}
    with run_server(folder, variables=variables) as server:
        yield server, fill_server(server)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab; whatever went wrong in it fails the test."""
    with browser.page() as found:
        yield found
        assert not found.errors
