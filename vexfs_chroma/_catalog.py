"""The catalog: which tenants, databases and collections exist, under which names.

It holds the metadata and the schema of collections; what ordinary writes change (rows, dimension,
metadata keys seen) lives in the engine.  The file itself is `_catalog_file`'s.

Crash safety.  A collection is one catalog row and one engine directory, and the row is the truth:
  create   within one write transaction: insert the row, make the directory, commit.  A crash leaves
           at worst a directory without a row and without records.
  delete   commit the removal of the row together with a note in `dropped`, then remove the
           directory.  A crash leaves at worst a noted directory.  When the directory cannot be
           removed, the row is put back and the note removed: what raised has not happened.
  fork     commit a note in `dropped` of what is about to be made; then, within one transaction,
           insert the row, remove the note and make the directory.  A crash leaves at worst a noted
           directory, as an interrupted deletion does.
`reconcile`, under the same write lock, removes noted directories and empty ones without a row.  The
lock keeps it apart from a process that is creating a collection right now.  A directory that
holds records and is neither noted nor in the catalog is never removed (somebody restored an old
catalog); nor is a row whose directory is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from chromadb.errors import ChromaError, InternalError, InvalidArgumentError, NotFoundError

from vexfs_chroma._catalog_file import FILE_NAME, CatalogFile, Rows
from vexfs_chroma._catalog_tables import Row
from vexfs_chroma._errors import (
    CorruptionError,
    ForeignDatabaseError,
    StorageFullError,
    StoragePermissionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
NO_OWNER = uuid.UUID(int=0)
"""Owner of a catalog without an engine."""
_SQLITE_CACHE_BYTES = 2000 << 10
"""SQLite's own default, per connection."""


class Database(msgspec.Struct, frozen=True):
    """One database of a tenant."""

    id: uuid.UUID
    name: str
    tenant: str


class Collection(msgspec.Struct, frozen=True):
    """One collection, as the catalog knows it."""

    id: uuid.UUID
    name: str
    metadata: dict[str, Any] | None
    schema: dict[str, Any]
    tenant: str
    database: str


class Removed(msgspec.Struct, frozen=True):
    """What a deletion took out of the catalog."""

    ids: list[uuid.UUID]
    """The collections, whose directories are to drop."""
    rows: list[tuple[str, Row]]
    """With their tables: tenants, then databases, then collections."""


