"""vexfs.toml: what the server is told.  docs/server.md documents every key.

A key comes from the command line, else from the environment, else from the file, else it has its
default.  The variable of a key is VEXFS_<SECTION>_<KEY>; the keys of [database] are options of the
database, whose variables are VEXFS_<KEY> everywhere.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from vexfs_chroma._server._auth import Credential, check_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Records of one write."""
    dimension: int = 65536
    """Numbers of one embedding."""
    results: int = 1_000_000
    """Records that one query may find: n_results times the queries."""
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


class ServerConfig(msgspec.Struct, frozen=True):
    """Everything a server is told."""

    server: ServerSection = ServerSection()
    database: DatabaseSection = DatabaseSection()
    limits: LimitsSection = LimitsSection()
    auth: AuthSection = AuthSection()
    tls: TlsSection = TlsSection()
    cors: CorsSection = CorsSection()


class ConfigError(ValueError):
    """The configuration is wrong; the message says where and how."""


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
    """The configuration: `given` over the environment over the file over the defaults.

    Without `file` it is ./vexfs.toml, if that exists.  Raises ConfigError.
    """
    merged: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    if file is None and Path(FILE_NAME).is_file():
        file = Path(FILE_NAME)
    environment = os.environ if environment is None else environment
    layers = [] if file is None else [_from_file(file)]
    layers.append(_from_environment(environment))
    layers.append(
        {s: {k: v for k, v in d.items() if v is not None} for s, d in (given or {}).items()}
    )
    for layer in layers:
        for section, values in layer.items():
            merged[section].update(values)
    for key in list(merged["database"]):  # what opens the database reads the variable
        if f"VEXFS_{key}".upper() in environment:
            del merged["database"][key]
    try:
        config = msgspec.convert(merged, ServerConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(_placed(str(error))) from error
    _check(config)
    return config


def _from_file(file: Path) -> dict[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    for section, values in document.items():
        if section not in _SECTIONS:
            raise ConfigError(f"{file}: unknown section [{section}]{_nearest(section, _SECTIONS)}")
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {section} is a section: write [{section}]")
        _check_keys(f"{file}: [{section}]", values, _SECTIONS[section])
    for kind in ("tokens", "users"):
        for i, entry in enumerate(_entries(document, kind)):
            if isinstance(entry, dict):
                _check_keys(f"{file}: [[auth.{kind}]] number {i + 1}", entry, Credential)
    sections: dict[str, dict[str, Any]] = document
    return sections


def _entries(document: Mapping[str, Any], kind: str) -> list[Any]:
    entries = document.get("auth", {}).get(kind, [])
    return entries if isinstance(entries, list) else []


def _check_keys(where: str, values: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    for key in values:
        if key not in kind.__struct_fields__:
            nearest = _nearest(key, kind.__struct_fields__)
            raise ConfigError(f"{where}: unknown key {key}{nearest}")


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _variables() -> dict[str, tuple[str, str]]:
    """The variables, each with its section and key."""
    return {
        f"VEXFS_{key if section == 'database' else f'{section}_{key}'}".upper(): (section, key)
        for section, kind in _SECTIONS.items()
        for key in kind.__struct_fields__
        if section != "auth"  # hashes belong into a file
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    known, found = _variables(), {name: {} for name in _SECTIONS}  # type: dict[str, Any], dict[str, dict[str, Any]]
    prefixes = tuple(f"VEXFS_{section.upper()}_" for section in _SECTIONS)
    for variable, text in environment.items():
        if variable in known:
            section, key = known[variable]
            if section != "database":  # those are read where databases are opened
                found[section][key] = _typed(variable, text, _SECTIONS[section], key)
        elif variable.startswith(prefixes):
            raise ConfigError(f"unknown variable {variable}{_nearest(variable, known)}")
    return found


def _typed(variable: str, text: str, kind: type[msgspec.Struct], key: str) -> Any:
    hint = get_type_hints(kind)[key]
    value: Any = text.split(",") if hint == tuple[str, ...] else text
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{variable}={text!r}: {error}") from error


def _placed(text: str) -> str:
    what, _, place = text.partition(" - at `$.")
    section, _, key = place.rstrip("`").partition(".")
    return f"[{section}] {key}: {what}" if place else what


_LEAST: dict[str, dict[str, float]] = {
    "server": {"port": 0, "workers": 1, "threads": 1, "shutdown_seconds": 0},
    "limits": {
        "body_bytes": 1024,
        "buffered_bytes": 1024,
        "head_bytes": 1024,
        "connections": 1,
        "waiting": 1,
        "rows": 1,
        "dimension": 1,
        "results": 1,
        "filter_depth": 1,
        "regex_chars": 1,
        "request_seconds": 0.1,
        "read_seconds": 0.1,
        "idle_seconds": 0.1,
    },
}


def _check(config: ServerConfig) -> None:
    for section, keys in _LEAST.items():
        for key, least in keys.items():
            value = getattr(getattr(config, section), key)
            if not least <= value < 2**53:
                raise ConfigError(f"[{section}] {key} must be at least {least}, got {value}")
    if config.server.port > 65535:
        raise ConfigError(f"[server] port must be at most 65535, got {config.server.port}")
    if config.limits.buffered_bytes < config.limits.body_bytes:
        raise ConfigError("[limits] buffered_bytes must not be less than body_bytes")
    for kind, entries in (("token", config.auth.tokens), ("user", config.auth.users)):
        names = [entry.name for entry in entries]
        for entry in entries:
            if not entry.name or names.count(entry.name) > 1:
                raise ConfigError(
                    f"[[auth.{kind}s]] names must be there and differ: {entry.name!r}"
                )
            try:
                check_hash("token" if kind == "token" else "user", entry.hash)
            except ValueError as error:
                raise ConfigError(f"[[auth.{kind}s]] {entry.name}: {error}") from error
    if (config.tls.certificate is None) != (config.tls.key is None):
        raise ConfigError("[tls] certificate and key go together")
    if config.tls.client_ca is not None and config.tls.certificate is None:
        raise ConfigError("[tls] client_ca needs certificate and key")
    is_open = not config.auth.tokens and not config.auth.users
    if is_open and not config.server.allow_open_network and not _is_loopback(config.server.host):
        raise ConfigError(
            f"[server] host = {config.server.host!r} is reachable from other machines and nobody "
            "need authenticate; add [[auth.tokens]] (see `vexctl config token`), or set "
            "allow_open_network = true if the network is closed"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(config: ServerConfig) -> dict[str, Any]:
    """The configuration as plain data, without hashes."""
    document: dict[str, Any] = msgspec.to_builtins(config)
    for kind in ("tokens", "users"):
        for entry in document["auth"][kind]:
            entry["hash"] = entry["hash"].partition(":")[0] + ":..."
    return document
