"""In large files a damaged place costs what lies in it, not the file; and what vexctl says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from integrity_kit import contents, overwrite, sections
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma._cli._app import app

ROWS, DIMENSION = 3000, 64
CHUNK = 64 << 10


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "db"
    random_ = np.random.default_rng(5)
    with vexfs_chroma.PersistentClient(path) as client:
        made = client.create_collection("large", embedding_function=None)
        words = random_.integers(0, 1 << 30, (ROWS, 12))
        made.add(
            ids=[f"id-{i}" for i in range(ROWS)],
            embeddings=random_.standard_normal((ROWS, DIMENSION), dtype=np.float32),
            documents=[" ".join(map(str, row)) for row in words],
            metadatas=[{"n": i, "words": str(words[i][:3])} for i in range(ROWS)],
        )
        client.vacuum()
    return path


def the_file(path: Path, kind: str) -> Path:
    (file,) = path.glob(f"collections/*/{kind}-*")
    return file


def test_vectors(large: Path) -> None:
    before = contents(large)["large"]
    file = the_file(large, "vec")
    offset, length = sections(file)["VECTORS"]
    overwrite(file, offset + length // 2, 100, 1)
    done = vexfs_chroma.repair(large)
    kept = contents(large)["large"]
    lost = [id for id in before if id not in kept]
    assert 0 < len(lost) <= CHUNK // (4 * DIMENSION) + 2
    assert lost == [f"id-{i}" for i in range(int(lost[0][3:]), int(lost[0][3:]) + len(lost))]
    assert done.lost == {"record": len(lost)}
    assert [loss.id for loss in done.losses] == lost
    assert all(before[id] == record for id, record in kept.items())
    assert list(kept) == [id for id in before if id in kept]


@pytest.mark.parametrize(("section", "what"), [("DOCUMENTS", "document"), ("METADATA", "metadata")])
def test_values(large: Path, section: str, what: str) -> None:
    before = contents(large)["large"]
    file = the_file(large, "pay")
    offset, length = sections(file)[section]
    overwrite(file, offset + length // 2, 20, 1)
    done = vexfs_chroma.repair(large)
    kept = contents(large)["large"]
    assert list(kept) == list(before)
    column = 1 if what == "document" else 2
    changed = [id for id in before if before[id] != kept[id]]
    assert 0 < len(changed) < 400
    assert [loss.id for loss in done.losses] == changed
    assert done.lost == {what: len(changed)}
    for id in changed:
        assert kept[id][column] is None
        assert kept[id][0] == before[id][0]
        assert kept[id][3 - column] == before[id][3 - column]


def test_ids(large: Path) -> None:
    before = contents(large)["large"]
    file = the_file(large, "pay")
    offset, length = sections(file)["IDS"]
    overwrite(file, offset + length - 5000, 100, 1)
    done = vexfs_chroma.repair(large)
    kept = contents(large)["large"]
    assert all(before[id] == record for id, record in kept.items())
    assert done.lost == {"record": ROWS - len(kept)}
    assert len(kept) < ROWS


# -- the command line ------------------------------------------------------------------------------


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_commands(large: Path, tmp_path: Path) -> None:
    assert "sound" in run("check", large)
    assert f"1 collections, {ROWS} records; every byte" in run("check", large, "--deep")
    assert "nothing was changed" in run("repair", large)
    file = the_file(large, "vec")
    offset, length = sections(file)["VECTORS"]
    overwrite(file, offset + length // 2, 100, 1)
    assert "sound" in run("check", large), "a shallow check does not read vectors"
    shown = run("check", large, "--deep", code=1)
    assert f"damage [large]: {file}, offset" in shown
    assert "vexctl repair" in shown
    report = json.loads(run("check", large, "--deep", "--json", code=1))
    assert report["ok"] is False
    assert report["findings"][0]["file"] == str(file)
    assert report["findings"][0]["severity"] == "damage"
    shown = run("repair", large, "--dry-run", code=1)
    assert "would be made anew: large" in shown
    assert "would be lost: record: " in shown
    shown = run("repair", large, "--report", tmp_path / "lost", code=1)
    assert "the database is sound now" in shown
    assert str(large / "quarantine") in shown
    lines = (tmp_path / "lost").read_text().splitlines()
    assert f"lost: record: {len(lines)}" in shown
    assert json.loads(lines[0])["collection"] == "large"
    assert "nothing was changed" in run("repair", large)
    assert "notice: " in run("check", large)
    assert "does not exist" in run("check", tmp_path / "nowhere", code=3)
    assert "holds no vexfs database" in run("repair", tmp_path, code=3)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "chroma.sqlite3").touch()
    shown = run("check", tmp_path / "theirs", code=3)
    assert "vexctl import chroma" in " ".join(shown.split())
    with vexfs_chroma.PersistentClient(large):
        overwrite(the_file(large, "vec"), 8, 4, 1)
        assert "stop that first" in run("repair", large, code=3)
