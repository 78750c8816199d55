"""Moving data in and out: Chroma directories, broken ones too, and other formats, both ways."""

from __future__ import annotations

from vexfs_chroma._migrate._chroma_import import import_chroma
from vexfs_chroma._migrate._export import (
    export_chroma,
    export_jsonl,
    export_npz,
    export_parquet,
)
from vexfs_chroma._migrate._file_import import import_files
from vexfs_chroma._migrate._report import CollectionReport, MigrationReport
from vexfs_chroma._migrate._sqlite import SourceError
from vexfs_chroma._migrate._target import ConflictError

__all__ = [
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
]
