"""Moving data in and out: Chroma directories, broken ones too, and other formats, both ways."""

from __future__ import annotations

from vexfs_chroma._migrate._chroma_import import import_chroma
from vexfs_chroma._migrate._report import CollectionReport, MigrationReport
from vexfs_chroma._migrate._sqlite import SourceError
from vexfs_chroma._migrate._target import ConflictError

__all__ = [
    "CollectionReport",
    "ConflictError",
    "MigrationReport",
    "SourceError",
    "import_chroma",
]
