"""Every kind of file, damaged in every place and way: found, never believed, repaired."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from integrity_kit import (
    Record,
    World,
    contents,
    digest,
    flip_bit,
    may_be_hurt,
    overwrite,
    read_everything,
    regions,
)

import vexfs_chroma

KINDS = ("vec", "pay", "del", "manifest", "wal")
WHOLE = ("truncated", "emptied", "removed", "replaced", "grown")


def files_of(world: World, kind: str) -> list[Path]:
    return sorted(world.directories["first"].glob(f"{kind}-*"))


def check_finds(world: World, file: Path) -> None:
    report = vexfs_chroma.check(world.path, deep=True)
    assert not report.ok, report
    assert any(finding.file == str(file) for finding in report.damage), report.findings


def expect_named(errors: list[str], file: Path) -> None:
    """What opening or reading raises names the damaged file, or its directory when it is gone."""
    for error in errors:
        assert file.name in error or (not file.exists() and str(file.parent) in error), error


def repair_and_compare(
    world: World, kind: str, part: int, damaged: str = "first"
) -> vexfs_chroma.RepairReport:
    """Repair; only what lay in the damaged file is lost, and nothing else was touched."""
    others = {
        name: digest(directory) for name, directory in world.directories.items() if name != damaged
    }
    report = vexfs_chroma.repair(world.path)
    assert report.changed
    assert report.after is not None
    assert report.after.ok, report.after.findings
    for name, before in others.items():
        assert digest(world.directories[name]) == before, f"{name} was touched"
    found = contents(world.path, read_only=False)
    assert set(found) == set(world.expected)
    again = vexfs_chroma.repair(world.path)
    assert not again.changed
    assert again.ok
    assert contents(world.path) == found
    for name in set(found) - {damaged}:
        assert found[name] == world.expected[name]
    compare(found[damaged], world.expected[damaged], report, kind, part)
    return report


def compare(
    kept: dict[str, Record],
    expected: dict[str, Record],
    report: vexfs_chroma.RepairReport,
    kind: str,
    part: int,
) -> None:
    """What is not as before had a row in the damaged file, and is among the losses."""
    told = {(loss.what, loss.id) for loss in report.losses}
    whats = {loss.what for loss in report.losses}
    nameless = sum(loss.count for loss in report.losses if loss.what == "record" and not loss.id)
    common = [id for id in expected if id in kept]
    assert [id for id in kept if id in expected] == common, "the order of insertion changed"
    for id, record in expected.items():
        if kept.get(id) == record:
            continue
        assert kind in {"vec", "pay", "wal"}, f"{kind} has no record"
        assert may_be_hurt(id, kind, part), (id, kind, part)
        if kind == "wal":
            assert "batch" in whats
        elif id not in kept:
            assert ("record", id) in told or nameless > 0, id
            nameless -= ("record", id) not in told
        else:
            for what, was, now in zip(
                ("document", "metadata"), record[1:], kept[id][1:], strict=True
            ):
                assert was == now or (now is None and (what, id) in told), (id, what)
            assert kept[id][0] == record[0]
    back = set(kept) - set(expected)
    assert not back or whats & {"deletion", "batch"}, back


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_anywhere(sound: World, tmp_path: Path, kind: str) -> None:
    """It is put right; of a log the batch that it is in is lost."""
    n = 0
    for part, file in enumerate(files_of(sound, kind)):
        for region, (offset, length) in regions(file).items():
            n += 1
            world = sound.copy(tmp_path / str(n))
            place = offset + (7 * n) % length
            damaged = world.directories["first"] / file.name
            flip_bit(damaged, place, n % 8)
            check_finds(world, damaged)
            expect_named(read_everything(world), damaged)
            report = repair_and_compare(world, kind, 2 if kind == "wal" else part)
            if kind != "wal":
                assert report.lost == {}, (region, report.losses)
                assert contents(world.path) == world.expected, region
            shutil.rmtree(world.path)
    assert n > 1


DERIVED = {"NORMS", "ID_INDEX", "COLUMNS", "TEXT", "WORDS", "SPARSE", "CODES", "header"}


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_anywhere(sound: World, tmp_path: Path, kind: str) -> None:
    n = 0
    for part, file in enumerate(files_of(sound, kind)):
        for region, (offset, length) in regions(file).items():
            n += 1
            world = sound.copy(tmp_path / str(n))
            damaged = world.directories["first"] / file.name
            overwrite(damaged, offset, min(length, 100), n)
            check_finds(world, damaged)
            expect_named(read_everything(world), damaged)
            report = repair_and_compare(world, kind, 2 if kind == "wal" else part)
            kept = contents(world.path)["first"]
            expected = world.expected["first"]
            if region in DERIVED and kind in {"vec", "pay", "del"}:
                assert report.lost == {}, (region, report.losses)
                assert kept == expected, region
            if region == "DOCUMENTS":
                assert list(kept) == list(expected)
                assert {r[0] for r in kept.values()} == {r[0] for r in expected.values()}
            shutil.rmtree(world.path)


@pytest.mark.parametrize("way", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_files(sound: World, tmp_path: Path, kind: str, way: str) -> None:
    for n, file in enumerate(files_of(sound, kind)):
        world = sound.copy(tmp_path / str(n))
        damaged = world.directories["first"] / file.name
        damage_whole(world, damaged, way)
        if kind == "wal" and way == "grown":
            continue  # what follows the end of a log is nobody's
        check_finds(world, damaged if kind != "manifest" or way != "removed" else damaged.parent)
        expect_named(read_everything(world), damaged)
        report = repair_and_compare(world, kind, 2 if kind == "wal" else n)
        if way == "grown":
            assert report.lost == {}
        shutil.rmtree(world.path)


def damage_whole(world: World, file: Path, way: str) -> None:
    data = file.read_bytes()
    if way == "truncated":
        used = len(data.rstrip(b"\0"))
        file.write_bytes(data[: used // 2])
    elif way == "emptied":
        file.write_bytes(b"")
    elif way == "removed":
        file.unlink()
    elif way == "grown":
        file.write_bytes(data + b"something else " * 10)
    else:
        other = max(world.directories["second"].glob(file.name.partition("-")[0] + "-*"))
        shutil.copyfile(other, file)
