"""What `vexctl config validate` and `vexctl serve` refuse, in the same words, all at once."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vexfs_chroma._cli._app import app
from vexfs_chroma._server import _config, _surroundings
from vexfs_chroma._server._auth import hash_token
from vexfs_chroma._server._config import ConfigError, load

ROOT = Path(__file__).parents[2]


def problems(tmp_path: Path, text: str = "", **environment: str) -> list[str]:
    file = tmp_path / "vexfs.toml"
    file.write_text(text)
    try:
        load(file, environment=environment)
    except ConfigError as error:
        return error.problems
    return []


def entry(name: str, more: str = "", token: str | None = None) -> str:
    hash = hash_token(token or name)
    return f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash}"\n{more}\n'


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[database]\ndurability = "ful"',
            "durability must be one of full, normal, off, got 'ful'",
        ),
        ('[database]\nquantization = "sq9"', "quantization must be one of auto, sq8, none, got"),
        ("[database]\nmemory_limit = -1", "[database] memory_limit must be a number of bytes"),
        ("[database]\nbusy_timeout = nan", "[database] busy_timeout must be a number of seconds"),
        ("[database]\nread_only = 1", "[database] read_only: Expected `bool | null`, got `int`"),
        ('[log]\nlevel = "loud"', "[log] level: Invalid enum value 'loud'; there are debug, info"),
        ('[log]\naccess = "some"', "[log] access: Invalid enum value 'some'; there are off, prob"),
        ("[limits]\nidle_seconds = inf", "[limits] idle_seconds must be less than 2^53, got inf"),
        ("[server]\nthreads = 1000000", "[server] threads must be at most 1024"),
        ('[server]\nhost = ""\nallow_open_network = true', "[server] host must not be empty"),
        ('[server]\npath = ""', "[server] path must not be empty"),
    ],
)
def test_a_value_that_cannot_be(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert expected in problem


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("databases = []", "databases = [] reaches nothing"),
        ('databases = ["*", "x"]', 'databases must be names, or "*" alone for all'),
        ('databases = [""]', "databases must be names"),
        ('tenant = ""', "tenant is empty; leave it out for all"),
    ],
)
def test_a_scope_that_reaches_nothing(tmp_path: Path, more: str, expected: str) -> None:
    (problem,) = problems(tmp_path, entry("ann", more))
    assert problem.startswith(f"[[auth.tokens]] ann: {expected}")


def test_one_token_with_two_entries(tmp_path: Path) -> None:
    hash = hash_token("same")
    upper = hash.replace(hash[7:], hash[7:].upper())
    text = entry("ann", token="same") + entry("bob", token="same").replace(hash, upper)
    (problem,) = problems(tmp_path, text + entry("eve"))
    assert problem.startswith("[[auth.tokens]] bob has the same hash as ann")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://a.example/", "write 'https://a.example'"),
        ("https://a.example/path?x", "write 'https://a.example'"),
        ("https://A.Example", "write 'https://a.example'"),
        ("HTTP://a.example:8080", "write 'http://a.example:8080'"),
        ("http://a.example:80", "write 'http://a.example'"),
        ("https://[::1]:443", "write 'https://[::1]'"),
        ("a.example", "is no origin"),
        ("http://", "is no origin"),
        ("http://ann@a.example", "is no origin"),
        ("http://m\u00fcller.example", "xn--"),
    ],
)
def test_an_origin_that_no_browser_sends(tmp_path: Path, origin: str, expected: str) -> None:
    (problem,) = problems(tmp_path, f'[cors]\nallow_origins = ["{origin}"]')
    assert problem.startswith(f"[cors] allow_origins: {origin!r}")
    assert expected in problem


def test_origins_that_browsers_send(tmp_path: Path) -> None:
    sent = ["*", "null", "https://a.example", "http://[::1]:3000", "tauri://localhost"]
    sent += ["http://a.example:443", "http://127.0.0.1:80800"]
    assert problems(tmp_path, f"[cors]\nallow_origins = {json.dumps(sent)}") == []
    assert problems(tmp_path, VEXFS_CORS_ALLOW_ORIGINS="http://a.example, http://b.example") == []


# -- variables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("VEXFS_DURABILTY", "off", "; did you mean VEXFS_DURABILITY?"),
        ("VEXFS_QUANTISATION", "sq8", "; did you mean VEXFS_QUANTIZATION?"),
        ("VEXFS_SLOWMS", "5", "; did you mean VEXFS_SLOW_MS?"),
        ("VEXFS_DATABASE_DURABILITY", "off", "; did you mean VEXFS_DURABILITY?"),
        ("VEXFS_DATABASE_X", "1", "; there are VEXFS_DURABILITY, VEXFS_READ_ONLY, "),
        ("VEXFS_AUTH_TOKENS", "x", "; [auth] is in the file alone"),
    ],
)
def test_a_variable_that_nobody_reads(
    tmp_path: Path, variable: str, text: str, expected: str
) -> None:
    (problem,) = problems(tmp_path, **{variable: text})
    assert problem.startswith(f"unknown variable {variable}{expected}")


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("VEXFS_DURABILITY", "ful", "VEXFS_DURABILITY: durability must be one of full, normal"),
        ("VEXFS_QUANTIZATION", "x", "VEXFS_QUANTIZATION: quantization must be one of auto"),
        ("VEXFS_READ_ONLY", "maybe", "VEXFS_READ_ONLY must be 0 or 1, got 'maybe'"),
        ("VEXFS_BUSY_TIMEOUT", "-1", "VEXFS_BUSY_TIMEOUT: busy_timeout must be a number"),
        ("VEXFS_MEMORY_LIMIT", "1GB", "VEXFS_MEMORY_LIMIT must be a number of bytes, got '1GB'"),
        ("VEXFS_MEMTABLE_ROWS", "0", "VEXFS_MEMTABLE_ROWS must be a number of rows, 1 or more"),
        ("VEXFS_INDEX_ROWS", "x", "VEXFS_INDEX_ROWS must be a number of rows, 0 or more"),
        (
            "VEXFS_LOG_FORMAT",
            "xml",
            "VEXFS_LOG_FORMAT='xml': Invalid enum value 'xml'; there are te",
        ),
        ("VEXFS_SLOW_MS", "slow", "VEXFS_SLOW_MS must be milliseconds or off, got 'slow'"),
        ("VEXFS_SLOW_LOG", "/nowhere/log", "VEXFS_SLOW_LOG='/nowhere/log': no file that can"),
        ("VEXFS_METRICS_DIR", "/nowhere", "VEXFS_METRICS_DIR='/nowhere': no directory that can"),
    ],
)
def test_a_value_of_a_variable(tmp_path: Path, variable: str, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, **{variable: text})
    assert problem.startswith(expected)


def test_the_engine_is_asked_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_THREADS", "1000")
    (problem,) = _surroundings._refused_by_the_engine()
    assert "VEXFS_THREADS=1000 is no number of threads from 1 to 256" in problem


def test_variables_of_ours_that_are_no_settings() -> None:
    """Those of the tests, the build and other commands, and those that Kubernetes sets."""
    text = "".join(
        file.read_text("utf-8")
        for file in (
            ROOT / "Makefile",
            *(ROOT / "docs").glob("*.md"),
            *(ROOT / "tests").rglob("*.py"),
        )
        if file.parent.name not in ("server", "cli")  # which make mistakes on purpose
    )
    named = set(re.findall(r"\bVEXFS_[A-Z_]*[A-Z]\b", text))
    assert {"VEXFS_DATA", "VEXFS_URL", "VEXFS_FAULTS", "VEXFS_BACKUP_ROUNDS"} <= named
    named -= {"VEXFS_DURABILTY"}  # an example of a mistake
    named |= {"VEXFS_SERVICE_HOST", "VEXFS_SERVER_SERVICE_PORT_HTTP", "VEXFS_PORT_8000_TCP_ADDR"}
    found: list[str] = []
    environment = dict.fromkeys(named, "1") | {"VEXFS_PORT": "tcp://10.0.0.1:8000"}
    _config.from_environment(_config._SECTIONS, environment, found)
    assert [problem for problem in found if "unknown variable" in problem] == []


def test_an_empty_variable_leaves_the_file_its_say(tmp_path: Path) -> None:
    file = tmp_path / "vexfs.toml"
    text = '[server]\nport = 81\n[database]\ndurability = "off"\n[log]\nformat = "json"\n'
    file.write_text(text, encoding="utf-8-sig")  # with a byte order mark, as some editors write it
    names = ("VEXFS_DURABILITY", "VEXFS_SERVER_PORT", "VEXFS_SERVER_PATH", "VEXFS_LOG_FORMAT")
    config = load(file, environment=dict.fromkeys(names, ""))
    assert (config.database.durability, config.server.port) == ("off", 81)
    assert (config.server.path, config.log.format) == ("./chroma", "json")


def test_show_knows_variables_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_DURABILITY", "off")
    shown = CliRunner().invoke(app, ["config", "show", "--json"]).stdout
    assert json.loads(shown)["database"] == {
        "durability": "off",
        "read_only": None,
        "busy_timeout": None,
        "quantization": None,
        "memory_limit": None,
    }


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with its key; other keys; a file that is neither."""
    folder = tmp_path_factory.mktemp("keys")
    for arguments in (
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out server.pem -subj /CN=localhost",
        "genpkey -algorithm RSA -out other.pem",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out curve.pem",
        "pkey -in key.pem -aes256 -passout pass:secret -out locked.pem",
    ):
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
    (folder / "text.pem").write_text("nothing")
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "expected"),
    [
        ("server", "key", []),
        ("none", "key", ["certificate = '{}/none.pem' cannot be read: No such file"]),
        (
            "text",
            "none",
            [
                "certificate = '{}/text.pem' has no certificate in PEM format",
                "key = '{}/none.pem' cannot be read: No such file",
            ],
        ),
        ("key", "key", ["certificate = '{}/key.pem' has no certificate in PEM format"]),
        ("server", "text", ["key = '{}/text.pem' has no private key in PEM format"]),
        ("server", "locked", ["key = '{}/locked.pem' has a password"]),
        ("server", "other", ["key = '{}/other.pem' does not belong to the first entry of"]),
        ("server", "curve", ["key = '{}/curve.pem' does not belong to the first entry of"]),
    ],
)
def test_files_of_tls(
    tmp_path: Path, keys: Path, certificate: str, key: str, expected: list[str]
) -> None:
    text = f'[tls]\ncertificate = "{keys}/{certificate}.pem"\nkey = "{keys}/{key}.pem"\n'
    found = problems(tmp_path, text)
    assert len(found) == len(expected)
    for problem, beginning in zip(found, expected, strict=True):
        assert problem.startswith("[tls] " + beginning.format(keys))


