"""Something that is no plain file in the place of a file: a finding, never an endless wait."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from integrity_kit import World, contents

import vexfs_chroma

WAYS = ("directory", "pipe", "link to nothing", "link to itself")
IN_COLLECTION = ("manifest", "vec", "pay", "del", "wal", "head")
OUTSIDE = ("VEXFS", "catalog.sqlite3", "catalog.sqlite3-journal", "LOCK", "MAINT")


def replace(file: Path, way: str) -> None:
    file.unlink(missing_ok=True)
    if way == "directory":
        file.mkdir()
        (file / "something").write_bytes(b"x")
    elif way == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("nowhere" if way == "link to nothing" else file.name)


def repair(world: World) -> None:
    dry = vexfs_chroma.repair(world.path, dry_run=True)
    done = vexfs_chroma.repair(world.path)
    assert done.lost == dry.lost
    assert done.after is not None
    assert done.after.ok, done.after.findings
    assert not vexfs_chroma.repair(world.path).changed


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", IN_COLLECTION)
def test_in_a_collection(world: World, kind: str, way: str) -> None:
    files = sorted(world.directories["first"].glob(f"{kind}*"))
    assert files, f"the database of these tests has no {kind}"
    replace(files[0], way)
    for deep in (False, True):
        found = vexfs_chroma.check(world.path, deep=deep).damage
        assert str(files[0]) in [finding.file for finding in found], found
    with vexfs_chroma.PersistentClient(world.path) as client:
        collection = client.get_collection("first", embedding_function=None)
        with pytest.raises(vexfs_chroma.CorruptionError):
            collection.get(include=["documents", "embeddings"])
    repair(world)
    found_after = contents(world.path, read_only=False)
    for name in ("second", "logged", "empty"):
        assert found_after[name] == world.expected[name]
    if kind == "head":
        assert found_after == world.expected


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_of_collections(world: World, name: str, way: str) -> None:
    replace(world.path / name, way)
    for deep in (False, True):
        assert not vexfs_chroma.check(world.path, deep=deep).ok
    if name != "MAINT" and (name, way) != ("LOCK", "link to nothing"):  # these are made
        with pytest.raises(vexfs_chroma.CorruptionError):
            vexfs_chroma.PersistentClient(world.path)
    repair(world)
    found = contents(world.path, read_only=False)
    assert sorted(map(str, found.values())) == sorted(map(str, world.expected.values())) or (
        name.startswith("catalog")
    )


@pytest.mark.timeout(60)
def test_a_link_to_a_file_is_a_file(world: World, tmp_path: Path) -> None:
    file = min(world.directories["first"].glob("vec-*"))
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert vexfs_chroma.check(world.path, deep=True).ok
    assert contents(world.path, read_only=False) == world.expected
