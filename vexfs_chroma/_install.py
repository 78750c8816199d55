"""How chromadb comes to use us.

`register`, on import of vexfs_chroma, makes chromadb accept `Settings(chroma_api_impl=
"vexfs_chroma.api.VexfsAPI")`: its SharedSystemClient knows the built-in names only, so the one
static method that looks at them is wrapped.  For every other name it does what it did.

`install` is the explicit opt-in: from then on plain `chromadb.Client(...)`, `EphemeralClient` and
`PersistentClient`, in whoever's code, open vexfs databases: the wrapped method is the first to see
the settings of every client.  The class of client that these functions make is chosen by
`_make_client`, so that such clients and their collections have our methods, too.
"""

from __future__ import annotations

import copy
import functools
import uuid
import weakref
from typing import TYPE_CHECKING

import chromadb
from chromadb.api.client import Client
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT

from vexfs_chroma._local_client import LocalClient
from vexfs_chroma._options import HTTP_IMPLEMENTATION, IMPLEMENTATION, identifier_of

if TYPE_CHECKING:
    from chromadb.config import Settings

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
    chromadb.ClientCreator = _make_client  # type: ignore[misc,assignment]


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


def _make_client(
    settings: Settings, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
) -> Client:
    """What chromadb's client functions call in the place of its class Client."""
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
