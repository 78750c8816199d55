"""A Chroma directory, as tenants, databases, collections and their records.

Read from its files alone, so that directories come over that Chroma itself cannot open any more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexfs_chroma._migrate import _hnsw, _pickle, _queue, _recover, _rows
from vexfs_chroma._migrate._sqlite import FILE_NAME, SourceError, SourceFile
from vexfs_chroma._migrate._vectors import Found, Vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

    from vexfs_chroma._migrate._queue import Operation
    from vexfs_chroma._migrate._rows import Row

DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
_DEFAULT_DATABASE_ID = "00000000-0000-0000-0000-000000000000"
_DEFAULT_NEIGHBORS = 16


@dataclass(slots=True)
class SourceCollection:
    """One collection, as the tables describe it."""

    id: str
    name: str
    tenant: str
    database: str
    dimension: int | None
    metadata: dict[str, Any] | None
    configuration: dict[str, Any] | None
    schema: dict[str, Any] | None
    segments: dict[str, str] = field(default_factory=dict)
    """The ids of its segments, by scope: VECTOR and METADATA."""

    @property
    def is_numbered_in_order(self) -> bool:
        """Whether its index numbers ids in the order of their insertion: since 1.0."""
        return bool(schema_parameters(self.schema) or parameters(self.configuration))

    @property
    def space(self) -> str:
        """The distance that its index was made for."""
        return str(self._parameter("space", "hnsw:space", "l2"))

    @property
    def max_neighbors(self) -> int:
        """M of its graph, which the layout of its files depends on."""
        value = self._parameter("max_neighbors", "hnsw:M", _DEFAULT_NEIGHBORS)
        return value if isinstance(value, int) else _DEFAULT_NEIGHBORS

    def _parameter(self, name: str, legacy: str, default: Any) -> Any:
        for hnsw in (schema_parameters(self.schema), parameters(self.configuration)):
            if name in hnsw:
                return hnsw[name]
        return (self.metadata or {}).get(legacy, default)


@dataclass(slots=True)
class SourceRecord:
    """One record.  Its metadata has no hidden keys."""

    id: str
    vector: Found
    document: str | None
    uri: str | None
    metadata: dict[str, Any] | None
    is_complete: bool
    """Whether all of its metadata could be read."""


class ChromaSource:
    """An open Chroma directory.  Nothing is written in it."""

    def __init__(self, directory: str | Path) -> None:
        """Raises SourceError when there is no readable Chroma database."""
        self.directory = Path(directory)
        if not (self.directory / FILE_NAME).is_file():
            raise SourceError(_what_is_missing(self.directory))
        self._file = SourceFile(self.directory)
        self._max_seq_ids = _queue.max_seq_ids(self._file)

    def close(self) -> None:
        """Close it.  Idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take_damage(self) -> list[str]:
        """What could not be read since the last call, in words."""
        damage = list(dict.fromkeys(self._file.damage))
        self._file.damage.clear()
        return damage

    # -- the catalog -----------------------------------------------------------------------------

    def databases(self) -> list[tuple[str, str]]:
        """(tenant, database) of all databases, also empty ones."""
        return list(self._databases().values())

    def tenants(self) -> list[str]:
        """All tenants, also empty ones."""
        return [str(row[1]) for row in self._file.scan("tenants", ("id",))]

    def _databases(self) -> dict[str, tuple[str, str]]:
        found = {_DEFAULT_DATABASE_ID: (DEFAULT_TENANT, DEFAULT_DATABASE)}
        for _, id, name, tenant in self._file.scan("databases", ("id", "name", "tenant_id")):
            found[str(id)] = (str(tenant), str(name))
        return found

    def collections(self) -> list[SourceCollection]:
        """All collections, oldest first."""
        databases = self._databases()
        metadata = self._collection_metadata()
        found = {}
        columns = ("id", "name", "dimension", "database_id", "config_json_str", "schema_str")
        for _, id, name, dimension, database_id, config, schema in self._file.scan(
            "collections", columns
        ):
            home = databases.get(database_id or _DEFAULT_DATABASE_ID)
            if home is None:
                home = (DEFAULT_TENANT, DEFAULT_DATABASE)
                self._file.damage.append(
                    f"collection {name}: its database {database_id} is missing; {home[1]} is used"
                )
            found[id] = SourceCollection(
                id=id,
                name=name,
                tenant=home[0],
                database=home[1],
                dimension=dimension if isinstance(dimension, int) and dimension > 0 else None,
                metadata=metadata.get(id),
                configuration=self._json(config, f"collection {name}: its configuration"),
                schema=self._json(schema, f"collection {name}: its schema"),
            )
        for _, id, scope, collection in self._file.scan("segments", ("id", "scope", "collection")):
            if collection in found:
                found[collection].segments[scope] = id
        return list(found.values())

    def _collection_metadata(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        columns = ("collection_id", "key", "str_value", "int_value", "float_value", "bool_value")
        for _, id, key, text, integer, number, boolean in self._file.scan(
            "collection_metadata", columns
        ):
            value: Any = bool(boolean) if boolean is not None else text
            if value is None:
                value = integer if integer is not None else number
            if value is not None:
                found.setdefault(id, {})[key] = value
        return found

    def _json(self, text: Any, what: str) -> dict[str, Any] | None:
        if not text:
            return None
        try:
            value = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self._file.damage.append(f"{what} is damaged; defaults are used")
            return None
        return value

    # -- records ---------------------------------------------------------------------------------

    def open(self, collections: Sequence[SourceCollection]) -> Records:
        """Read the ids and the log of these collections, in one go through the tables."""
        segments = [c.segments["METADATA"] for c in collections if "METADATA" in c.segments]
        rows = _rows.read_rows(self._file, segments)
        operations = _queue.read_queue(self._file, [c.id for c in collections])
        return Records(self.directory, self._file, self._max_seq_ids, rows, operations)


@dataclass(slots=True)
class Records:
    """The records of collections, collection by collection."""

    _directory: Path
    _file: SourceFile
    _max_seq_ids: dict[str, int]
    _rows: dict[str, dict[str, Row]]
    _operations: dict[str, list[Operation]]

    def of(self, collection: SourceCollection) -> CollectionRecords:
        """The records of one collection."""
        metadata_segment = collection.segments.get("METADATA", "")
        rows = self._rows.pop(metadata_segment, {})
        operations = self._operations.pop(collection.id, [])
        seen = self._max_seq_ids.get(metadata_segment, 0)
        stored = list(rows.values())
        vector_segment = collection.segments.get("VECTOR", "")
        directory = self._directory / vector_segment if vector_segment else None
        index = _Index(directory, collection)
        in_index = self._max_seq_ids.get(vector_segment, index.metadata.max_seq_id or 0)
        vectors = Vectors(self._file, operations, in_index, dict(rows), seen)
        # Before anything was saved, the log has everything.
        known = index.has_all_ids or not in_index
        vectors.use_index(index.files, index.metadata.labels, all_labels=known)
        if index.metadata.damage is not None and collection.is_numbered_in_order:
            index.restore_ids([row.id for row in stored], vectors)
        _rows.apply_log(rows, operations, seen)
        # Chroma 0.4 makes the directory of an index before there is anything to put in it.
        notes = index.notes if rows or stored or operations else []
        return CollectionRecords(self._file, collection, list(rows.values()), vectors, notes)


class _Index:
    """The directory of a vector segment."""

    def __init__(self, directory: Path | None, collection: SourceCollection) -> None:
        self.notes: list[str] = []
        self.files: _hnsw.VectorFiles | None = None
        self.metadata = _pickle.IndexMetadata()
        self.has_all_ids = False
        if directory is None or not directory.is_dir():
            return  # nothing was saved yet; what is missing will be noticed row by row
        try:
            self.files = _hnsw.VectorFiles(
                directory,
                dimension=collection.dimension,
                max_neighbors=collection.max_neighbors,
                cosine=collection.space == "cosine",
            )
            self.notes += self.files.notes
        except (_hnsw.IndexDamagedError, OSError) as error:
            self.notes.append(str(error))
        path = directory / "index_metadata.pickle"
        try:
            self.metadata = _pickle.read_index_metadata(path.read_bytes())
        except OSError as error:
            self.metadata.damage = error.strerror or str(error)
        self.has_all_ids = self.metadata.damage is None
        nothing_saved = self.files is not None and self.files.count == 0
        if self.metadata.damage is not None and not nothing_saved:
            self.notes.append(f"{path}: {self.metadata.damage}")

    def restore_ids(self, ids: list[str], vectors: Vectors) -> None:
        """Find out which vector belongs to which id, as the list of them is damaged."""
        files = self.files
        if files is None or files.count == 0:
            return
        found, anchors = _recover.labels_by_order(
            files, ids, self.metadata.labels, vectors.from_log(ids)
        )
        known = len(self.metadata.labels)
        found.update(self.metadata.labels)
        if len(found) > known:
            vectors.use_index(files, found, all_labels=False)
            self.notes.append(
                f"{len(found) - known} vectors were given back their ids by their order, which "
                f"{anchors} known places confirm"
            )


class CollectionRecords:
    """The records of one collection, in order of insertion."""

    def __init__(
        self,
        file: SourceFile,
        collection: SourceCollection,
        rows: list[Row],
        vectors: Vectors,
        notes: list[str],
    ) -> None:
        self._file, self._rows, self._vectors = file, rows, vectors
        self._dimension = collection.dimension
        self.notes = notes

    def __len__(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        """Close the index files.  Idempotent."""
        if self._vectors.files is not None:
            self._vectors.files.close()

    def pages(self, size: int) -> Iterator[list[SourceRecord]]:
        """The records, `size` at a time."""
        for first in range(0, len(self._rows), size):
            page = self._rows[first : first + size]
            vectors = self._vectors.find([row.id for row in page], self._dimension)
            metadatas = _rows.read_metadata(self._file, page)
            yield [
                _record(row, vector, metadata, is_complete=complete)
                for row, vector, (metadata, complete) in zip(page, vectors, metadatas, strict=True)
            ]


def _record(
    row: Row, vector: Found, metadata: dict[str, Any], *, is_complete: bool
) -> SourceRecord:
    document = metadata.pop(_rows.DOCUMENT_KEY, None)
    uri = metadata.pop(_rows.URI_KEY, None)
    return SourceRecord(
        id=row.id,
        vector=vector,
        document=document if isinstance(document, str) else None,
        uri=uri if isinstance(uri, str) else None,
        metadata=metadata or None,
        is_complete=is_complete,
    )


# -- configurations of all releases -------------------------------------------------------------


def parameters(configuration: dict[str, Any] | None) -> dict[str, Any]:
    """The HNSW parameters in a configuration, by their names of today.

    They are under "hnsw" (or "vector_index" -> "hnsw") since 1.0.  Up to 0.6 there is a
    "hnsw_configuration", which always tells the defaults: only the metadata counted.
    """
    if not configuration:
        return {}
    for place in (
        configuration.get("hnsw"),
        _inner(configuration.get("vector_index"), "hnsw"),
    ):
        if isinstance(place, dict):
            return {name: value for name, value in place.items() if value is not None}
    return {}


def schema_parameters(schema: dict[str, Any] | None) -> dict[str, Any]:
    """The same of a schema (since 1.2)."""
    config: Any = schema
    for name in ("keys", "#embedding", "float_list", "vector_index", "config"):
        config = _inner(config, name)
    if not isinstance(config, dict):
        return {}
    hnsw = config.get("hnsw")
    found = dict(hnsw) if isinstance(hnsw, dict) else {}
    if "space" in config:
        found["space"] = config["space"]
    return found


def _inner(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _what_is_missing(directory: Path) -> str:
    if not directory.exists():
        return f"{directory} does not exist"
    if any(directory.glob("chroma-*.parquet")):
        return (
            f"{directory} was written by Chroma 0.3 (chroma-*.parquet); only directories of 0.4 "
            "and later, with chroma.sqlite3, can be read"
        )
    return f"{directory} holds no Chroma database (chroma.sqlite3)"
