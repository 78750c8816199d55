"""vexctl config: the configuration of the server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from vexfs_chroma._cli._exit import err, explained, finish, out

app = typer.Typer(no_args_is_help=True, help="The configuration of the server, vexfs.toml.")


def _checked(role: str) -> str:
    if role not in ("read", "write", "admin"):
        raise typer.BadParameter("must be read, write or admin", param_hint="--role")
    return role


def _named(name: str) -> str:
    if not name.strip():
        raise typer.BadParameter("must not be empty", param_hint="NAME")
    return name


_FILE = typer.Argument(
    None, metavar="[FILE]", readable=False, help="The file (default ./vexfs.toml, if it exists)."
)
_JSON = typer.Option(False, "--json", help="Print a JSON object.")
_NAME = typer.Argument(..., callback=_named, help="A name for it; logs and /auth/identity show it.")
_ROLE = typer.Option("write", "--role", callback=_checked, help="read, write or admin.")


@app.command()
def show(file: Path | None = _FILE, as_json: bool = _JSON) -> None:
    """Print what the server would be told, defaults and environment included; without hashes."""
    from vexfs_chroma._server._config import ConfigError, read, shown

    with explained():
        config, problems = read(file)
        if problems:
            raise ConfigError(problems)
        found = shown(config)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for section, values in found.items():
        out.print(f"[{section}]", markup=False)
        for key, value in values.items():
            out.print(f"{key} = {_toml(value)}", markup=False)
        out.print()


def _toml(value: Any) -> str:
    return "# not set" if value is None else json.dumps(value)


@app.command()
def validate(file: Path | None = _FILE, as_json: bool = _JSON) -> None:
    """Check the configuration.  Exit code 1 when something is wrong; all of it is printed."""
    from vexfs_chroma._server._config import ConfigError, load

    problems: list[str] = []
    try:
        load(file)
    except ConfigError as error:
        problems = error.problems
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "problems": problems}, indent=2))
    else:
        for problem in problems:
            err.print(f"vexctl: {problem}", markup=False)
        if not problems:
            out.print("the configuration is valid")
    finish(ok=not problems)


@app.command()
def token(name: str = _NAME, role: str = _ROLE, as_json: bool = _JSON) -> None:
    """Make a token: print it, and the entry for vexfs.toml, which has its hash alone."""
    from vexfs_chroma._server._auth import new_token

    made, hash = new_token()
    err.print(f"the token, which is not stored anywhere: {made}", markup=False)
    _entry("tokens", {"name": name, "hash": hash, "role": role}, as_json=as_json)


@app.command()
def password(name: str = _NAME, role: str = _ROLE, as_json: bool = _JSON) -> None:
    """Ask for a password, and print the entry for vexfs.toml, which has its hash alone."""
    from vexfs_chroma._server._auth import hash_password

    if ":" in name:
        raise typer.BadParameter("clients cannot send a colon", param_hint="NAME")
    with explained():
        entry = {"name": name, "hash": hash_password(_asked_password()), "role": role}
    _entry("users", entry, as_json=as_json)


def _asked_password() -> str:
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise ValueError("no password: the first line of standard input is empty")
    return line


def _entry(kind: str, entry: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(entry, indent=2))
        return
    typer.echo(f"[[auth.{kind}]]")
    for key, value in entry.items():
        typer.echo(f"{key} = {json.dumps(value)}")
