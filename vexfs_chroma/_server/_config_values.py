"""Values of a configuration that cannot be, or do not go together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vexfs_chroma import _options
from vexfs_chroma._server._auth import check_hash
from vexfs_chroma._server._hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vexfs_chroma._server._auth import Credential
    from vexfs_chroma._server._config import AuthSection, DatabaseSection, ServerConfig

_LEAST: dict[str, dict[str, float]] = {
    "server": {
        "port": 0,
        "workers": 1,
        "threads": 1,
        "idle_poll_us": 0,
        "recall_samples": 0,
        "shutdown_seconds": 0,
    },
    "limits": {
        "body_bytes": 1024,
        "buffered_bytes": 1024,
        "head_bytes": 1024,
        "connections": 1,
        "waiting": 1,
        "rows": 1,
        "steps": 1,
        "dimension": 1,
        "results": 1,
        "keys": 1,
        "recall_queries": 1,
        "filter_depth": 1,
        "regex_chars": 1,
        "request_seconds": 0.1,
        "read_seconds": 0.1,
        "idle_seconds": 0.1,
    },
    "log": {"sample": 0},
    "otel": {"sample": 0},
}
_MOST: dict[str, dict[str, float]] = {
    "server": {
        "port": 65535,
        "workers": 1024,
        "threads": 1024,
        "idle_poll_us": 10_000,
        "recall_samples": 60_000,
    },
    "log": {"sample": 1},
    "otel": {"sample": 1},
}
_ENDLESS = 2**53
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(:[0-9]+)?")


def wrong_values(config: ServerConfig, wrong: set[str]) -> Iterator[str]:
    """Values that cannot be, and values that do not go together, one by one.

    Nothing is concluded from sections that are `wrong` already.
    """
    yield from _out_of_range(config)
    for key in ("path", "host"):
        if not getattr(config.server, key).strip():
            yield f"[server] {key} must not be empty"
    yield from _wrong_options(config.database)
    if config.limits.buffered_bytes < config.limits.body_bytes and "limits" not in wrong:
        yield "[limits] buffered_bytes must not be less than body_bytes"
    yield from _wrong_credentials(config.auth)
    if "tls" not in wrong:
        if (config.tls.certificate is None) != (config.tls.key is None):
            yield "[tls] certificate and key go together"
        if config.tls.client_ca is not None and config.tls.certificate is None:
            yield "[tls] client_ca needs certificate and key"
    for origin in config.cors.allow_origins:
        yield from _wrong_origin(origin)
    if config.otel.endpoint is not None and not _is_url(config.otel.endpoint):
        yield f"[otel] endpoint must be http://HOST:PORT or https://..., not {config.otel.endpoint}"
    is_open = not config.auth.tokens and not config.auth.users and "auth" not in wrong
    if is_open and not config.server.allow_open_network and not is_loopback(config.server.host):
        yield (
            f"[server] host = {config.server.host!r} is reachable from other machines and nobody "
            "need authenticate; add [[auth.tokens]] (see `vexctl config token`), or set "
            "allow_open_network = true if the network is closed"
        )


def _out_of_range(config: ServerConfig) -> Iterator[str]:
    for section, keys in _LEAST.items():
        for key, least in keys.items():
            value = getattr(getattr(config, section), key)
            most = _MOST.get(section, {}).get(key)
            if not value >= least:  # not a number, too
                yield f"[{section}] {key} must be at least {least:g}, got {value}"
            elif most is not None and value > most:
                yield f"[{section}] {key} must be at most {most:g}, got {value}"
            elif value >= _ENDLESS:
                yield f"[{section}] {key} must be less than 2^53, got {value}"


def _wrong_options(section: DatabaseSection) -> Iterator[str]:
    """Options that opening the database would refuse, in its words."""
    values = {key: getattr(section, key) for key in section.__struct_fields__}
    given = {key: value for key, value in values.items() if value is not None}
    for problem in _options.problems_of(_options.Options(**given)):
        yield f"[database] {problem}"


# -- [auth] ----------------------------------------------------------------------------------------


def _wrong_credentials(auth: AuthSection) -> Iterator[str]:
    for kind, entries in (("token", auth.tokens), ("user", auth.users)):
        names = [entry.name for entry in entries]
        for entry in entries:
            if not entry.name or names.count(entry.name) > 1:
                yield f"[[auth.{kind}s]] names must be there and differ: {entry.name!r}"
            try:
                check_hash("token" if kind == "token" else "user", entry.hash)
            except ValueError as error:
                yield f"[[auth.{kind}s]] {entry.name}: {error}"
            yield from (f"[[auth.{kind}s]] {entry.name}: {text}" for text in _wrong_scope(entry))
    yield from _same_tokens(auth.tokens)
    for user in auth.users:
        if ":" in user.name:
            yield f"[[auth.users]] {user.name}: no client can send a user name with a colon"


def _wrong_scope(entry: Credential) -> Iterator[str]:
    if not entry.tenant:
        yield "tenant is empty; leave it out for all"
    if not entry.databases:
        yield (
            "databases = [] reaches nothing; name some, leave it out for all, or remove the "
            "whole entry"
        )
    elif "" in entry.databases or ("*" in entry.databases and len(entry.databases) > 1):
        yield f'databases must be names, or "*" alone for all, not {list(entry.databases)}'


def _same_tokens(tokens: tuple[Credential, ...]) -> Iterator[str]:
    """One token with two entries would have the rights of one of them, and nobody knew of which."""
    first: dict[str, str] = {}
    for entry in tokens:
        other = first.setdefault(entry.hash.lower(), entry.name)
        if other != entry.name:
            yield (
                f"[[auth.tokens]] {entry.name} has the same hash as {other}; give each a token of "
                "its own (`vexctl config token`)"
            )


# -- URLs ------------------------------------------------------------------------------------------


def _wrong_origin(origin: str) -> Iterator[str]:
    """Browsers send `Origin: scheme://host[:port]`, in lower case, and it is compared as it is."""
    if origin in ("*", "null"):
        return
    where = f"[cors] allow_origins: {origin!r}"
    scheme, separator, rest = origin.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    usual = _DEFAULT_PORTS.get(scheme.lower())
    sent = f"{scheme}://{authority}".lower().removesuffix(f":{usual}")
    if not separator or not scheme or not _AUTHORITY.fullmatch(authority.lower()):
        yield f"{where} is no origin, such as https://HOST or http://HOST:PORT"
    elif not origin.isascii():
        yield f"{where}: browsers send such names encoded (xn--...)"
    elif sent != origin:
        yield f"{where} is never sent by a browser; write {sent!r}"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False