class Catalog:
    """The catalog in directory `path`, or in memory when it is None."""

    def __init__(
        self,
        path: str | None,
        *,
        read_only: bool = False,
        busy_timeout: float = 30.0,
        why_read_only: str = "",
    ) -> None:
        self._file = CatalogFile(path, read_only=read_only, busy_timeout=busy_timeout)
        self._file.why_read_only = why_read_only or self._file.why_read_only

    def prepare(
        self, engine_collections: Callable[[], Sequence[uuid.UUID]], owner: uuid.UUID = NO_OWNER
    ) -> None:
        """Check the file's identity, version and soundness; make its tables if it is new.

        A new catalog beside existing collections would declare them all non-existent, so that is
        refused.  `engine_collections` tells what the engine holds, `owner` is its uuid:
        the catalog of another one raises ForeignDatabaseError.  Damage is no error here: what
        it leaves readable can be read, and the rest raises CorruptionError.
        """
        file = self._file
        with file.together():
            exists = file.exists()
            if exists:
                file.check()
                self._check_owner(owner)
        if not exists and file.read_only:
            raise CorruptionError(
                f"the catalog {file.path} is empty, and it cannot be made because the database is "
                "opened read-only"
            )
        if not exists:
            with file.writing() as rows:
                if not file.exists():  # under the lock: another process may have been faster
                    _make(file, rows, len(engine_collections()), owner)
            file.check()
            self._check_owner(owner)
        if not file.read_only:
            file.reserve()

    @property
    def is_persistent(self) -> bool:
        """Whether it is a file."""
        return self._file.path is not None

    def cache_bytes(self) -> int:
        """What SQLite keeps of the file in memory, at most; 0 for a catalog in memory."""
        path = self._file.path
        return 0 if path is None else min(Path(path).stat().st_size, _SQLITE_CACHE_BYTES)

    def _check_owner(self, owner: uuid.UUID) -> None:
        with self._file.reading() as rows:
            found = [_uuid(row[0]) for row in rows.undamaged("identity")]
        if not found and self._file.damage is None:
            raise self._file.damaged("it does not say which database it belongs to")
        for id in found:
            if id != owner:
                raise ForeignDatabaseError(
                    f"{self._file.path} is the catalog of another database ({id}; the files beside "
                    f"it are those of {owner}); nothing was changed. Restore {FILE_NAME} from a "
                    "backup of this database"
                )

    def reconcile(
        self,
        engine_collections: Callable[[], Sequence[uuid.UUID]],
        drop: Callable[[uuid.UUID], None],
        is_empty: Callable[[uuid.UUID], bool],
    ) -> None:
        """Finish what a crash interrupted; see the top of this file."""
        if self._file.damage is not None:  # it must not decide what is removed
            return
        with self._file.together() as rows:  # usually nothing: then nobody is waited for
            known = {_uuid(row[1]) for row in rows.all("collections")}
            if known == set(engine_collections()) and rows.count("dropped") == 0:
                return
        # A full disk must not keep anybody from opening; the next one to open goes on.
        with contextlib.suppress(StorageFullError), self._file.writing() as rows:
            known = {_uuid(row[1]) for row in rows.all("collections")}
            noted = {_uuid(row[0]) for row in rows.all("dropped")}
            held = set(engine_collections())
            for id in held - known:
                with contextlib.suppress(NotFoundError):  # who deleted it is at it at this moment
                    if id in noted or is_empty(id):
                        drop(id)
                    else:
                        logger.warning(
                            "the directory of collection %s holds records, but no catalog entry "
                            "names it; it was left alone",
                            id,
                        )
            for id in known - held:
                logger.warning(
                    "collection %s has a catalog entry but no directory; restore it from a "
                    "backup, or delete the collection",
                    id,
                )
            if noted:
                rows.delete("dropped")

    def check_present(self) -> None:
        """Raise InternalError when the directory was removed or replaced meanwhile."""
        self._file.check_present()

    def close(self) -> None:
        """Close the connection of this process.  Idempotent."""
        self._file.close()

    # -- tenants and databases -------------------------------------------------------------------

    def create_tenant(self, name: str) -> None:
        """Raises InternalError when it exists, as Chroma does."""
        with self._file.writing() as rows:
            if rows.find("tenants", name=name) is not None:
                raise InternalError(f"Tenant [{name}] already exists")
            rows.insert("tenants", name)

    def has_tenant(self, name: str) -> bool:
        """Whether the tenant was created."""
        with self._file.reading() as rows:
            return rows.find("tenants", name=name) is not None

    def list_tenants(self) -> list[str]:
        """All tenants, by name; also those that were never made, and have databases."""
        with self._file.reading() as rows:
            made = {row[0] for row in rows.all("tenants")}
            return sorted(made.union(row[1] for row in rows.all("databases")))

    def create_database(self, name: str, tenant: str) -> None:
        """Raises InternalError when it exists.  The tenant need not exist, as in Chroma."""
        with self._file.writing() as rows:
            if _find_database(rows, name, tenant) is not None:
                raise InternalError(f"Database [{name}] already exists")
            rows.insert("databases", uuid.uuid4().bytes, tenant, name)

    def find_database(self, name: str, tenant: str) -> Database | None:
        """The database, or None."""
        with self._file.reading() as rows:
            return _find_database(rows, name, tenant)

    def list_databases(self, tenant: str, limit: int | None, offset: int) -> list[Database]:
        """The databases of a tenant, by name."""
        with self._file.reading() as rows:
            found = rows.all("databases", _sql_limit(limit), offset, tenant=tenant)
        return [_database(row) for row in found]

    def delete_database(self, name: str, tenant: str) -> Removed:
        """Delete a database and its collections, whose directories are to drop."""
        with self._file.writing() as rows:
            database = _find_database(rows, name, tenant)
            if database is None:
                raise NotFoundError(f"Database [{name}] not found")
            collections = rows.all("collections", database_id=database.id.bytes)
            rows.delete("collections", database_id=database.id.bytes)
            rows.delete("databases", id=database.id.bytes)
            home = (database.id.bytes, tenant, name)
            return _note_dropped(rows, [("databases", home)], collections)

    # -- collections -----------------------------------------------------------------------------

    def create_collection(
        self,
        name: str,
        metadata: dict[str, Any] | None,
        schema: dict[str, Any],
        tenant: str,
        database: str,
        *,
        get_or_create: bool,
        make: Callable[[uuid.UUID], None],
    ) -> tuple[Collection, bool]:
        """Create a collection; `make` makes its directory.

        Returns it and whether it was created.
        """
        if get_or_create:  # without the write lock, in the usual case
            existing = self.find_collection(name, tenant, database)
            if existing is not None:
                return existing, False
        with self._file.writing() as rows:
            home = _find_database(rows, database, tenant)
            if home is None:
                raise InvalidArgumentError(f"Database [{database}] does not exist")
            existing = _find_collection(rows, name, home)
            if existing is not None:
                if get_or_create:
                    return existing, False
                raise InternalError(f"Collection [{name}] already exists")
            id = uuid.uuid4()
            rows.insert(
                "collections",
                rows.next_position(),
                id.bytes,
                home.id.bytes,
                name,
                _to_json(metadata),
                json.dumps(schema),
            )
            make(id)
        return Collection(id, name, metadata, schema, tenant, database), True

    def fork_collection(
        self,
        source: uuid.UUID,
        name: str,
        *,
        make: Callable[[uuid.UUID], None],
        drop: Callable[[uuid.UUID], None],
    ) -> Collection:
        """Create `name` beside the collection `source`, with its metadata and schema.

        `make` makes its directory, which `drop` removes if the catalog cannot be written then.
        """
        id = uuid.uuid4()
        try:
            entry = None
            while entry is None:
                if self.is_persistent:
                    self._note_fork(source, name, id)
                entry = self._insert_fork(source, name, id, make)
        except BaseException:
            with contextlib.suppress(ChromaError, sqlite3.Error):  # else the next opening does it
                with contextlib.suppress(NotFoundError):
                    drop(id)
                with self._file.writing() as rows:
                    rows.delete("dropped", id=id.bytes)
            raise
        return entry

    def _note_fork(self, source: uuid.UUID, name: str, id: uuid.UUID) -> None:
        with self._file.writing() as rows:
            _check_free(rows, source, name)
            if rows.find("dropped", id=id.bytes) is None:
                rows.insert("dropped", id.bytes)

    def _insert_fork(
        self, source: uuid.UUID, name: str, id: uuid.UUID, make: Callable[[uuid.UUID], None]
    ) -> Collection | None:
        """None: whoever opened the database meanwhile has removed the note, as it does."""
        with self._file.writing() as rows:
            row, home = _check_free(rows, source, name)
            if self.is_persistent and rows.find("dropped", id=id.bytes) is None:
                return None
            rows.delete("dropped", id=id.bytes)
            new = (rows.next_position(), id.bytes, row[2], name, *row[4:])
            rows.insert("collections", *new)
            make(id)
        return _collection(new, home)

    def find_collection(self, name: str, tenant: str, database: str) -> Collection | None:
        """The collection of that name, or None."""
        with self._file.reading() as rows:
            home = _find_database(rows, database, tenant)
            return None if home is None else _find_collection(rows, name, home)

    def find_collection_by_id(self, id: uuid.UUID) -> Collection | None:
        """The collection, in whatever database it is, or None."""
        with self._file.reading() as rows:
            row = rows.find("collections", id=id.bytes)
            home = None if row is None else rows.find("databases", id=row[2])
            return None if row is None or home is None else _collection(row, _database(home))

    def list_collections(
        self, tenant: str, database: str, limit: int | None, offset: int
    ) -> list[Collection]:
        """The collections of a database, oldest first."""
        with self._file.reading() as rows:
            home = _find_database(rows, database, tenant)
            if home is None:
                return []
            found = rows.all("collections", _sql_limit(limit), offset, database_id=home.id.bytes)
        return [_collection(row, home) for row in found]

    def list_all_collections(self) -> list[Collection]:
        """The collections of all databases and tenants, oldest first."""
        with self._file.reading() as rows:
            homes = {row[0]: _database(row) for row in rows.all("databases")}
            found = rows.all("collections")
        return [_collection(row, homes[row[2]]) for row in found if row[2] in homes]

    def list_ids(self) -> list[uuid.UUID]:
        """The ids of all collections, ascending."""
        with self._file.reading() as rows:
            return sorted(_uuid(row[1]) for row in rows.all("collections"))

    def count_collections(self, tenant: str, database: str) -> int:
        """How many collections the database has."""
        with self._file.reading() as rows:
            home = _find_database(rows, database, tenant)
            return 0 if home is None else rows.count("collections", database_id=home.id.bytes)

    def update_collection(
        self,
        id: uuid.UUID,
        *,
        name: str | None,
        change_metadata: bool,
        metadata: dict[str, Any] | None,
        change_schema: Callable[[dict[str, Any]], dict[str, Any]] | None,
    ) -> None:
        """Change the parts of a collection that are given, all or none."""
        with self._file.writing() as rows:
            old = rows.find("collections", id=id.bytes)
            if old is None:
                raise NotFoundError(f"Collection [{id}] does not exist")
            new = list(old)
            if name is not None:
                new[3] = name
            if change_metadata:
                new[4] = _to_json(metadata)
            if change_schema is not None:
                new[5] = json.dumps(change_schema(json.loads(old[5])))
            try:
                rows.replace("collections", old, tuple(new))
            except sqlite3.IntegrityError as error:
                raise InternalError(
                    "Database error: error returned from database: (code: 2067) "
                    "UNIQUE constraint failed: collections.name, collections.database_id"
                ) from error

    def take_name(self, id: uuid.UUID, name: str) -> Removed:
        """Give a collection the name of another one, which is deleted in the same moment.

        Returns what is to drop: nothing if there is no other.
        """
        with self._file.writing() as rows:
            old = rows.find("collections", id=id.bytes)
            if old is None:
                raise NotFoundError(f"Collection [{id}] does not exist")
            other = rows.find("collections", database_id=old[2], name=name)
            taken = [] if other is None or other[1] == id.bytes else [other]
            for row in taken:
                rows.delete("collections", id=row[1])
            rows.replace("collections", old, (*old[:3], name, *old[4:]))
            return _note_dropped(rows, [], taken)

    def delete_collection(self, name: str, tenant: str, database: str) -> Removed:
        """Delete a collection, whose directory is to drop."""
        with self._file.writing() as rows:
            home = _find_database(rows, database, tenant)
            found = None if home is None else _find_collection(rows, name, home)
            if found is None:
                raise NotFoundError(f"Collection [{name}] does not exist")
            entry = rows.all("collections", id=found.id.bytes)
            rows.delete("collections", id=found.id.bytes)
            return _note_dropped(rows, [], entry)

    def reset(self) -> Removed:
        """Delete everything; the directories of the collections are to drop."""
        with self._file.writing() as rows:
            collections = rows.all("collections")
            homes = [(table, row) for table in ("tenants", "databases") for row in rows.all(table)]
            for table in ("collections", "databases", "tenants"):
                rows.delete(table)
            _insert_defaults(rows)
            return _note_dropped(rows, homes, collections)

    def put_back(
        self,
        removed: Removed,
        left: Sequence[uuid.UUID],
        engine_collections: Callable[[], Sequence[uuid.UUID]],
    ) -> None:
        """Take a deletion back as far as directories could not be dropped: those of `left`.

        What somebody else finished is gone, and so is what has a successor of the same name.
        """
        with self._file.writing() as rows:
            waiting = {_uuid(row[0]) for row in rows.all("dropped")} & set(left)
            with contextlib.suppress(StoragePermissionError):  # else nobody can tell: they are
                waiting &= set(engine_collections())
            if not waiting:
                return
            for table, row in removed.rows:
                if table != "collections":
                    _put_back_home(rows, table, row)
                elif _uuid(row[1]) in waiting:
                    _put_back_collection(rows, row)


