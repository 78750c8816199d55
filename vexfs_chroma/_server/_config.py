"""vexfs.toml: what the server is told.  docs/server.md documents every key.

A key comes from the command line, else from the environment (`_variables.py`), else from the file,
else it has its default.  Mistakes are collected, not raised one by one: those of names and types
here, those of values in `_config_values.py`, those that files, packages and the engine show in
`_surroundings.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import msgspec

from vexfs_chroma import _options
from vexfs_chroma._server._auth import Credential
from vexfs_chroma._server._config_values import wrong_values
from vexfs_chroma._server._variables import from_environment, nearest, with_choices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FILE_NAME = "vexfs.toml"
_MIB = 2**20


class ServerSection(msgspec.Struct, frozen=True):
    """[server]."""

    path: str = "./chroma"
    """The database directory."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free one."""
    workers: int = 1
    """Processes that serve the same directory."""
    threads: int = 8
    """Threads of each process for what takes longer than a moment."""
    idle_poll_us: int = 200
    """How long a process stays awake for the next request of its only connection; 0: not at all."""
    page: bool = True
    """The page at `/`."""
    recall_samples: float = 2.0
    """Queries a minute of each process that are answered again, exactly; 0: none."""
    allow_reset: bool = False
    allow_open_network: bool = False
    """Listen beyond this machine although nobody need authenticate."""
    shutdown_seconds: float = 30.0
    """How long requests that run may take when the server stops."""


class DatabaseSection(msgspec.Struct, frozen=True):
    """[database]: options of the database, as of PersistentClient."""

    durability: str | None = None
    read_only: bool | None = None
    busy_timeout: float | None = None
    quantization: str | None = None
    memory_limit: int | None = None


class LimitsSection(msgspec.Struct, frozen=True):
    """[limits]."""

    body_bytes: int = 40 * _MIB
    """Of one request; more is 413."""
    buffered_bytes: int = 512 * _MIB
    """Of all requests of a process that are being received or wait; more is 503."""
    head_bytes: int = 32 * 1024
    """Of the request line and headers; more is 431."""
    connections: int = 4096
    """Of a process; more are answered 503 and closed."""
    waiting: int = 1024
    """Requests of a process that wait for a thread or have one; more are answered 429."""
    rows: int = 2**20
    """Records of one write, or of all of a transaction."""
    steps: int = 10_000
    """Writes of one transaction."""
    dimension: int = 65536
    """Numbers of one embedding."""
    results: int = 1_000_000
    """Records that one query may find: n_results times the queries."""
    keys: int = 1000
    """Metadata keys that one request may have counted."""
    recall_queries: int = 1000
    """Records that one recall check may search for, each exactly."""
    filter_depth: int = 64
    """Levels of a where clause."""
    regex_chars: int = 8192
    """Of one pattern."""
    request_seconds: float = 120.0
    """That a request may take, waiting included; then the answer is 503."""
    read_seconds: float = 60.0
    """That a request may take to arrive, and a response to be read."""
    idle_seconds: float = 75.0
    """That a connection may be idle."""


class AuthSection(msgspec.Struct, frozen=True):
    """[auth]: without any entry, everybody may do everything."""

    tokens: tuple[Credential, ...] = ()
    users: tuple[Credential, ...] = ()


class TlsSection(msgspec.Struct, frozen=True):
    """[tls]."""

    certificate: str | None = None
    """PEM, with the chain."""
    key: str | None = None
    client_ca: str | None = None
    """PEM; clients must show a certificate that one of these signed."""


class CorsSection(msgspec.Struct, frozen=True):
    """[cors]."""

    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call the server; "*" for all."""


class LogSection(msgspec.Struct, frozen=True):
    """[log]: what is written to standard error."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: Literal["off", "problems", "all"] = "off"
    """Requests: none, those that failed or were slow, or all."""
    sample: float = 1.0
    """The share of the requests without a problem that `access = "all"` logs."""


class OtelSection(msgspec.Struct, frozen=True):
    """[otel]: traces, by OpenTelemetry."""

    endpoint: str | None = None
    """A collector that takes OTLP over HTTP; without it there are no traces."""
    service_name: str | None = None
    """service.name; without it OTEL_SERVICE_NAME, or vexfs_chroma."""
    sample: float = 1.0
    """The share of the traces that begin here; others follow their parent."""


class ServerConfig(msgspec.Struct, frozen=True):
    """Everything a server is told."""

    server: ServerSection = ServerSection()
    database: DatabaseSection = DatabaseSection()
    limits: LimitsSection = LimitsSection()
    auth: AuthSection = AuthSection()
    tls: TlsSection = TlsSection()
    cors: CorsSection = CorsSection()
    log: LogSection = LogSection()
    otel: OtelSection = OtelSection()


