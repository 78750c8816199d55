"""The undamaged database, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from integrity_kit import World, directory_of, make_database


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("sound") / "database"
    expected = make_database(path)
    return World(path, expected, {name: directory_of(path, name) for name in expected})


@pytest.fixture
def world(sound: World, tmp_path: Path) -> World:
    return sound.copy(tmp_path / "database")
