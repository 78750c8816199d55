"""Our client functions: chromadb's, with our engine in the place of its own and our options added.

They give out LocalClient: chromadb's own Client, with some methods more, and HttpClient gives out
RemoteClient, on connections of ours; AsyncHttpClient and CloudClient are chromadb's, unchanged.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import chromadb.telemetry.product.posthog  # noqa: F401 - every client needs it: imported once
from chromadb.api.client import AdminClient as AdminClientCreator
from chromadb.api.client import Client as ClientCreator
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
from overrides import override

import vexfs_chroma.api  # noqa: F401 - chromadb asks for it by name: imported once
from vexfs_chroma import _options
from vexfs_chroma._api import VexfsAPI
from vexfs_chroma._install import EMBEDDED
from vexfs_chroma._local_client import LocalClient

if TYPE_CHECKING:
    from chromadb.api import AdminAPI

    from vexfs_chroma._remote_client import RemoteClient

_ENV_FILE = str(Settings.model_config.get("env_file"))
_template: tuple[tuple[dict[str, str], tuple[int, ...] | None], Settings] | None = None


def EphemeralClient(  # noqa: N802  (Chroma's name)
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    *,
    quantization: str | None = None,
    memory_limit: int | None = None,
) -> LocalClient:
    """A client of a database in memory.

    All such clients of a process share one database, which is gone when the last of them is closed.
    `quantization` and `memory_limit` are as for PersistentClient (the records themselves cannot
    leave memory here).
    """
    settings = _fresh_settings() if settings is None else settings
    settings.is_persistent = False
    return _client(settings, tenant, database, quantization=quantization, memory_limit=memory_limit)


def PersistentClient(  # noqa: N802
    path: str | Path = "./chroma",
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    *,
    durability: str | None = None,
    read_only: bool | None = None,
    busy_timeout: float | None = None,
    quantization: str | None = None,
    memory_limit: int | None = None,
) -> LocalClient:
    """A client of the database in directory `path`, which is made if it does not exist.

    Args:
        path: The directory.  Several clients, threads and processes may have it open at once.
        settings: Settings of chromadb; path, persistence and implementation are set in it.
        tenant: The tenant to use.
        database: The database to use.
        durability: "full" (default), "normal" or "off"; see "Durability" in the README.
        read_only: Never write; also works on read-only media.
        busy_timeout: Seconds to wait while another process writes (default 30).
        quantization: What the graphs of large collections read: "auto" (default) a byte per element
            where that is enough to find the nearest, else two, else all four; "sq8" a byte, "none"
            all four: more memory, slightly better results.  Distances are always exact.
        memory_limit: Bytes that the engine stays below as far as it can (default 0: no limit).
            What was used least recently is unloaded, and loaded again when it is needed: slower,
            but the answers are the same.  Settings of Chroma with the same meaning count, too:
            chroma_segment_cache_policy="LRU" with chroma_memory_limit_bytes.

    While the directory is open in this process, a further client of it has the same options: those
    not given are inherited, and other values raise ValueError.
    """
    settings = _fresh_settings() if settings is None else settings
    settings.persist_directory = str(path)
    settings.is_persistent = True
    return _client(
        settings,
        tenant,
        database,
        durability=durability,
        read_only=read_only,
        busy_timeout=busy_timeout,
        quantization=quantization,
        memory_limit=memory_limit,
    )


class _AnyDatabase(LocalClient):
    """A client that has no database of its own, so none has to exist."""

    @override
    def _validate_tenant_database(self, tenant: str, database: str) -> None:
        pass


def client_of_all(
    path: str | Path, settings: Settings | None = None, **options: str | bool | float | None
) -> LocalClient:
    """A client for what concerns all databases of a directory: the default one may be deleted.

    The options are those of PersistentClient.
    """
    settings = _fresh_settings() if settings is None else settings
    settings.persist_directory = str(path)
    settings.is_persistent = True
    return _client(settings, DEFAULT_TENANT, DEFAULT_DATABASE, kind=_AnyDatabase, **options)


def RustClient(  # noqa: N802
    path: str | None = None,
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
) -> LocalClient:
    """A client of directory `path`, or of a database in memory: Chroma's older spelling."""
    settings = _fresh_settings() if settings is None else settings
    settings.is_persistent = path is not None
    settings.persist_directory = path or ""
    return _client(settings, tenant, database)