class ConfigError(ValueError):
    """The configuration is wrong; the message says where and how, a line for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    name: kind
    for name, kind in get_type_hints(ServerConfig).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
}


def load(
    file: Path | None = None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServerConfig:
    """The configuration of a server that can start with it: as read() has it.

    Raises ConfigError with all mistakes, those that only its surroundings show among them.
    """
    from vexfs_chroma._server._surroundings import problems_around

    environment = os.environ if environment is None else environment
    config, problems = read(file, given, environment)
    problems += problems_around(config, environment)
    if problems:
        raise ConfigError(problems)
    return config


def read(
    file: Path | None = None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[ServerConfig, list[str]]:
    """The configuration: `given` over the environment over the file over the defaults.

    Without `file` it is ./vexfs.toml, if that exists.  What is wrong has its default, and a line
    among the problems; nothing but the file is looked at.
    """
    problems: list[str] = []
    if file is None and Path(FILE_NAME).is_file():
        file = Path(FILE_NAME)
    environment = os.environ if environment is None else environment
    from_file = {} if file is None else _from_file(file, problems)
    layers = [
        from_file or {},
        from_environment(_SECTIONS, environment, problems),
        {s: {k: v for k, v in d.items() if v is not None} for s, d in (given or {}).items()},
    ]
    merged: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    for layer in layers:
        for section, values in layer.items():
            merged[section].update(values)
    for key in list(merged["database"]):  # what opens the database reads the variable
        if environment.get(f"VEXFS_{key}".upper()):
            del merged["database"][key]
    sections, wrong = _converted(merged, problems)
    if from_file is None:  # whatever it says
        wrong = set(_SECTIONS)
    config = ServerConfig(**sections)
    problems += wrong_values(config, wrong)
    return config, problems


def _converted(
    merged: Mapping[str, Mapping[str, Any]], problems: list[str]
) -> tuple[dict[str, Any], set[str]]:
    """The sections, of the right types, and those of them that have a value of a wrong one.

    A wrong value is told among the problems and left at its default.
    """
    sections: dict[str, Any] = {}
    wrong: set[str] = set()
    for section, kind in _SECTIONS.items():
        hints, values = get_type_hints(kind), {}
        for key, value in merged[section].items():
            if kind is AuthSection and isinstance(value, list):
                before = len(problems)
                values[key] = tuple(_credentials(key, value, problems))
                wrong |= {section} if len(problems) > before else set()
                continue
            try:
                values[key] = msgspec.convert(value, hints[key])
            except msgspec.ValidationError as error:
                problems.append(_placed(section, key, str(error)))
                wrong.add(section)
        sections[section] = kind(**values)
    return sections, wrong


def _credentials(key: str, entries: list[Any], problems: list[str]) -> Iterator[Credential]:
    for i, entry in enumerate(entries):
        found = _credential(f"[[auth.{key}]] number {i + 1}", entry, problems)
        if found is not None:
            yield found


def _credential(where: str, entry: Any, problems: list[str]) -> Credential | None:
    try:
        return msgspec.convert(entry, Credential)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        field = f" {place.rstrip('`')}" if place else ""
        problems.append(f"{where}{field}: {what}")
        return None


def _placed(section: str, key: str, text: str) -> str:
    """What msgspec says about a value, with its place."""
    what, _, place = text.partition(" - at `$")
    inner = place.rstrip("`")
    hint = get_type_hints(_SECTIONS[section])[key]
    return f"[{section}] {key}{inner}: {with_choices(what, hint)}"


def _from_file(file: Path, problems: list[str]) -> dict[str, dict[str, Any]] | None:
    """What the file says, without what is wrong about it, which is added to the problems.

    None when it cannot be read at all.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(
            file.read_text(encoding="utf-8-sig")
        )  # Windows may put a mark first
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file} is not TOML: {error}")
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        problems.append(f"{file} cannot be read: {reason}")
        return None
    found: dict[str, dict[str, Any]] = {}
    for section, values in document.items():
        if section not in _SECTIONS:
            problems.append(f"{file}: unknown section [{section}]{nearest(section, _SECTIONS)}")
        elif not isinstance(values, dict):
            problems.append(f"{file}: {section} is a section: write [{section}]")
        else:
            where = f"{file}: [{section}]"
            found[section] = _known(where, values, _SECTIONS[section], problems)
    for kind in ("tokens", "users"):
        for i, entry in enumerate(_entries(found, kind)):
            if isinstance(entry, dict):
                where = f"{file}: [[auth.{kind}]] number {i + 1}"
                found["auth"][kind][i] = _known(where, entry, Credential, problems)
    return found


def _entries(document: Mapping[str, Any], kind: str) -> list[Any]:
    entries = document.get("auth", {}).get(kind, [])
    return entries if isinstance(entries, list) else []


def _known(
    where: str, values: Mapping[str, Any], kind: type[msgspec.Struct], problems: list[str]
) -> dict[str, Any]:
    """The values whose keys are known; about the others there are problems."""
    fields = kind.__struct_fields__
    problems += [
        f"{where}: unknown key {key}{nearest(key, fields)}" for key in values if key not in fields
    ]
    return {key: value for key, value in values.items() if key in fields}


def shown(config: ServerConfig) -> dict[str, Any]:
    """The configuration as plain data, without hashes.

    Options of the database that the environment decides are those of this process.
    """
    document: dict[str, Any] = msgspec.to_builtins(config)
    given = _options.from_environment()
    document["database"] |= {k: v for k, v in given.items() if k in document["database"]}
    for kind in ("tokens", "users"):
        for entry in document["auth"][kind]:
            entry["hash"] = entry["hash"].partition(":")[0] + ":..."
    return document
