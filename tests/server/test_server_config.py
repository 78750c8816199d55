"""vexfs.toml, its variables, and the commands around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from server_kit import API, Server, run_server

from vexfs_chroma._server import _config
from vexfs_chroma._server._auth import Authenticator, Credential, hash_password, hash_token
from vexfs_chroma._server._config import ConfigError, load


def read(tmp_path: Path, text: str, **environment: str) -> _config.ServerConfig:
    """The configuration without its surroundings."""
    file = tmp_path / "vexfs.toml"
    file.write_text(text)
    config, problems = _config.read(file, environment=environment)
    if problems:
        raise ConfigError(problems)
    return config


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    text = '[server]\nport = 1\nworkers = 3\nhost = "::1"\n[limits]\nrows = 7\n'
    config = read(tmp_path, text, VEXFS_SERVER_PORT="2", VEXFS_SERVER_WORKERS="4")
    assert (config.server.port, config.server.workers, config.server.host) == (2, 4, "::1")
    assert (config.limits.rows, config.limits.dimension) == (7, 65536)
    file = tmp_path / "vexfs.toml"
    given = {"server": {"port": 5, "workers": None}}
    config = load(file, given, {"VEXFS_SERVER_PORT": "2"})
    assert (config.server.port, config.server.workers) == (5, 3)


def test_types_of_variables(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "",
        VEXFS_SERVER_ALLOW_RESET="true",
        VEXFS_LIMITS_IDLE_SECONDS="1.5",
        VEXFS_CORS_ALLOW_ORIGINS="http://a,http://b",
        VEXFS_TLS_CERTIFICATE="c",
        VEXFS_TLS_KEY="k",
        VEXFS_DURABILITY="off",
        VEXFS_DATA="elsewhere",
    )
    assert config.server.allow_reset is True
    assert config.limits.idle_seconds == 1.5
    assert config.cors.allow_origins == ("http://a", "http://b")
    assert config.tls.certificate == "c"


def test_a_variable_of_the_database_goes_before_the_file(tmp_path: Path) -> None:
    text = '[database]\ndurability = "normal"\nbusy_timeout = 2.0\n'
    config = read(tmp_path, text, VEXFS_DURABILITY="off")
    assert (config.database.durability, config.database.busy_timeout) == (None, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sever]\n", r"unknown section \[sever\]; did you mean server\?"),
        ("[server]\nprot = 1\n", r"\[server\]: unknown key prot; did you mean port\?"),
        ("[limits]\nzzzzz = 1\n", r"unknown key zzzzz; there are body_bytes, "),
        ("server = 5\n", "server is a section"),
        ("[server\n", "is not TOML"),
        ('[server]\nport = "x"\n', r"\[server\] port: Expected `int`, got `str`"),
        ("[server]\nport = 70000\n", "port must be at most 65535"),
        ("[server]\nworkers = 0\n", r"\[server\] workers must be at least 1, got 0"),
        ("[limits]\nread_seconds = nan\n", "read_seconds must be at least"),
        ("[limits]\nbuffered_bytes = 2000\n", "must not be less than body_bytes"),
        ('[tls]\nkey = "x"\n', "certificate and key go together"),
        ('[tls]\nclient_ca = "x"\n', "client_ca needs"),
        ('[server]\nhost = "0.0.0.0"\n', "reachable from other machines"),
        ('[server]\nhost = "example.org"\n', "reachable from other machines"),
        ('[[auth.tokens]]\nname = "a"\nhash = "plain"\n', "vexctl config token"),
        ('[[auth.users]]\nname = "a"\nhash = "sha256:00"\n', "vexctl config password"),
        (
            '[[auth.tokens]]\nname = "a"\nhash = "x"\nrol = "r"\n',
            "unknown key rol; did you mean role",
        ),
        ('[[auth.tokens]]\nhash = "x"\n', "missing required field `name`"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_unknown_variables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="VEXFS_SERVER_PROT; did you mean VEXFS_SERVER_PORT"):
        read(tmp_path, "", VEXFS_SERVER_PROT="1")
    with pytest.raises(ConfigError, match="VEXFS_SERVER_PORT='x': Expected `int`"):
        read(tmp_path, "", VEXFS_SERVER_PORT="x")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.toml", environment={})


def test_names_of_credentials_differ(tmp_path: Path) -> None:
    entry = f'[[auth.tokens]]\nname = "a"\nhash = "{hash_token("x")}"\n'
    assert read(tmp_path, entry).auth.tokens[0].role == "read"
    assert read(tmp_path, '[server]\nhost = "0.0.0.0"\n' + entry).server.host == "0.0.0.0"
    with pytest.raises(ConfigError, match="names must be there and differ"):
        read(tmp_path, entry * 2)


def test_guessing_passwords_does_not_take_all_threads() -> None:
    from vexfs_chroma._server._errors import HttpError

    user = Credential("ann", hash_password("x"))
    auth = Authenticator([], [user])
    headers = {b"authorization": b"Basic YW5uOng="}  # ann:x
    assert auth.quickly(headers) is None
    for _ in range(2):
        assert auth._checking.acquire(blocking=False)
    with pytest.raises(HttpError) as refused:
        auth.by_password(headers)
    assert refused.value.status == 429
    auth._checking.release()
    assert auth.by_password(headers).name == "ann"
    assert auth.quickly(headers) is not None  # remembered


# -- commands --------------------------------------------------------------------------------------


def vexctl(tmp_path: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vexfs_chroma._cli", *arguments]
    return subprocess.run(
        command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False
    )


def test_show_and_validate(tmp_path: Path) -> None:
    (tmp_path / "vexfs.toml").write_text(
        f'[server]\nport = 1234\n[[auth.tokens]]\nname = "a"\nhash = "{hash_token("x")}"\n'
    )
    shown = vexctl(tmp_path, "config", "show")
    assert shown.returncode == 0
    assert "port = 1234" in shown.stdout
    assert "sha256:..." in shown.stdout
    assert hash_token("x") not in shown.stdout
    document = json.loads(vexctl(tmp_path, "config", "show", "--json").stdout)
    assert document["limits"]["body_bytes"] == 40 * 2**20
    assert vexctl(tmp_path, "config", "validate").returncode == 0
    (tmp_path / "wrong.toml").write_text("[server]\nprot = 1\n")
    checked = vexctl(tmp_path, "config", "validate", "wrong.toml")
    assert checked.returncode == 1
    assert "did you mean port?" in checked.stderr
    started = vexctl(tmp_path, "serve", "--config", "wrong.toml")
    assert started.returncode == 3
    assert "did you mean port?" in started.stderr


def test_token_and_password(tmp_path: Path) -> None:
    made = vexctl(tmp_path, "config", "token", "bob", "--role", "admin")
    token = made.stderr.strip().rpartition(" ")[2]
    asked = vexctl(tmp_path, "config", "password", "ann", text="s3cret\n")
    assert "s3cret" not in asked.stdout
    with run_server(tmp_path, config=made.stdout + asked.stdout) as server:
        headers = {"x-chroma-token": token}
        assert server.call("GET", API + "/auth/identity", None, headers).json["user_id"] == "bob"
        headers = {"authorization": "Basic YW5uOnMzY3JldA=="}
        assert server.call("GET", API + "/auth/identity", None, headers).json["user_id"] == "ann"
        assert server.call("GET", API + "/auth/identity").status == 401


def test_a_port_in_use(tmp_path: Path, shared_server: Server) -> None:
    for workers in ("1", "2"):
        tried = vexctl(tmp_path, "serve", "--port", str(shared_server.port), "--workers", workers)
        assert tried.returncode == 3
        assert f"cannot listen on 127.0.0.1 port {shared_server.port}" in tried.stderr


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for workers in ("1", "2"):
        tried = vexctl(
            tmp_path, "serve", "--port", "0", "--path", "file/inside", "--workers", workers
        )
        assert tried.returncode == 3
        assert "Traceback" not in tried.stderr
        assert tried.stderr.strip()
