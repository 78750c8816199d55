"""What all commands of vexctl have in common: --json, exit codes, help, completion."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.console import Console
from typer.testing import CliRunner

import vexfs_chroma
from vexfs_chroma._cli import _asking, _exit, _shown
from vexfs_chroma._cli._app import app

WITHOUT_JSON = {
    "serve": "it has no result; [log] format is that of what it tells",
}


def leaves(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    command = typer.main.get_command(app) if command is None else command
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
        return
    for name, one in below.items():
        yield from leaves(one, (*path, name))


def run(*arguments: Any) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_every_command_has_json() -> None:
    found = dict(leaves())
    assert {"serve", "metrics show", "metrics watch", "contention analyze", "check"} <= set(found)
    without = {
        words
        for words, command in found.items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == set(WITHOUT_JSON)


def test_every_command_says_what_it_does() -> None:
    for words, command in leaves():
        assert command.help, words
        for parameter in command.params:
            assert getattr(parameter, "help", None), (words, parameter.name)


def database(tmp_path: Path) -> Path:
    with vexfs_chroma.PersistentClient(tmp_path / "data") as client:
        things = client.create_collection("things", embedding_function=None)
        things.add(ids=["a", "b"], embeddings=[[1.0, 2.0], [2.0, 1.0]], documents=["x", "y"])
    return tmp_path / "data"


def test_results_as_json(tmp_path: Path) -> None:
    """Of the commands that work on files: one value on standard output, and nothing else."""
    path = database(tmp_path)
    for arguments, expected in (
        (["stats", path], {"rows": 2}),
        (["check", path], {"ok": True, "rows": 2}),
        (["repair", path], {"ok": True, "repaired": []}),
        (["backup", path, tmp_path / "backup"], {"rows": 2, "missing": []}),
        (["restore", tmp_path / "backup", tmp_path / "restored"], {"rows": 2, "collections": 1}),
        (["export", "jsonl", tmp_path / "out", "--from", path], {"ok": True, "copied": 2}),
        (
            ["import", "files", tmp_path / "out", "--to", tmp_path / "again"],
            {"ok": True, "copied": 2, "lost": 0},
        ),
        (["storage", "analyze", path], {}),
        (["system", "resources"], {}),
        (["load-test", "list"], {}),
        (["config", "show"], {}),
        (["config", "validate"], {"ok": True, "problems": []}),
        (["config", "token", "ann", "--role", "read"], {"name": "ann", "role": "read"}),
    ):
        code, out, _ = run(*arguments, "--json")
        found = json.loads(out)
        assert code == 0, arguments
        if expected:
            assert found | expected == found, arguments


def test_all_mistakes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vexfs.toml"
    file.write_text(
        '[server]\nprot = 1\nport = 70000\nworkers = "two"\nhost = "0.0.0.0"\n'
        '[log]\nformat = "xml"\nsample = 2\n[otel]\nendpoint = "nowhere"\n[lmits]\n'
        '[tls]\nkey = "k"\n'
        '[[auth.tokens]]\nname = "a"\nhash = "x"\n'
        '[[auth.tokens]]\nhash = "x"\n[[auth.users]]\nname = "u"\nrole = "king"\nhash = "x"\n'
    )
    monkeypatch.setenv("VEXFS_SERVER_THREADS", "many")
    monkeypatch.setenv("VEXFS_LOG_FROMAT", "json")
    code, out, _ = run("config", "validate", file, "--json")
    problems = json.loads(out)["problems"]
    assert code == 1
    for part in (
        "[server]: unknown key prot; did you mean port?",
        "[server] port must be at most 65535, got 70000",
        "[server] workers: Expected `int`, got `str`",
        "[log] format: Invalid enum value 'xml'; there are text, json",
        "[log] sample must be at most 1, got 2",
        "[otel] endpoint must be http://HOST:PORT or https://..., not nowhere",
        "unknown section [lmits]; did you mean limits?",
        "[tls] certificate and key go together",
        "[[auth.tokens]] a: the hash of a token",
        "[[auth.tokens]] number 2: Object missing required field `name`",
        "[[auth.users]] number 1 role: Invalid enum value 'king'",
        "VEXFS_SERVER_THREADS='many': Expected `int`, got `str`",
        "unknown variable VEXFS_LOG_FROMAT; did you mean VEXFS_LOG_FORMAT?",
    ):
        assert [problem for problem in problems if part in problem], part
    assert len(problems) == 13  # not that the network is open: there are tokens, if wrong ones
    _, _, err = run("config", "validate", file)
    assert len(err.splitlines()) == 13


def test_nothing_is_concluded_from_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "vexfs.toml"
    file.write_text('[server]\nhost = "0.0.0.0"\n[[auth.tokens\n')
    _, out, _ = run("config", "validate", file, "--json")
    (problem,) = json.loads(out)["problems"]
    assert "is not TOML" in problem


# -- progress --------------------------------------------------------------------------------------


def test_terminals_are_told_what_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=is_terminal)
        monkeypatch.setattr(_shown, "err", console)
        with _shown.busy("reading"):
            pass
        with _shown.StepProgress() as progress:
            progress("counting", 1, 4)
        shown = screen.getvalue()
        assert ("reading" in shown, "counting" in shown) == (is_terminal, is_terminal)
        assert ("25%" in shown) == is_terminal


# -- exit codes ------------------------------------------------------------------------------------


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code of the table in docs/cli.md, by a command that ends with it."""
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    table = {int(line.split("|")[1]) for line in text.splitlines() if line[2:3].isdigit()}
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[server]\nprot = 1\n")

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    seen = {
        run("config", "validate")[0]: 0,
        run("config", "validate", wrong)[0]: 1,
        run("config", "token", "ann", "--role", "king")[0]: 2,
        run("stats", tmp_path / "nowhere")[0]: 3,
        run("metrics", "show", "--url", "http://127.0.0.1:9")[0]: 4,
    }
    monkeypatch.setattr(_asking, "facts_of", interrupted)
    seen[run("profile", "--time", "1")[0]] = _exit.INTERRUPTED
    assert seen == {code: code for code in table}


# -- completion ------------------------------------------------------------------------------------


def complete(words: str) -> list[str]:
    variables = {
        "_VEXCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "from vexfs_chroma._cli._app import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'vexctl'; {code}"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.split()


def test_shells_complete_commands() -> None:
    assert complete("vexctl metrics ") == ["show", "watch", "export"]
