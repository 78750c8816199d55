"""vexfs_chroma: a drop-in ChromaDB replacement.

    import vexfs_chroma as chromadb

Every public name and module of chromadb is here, as chromadb's own object, except the functions
that make local clients: those open a vexfs database.  `install()` does the same for code that
imports chromadb itself.

Local clients and their collections are a LocalClient and LocalCollections: kinds of chromadb's
classes, with a few methods more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import chromadb as _chromadb
from chromadb import (
    DEFAULT_DATABASE,
    DEFAULT_TENANT,
    URI,
    AdminAPI,
    AsyncClientAPI,
    AsyncHttpClient,
    BoolInvertedIndexConfig,
    ClientAPI,
    CloudClient,
    Cmek,
    Collection,
    CollectionMetadata,
    Documents,
    EmbeddingFunction,
    Embeddings,
    FloatInvertedIndexConfig,
    FtsIndexConfig,
    GetResult,
    HnswIndexConfig,
    IDs,
    Include,
    IntInvertedIndexConfig,
    K,
    Key,
    Knn,
    Metadata,
    Metadatas,
    QueryResult,
    ReadLevel,
    Rrf,
    Schema,
    Search,
    Settings,
    SpannIndexConfig,
    SparseEmbeddingFunction,
    SparseVector,
    SparseVectorIndexConfig,
    SparseVectors,
    StringInvertedIndexConfig,
    TokenTransportHeader,
    UpdateCollectionMetadata,
    UpdateMetadata,
    URIs,
    VectorIndexConfig,
    Where,
    WhereDocument,
    configure,
    get_settings,
)

from vexfs_chroma import _aliases, _install
from vexfs_chroma._bm25 import Bm25
from vexfs_chroma._client import (
    AdminClient,
    Client,
    EphemeralClient,
    HttpClient,
    PersistentClient,
    RustClient,
)
from vexfs_chroma._collection import Collection as LocalCollection
from vexfs_chroma._errors import (
    CorruptionError,
    DatabaseLockedError,
    ForeignDatabaseError,
    NotOfferedError,
    ReadOnlyError,
    StorageFullError,
    StoragePermissionError,
)
from vexfs_chroma._install import install, uninstall
from vexfs_chroma._local_client import LocalClient
from vexfs_chroma._version import __version__

if TYPE_CHECKING:
    from vexfs_chroma._aggregates import KeySummary, ValueCount
    from vexfs_chroma._async_client import AsyncClient, AsyncCollection, AsyncLocalClient
    from vexfs_chroma._backup import BackupReport, backup, restore
    from vexfs_chroma._integrity import CheckReport, Finding, Loss, RepairReport, check, repair
    from vexfs_chroma._memory import MemoryReport
    from vexfs_chroma._migrate import (
        CollectionReport,
        ConflictError,
        MigrationReport,
        SourceError,
        export_chroma,
        export_jsonl,
        export_npz,
        export_parquet,
        import_chroma,
        import_files,
    )
    from vexfs_chroma._observe._otel import Tracing, start_tracing
    from vexfs_chroma._query_plan import QueryPlan
    from vexfs_chroma._recall import RecallReport
    from vexfs_chroma._remote_client import RemoteClient, RemoteCollection
    from vexfs_chroma._stats import (
        CollectionStats,
        DatabaseStats,
        DiskUsage,
        ProcessStats,
        stats,
    )

__all__ = [
    "DEFAULT_DATABASE",
    "DEFAULT_TENANT",
    "URI",
    "AdminAPI",
    "AdminClient",
    "AsyncClient",
    "AsyncClientAPI",
    "AsyncCollection",
    "AsyncHttpClient",
    "AsyncLocalClient",
    "BackupReport",
    "Bm25",
    "BoolInvertedIndexConfig",
    "CheckReport",
    "Client",
    "ClientAPI",
    "CloudClient",
    "Cmek",
    "Collection",
    "CollectionMetadata",
    "CollectionReport",
    "CollectionStats",
    "ConflictError",
    "CorruptionError",
    "DatabaseLockedError",
    "DatabaseStats",
    "DiskUsage",
    "Documents",
    "EmbeddingFunction",
    "Embeddings",
    "EphemeralClient",
    "Finding",
    "FloatInvertedIndexConfig",
    "ForeignDatabaseError",
    "FtsIndexConfig",
    "GetResult",
    "HnswIndexConfig",
    "HttpClient",
    "IDs",
    "Include",
    "IntInvertedIndexConfig",
    "K",
    "Key",
    "KeySummary",
    "Knn",
    "LocalClient",
    "LocalCollection",
    "Loss",
    "MemoryReport",
    "Metadata",
    "Metadatas",
    "MigrationReport",
    "NotOfferedError",
    "PersistentClient",
    "ProcessStats",
    "QueryPlan",
    "QueryResult",
    "ReadLevel",
    "ReadOnlyError",
    "RecallReport",
    "RemoteClient",
    "RemoteCollection",
    "RepairReport",
    "Rrf",
    "RustClient",
    "Schema",
    "Search",
    "Settings",
    "SourceError",
    "SpannIndexConfig",
    "SparseEmbeddingFunction",
    "SparseVector",
    "SparseVectorIndexConfig",
    "SparseVectors",
    "StorageFullError",
    "StoragePermissionError",
    "StringInvertedIndexConfig",
    "TokenTransportHeader",
    "Tracing",
    "URIs",
    "UpdateCollectionMetadata",
    "UpdateMetadata",
    "ValueCount",
    "VectorIndexConfig",
    "Where",
    "WhereDocument",
    "__version__",
    "backup",
    "check",
    "configure",
    "export_chroma",
    "export_jsonl",
    "export_npz",
    "export_parquet",
    "get_settings",
    "import_chroma",
    "import_files",
    "install",
    "repair",
    "restore",
    "start_tracing",
    "stats",
    "uninstall",
]

# Tools that most programs never call are imported when they are first named.
_LATER = {
    "_async_client": ("AsyncClient", "AsyncCollection", "AsyncLocalClient"),
    "_aggregates": ("KeySummary", "ValueCount"),
    "_backup": ("BackupReport", "backup", "restore"),
    "_integrity": ("CheckReport", "Finding", "Loss", "RepairReport", "check", "repair"),
    "_migrate": (
        "CollectionReport",
        "ConflictError",
        "MigrationReport",
        "SourceError",
        "export_chroma",
        "export_jsonl",
        "export_npz",
        "export_parquet",
        "import_chroma",
        "import_files",
    ),
    "_memory": ("MemoryReport",),
    "_observe._otel": ("Tracing", "start_tracing"),
    "_query_plan": ("QueryPlan",),
    "_recall": ("RecallReport",),
    "_remote_client": ("RemoteClient", "RemoteCollection"),
    "_stats": ("CollectionStats", "DatabaseStats", "DiskUsage", "ProcessStats", "stats"),
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names}

_aliases.install()
_install.register()


def __getattr__(name: str) -> Any:
    """Our tools, and whatever else is public in chromadb: submodules, names of later releases."""
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(_chromadb, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(
        {*globals(), *__all__, *(name for name in dir(_chromadb) if not name.startswith("_"))}
    )
