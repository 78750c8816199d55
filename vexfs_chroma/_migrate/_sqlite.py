"""Reads `chroma.sqlite3`, also a damaged one, and never writes beside it.

The file is opened read-only where it lies.  When a journal or a write-ahead log lies beside it, the
last transaction of a killed process has to be undone or replayed first, which SQLite does in the
files themselves: then it does it in a private copy.

Where pages are damaged, tables are walked by row number around them: a range that cannot be read is
halved until only the rows on the damaged page are missing, and those are counted.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FILE_NAME = "chroma.sqlite3"
_MAGIC = b"SQLite format 3\0"
_PRAGMAS = (
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "busy_timeout=10000",
    "writable_schema=ON",  # a damaged definition of one table does not hide the others
)
_PAGE = 1000
_MOST_GUESSED = 4096
"""How many row numbers behind the last readable one are tried, if the end of a table is damaged."""
_VARIABLES = 500
_INDEXED = {"embedding_metadata", "embedding_metadata_array"}
"""Tables that are read through an index on "id", which can be done without."""


class SourceError(ValueError):
    """The directory cannot be read as a Chroma database at all."""


class SourceFile:
    """The SQLite file of a Chroma directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self.damage: list[str] = []
        """What could not be read, in words."""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._readable: dict[str, _ReadableRows] = {}
        is_wal = self._check_magic()
        place, mode = self.path, "mode=ro"
        if self._is_interrupted():
            self._copy = tempfile.TemporaryDirectory(prefix="vexfs-import-")
            place, mode = self._copied(Path(self._copy.name)), "mode=rw"
        elif is_wal:
            mode += "&immutable=1"  # else SQLite makes files beside it
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(str(place.resolve()))}?{mode}", uri=True, isolation_level=None
            )
            self._connection.text_factory = _text
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            names = self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            self._tables = {str(name) for (name,) in names}
        except sqlite3.Error as error:
            self.close()
            raise SourceError(f"{self.path} cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file and remove the private copy.  Idempotent."""
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
        for rows in self._readable.values():
            rows.close()
        if self._copy is not None:
            self._copy.cleanup()

    def _check_magic(self) -> bool:
        """Whether the file uses a write-ahead log.  Raises SourceError for another file."""
        try:
            with self.path.open("rb") as file:
                head = file.read(20)
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror}") from error
        if not head.startswith(_MAGIC):
            raise SourceError(f"{self.path} is not an SQLite file, or its first page is damaged")
        return len(head) == 20 and 2 in head[18:20]

    def _is_interrupted(self) -> bool:
        """Whether a transaction has to be undone, or replayed, before the file can be read."""
        for end in ("-journal", "-wal"):
            path = self.path.with_name(self.path.name + end)
            try:
                with path.open("rb") as file:
                    if file.read(1) not in {b"", b"\0"}:  # as SQLite tells a finished journal
                        return True
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SourceError(f"{path}: {error.strerror}") from error
        return False

    def _copied(self, to: Path) -> Path:
        # The journal first: if the database is in use after all, an older journal undoes more.
        for end in ("-journal", "-wal", ""):
            path = self.path.with_name(self.path.name + end)
            if path.exists():
                shutil.copyfile(path, to / path.name)
        return to / self.path.name

    # -- reading ---------------------------------------------------------------------------------

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return table in self._tables

    def columns(self, table: str) -> set[str]:
        """The names of a table's columns; empty for no such table."""
        try:
            found = self.rows(f"PRAGMA table_info({_quoted(table)})")
        except sqlite3.DatabaseError as error:
            self.damage.append(f"table {table} cannot be read: {error}")
            return set()
        return {str(row[1]) for row in found}

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.  Raises sqlite3.DatabaseError when a page of it is damaged."""
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except UnicodeDecodeError as error:  # in the message of SQLite's error
            raise sqlite3.DatabaseError("the definition of a table is damaged") from error

    def scan(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """(row number, values...) of a whole table, without the rows that cannot be read."""
        if not self.has(table):
            return
        have = self.columns(table)
        if not have:
            return
        chosen = ", ".join(_quoted(name) if name in have else "NULL" for name in columns)
        sql = (
            f"SELECT rowid, {chosen} FROM {_quoted(table)} NOT INDEXED "  # noqa: S608
            "WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
        )
        last = -(2**63)
        while True:
            try:
                page = self.rows(sql, (last + 1, 2**63 - 1, _PAGE))
            except sqlite3.DatabaseError as error:
                yield from self._around(table, sql, last, error)
                return
            yield from page
            if len(page) < _PAGE:
                return
            before, last = last, max(row[0] for row in page)
            if last <= before:
                self.damage.append(f"table {table}: its rows are in disorder from {before} on")
                return

    def _around(
        self, table: str, sql: str, last: int, error: Exception
    ) -> Iterator[tuple[Any, ...]]:
        """The rest of a table, of which some pages are damaged."""
        low, high = max(last + 1, 0), self._highest(table, last)
        lost = 0
        ranges = [(low, high)]
        while ranges:
            low, high = ranges.pop()
            try:
                page = self.rows(sql, (low, high, _PAGE))
            except sqlite3.DatabaseError:
                if low == high:
                    lost += 1
                else:
                    middle = (low + high) // 2
                    ranges += [(middle + 1, high), (low, middle)]
                continue
            yield from page
            last = max((row[0] for row in page), default=low)
            if len(page) == _PAGE and low < last < high:
                ranges.append((last + 1, high))
        self.damage.append(
            f"table {table}: {lost} row numbers lie on damaged pages ({error}); the rest was read"
        )

    def _highest(self, table: str, last: int) -> int:
        """The last row number, or a guess when the end of the table is damaged."""
        with contextlib.suppress(sqlite3.DatabaseError):
            found = self.rows(f"SELECT max(rowid) FROM {_quoted(table)}")[0][0]  # noqa: S608
            if isinstance(found, int):
                return max(found, last + 1)
        return max(last, 0) + _MOST_GUESSED

    def by_number(
        self, table: str, columns: Sequence[str], key: str, numbers: Sequence[int]
    ) -> tuple[list[tuple[Any, ...]], set[int]]:
        """(key, values...) of the rows whose `key` is among `numbers`.

        Also the numbers of which rows may be missing, because they are damaged.
        """
        have = self.columns(table)
        if key not in have:
            return [], set()
        chosen = ", ".join(_quoted(name) if name in have else "NULL" for name in columns)
        found: list[tuple[Any, ...]] = []
        failed: set[int] = set()
        parts = [numbers[i : i + _VARIABLES] for i in range(0, len(numbers), _VARIABLES)]
        while parts:
            part = parts.pop()
            sql = (
                f"SELECT {key}, {chosen} FROM {_quoted(table)} "  # noqa: S608
                f"WHERE {key} IN ({_marks(part)}) ORDER BY {key}, rowid"
            )
            try:
                found += self.rows(sql, part)
            except sqlite3.DatabaseError:
                if len(part) == 1:
                    failed.add(part[0])
                else:
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
        if failed and key == "id" and table in _INDEXED:  # the index may be all that is damaged
            if table not in self._readable:
                before = len(self.damage)
                rows = _ReadableRows(self.scan(table, (key, *columns)), len(columns))
                rows.is_whole = len(self.damage) == before
                self._readable[table] = rows
            again, missing = self._readable[table].by_number(sorted(failed))
            return found + again, missing
        if failed:
            self.damage.append(
                f"table {table}: rows of {len(failed)} numbers of a page are damaged"
            )
        return found, failed


class _ReadableRows:
    """A temporary copy of the rows of a table that can be read without its index."""

    def __init__(self, rows: Iterable[tuple[Any, ...]], columns: int) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.text_factory = _text
        names = ", ".join(f"c{i}" for i in range(columns))
        self._connection.execute(f"CREATE TABLE rows (number, key, {names})")
        marks = ",".join("?" * (columns + 2))
        self._connection.execute("BEGIN")
        self._connection.executemany(
            f"INSERT INTO rows VALUES ({marks})",  # noqa: S608
            ([_storable(value) for value in row] for row in rows),
        )
        self._connection.execute("COMMIT")
        self._connection.execute("CREATE INDEX by_key ON rows (key)")
        self._names = names
        self.is_whole = False

    def by_number(self, numbers: Sequence[int]) -> tuple[list[tuple[Any, ...]], set[int]]:
        """As SourceFile.by_number; when rows were lost, of any of them some may be missing."""
        found: list[tuple[Any, ...]] = []
        for i in range(0, len(numbers), _VARIABLES):
            part = numbers[i : i + _VARIABLES]
            sql = (
                f"SELECT key, {self._names} FROM rows WHERE key IN ({_marks(part)}) "  # noqa: S608
                "ORDER BY key, number"
            )
            found += [
                tuple(_text(value) if isinstance(value, bytes) else value for value in row)
                for row in self._connection.execute(sql, part)
            ]
        return found, set() if self.is_whole else set(numbers)

    def close(self) -> None:
        """Remove the temporary database."""
        self._connection.close()


def _storable(value: Any) -> Any:
    """Damaged text, which has surrogates, as the bytes that it was."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape")
    return value


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _text(value: bytes) -> str:
    # Damaged text gets surrogates, which nothing downstream accepts: so it is noticed.
    return value.decode("utf-8", "surrogateescape")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
