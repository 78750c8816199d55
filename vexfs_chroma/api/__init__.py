"""chromadb.api with our implementation, `vexfs_chroma.api.VexfsAPI`, added.

Its submodules are chromadb's own (`vexfs_chroma.api.types is chromadb.api.types`).
"""

from __future__ import annotations

from typing import Any

import chromadb.api as _chromadb_api
from chromadb.api import (
    AdminAPI,
    AsyncAdminAPI,
    AsyncBaseAPI,
    AsyncClientAPI,
    AsyncServerAPI,
    BaseAPI,
    ClientAPI,
    ServerAPI,
)

from vexfs_chroma._api import VexfsAPI

__all__ = [
    "AdminAPI",
    "AsyncAdminAPI",
    "AsyncBaseAPI",
    "AsyncClientAPI",
    "AsyncServerAPI",
    "BaseAPI",
    "ClientAPI",
    "ServerAPI",
    "VexfsAPI",
]


def __getattr__(name: str) -> Any:
    if name == "HttpAPI":  # with the first client of a server
        from vexfs_chroma._http_api import HttpAPI

        return HttpAPI
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_chromadb_api, name)
