"""What a sound catalog consists of: tables, the checksum of every row, and what is wrong with them.

    tenants      name
    databases    id, tenant, name
    collections  position, id, database_id, name, metadata (JSON), schema (JSON)
    dropped      id
    identity     id (which database the catalog belongs to)

SQLite does not notice a flipped bit in the content of a row, so every row ends with `crc`, the
CRC-32 of all its columns (docs/format.md).
"""

from __future__ import annotations

import contextlib
import functools
import operator
import sqlite3
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

APPLICATION_ID = 0x56455846  # "VEXF"
VERSION = 1
TABLES = (
    """CREATE TABLE tenants (
    name TEXT NOT NULL PRIMARY KEY,
    crc INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE databases (
    id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (tenant, name)
) WITHOUT ROWID""",
    """CREATE TABLE collections (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    database_id BLOB NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT,
    schema TEXT NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (database_id, name)
)""",
    """CREATE TABLE dropped (
    id BLOB NOT NULL PRIMARY KEY,
    crc INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE identity (
    id BLOB NOT NULL PRIMARY KEY,
    crc INTEGER NOT NULL
) WITHOUT ROWID""",
)
COLUMNS = {
    "tenants": ("name",),
    "databases": ("id", "tenant", "name"),
    "collections": ("position", "id", "database_id", "name", "metadata", "schema"),
    "dropped": ("id",),
    "identity": ("id",),
}
_LONG_COLUMNS = ("metadata", "schema")  # not shown in messages

Value = str | bytes | int | None
Row = tuple[Any, ...]
"""The values of a row in the order of its columns, without the checksum."""


class Text(bytes):
    """Text as SQLite gives it: checked before it is decoded."""


class DamagedRowError(Exception):
    """A row that does not have its checksum; the text says which."""


def checksum(values: Iterable[object]) -> int:
    """The CRC-32 of a row: of every value its type, its length where it has one, its bytes."""
    crc = 0
    for value in values:
        if value is None:
            data = b"N"
        elif isinstance(value, str | Text):
            text = value.encode() if isinstance(value, str) else value
            data = b"T" + len(text).to_bytes(8, "little") + text
        elif isinstance(value, bytes):
            data = b"B" + len(value).to_bytes(8, "little") + value
        elif isinstance(value, int):
            data = b"I" + value.to_bytes(8, "little", signed=True)
        else:
            return -1  # a type that nothing here writes
        crc = zlib.crc32(data, crc)
    return crc


def verified(table: str, stored: Row) -> Row:
    """The values of a row as they were written.  Raises DamagedRowError."""
    problem = _damage_of(table, stored)
    if problem is not None:
        raise DamagedRowError(problem)
    return tuple(v.decode() if isinstance(v, Text) else v for v in stored[:-1])


def _damage_of(table: str, stored: Row) -> str | None:
    *values, crc = stored
    if crc == checksum((table, *values)):
        return None
    shown = ", ".join(
        f"{column}={_shown(value)}"
        for column, value in zip(COLUMNS[table], values, strict=False)
        if column not in _LONG_COLUMNS
    )
    return f"table {table}, row ({shown}): its checksum is wrong"


def _shown(value: object) -> str:
    if isinstance(value, Text):
        return repr(value.decode("utf-8", "backslashreplace")[:80])
    return value[:32].hex() if isinstance(value, bytes) else repr(value)


def problems_of(db: sqlite3.Connection) -> list[str]:
    """What is wrong with the structure or with a row; [] when nothing is."""
    (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    text = found.decode("utf-8", "replace").removeprefix("*** in database main ***").strip()
    problems = [] if text == "ok" else [f"its structure: {text}"]
    found_schema = _schema_of(db)
    if found_schema != _USUAL_SCHEMA and found_schema != _expected_schema():
        problems.append("the definitions of its tables")
    rows = [
        problem
        for table in COLUMNS
        for stored in db.execute(f"SELECT * FROM {table} NOT INDEXED")  # noqa: S608
        if (problem := _damage_of(table, stored)) is not None
    ]
    return rows + problems  # a row is the best explanation of what follows from it


def _schema_of(db: sqlite3.Connection) -> list[Row]:
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    return db.execute(sql).fetchall()


# Another SQLite may list other indexes of its own, or in another form; then it is asked.
_USUAL_SCHEMA: list[Row] = sorted(
    [(b"table", name, name, sql.encode()) for sql in TABLES for name in [sql.split()[2].encode()]]
    + [
        (b"index", b"sqlite_autoindex_" + table + number, table, None)
        for table, number in (
            (b"collections", b"_1"),
            (b"collections", b"_2"),
            (b"databases", b"_2"),
        )
    ],
    key=operator.itemgetter(1),
)


@functools.cache
def _expected_schema() -> list[Row]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.text_factory = Text
        for statement in TABLES:
            db.execute(statement)
        return _schema_of(db)