def _make(file: CatalogFile, rows: Rows, held: int, owner: uuid.UUID) -> None:
    if held:
        raise CorruptionError(
            f"the catalog {file.path} is missing or empty, but the directory holds {held} "
            f"collection(s); restore {FILE_NAME} from a backup"
        )
    file.make_tables()
    rows.insert("identity", owner.bytes)
    _insert_defaults(rows)


def _insert_defaults(rows: Rows) -> None:
    rows.insert("tenants", DEFAULT_TENANT)
    rows.insert("databases", uuid.UUID(int=0).bytes, DEFAULT_TENANT, DEFAULT_DATABASE)


def _note_dropped(rows: Rows, homes: list[tuple[str, Row]], collections: list[Row]) -> Removed:
    # After the rows are removed, so that the pages that they leave can take the notes.
    for row in collections:
        rows.insert("dropped", row[1])
    return Removed(
        [_uuid(row[1]) for row in collections],
        homes + [("collections", row) for row in collections],
    )


def _put_back_home(rows: Rows, table: str, row: Row) -> None:
    """A tenant or a database."""
    with contextlib.suppress(sqlite3.IntegrityError):  # it was made anew
        rows.insert(table, *row)


def _put_back_collection(rows: Rows, row: Row) -> None:
    position, id, database_id, name, *_ = row
    if rows.find("databases", id=database_id) is None or rows.find(
        "collections", database_id=database_id, name=name
    ):
        return
    if rows.find("collections", position=position) is not None:
        position = rows.next_position()
    rows.delete("dropped", id=id)
    rows.insert("collections", position, *row[1:])


