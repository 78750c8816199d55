"""vexctl import and export: what they print, and their exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chroma_fixtures import segment, unpack
from typer.testing import CliRunner

from vexfs_chroma._cli._app import app
from vexfs_chroma._version import __version__


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_there_and_back(tmp_path: Path) -> None:
    source, _ = unpack("1.0.20", tmp_path)
    shown = run("import", "chroma", source, "--to", tmp_path / "vexfs")
    assert "178 of 178 records imported, 0 lost" in shown
    assert "tenant-b/database-b/euclid" in shown
    for kind in ("chroma", "jsonl", "npz"):
        shown = run("export", kind, tmp_path / kind, "--from", tmp_path / "vexfs")
        assert "178 of 178 records exported, 0 lost" in shown
    shown = run("import", "files", tmp_path / "npz", "--to", tmp_path / "back")
    assert "178 of 178" in shown
    shown = run("import", "chroma", tmp_path / "chroma", "--to", tmp_path / "again", "--dry-run")
    assert "178 of 178 records would be imported" in shown
    assert not (tmp_path / "again").exists()


def test_lost_records_are_exit_code_1(tmp_path: Path) -> None:
    source, _ = unpack("1.5.9", tmp_path)
    shutil.rmtree(segment(source, "euclid"))
    report = tmp_path / "lost.jsonl"
    shown = run(
        "import", "chroma", source, "--to", tmp_path / "vexfs", "--report", report,
        "--collection", "euclid", "--tenant", "default_tenant", code=1,
    )  # fmt: skip
    lost = report.read_text().splitlines()
    assert f", {len(lost)} lost" in shown
    assert "PROBLEM" in shown
    assert json.loads(lost[0])["problem"].startswith("no vector")


def test_what_nobody_can_count_is_not_told_as_nothing(tmp_path: Path) -> None:
    source, _ = unpack("1.5.9", tmp_path)
    whole = (source / "chroma.sqlite3").read_bytes()
    (source / "chroma.sqlite3").write_bytes(whole[: len(whole) // 2])
    shown = run("import", "chroma", source, "--to", tmp_path / "vexfs", code=1)
    assert "damage: " in shown
    assert " lost, and what only the damaged parts held" in shown.replace("\n", " ")


def test_what_cannot_be_done_is_exit_code_3(tmp_path: Path) -> None:
    source, _ = unpack("1.5.9", tmp_path)
    shown = run("import", "chroma", tmp_path / "nowhere", "--to", tmp_path / "vexfs", code=3)
    assert "does not exist" in shown
    run("export", "jsonl", tmp_path / "out", "--from", tmp_path / "nowhere", code=3)
    run("import", "chroma", source, "--to", tmp_path / "vexfs")
    shown = run("import", "chroma", source, "--to", tmp_path / "vexfs", code=3)
    assert "nothing was changed" in shown
    run("import", "chroma", source, "--to", tmp_path / "vexfs", "--on-conflict", "replace")


@pytest.mark.parametrize("what", ["collection", "database", "tenant"])
def test_what_was_chosen_and_is_not_there(what: str, tmp_path: Path) -> None:
    source, _ = unpack("1.5.9", tmp_path)
    made = tmp_path / "vexfs"
    shown = run("import", "chroma", source, "--to", made, f"--{what}", "typo", code=3)
    assert f"has no {what} 'typo'" in shown
    assert not made.exists()
    run("import", "chroma", source, "--to", made)
    shown = run("export", "jsonl", tmp_path / "out", "--from", made, f"--{what}", "typo", code=3)
    assert f"has no {what} 'typo'" in shown
    assert not (tmp_path / "out").exists()


def test_an_export_does_not_go_into_its_database(tmp_path: Path) -> None:
    source, _ = unpack("1.5.9", tmp_path)
    made = tmp_path / "vexfs"
    run("import", "chroma", source, "--to", made)
    assert "give another one" in run("export", "npz", made / "out", "--from", made, code=3)
    assert not (made / "out").exists()


@pytest.mark.parametrize("command", ["stats", "check", "check --json"])
def test_output_that_has_no_room(command: str, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    source, _ = unpack("1.5.9", tmp_path)
    run("import", "chroma", source, "--to", tmp_path / "vexfs")
    words = [sys.executable, "-m", "vexfs_chroma._cli", *command.split(), str(tmp_path / "vexfs")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
    assert "the disk is full where the output" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "chroma"],
        ["import", "chroma", "x", "--to", "y", "--on-conflict", "maybe"],
        ["import", "chroma", "x", "--to", "y", "--batch", "0"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    run(*arguments, code=2)


def test_help_and_version() -> None:
    assert __version__ in run("--version")
    assert "Exit codes" in run("--help")
    assert "--on-conflict" in run("import", "chroma", "--help")
    done = subprocess.run(
        [sys.executable, "-m", "vexfs_chroma._cli", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"vexctl {__version__}"


def test_every_command_is_documented() -> None:
    """In docs/cli.md, with all of its options."""
    import typer.main

    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for group_name, group in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for name, command in getattr(group, "commands", {"": group}).items():
            assert f"vexctl {group_name} {name}".strip() + " " in text
            for parameter in command.params:
                if parameter.param_type_name == "option" and parameter.name != "help":
                    assert parameter.opts[0] in text, parameter.opts