def test_authorities_of_clients(tmp_path: Path, keys: Path) -> None:
    text = f'[tls]\ncertificate = "{keys}/server.pem"\nkey = "{keys}/key.pem"\nclient_ca = '
    assert problems(tmp_path, text + f'"{keys}/server.pem"') == []
    (problem,) = problems(tmp_path, text + f'"{keys}/text.pem"')
    assert problem == f"[tls] client_ca = '{keys}/text.pem' has no certificate in PEM format"


def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert problems(tmp_path, f'[server]\npath = "{tmp_path}/new/data"') == []
    (problem,) = problems(tmp_path, f'[server]\npath = "{tmp_path}/file"')
    assert problem.endswith("is a file; it must be a directory")
    (problem,) = problems(tmp_path, f'[server]\npath = "{tmp_path}/file/data"')
    assert f"cannot be made, as {tmp_path}/file is a file" in problem


def test_a_path_of_chromas(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").touch()
    (problem,) = problems(tmp_path, f'[server]\npath = "{tmp_path}"')
    assert problem.startswith(f"{tmp_path} holds a Chroma database (chroma.sqlite3), which")


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_surroundings, "_is_there", lambda _: False)
    found = problems(tmp_path, '[otel]\nendpoint = "http://127.0.0.1:4318"\n')
    assert [re.findall(r"pip install '(.*)'", one) for one in found] == [
        ["vexfs-chroma[server]"],
        ["vexfs-chroma[otel]"],
    ]


# -- the commands ----------------------------------------------------------------------------------


def test_both_commands_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes of the file, of the environment, of files: all of them, a line for each."""
    file = tmp_path / "vexfs.toml"
    file.write_text(
        '[server]\nprot = 1\n[database]\ndurability = "ful"\n'
        '[tls]\ncertificate = "none.pem"\nkey = "none.pem"\n'
        '[cors]\nallow_origins = ["https://a.example/"]\n' + entry("ann", "databases = []")
    )
    monkeypatch.setenv("VEXFS_QUANTISATION", "sq8")
    monkeypatch.setenv("VEXFS_READ_ONLY", "maybe")
    results: list[Any] = [
        CliRunner().invoke(app, [*command, str(file)])
        for command in (["config", "validate"], ["serve", "--port", "0", "--config"])
    ]
    assert [result.exit_code for result in results] == [1, 3]
    assert results[0].stderr == results[1].stderr
    lines = results[0].stderr.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("vexctl: ") for line in lines)
    as_json = json.loads(
        CliRunner().invoke(app, ["config", "validate", str(file), "--json"]).stdout
    )
    assert [f"vexctl: {problem}" for problem in as_json["problems"]] == lines
