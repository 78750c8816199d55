"""The file of the catalog: connections, transactions, errors.  `_catalog_tables` has the tables.

Damage.  The checksum of a row is verified on every read.  A row that an index does not find, or
that fell out of its table, has no checksum that could tell; so the structure of the file and all
rows are checked when it is opened.

A damaged catalog is never written.  Reading goes on as far as it can be right: a row that is looked
up by its key is found by walking the table without its indexes, and given out when its checksum is
right.  Whatever depends on rows that may be the damaged ones (a key that is not found, a list, a
count) raises CorruptionError instead.

Full disks.  Deleting is how space is won back, and it must not need any.  SQLite keeps the pages
that a transaction changes in its journal; that file stays (journal_mode=PERSIST), and is made large
enough in advance for what a delete changes.  Where a file system gives a page that is written again
a new place (btrfs, ZFS), a file kept for it is no guarantee.

Processes and threads.  The file is in rollback-journal mode with synchronous=FULL.  Nothing is
cached: each call reads what any process has committed.  A process has one connection, guarded by a
lock; after a fork the child opens its own.  A fork waits until no connection is in use: SQLite
keeps the locks of a process in its memory, and a child would believe for ever that it has those
which its parent had at that moment.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from chromadb.errors import ChromaError, InternalError, VersionMismatchError

from vexfs_chroma import _engine
from vexfs_chroma._catalog_tables import (
    APPLICATION_ID,
    COLUMNS,
    TABLES,
    VERSION,
    DamagedRowError,
    Row,
    Text,
    Value,
    checksum,
    problems_of,
    verified,
)
from vexfs_chroma._catalog_undone import Undone
from vexfs_chroma._errors import (
    CorruptionError,
    DatabaseLockedError,
    ReadOnlyError,
    StorageFullError,
    StoragePermissionError,
)
from vexfs_chroma._plain_files import is_no_file

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

FILE_NAME = "catalog.sqlite3"

# Deleting a collection took at most 62 KiB, among 1,000 with 20 KB of metadata each.
_JOURNAL_BYTES = 128 * 1024
_ORDER = {"databases": "name", "collections": "position"}


class _Session(msgspec.Struct, eq=False):
    """The connection of one process."""

    pid: int
    connection: sqlite3.Connection
    lock: threading.RLock


class Rows:
    """Rows of the catalog, within one `reading` or `writing` block."""

    __slots__ = ("_file", "db")

    def __init__(self, file: CatalogFile, db: sqlite3.Connection) -> None:
        self._file, self.db = file, db

    def find(self, table: str, **key: Value) -> Row | None:
        """The row with these values in these columns, which must be a key; or None."""
        if self._file.damage is None:
            found = self._select(table, key)
            return found[0] if found else None
        for row in self._walk(table):
            if all(row[COLUMNS[table].index(column)] == value for column, value in key.items()):
                return row
        raise CorruptionError(self._file.damage)

    def all(self, table: str, limit: int = -1, offset: int = 0, **equal: Value) -> list[Row]:
        """All rows with these values, in order of creation or of name."""
        self._file.check_sound()
        return self._select(table, equal, f"LIMIT {limit:d} OFFSET {offset:d}")

    def undamaged(self, table: str) -> list[Row]:
        """The rows that have their checksum, which in a damaged catalog need not be all."""
        return list(self._walk(table))

    def undamaged_by_id(self, table: str, id: bytes) -> Row | None:
        """The row with that id, found by an index, if it has its checksum: behind a damaged page
        `undamaged` does not come to it.
        """
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError, DamagedRowError):
            for stored in self.db.execute(f"SELECT * FROM {table} WHERE id = ?", (id,)):  # noqa: S608
                return verified(table, stored)
        return None

    def count(self, table: str, **equal: Value) -> int:
        """How many rows `all` would give."""
        self._file.check_sound()
        sql = f"SELECT count(*) FROM {table}{_where(equal)}"  # noqa: S608
        (count,) = self.db.execute(sql, tuple(equal.values())).fetchone()
        return int(count)

    def insert(self, table: str, *values: Value) -> None:
        """Add a row.  Raises sqlite3.IntegrityError when its key exists."""
        places = ", ".join("?" * (len(values) + 1))
        row = (*values, checksum((table, *values)))
        self.db.execute(f"INSERT INTO {table} VALUES ({places})", row)  # noqa: S608

    def replace(self, table: str, old: Row, new: Row) -> None:
        """Change a row that was found.  Raises sqlite3.IntegrityError when its key exists."""
        self.delete(table, **{COLUMNS[table][0]: old[0]})
        self.insert(table, *new)

    def delete(self, table: str, **equal: Value) -> None:
        """Remove all rows with these values."""
        sql = f"DELETE FROM {table}{_where(equal)}"  # noqa: S608
        self.db.execute(sql, tuple(equal.values()))

    def next_position(self) -> int:
        """The position of a collection that is created now."""
        (last,) = self.db.execute("SELECT max(position) FROM collections").fetchone()
        return 1 + (last or 0)

    def _select(self, table: str, equal: dict[str, Value], page: str = "") -> list[Row]:
        order = f" ORDER BY {_ORDER[table]}" if page and table in _ORDER else ""
        sql = f"SELECT * FROM {table}{_where(equal)}{order} {page}"  # noqa: S608
        try:
            stored = self.db.execute(sql, tuple(equal.values())).fetchall()
            return [verified(table, row) for row in stored]
        except DamagedRowError as error:
            raise self._file.damaged(str(error)) from None

    def _walk(self, table: str) -> Iterator[Row]:
        """The undamaged rows of a damaged catalog, as far as they can be reached."""
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            for stored in self.db.execute(f"SELECT * FROM {table} NOT INDEXED"):  # noqa: S608
                with contextlib.suppress(DamagedRowError):
                    yield verified(table, stored)


def _where(equal: dict[str, Value]) -> str:
    return " WHERE " + " AND ".join(f"{column} = ?" for column in equal) if equal else ""


class CatalogFile:
    """The file in directory `path`, or in memory when it is None."""

    def __init__(self, path: str | None, *, read_only: bool, busy_timeout: float) -> None:
        self.path = None if path is None else str(Path(path) / FILE_NAME)
        self.damage: str | None = None
        """What is wrong with the file; it is not written then."""
        self.read_only = read_only
        self.why_read_only = "the database was opened read-only"
        """What those are told who write nevertheless."""
        self._busy_timeout = busy_timeout
        self._closed = False
        self._undone = Undone(self.path) if self.path is not None and read_only else None
        # Sessions of a parent process; closing them is not our business.
        self._abandoned: list[_Session] = []
        self._session = self._connect()
        self._identity = self._identify()
        self._finalizer = weakref.finalize(self, _close_session, self._session)
        _open_files.add(self)

    def close(self) -> None:
        """Close the connection of this process.  Idempotent."""
        self._closed = True
        self._finalizer()
        if self._undone is not None:
            self._undone.close()

    # -- transactions ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[Rows]:
        """Each call on the rows reads what is committed then."""
        session = self._current()
        with session.lock, self._translating():
            yield Rows(self, self._readable(session.connection))

    def _readable(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """That, or a copy when a change was interrupted that only who may write can undo."""
        if self._undone is not None:
            try:
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            except sqlite3.OperationalError as error:
                if "readonly" not in str(error):
                    raise
                with contextlib.suppress(OSError):  # else as SQLite says
                    undone = self._undone.connection()
                    undone.text_factory = Text
                    return undone
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Rows]:
        """One write transaction: committed when the block ends, undone when it raises."""
        if self.read_only:
            raise ReadOnlyError(self.why_read_only)
        self.check_sound()
        session = self._current()
        with session.lock, self._translating():
            db = session.connection
            db.execute("BEGIN IMMEDIATE")
            try:
                yield Rows(self, db)
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextlib.contextmanager
    def together(self) -> Iterator[Rows]:
        """Several reads of one state.  SQLite locks the file once for all of them, not for each."""
        with self.reading() as rows:
            db = rows.db
            db.execute("BEGIN")
            try:
                yield rows
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[Rows]:
        """All reads of the block see one state, and no process commits another one meanwhile."""
        with self.reading() as rows:
            db = rows.db
            db.execute("BEGIN")
            try:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the lock begins here
                yield rows
            finally:
                db.execute("ROLLBACK")

    def copy_to(self, directory: Path) -> None:
        """Write a copy of the file into another directory."""
        target = directory / FILE_NAME
        try:
            with contextlib.closing(sqlite3.connect(target)) as copy:
                self._readable(self._session.connection).backup(copy)
        except sqlite3.Error as error:
            if "disk is full" in str(error):
                raise StorageFullError(f"{target} could not be written: disk full") from error
            raise self.error(error) from error

    # -- identity and damage ---------------------------------------------------------------------

    def check_present(self) -> None:
        """Raise InternalError when the file that is open is not the one at its path any more."""
        if self._identify() != self._identity:
            raise InternalError(
                f"{self.path} was removed or replaced while the database was open; close all "
                "clients of it, then open it again"
            )

    def _identify(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            status = Path(self.path).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def exists(self) -> bool:
        """Whether the tables were made.  Raises when the file is not ours or of a later release."""
        with self.reading() as rows:
            db = rows.db
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > VERSION and application == APPLICATION_ID:
            raise VersionMismatchError(
                f"the catalog {self.path} was written by a later release (format {version}, this "
                f"release knows {VERSION}); upgrade vexfs_chroma"
            )
        is_ours = application == APPLICATION_ID and version == VERSION
        is_new = application == 0 and version == 0 and tables == 0
        if not is_ours and not is_new:
            raise CorruptionError(
                f"{self.path} is not a catalog of vexfs_chroma, or its header is damaged; restore "
                "it from a backup"
            )
        return bool(is_ours)

    def make_tables(self) -> None:
        """Make the tables of a new file, within a `writing` block."""
        db = self._session.connection
        for statement in TABLES:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")

    def reserve(self) -> None:
        """Give the journal its size.  On a disk that is full already, it goes without."""
        if self.path is None or self.damage is not None or self._journal_size() >= _JOURNAL_BYTES:
            return
        # In a write transaction that changed nothing yet, nobody reads or writes the journal.
        # Zeros behind its end mean nothing, and a journal that begins with zeros is none.
        with (
            contextlib.suppress(OSError, StorageFullError),
            self.writing(),
            Path(f"{self.path}-journal").open("ab", buffering=0) as journal,
        ):
            journal.write(bytes(max(0, _JOURNAL_BYTES - self._journal_size())))

    def _journal_size(self) -> int:
        try:
            return Path(f"{self.path}-journal").stat().st_size
        except FileNotFoundError:
            return 0

    def problems(self) -> list[str]:
        """Everything that is wrong with the structure or with a row."""
        try:
            with self.reading() as rows:
                return problems_of(rows.db)
        except CorruptionError as error:  # so bad that SQLite gave up
            return [str(error)]

    def check(self) -> None:
        """Look for damage in the whole file.  What is found is in `damage` then, and in the log."""
        try:
            with self.reading() as rows:
                problems = problems_of(rows.db)
        except CorruptionError as error:  # so bad that SQLite gave up
            self.damage = str(error)
        else:
            if problems:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                self.damaged(problems[0] + more)
        if self.damage is not None:
            logger.error("%s", self.damage)

    def check_sound(self) -> None:
        """Raise CorruptionError when the file is known to be damaged."""
        if self.damage is not None:
            raise CorruptionError(self.damage)

    def damaged(self, what: str) -> CorruptionError:
        """Note damage; returns the error to raise."""
        self.damage = (
            f"{self.path or 'the catalog in memory'} is damaged: {what}. Restore {FILE_NAME} from "
            "a backup; the records in collections/ are untouched. Until then nothing is written "
            "to it, and only collections whose entries are intact can be opened"
        )
        return CorruptionError(self.damage)

    # -- the connection --------------------------------------------------------------------------

    def _connect(self) -> _Session:
        uri, options = ":memory:", ""
        if self.path is not None:
            options = "?mode=rwc"
            if self.read_only:  # not "immutable": others may write where this medium is a view
                options = "?mode=ro"
            uri = f"file:{quote(os.fsencode(os.path.realpath(self.path)))}{options}"
            self._refuse_what_is_no_file()
        with self._translating():
            connection = sqlite3.connect(
                uri,
                uri=self.path is not None,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.text_factory = Text
            try:
                with contextlib.suppress(*self._harmless()):
                    connection.execute("PRAGMA cell_size_check = ON")  # notice damage early
                if not self.read_only:
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA journal_mode = PERSIST")
                    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            except BaseException:
                connection.close()
                raise
        return _Session(os.getpid(), connection, threading.RLock())

    def _harmless(self) -> tuple[type[sqlite3.Error], ...]:
        """Of a file that is only read, the first read tells what is wrong (`_readable`)."""
        return (sqlite3.OperationalError,) if self.read_only else ()

    def _refuse_what_is_no_file(self) -> None:
        """SQLite would wait for a pipe for ever, and not tell what is wrong with a directory."""
        for path in (self.path, f"{self.path}-journal"):
            if path is not None and is_no_file(path):
                raise CorruptionError(
                    f"{path} is no plain file; restore {FILE_NAME} from a backup, or have "
                    "`vexctl repair` make a new one"
                )

    def _current(self) -> _Session:
        if self._closed:
            raise InternalError("the catalog is closed")
        self.check_present()  # SQLite would go on with a file that nobody else can see
        session = self._session
        if session.pid != os.getpid():
            # In a fork.  The inherited lock may be held by a thread that does not exist here, and
            # an inherited SQLite connection must be neither used nor closed.
            self._abandoned.append(session)
            if self.path is None:
                session = _Session(os.getpid(), session.connection, threading.RLock())
            else:
                session = self._connect()
            self._session = session
            self._finalizer = weakref.finalize(self, _close_session, session)
        return session

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self.error(error) from error
        except UnicodeDecodeError as error:  # SQLite quotes what it found in the file
            raise self.damaged("its definitions are no text") from error

    def error(self, error: sqlite3.Error) -> ChromaError:
        """What a failure of SQLite means to the caller."""
        text = str(error)
        where = self.path or "the catalog in memory"
        if "locked" in text:
            holder = _engine.lock_holder(where)
            return DatabaseLockedError(
                f"the database is locked: {holder} has not given {where} free within "
                f"{self._busy_timeout:g} s; try again, raise busy_timeout, or end that process if "
                "it hangs"
            )
        if "readonly" in text:
            if not self.read_only and _is_writable(self.path):
                return self.damaged("its header forbids writing")
            if self.read_only:  # a statement of ours that reads
                return ReadOnlyError(
                    f"a change of {where} was interrupted, and has to be undone before it can be "
                    "read; open the database once where it can be written"
                )
            return ReadOnlyError(f"{where} cannot be written ({text})")
        if "disk is full" in text:
            return StorageFullError(f"{where} could not grow: the disk is full")
        if "unable to open" in text:
            if _files_are_used_up():
                return InternalError(
                    f"{where} cannot be opened: too many open files; raise the limit (ulimit -n)"
                )
            return StoragePermissionError(f"{where} cannot be opened ({text})")
        if "I/O error" in text or isinstance(
            error, sqlite3.ProgrammingError | sqlite3.InterfaceError
        ):
            return InternalError(f"{where}: {text}")
        # The statements are fixed, so nothing else can fail on a file that is as it was written.
        return self.damaged(text)


def _files_are_used_up() -> bool:
    """Whether this process can not open what SQLite needs for a change: database and journal."""
    opened: list[int] = []
    try:
        opened += (os.open(os.devnull, os.O_RDONLY) for _ in range(2))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False


def _close_session(session: _Session) -> None:
    if session.pid == os.getpid():
        with session.lock:
            session.connection.close()


# ---- fork ----------------------------------------------------------------------------------------

_open_files: weakref.WeakSet[CatalogFile] = weakref.WeakSet()
_held: list[_Session] = []
"""Sessions whose locks this thread has taken for a fork."""


def _before_fork() -> None:
    # Before the engine's part (hooks run in reverse order): who creates a collection has the
    # catalog's lock, and calls the engine.
    for file in tuple(_open_files):
        session = file._session
        if session.pid == os.getpid():  # else it is of a parent, and nobody uses it any more
            session.lock.acquire()
            _held.append(session)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().lock.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_held.clear
)


def _is_writable(path: str | None) -> bool:
    """Whether the operating system lets us write the file and its journal."""
    return path is not None and all(os.access(p, os.W_OK) for p in (path, Path(path).parent))
