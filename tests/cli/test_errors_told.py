"""Errors of commands: what is wrong, where, and what to do; no traceback, no number alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma._cli import _config, _exit
from vexfs_chroma._cli._app import app


def run(*arguments: Any) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database, a damaged copy of it, and things that are none."""
    place = tmp_path_factory.mktemp("told")
    for name in ("good", "damaged"):
        with vexfs_chroma.PersistentClient(place / name) as client:
            things = client.create_collection("things", embedding_function=None)
            things.add(ids=["a"], embeddings=[[1.0, 2.0]])
    for manifest in (place / "damaged" / "collections").rglob("manifest-*"):
        manifest.write_bytes(b"x" * manifest.stat().st_size)
    (place / "file").write_text("x")
    (place / "bytes").write_bytes(b"\xff\xfe\x00")
    (place / "list").write_text("[1]")
    (place / "empty").mkdir()
    return place


@pytest.mark.parametrize(
    "command",
    [
        "stats {}",
        "check {}",
        "repair {} --dry-run",
        "storage analyze {}",
        "backup {} {}-out",
        "restore {} {}-out",
        "export jsonl {}-out --from {}",
    ],
)
def test_a_path_without_a_database(place: Path, command: str) -> None:
    for name, expected in (
        ("nowhere", "does not exist"),
        ("empty", "holds no "),
        ("file", "is a file; a database is a directory"),
    ):
        path = place / name
        code, out, err = run(*command.replace("{}", str(path)).split())
        assert (code, out) == (3, "")
        assert err.startswith(f"vexctl: {path} {expected}")
        assert len(err.splitlines()) == 1


def test_the_module_is_vexctl_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vexfs_chroma._cli", "stats"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: vexctl stats ")


def test_a_password_that_is_not_given() -> None:
    code, out, err = run("config", "password", "ann")
    assert (code, out) == (3, "")
    assert err == "vexctl: no password: the first line of standard input is empty\n"


def test_a_question_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> str:
        raise typer.Abort

    monkeypatch.setattr(_config, "_asked_password", asked)
    code, _, err = run("config", "password", "ann")
    assert (code, err) == (_exit.INTERRUPTED, "vexctl: interrupted\n")


@pytest.mark.parametrize(
    ("command", "expected"),
    [("config validate", 1), ("check {}", 0), ("stats {}", 3), ("backup {} {}-out", 3)],
)
def test_a_wrong_variable_of_the_engine_is_one_line(
    place: Path, command: str, expected: int
) -> None:
    """The package can be imported; what opens no database does its work."""
    arguments = command.replace("{}", str(place / "good")).split()
    done = subprocess.run(
        [sys.executable, "-m", "vexfs_chroma._cli", *arguments],
        env=os.environ | {"VEXFS_CODEC": "gzip"},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == expected, done.stderr
    told = "vexctl: VEXFS_CODEC=gzip is no codec; set it to native, python or store, or unset it\n"
    assert done.stderr == (told if expected else "")


def test_damage_leads_to_check_and_repair(place: Path) -> None:
    for command in ("stats", "storage analyze"):
        code, _, err = run(*command.split(), place / "damaged")
        assert code == 3
        assert "the manifest is damaged" in err
        assert "`vexctl check` tells what is damaged, `vexctl repair` saves what can be" in err


def test_files_that_are_gone(tmp_path: Path) -> None:
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        client.create_collection("things", embedding_function=None)
    shutil.rmtree(tmp_path / "collections")
    for command in ("stats", "storage analyze"):
        code, out, _ = run(*command.split(), tmp_path)
        assert (code, "things: the files of this collection are gone" in out) == (1, True)
        code, out, _ = run(*command.split(), tmp_path, "--json")
        assert (code, len(json.loads(out)["missing"])) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("performance compare nowhere nowhere", "nowhere: No such file or directory"),
        ("performance compare empty empty", "empty: Is a directory"),
        ("performance compare bytes bytes", "bytes is no report; `vexctl performance report"),
        ("performance compare list list", "list is no report; `vexctl performance report"),
        ("regression-test run --baseline nowhere", "nowhere: No such file or directory"),
        ("regression-test run --baseline bytes", "bytes is no result of vexctl bench or load-test"),
        ("regression-test run --baseline list", "list is no result of vexctl bench or load-test"),
        ("slow-log analyze --file bytes", "bytes has no line of a slow log"),
        ("slow-log analyze --file list", "list has no line of a slow log"),
        ("slow-log analyze --file nowhere", "nowhere is no file"),
        ("config show nowhere", "nowhere cannot be read: No such file or directory"),
        ("config show empty", "empty cannot be read: Is a directory"),
        ("config show bytes", "bytes cannot be read: it is no UTF-8"),
        ("system resources --path nowhere", "nowhere: No such file or directory"),
        ("repair damaged --dry-run --report nowhere/lost", "nowhere/lost: No such file"),
        ("serve --port 0 --open-network --host a.invalid", "cannot listen on a.invalid port 0"),
        ("load-test run --output file", "file/rag-vexfs: Not a directory"),
    ],
)
def test_files_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    monkeypatch.chdir(place)
    code, _, err = run(*arguments.split())
    assert (code, err[: len(expected) + 8]) == (3, f"vexctl: {expected}")
    assert "Errno" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["config", "token", ""], "must not be empty"),
        (["config", "password", " "], "must not be empty"),
        (["config", "password", "a:b"], "clients cannot send a colon"),
        (["load-test", "run", "--rate", "nan"], "--rate must be at least 0"),
        (["load-test", "run", "--rate", "inf"], "--rate must be at least 0"),
        (["bench", "server", "--rows", "10,0"], "'0' is no number from 1 on"),
        (["bench", "server", "--connections", "8,x"], "'x' is no number from 1 on"),
        (["load-test", "run", "--target", "http://"], "no target 'http://'"),
        (["load-test", "run", "--target", "http://h:port"], "no target 'http://h:port'"),
        (["load-test", "run", "--target", "ftp://h"], "no target 'ftp://h'"),
    ],
)
def test_what_is_wrong_usage(arguments: list[str], expected: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert expected in err


def test_names_are_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant or database may have brackets in its name."""
    monkeypatch.setattr(_exit.out, "width", 300)
    path = tmp_path / "data"
    with vexfs_chroma.PersistentClient(path) as client:
        client._admin_client.create_tenant("[/red]")
        client._admin_client.create_database("[bold]", "[/red]")
    with vexfs_chroma.PersistentClient(path, tenant="[/red]", database="[bold]") as client:
        client.create_collection("things", embedding_function=None)
    code, out, _ = run("stats", path)
    assert (code, "[/red]/[bold]/things" in out) == (0, True)
    code, out, _ = run("export", "jsonl", tmp_path / "out", "--from", path)
    assert (code, "[/red]/[bold]/things" in out) == (0, True)


@pytest.mark.parametrize("command", ["stats {} --json", "config show", "check {}"])
def test_nobody_reads_the_output(place: Path, command: str) -> None:
    """As with `| head`: no word, and not the code of a server that does not answer."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "vexfs_chroma._cli", *command.format(place / "good").split()],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (1, "")
