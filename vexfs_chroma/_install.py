"""How chromadb comes to use us.

`register`, on import of vexfs_chroma, makes chromadb accept `Settings(chroma_api_impl=
"vexfs_chroma.api.VexfsAPI")`: its SharedSystemClient knows the built-in names only, so the one
static method that looks at them is wrapped.  For every other name it does what it did.

`install` is the explicit opt-in: from then on plain `chromadb.Client(...)`, `EphemeralClient` and
`PersistentClient`, in whoever's code, open vexfs databases: the wrapped method is the first to see
the settings of every client.  The class of client that these functions make is chosen by
`ChosenClient`, so that such clients and their collections have our methods, too.
"""

from __future__ import annotations

import abc
import copy
import functools
import uuid
import weakref
from typing import Any

import chromadb
from chromadb.api.client import Client
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings

from vexfs_chroma._local_client import LocalClient
from vexfs_chroma._options import HTTP_IMPLEMENTATION, IMPLEMENTATION, identifier_of

EMBEDDED = frozenset({"chromadb.api.rust.RustBindingsAPI", "chromadb.api.segment.SegmentAPI"})
"""The names of chromadb's own local implementations."""

_installed = False
_redirected: list[tuple[weakref.ref[Settings], str]] = []
_servers: dict[int, tuple[weakref.ref[Settings], str]] = {}


def install() -> None:
    """Make chromadb's own client functions use vexfs_chroma, in this process, from now on.

    Clients that exist already are not touched.
    """
    global _installed
    _installed = True
    chromadb.ClientCreator = ChosenClient  # type: ignore[misc]


def is_installed() -> bool:
    """Whether chromadb's own client functions use vexfs_chroma now."""
    return _installed


def uninstall() -> None:
    """Undo install(): new clients of chromadb's own functions use Chroma again.

    Clients that are open go on, on vexfs databases, until they are closed.
    """
    global _installed
    _installed = False
    chromadb.ClientCreator = Client  # type: ignore[misc]
    for reference, name in _redirected:
        settings = reference()
        if settings is not None:
            # The object is the caller's (often chromadb's own default one) and goes back to what
            # it was; a System that runs on it keeps what it was made from.
            for system in list(SharedSystemClient._identifier_to_system.values()):
                if system.settings is settings:
                    system.settings = copy.copy(settings)
            settings.chroma_api_impl = name
    _redirected.clear()


class _Choosing(abc.ABCMeta):
    """Of ChosenClient alone; classes that are derived from it are like all others."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not ChosenClient:
            return super().__call__(*args, **kwargs)
        return _make_client(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        if cls is ChosenClient:
            return Client in type(instance).__mro__
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls is ChosenClient:
            return Client in subclass.__mro__  # issubclass() would ask its subclasses: this one
        return super().__subclasscheck__(subclass)


class ChosenClient(Client, metaclass=_Choosing):
    """What is chromadb's class Client under the name by which its functions make clients.

    Making one gives a LocalClient, or a Client where the settings are those of a server; either is
    an instance of it.
    """


def _make_client(
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    settings: Settings | None = None,
) -> Client:
    settings = settings or Settings()
    local = settings.chroma_api_impl in EMBEDDED or settings.chroma_api_impl == IMPLEMENTATION
    return (LocalClient if local else Client)(tenant, database, settings)


def _server_identifier(settings: Settings) -> str:
    """The name under which chromadb shares the System of a server: one for each Settings object.

    So a client and the AdminClient within it have one System, which is stopped with them, and no
    two clients of servers share anything (HttpClient() makes Settings of its own for each).
    chromadb takes another name each time that it asks, makes two Systems, and never lets go of one.
    """
    known = _servers.get(id(settings))
    if known is None or known[0]() is not settings:
        known = (weakref.ref(settings), str(uuid.uuid4()))
        weakref.finalize(settings, _servers.pop, id(settings), None).atexit = False
        _servers[id(settings)] = known
    return known[1]


def register() -> None:
    """Teach chromadb's SharedSystemClient our name.  Safe to call twice."""
    original = SharedSystemClient._get_identifier_from_settings
    if getattr(original, "knows_vexfs", False):
        return

    @functools.wraps(original)
    def identifier(settings: Settings) -> str:
        if _installed and settings.chroma_api_impl in EMBEDDED:
            _redirected[:] = [entry for entry in _redirected if entry[0]() is not None]
            _redirected.append((weakref.ref(settings), settings.chroma_api_impl))
            settings.chroma_api_impl = IMPLEMENTATION
        if settings.chroma_api_impl == IMPLEMENTATION:
            return identifier_of(settings)
        if settings.chroma_api_impl == HTTP_IMPLEMENTATION:
            return _server_identifier(settings)
        return original(settings)

    identifier.knows_vexfs = True  # type: ignore[attr-defined]
    SharedSystemClient._get_identifier_from_settings = staticmethod(identifier)  # type: ignore[method-assign]