def _find_database(rows: Rows, name: str, tenant: str) -> Database | None:
    row = rows.find("databases", tenant=tenant, name=name)
    return None if row is None else _database(row)


def _find_collection(rows: Rows, name: str, home: Database) -> Collection | None:
    row = rows.find("collections", database_id=home.id.bytes, name=name)
    return None if row is None else _collection(row, home)


def _check_free(rows: Rows, source: uuid.UUID, name: str) -> tuple[Row, Database]:
    """The row of a collection, and its database, where nothing else may have that name."""
    row = rows.find("collections", id=source.bytes)
    home = None if row is None else rows.find("databases", id=row[2])
    if row is None or home is None:
        raise NotFoundError(f"Collection [{source}] does not exist.")
    if _find_collection(rows, name, _database(home)) is not None:
        raise InternalError(f"Collection [{name}] already exists")
    return row, _database(home)


def _database(row: Row) -> Database:
    id, tenant, name = row
    return Database(_uuid(id), name, tenant)


def _collection(row: Row, home: Database) -> Collection:
    _, id, _, name, metadata, schema = row
    return Collection(
        _uuid(id),
        name,
        None if metadata is None else json.loads(metadata),
        json.loads(schema),
        home.tenant,
        home.name,
    )


def _uuid(id: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=id)


def _to_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _sql_limit(limit: int | None) -> int:
    return -1 if limit is None else limit
