"""Many damaged places at once, and files of other moments."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from integrity_kit import World, contents, flip_bit, overwrite, read_everything

import vexfs_chroma

WAYS = ("flip", "garbage", "cut", "remove", "grow", "swap")


def damage(world: World, random_: random.Random) -> list[str]:
    """Damage up to six files; what was done."""
    # Not the heads: without one, a log that was cut short is taken for one that ends there.
    files = [world.path / name for name in ("VEXFS", "catalog.sqlite3")]
    for name in sorted(world.directories):
        files += sorted(f for f in world.directories[name].iterdir() if f.name != "head")
    done = []
    for file in random_.sample(files, random_.randint(1, 6)):
        size, way = file.stat().st_size, random_.choice(WAYS)
        if way == "flip" and size:
            flip_bit(file, random_.randrange(size), random_.randrange(8))
        elif way == "garbage" and size:
            overwrite(file, random_.randrange(size), random_.randint(1, 5000), size)
        elif way == "cut":
            file.write_bytes(file.read_bytes()[: random_.randint(0, size)])
        elif way == "remove":
            file.unlink()
        elif way == "grow":
            file.write_bytes(file.read_bytes() + random_.randbytes(300))
        else:
            there = [other for other in files if other != file and other.exists()]
            shutil.copyfile(random_.choice(there), file)
        done.append(f"{way} {file.name}")
    return done


@pytest.mark.parametrize(
    "seeds",
    [
        range(25),
        pytest.param(range(25, 500), marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_any_combination_can_be_repaired(sound: World, tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        world = sound.copy(tmp_path / str(seed))
        done = damage(world, random.Random(seed))
        read_everything(world)
        report = vexfs_chroma.repair(world.path)
        assert report.after is None or report.after.ok, (seed, done, report.after.damage)
        assert not vexfs_chroma.repair(world.path).changed, (seed, done)
        found = contents(world.path, read_only=False)
        if not report.lost:
            assert found == world.expected, (seed, done)
        if not {"batch", "deletion"} & set(report.lost):  # else older versions may be back
            expected = {id: r for records in world.expected.values() for id, r in records.items()}
            for id, record in [item for records in found.values() for item in records.items()]:
                pairs = zip(record, expected[id], strict=True)
                assert all(is_now in (was, None) for is_now, was in pairs), (seed, done, id)
        shutil.rmtree(world.path)


def test_old_files_do_not_win(world: World, tmp_path: Path) -> None:
    """A manifest is lost, and files are there that were merged into others."""
    directory = world.directories["first"]
    old = tmp_path / "old"
    shutil.copytree(directory, old)
    with vexfs_chroma.PersistentClient(world.path) as client:
        first = client.get_collection("first", embedding_function=None)
        first.update(ids=["first-0-1", "first-1-1"], embeddings=[[1.0] * 8] * 2)
        first.update(ids=["first-0-2"], metadatas=[{"n": -1}])
        first.delete(ids=["first-0-6", "first-1-6", "first-2-6"])
        client.vacuum()
    expected = contents(world.path)["first"]
    for kind in ("vec", "pay"):
        for file in old.glob(f"{kind}-*"):
            shutil.copyfile(file, directory / file.name)
    for manifest in directory.glob("manifest-*"):
        manifest.unlink()
    assert vexfs_chroma.repair(world.path).lost == {"deletion": 1}
    kept = contents(world.path)["first"]
    assert {id: kept[id] for id in expected} == expected
    assert {"first-0-6", "first-1-6"} <= set(kept), "what no file calls deleted is back"
    assert [id for id in kept if id in expected] == list(expected)