def Client(  # noqa: N802
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    *,
    durability: str | None = None,
    read_only: bool | None = None,
    busy_timeout: float | None = None,
    quantization: str | None = None,
    memory_limit: int | None = None,
) -> LocalClient:
    """A client of whatever `settings` name; by default a database in memory.

    The options are those of PersistentClient, and for local databases only.  Settings that name a
    server make a client of chromadb's, which has none of our methods.
    """
    return _client(
        _fresh_settings() if settings is None else copy.copy(settings),
        tenant,
        database,
        durability=durability,
        read_only=read_only,
        busy_timeout=busy_timeout,
        quantization=quantization,
        memory_limit=memory_limit,
    )


def HttpClient(  # noqa: N802
    host: str = "localhost",
    port: int = 8000,
    ssl: bool = False,
    headers: dict[str, str] | None = None,
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
) -> RemoteClient:
    """A client of `vexctl serve`, or of a server of Chroma's: chromadb's, with faster connections.

    Its collections have the methods of local ones; those that are not Chroma's need a server of
    ours, and raise NotOfferedError where it is Chroma's.

    Args:
        host: The name of the server, or its whole URL.
        port: Its port.
        ssl: Whether to connect by TLS.
        headers: Headers to send with every request, as {"X-Chroma-Token": "..."}.
        settings: Settings of chromadb; a copy of it is used, with host, port and implementation.
        tenant: The tenant to use.
        database: The database to use.
    """
    settings = _fresh_settings() if settings is None else copy.copy(settings)
    host, port = str(host), int(port)
    for name, given in (("host", host), ("http_port", port)):
        known = getattr(settings, f"chroma_server_{name}")
        if known and known != given:
            words = name.replace("_", " ")
            raise ValueError(
                f"Chroma server {words} provided in settings[{known}] is different to the one "
                f"provided in HttpClient: [{given}]"
            )
    settings.chroma_api_impl = _options.HTTP_IMPLEMENTATION
    settings.chroma_server_host = host
    settings.chroma_server_http_port = port
    settings.chroma_server_ssl_enabled = bool(ssl)
    settings.chroma_server_headers = None if headers is None else dict(headers)
    from vexfs_chroma._remote_client import RemoteClient

    return RemoteClient(settings=settings, tenant=str(tenant), database=str(database))


def AdminClient(settings: Settings | None = None) -> AdminAPI:  # noqa: N802
    """A client that manages tenants and databases."""
    settings = _fresh_settings() if settings is None else copy.copy(settings)
    return AdminClientCreator(settings=_chosen(settings))


def _fresh_settings() -> Settings:
    """What Settings() makes, from a copy as long as the environment is the same.

    Making one takes as long as all the rest of opening a database.
    """
    global _template
    made_from = _settings_sources()
    template = _template
    if template is None or template[0] != made_from:
        template = _template = (made_from, Settings())
    fresh = copy.copy(template[1])
    for name, value in vars(fresh).items():
        if isinstance(value, list | dict):
            vars(fresh)[name] = copy.deepcopy(value)
    return fresh


def _settings_sources() -> tuple[dict[str, str], tuple[int, ...] | None]:
    """What Settings() reads: the environment, and which file `.env` is and since when."""
    try:
        found = Path(_ENV_FILE).stat()
    except OSError:
        file = None
    else:
        file = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return dict(os.environ), file


def _chosen(settings: Settings) -> Settings:
    """`settings` with our implementation in the place of chromadb's local ones."""
    if settings.chroma_api_impl in EMBEDDED:
        settings.chroma_api_impl = _options.IMPLEMENTATION
    return settings


def _client(
    settings: Settings,
    tenant: str,
    database: str,
    *,
    kind: type[LocalClient] = LocalClient,
    **options: str | bool | float | None,
) -> LocalClient:
    settings = _chosen(settings)
    if settings.chroma_api_impl != _options.IMPLEMENTATION:
        refused = [name for name, value in options.items() if value is not None]
        if refused:
            raise ValueError(f"{refused[0]} is an option of local vexfs databases only")
        theirs = ClientCreator(settings=settings, tenant=str(tenant), database=str(database))
        return cast("LocalClient", theirs)
    with _options.given(**options):
        system = SharedSystemClient._identifier_to_system.get(_options.identifier_of(settings))
        if system is not None:
            where = (
                settings.persist_directory if settings.is_persistent else "the database in memory"
            )
            _options.inherited(system.instance(VexfsAPI).options, where)
        return kind(settings=settings, tenant=str(tenant), database=str(database))


_fresh_settings()  # with the import, so that the first client need not wait for it
