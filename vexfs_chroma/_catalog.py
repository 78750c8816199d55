"""The catalog: tenants, databases and collections, in one SQLite file.

The catalog says which collections exist, under which names, with which metadata and schema.  What
ordinary writes change (rows, dimension, metadata keys seen) lives in the engine.

Crash safety.  A collection is one catalog row and one engine directory, and the row is the truth:
  create   within one write transaction: insert the row, make the directory, commit.  A crash leaves
           at worst a directory without a row and without records.
  delete   commit the removal of the row together with a note in `dropped`, then remove the
           directory.  A crash leaves at worst a noted directory.
`reconcile`, under the same write lock, removes noted directories and empty ones without a row.  The
lock keeps it apart from a process that is creating a collection right now.  A directory that
holds records and is neither noted nor in the catalog is never removed (somebody restored an old
catalog); nor is a row whose directory is gone.

Processes and threads.  The file is in rollback-journal mode with synchronous=FULL.  Nothing is
cached: each call reads what any process has committed.  A process has one connection, guarded by a
lock; after a fork the child opens its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chromadb.errors import (
    ChromaError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    VersionMismatchError,
)

from vexfs_chroma._errors import (
    CorruptionError,
    DatabaseLockedError,
    ReadOnlyError,
    StorageFullError,
    StoragePermissionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger(__name__)

FILE_NAME = "catalog.sqlite3"
DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"

_APPLICATION_ID = 0x56455846  # "VEXF"
_VERSION = 1
_SCHEMA = """
CREATE TABLE tenants (name TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE databases (
    id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (tenant, name)
) WITHOUT ROWID;
CREATE TABLE collections (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    database_id BLOB NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT,
    schema TEXT NOT NULL,
    UNIQUE (database_id, name)
);
CREATE TABLE dropped (id BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID;
"""
_SELECT = """
SELECT c.id, c.name, c.metadata, c.schema, d.tenant, d.name
FROM collections c JOIN databases d ON d.id = c.database_id
"""


@dataclass(slots=True, frozen=True)
class Database:
    """One database of a tenant."""

    id: uuid.UUID
    name: str
    tenant: str


@dataclass(slots=True, frozen=True)
class Collection:
    """One collection, as the catalog knows it."""

    id: uuid.UUID
    name: str
    metadata: dict[str, Any] | None
    schema: dict[str, Any]
    tenant: str
    database: str


@dataclass(slots=True)
class _Session:
    """The connection of one process."""

    pid: int
    connection: sqlite3.Connection
    lock: threading.RLock


class Catalog:
    """The catalog in directory `path`, or in memory when it is None."""

    def __init__(
        self, path: str | None, *, read_only: bool = False, busy_timeout: float = 30.0
    ) -> None:
        self._path = None if path is None else str(Path(path) / FILE_NAME)
        self._read_only = read_only
        self._busy_timeout = busy_timeout
        self._closed = False
        self._abandoned: list[
            _Session
        ] = []  # of a parent process; closing them is not our business
        self._session = self._connect()
        self._finalizer = weakref.finalize(self, _close_session, self._session)

    def prepare(self, engine_collections: Callable[[], Sequence[uuid.UUID]]) -> None:
        """Check the file's identity and version; make its tables if it is new.

        A new catalog beside existing collections would declare them all non-existent, so that is
        refused.  `engine_collections` tells what the engine holds.
        """
        with self._reading() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if self._read_only or version == _VERSION:
                if not self._check_version(db):
                    raise CorruptionError(
                        f"the catalog {self._path} is empty, and it cannot be made because the "
                        "database is opened read-only"
                    )
                return
        with (
            self._writing() as db
        ):  # what a new or foreign file holds is stable only under the lock
            if self._check_version(db) == _VERSION:  # another process was faster
                return
            held = len(engine_collections())
            if held:
                raise CorruptionError(
                    f"the catalog {self._path} is missing or empty, but the directory holds "
                    f"{held} collection(s); restore {FILE_NAME} from a backup"
                )
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            _insert_defaults(db)
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_VERSION}")

    def reconcile(
        self,
        engine_collections: Callable[[], Sequence[uuid.UUID]],
        drop: Callable[[uuid.UUID], None],
        is_empty: Callable[[uuid.UUID], bool],
    ) -> None:
        """Finish what a crash interrupted; see the top of this file."""
        with self._writing() as db:
            known = {uuid.UUID(bytes=row[0]) for row in db.execute("SELECT id FROM collections")}
            noted = {uuid.UUID(bytes=row[0]) for row in db.execute("SELECT id FROM dropped")}
            held = set(engine_collections())
            for id in held - known:
                if id in noted or is_empty(id):
                    drop(id)
                else:
                    logger.warning(
                        "the directory of collection %s holds records, but no catalog entry names "
                        "it; it was left alone",
                        id,
                    )
            if noted:  # a full disk must not keep anybody from opening
                db.execute("DELETE FROM dropped")
            for id in known - held:
                logger.warning(
                    "collection %s has a catalog entry but no directory; restore it from a "
                    "backup, or delete the collection",
                    id,
                )

    def close(self) -> None:
        """Close the connection of this process.  Idempotent."""
        self._closed = True
        self._finalizer()

    # -- tenants and databases -------------------------------------------------------------------

    def create_tenant(self, name: str) -> None:
        """Raises InternalError when it exists, as Chroma does."""
        with self._writing() as db:
            try:
                db.execute("INSERT INTO tenants VALUES (?)", (name,))
            except sqlite3.IntegrityError as error:
                raise InternalError(f"Tenant [{name}] already exists") from error

    def has_tenant(self, name: str) -> bool:
        """Whether the tenant was created."""
        with self._reading() as db:
            query = "SELECT 1 FROM tenants WHERE name = ?"
            return db.execute(query, (name,)).fetchone() is not None

    def create_database(self, name: str, tenant: str) -> None:
        """Raises InternalError when it exists.  The tenant need not exist, as in Chroma."""
        with self._writing() as db:
            try:
                row = (uuid.uuid4().bytes, tenant, name)
                db.execute("INSERT INTO databases VALUES (?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise InternalError(f"Database [{name}] already exists") from error

    def find_database(self, name: str, tenant: str) -> Database | None:
        """The database, or None."""
        with self._reading() as db:
            return _find_database(db, name, tenant)

    def list_databases(self, tenant: str, limit: int | None, offset: int) -> list[Database]:
        """The databases of a tenant, by name."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, name, tenant FROM databases WHERE tenant = ? "
                "ORDER BY name LIMIT ? OFFSET ?",
                (tenant, _sql_limit(limit), offset),
            ).fetchall()
        return [Database(uuid.UUID(bytes=id), name, tenant) for id, name, tenant in rows]

    def delete_database(self, name: str, tenant: str) -> list[uuid.UUID]:
        """Delete a database; returns the ids of its collections, whose directories are to drop."""
        with self._writing() as db:
            database = _find_database(db, name, tenant)
            if database is None:
                raise NotFoundError(f"Database [{name}] not found")
            key = (database.id.bytes,)
            ids = db.execute("SELECT id FROM collections WHERE database_id = ?", key).fetchall()
            db.executemany("INSERT OR IGNORE INTO dropped VALUES (?)", ids)
            db.execute("DELETE FROM collections WHERE database_id = ?", key)
            db.execute("DELETE FROM databases WHERE id = ?", key)
        return [uuid.UUID(bytes=id) for (id,) in ids]

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
        with self._writing() as db:
            home = _find_database(db, database, tenant)
            if home is None:
                raise InvalidArgumentError(f"Database [{database}] does not exist")
            existing = _find_collection(db, name, tenant, database)
            if existing is not None:
                if get_or_create:
                    return existing, False
                raise InternalError(f"Collection [{name}] already exists")
            id = uuid.uuid4()
            db.execute(
                "INSERT INTO collections (id, database_id, name, metadata, schema) "
                "VALUES (?, ?, ?, ?, ?)",
                (id.bytes, home.id.bytes, name, _to_json(metadata), _to_json(schema)),
            )
            make(id)
        return Collection(id, name, metadata, schema, tenant, database), True

    def find_collection(self, name: str, tenant: str, database: str) -> Collection | None:
        """The collection of that name, or None."""
        with self._reading() as db:
            return _find_collection(db, name, tenant, database)

    def find_collection_by_id(self, id: uuid.UUID) -> Collection | None:
        """The collection, in whatever database it is, or None."""
        with self._reading() as db:
            row = db.execute(f"{_SELECT} WHERE c.id = ?", (id.bytes,)).fetchone()
        return None if row is None else _collection(row)

    def list_collections(
        self, tenant: str, database: str, limit: int | None, offset: int
    ) -> list[Collection]:
        """The collections of a database, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                f"{_SELECT} WHERE d.tenant = ? AND d.name = ? ORDER BY c.position LIMIT ? OFFSET ?",
                (tenant, database, _sql_limit(limit), offset),
            ).fetchall()
        return [_collection(row) for row in rows]

    def count_collections(self, tenant: str, database: str) -> int:
        """How many collections the database has."""
        with self._reading() as db:
            (count,) = db.execute(
                "SELECT count(*) FROM collections c JOIN databases d ON d.id = c.database_id "
                "WHERE d.tenant = ? AND d.name = ?",
                (tenant, database),
            ).fetchone()
        return int(count)

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
        with self._writing() as db:
            row = db.execute(f"{_SELECT} WHERE c.id = ?", (id.bytes,)).fetchone()
            if row is None:
                raise NotFoundError(f"Collection [{id}] does not exist")
            key = id.bytes
            if change_schema is not None:
                schema = _to_json(change_schema(_collection(row).schema))
                db.execute("UPDATE collections SET schema = ? WHERE id = ?", (schema, key))
            if change_metadata:
                text = _to_json(metadata)
                db.execute("UPDATE collections SET metadata = ? WHERE id = ?", (text, key))
            if name is not None:
                try:
                    db.execute("UPDATE collections SET name = ? WHERE id = ?", (name, key))
                except sqlite3.IntegrityError as error:
                    raise InternalError(
                        "Database error: error returned from database: (code: 2067) "
                        "UNIQUE constraint failed: collections.name, collections.database_id"
                    ) from error

    def delete_collection(self, name: str, tenant: str, database: str) -> uuid.UUID:
        """Delete a collection; returns its id, whose directory is to drop."""
        with self._writing() as db:
            found = _find_collection(db, name, tenant, database)
            if found is None:
                raise NotFoundError(f"Collection [{name}] does not exist")
            key = (found.id.bytes,)
            db.execute("INSERT OR IGNORE INTO dropped VALUES (?)", key)
            db.execute("DELETE FROM collections WHERE id = ?", key)
        return found.id

    def reset(self) -> list[uuid.UUID]:
        """Delete everything; returns the ids of the collections, whose directories are to drop."""
        with self._writing() as db:
            ids = db.execute("SELECT id FROM collections").fetchall()
            db.executemany("INSERT OR IGNORE INTO dropped VALUES (?)", ids)
            for table in ("collections", "databases", "tenants"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608  (a name from the line above)
            _insert_defaults(db)
        return [uuid.UUID(bytes=id) for (id,) in ids]

    # -- the connection --------------------------------------------------------------------------

    def _check_version(self, db: sqlite3.Connection) -> int:
        """The version of the catalog; 0 when it is new.  Refuses what is not ours."""
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > _VERSION and application == _APPLICATION_ID:
            raise VersionMismatchError(
                f"the catalog {self._path} was written by a later release (format {version}, this "
                f"release knows {_VERSION}); upgrade vexfs_chroma"
            )
        is_ours = application == _APPLICATION_ID and version == _VERSION
        is_new = application == 0 and version == 0 and tables == 0
        if not is_ours and not is_new:
            raise CorruptionError(
                f"{self._path} is not a catalog of vexfs_chroma; restore it from a backup"
            )
        return int(version)

    def _connect(self) -> _Session:
        uri, options = ":memory:", ""
        if self._path is not None:
            options = "?mode=rwc"
            if self._read_only:
                options = "?mode=ro"
                if _is_on_read_only_media(self._path):
                    options += "&immutable=1"  # not even lock files can be made there
            uri = f"file:{quote(os.path.realpath(self._path))}{options}"
        try:
            connection = sqlite3.connect(
                uri,
                uri=self._path is not None,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._error(error) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            connection.close()
            raise self._error(error) from error
        return _Session(os.getpid(), connection, threading.RLock())

    def _current(self) -> _Session:
        if self._closed:
            raise InternalError("the catalog is closed")
        session = self._session
        if session.pid != os.getpid():
            # In a fork.  The inherited lock may be held by a thread that does not exist here, and
            # an inherited SQLite connection must be neither used nor closed.
            self._abandoned.append(session)
            if self._path is None:
                session = _Session(os.getpid(), session.connection, threading.RLock())
            else:
                session = self._connect()
            self._session = session
            self._finalizer = weakref.finalize(self, _close_session, session)
        return session

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        session = self._current()
        with session.lock:
            try:
                yield session.connection
            except sqlite3.Error as error:
                raise self._error(error) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed when the block ends, undone when it raises."""
        if self._read_only:
            raise ReadOnlyError("the database was opened read-only")
        session = self._current()
        with session.lock:
            db = session.connection
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> ChromaError:
        """What a failure of SQLite means to the caller."""
        text = str(error)
        where = self._path or "the catalog in memory"
        if "locked" in text:
            return DatabaseLockedError(
                f"another process holds {where} for longer than {self._busy_timeout:g} s; "
                "try again, or raise busy_timeout"
            )
        if "readonly" in text:
            return ReadOnlyError(f"{where} cannot be written ({text})")
        if "disk is full" in text:
            return StorageFullError(f"{where} could not grow: the disk is full")
        if "unable to open" in text:
            return StoragePermissionError(f"{where} cannot be opened ({text})")
        if "not a database" in text or "malformed" in text:
            return CorruptionError(f"{where} is damaged ({text}); restore it from a backup")
        return InternalError(f"{where}: {text}")


def _close_session(session: _Session) -> None:
    if session.pid == os.getpid():
        with session.lock:
            session.connection.close()


def _insert_defaults(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO tenants VALUES (?)", (DEFAULT_TENANT,))
    row = (uuid.UUID(int=0).bytes, DEFAULT_TENANT, DEFAULT_DATABASE)
    db.execute("INSERT INTO databases VALUES (?, ?, ?)", row)


def _find_database(db: sqlite3.Connection, name: str, tenant: str) -> Database | None:
    query = "SELECT id FROM databases WHERE tenant = ? AND name = ?"
    row = db.execute(query, (tenant, name)).fetchone()
    return None if row is None else Database(uuid.UUID(bytes=row[0]), name, tenant)


def _find_collection(
    db: sqlite3.Connection, name: str, tenant: str, database: str
) -> Collection | None:
    query = f"{_SELECT} WHERE d.tenant = ? AND d.name = ? AND c.name = ?"
    row = db.execute(query, (tenant, database, name)).fetchone()
    return None if row is None else _collection(row)


def _collection(row: tuple[bytes, str, str | None, str, str, str]) -> Collection:
    id, name, metadata, schema, tenant, database = row
    return Collection(
        uuid.UUID(bytes=id),
        name,
        None if metadata is None else json.loads(metadata),
        json.loads(schema),
        tenant,
        database,
    )


def _to_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _sql_limit(limit: int | None) -> int:
    return -1 if limit is None else limit


def _is_on_read_only_media(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
