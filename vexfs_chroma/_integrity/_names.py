"""The catalog of a database that may be damaged: what of it is intact, and making it anew."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromadb.errors import InternalError

from vexfs_chroma import _config
from vexfs_chroma._catalog import DEFAULT_DATABASE, DEFAULT_TENANT
from vexfs_chroma._catalog_file import FILE_NAME, CatalogFile, Rows
from vexfs_chroma._catalog_tables import Row
from vexfs_chroma._errors import CorruptionError, ReadOnlyError, StoragePermissionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BUSY_TIMEOUT = 30.0


@dataclass(slots=True)
class Names:
    """The intact rows of a catalog, and what is wrong with it."""

    path: str
    exists: bool = True
    problems: list[str] = field(default_factory=list)
    owner: uuid.UUID | None = None
    tenants: list[Row] = field(default_factory=list)
    databases: list[Row] = field(default_factory=list)
    collections: dict[uuid.UUID, Row] = field(default_factory=dict)
    dropped: set[uuid.UUID] = field(default_factory=set)

    def name_of(self, id: uuid.UUID) -> str:
        """What to call a collection in a message."""
        row = self.collections.get(id)
        if row is None:
            return str(id)
        homes = {database[0]: database for database in self.databases}
        _, tenant, database = homes.get(row[2], (None, "?", "?"))
        if (tenant, database) == (DEFAULT_TENANT, DEFAULT_DATABASE):
            return str(row[3])
        return f"{tenant}/{database}/{row[3]}"

    def space_of(self, id: uuid.UUID) -> str:
        """The space that the schema of a collection says; the default without one."""
        row = self.collections.get(id)
        schema = json.loads(row[5]) if row is not None else _config.build_schema(None, None, None)
        return str(_config.vector_config(schema).get("space", "l2"))


def read_names(path: str, directories: Iterable[uuid.UUID]) -> Names:
    """What the catalog says; beside writers, too."""
    names = Names(str(Path(path) / FILE_NAME))
    if not os.path.lexists(names.path):
        names.exists = False
        return names
    with contextlib.ExitStack() as stack:
        try:
            file = _open(path, stack)
            names.exists = file.exists()
        except InternalError as error:
            if not isinstance(error, CorruptionError) and type(error) is not InternalError:
                raise  # busy, not permitted
            names.problems.append(_reason(error))
            return names
        if names.exists:
            names.problems = [_reason(problem) for problem in file.problems()]
            _take_rows(file, names, directories)
    return names


def _open(path: str, stack: contextlib.ExitStack) -> CatalogFile:
    try:
        file = CatalogFile(path, read_only=True, busy_timeout=_BUSY_TIMEOUT)
        stack.callback(file.close)
        file.exists()
    except (ReadOnlyError, StoragePermissionError):
        # Its journal has a transaction that must be undone first: that is done in a copy.
        copy = stack.enter_context(tempfile.TemporaryDirectory())
        for name in (FILE_NAME, f"{FILE_NAME}-journal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(Path(path) / name, Path(copy) / name)
        file = CatalogFile(copy, read_only=False, busy_timeout=_BUSY_TIMEOUT)
        stack.callback(file.close)
    return file


def _take_rows(file: CatalogFile, names: Names, directories: Iterable[uuid.UUID]) -> None:
    with contextlib.suppress(CorruptionError), file.reading() as rows:
        for (id,) in rows.undamaged("identity"):
            names.owner = uuid.UUID(bytes=id)
        names.tenants = rows.undamaged("tenants")
        names.databases = rows.undamaged("databases")
        names.dropped = {uuid.UUID(bytes=id) for (id,) in rows.undamaged("dropped")}
        found = [row for row in rows.undamaged("collections") if _is_usable(row)]
        names.collections = {uuid.UUID(bytes=row[1]): row for row in found}
        for id in directories:
            if names.problems and id not in names.collections:
                row = rows.undamaged_by_id("collections", id.bytes)
                if row is not None and _is_usable(row):
                    names.collections[id] = row
    homes = {row[0] for row in names.databases}
    for id, row in names.collections.items():
        if row[2] not in homes and not names.problems:
            names.problems.append(f"collection {row[3]} ({id}) is in no database")


def _is_usable(row: Row) -> bool:
    try:
        return len(row[1]) == 16 and isinstance(json.loads(row[5]), dict)
    except (TypeError, ValueError):
        return False


def _reason(text: object) -> str:
    """What is wrong, without the advice for who meets it when opening."""
    reason = str(text).partition(" is damaged: ")[2] or str(text)
    return reason.partition(". Restore ")[0].partition("; restore ")[0]


# -- writing ---------------------------------------------------------------------------------------


def recovered_name(id: uuid.UUID) -> str:
    """The name of a collection whose own is lost."""
    return f"recovered-{id.hex[:8]}"


def _insert_recovered(rows: Rows, home: bytes, added: dict[uuid.UUID, str]) -> None:
    for id, space in added.items():
        schema = _config.build_schema({"hnsw": {"space": space}}, None, None)
        name, position = recovered_name(id), rows.next_position()
        _insert(rows, (position, id.bytes, home, name, None, json.dumps(schema)))


def add_rows(path: str, added: dict[uuid.UUID, str]) -> None:
    """Give collections that have no row one, in a catalog that is sound.

    The configuration is the default, with the space that the value tells.
    """
    with _writing(path) as rows:
        _insert_recovered(rows, _insert_defaults(rows), added)


def make_anew(directory: str, names: Names, owner: uuid.UUID, added: dict[uuid.UUID, str]) -> None:
    """Make a catalog in `directory` with the intact rows, and rows for `added`."""
    Path(directory, FILE_NAME).unlink(missing_ok=True)
    with _writing(directory, make=True) as rows:
        rows.insert("identity", owner.bytes)
        for table, found in (("tenants", names.tenants), ("databases", names.databases)):
            for row in found:
                with contextlib.suppress(sqlite3.IntegrityError):
                    rows.insert(table, *row)
        default = _insert_defaults(rows)
        homes = {row[0] for row in rows.all("databases")}
        for row in sorted(names.collections.values()):
            _insert(rows, row if row[2] in homes else (*row[:2], default, *row[3:]))
        _insert_recovered(rows, default, added)
        for id in names.dropped:
            rows.insert("dropped", id.bytes)
    descriptor = os.open(Path(directory, FILE_NAME), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _insert(rows: Rows, row: Row) -> None:
    position, id, home, name, *rest = row
    taken: Any = rows.find("collections", position=position)
    if taken is not None:
        position = rows.next_position()
    if rows.find("collections", database_id=home, name=name) is not None:
        name = f"{name}-{id.hex()[:8]}"
    rows.insert("collections", position, id, home, name, *rest)


def _insert_defaults(rows: Rows) -> bytes:
    """Have the default tenant and database; returns the id of the latter."""
    if rows.find("tenants", name=DEFAULT_TENANT) is None:
        rows.insert("tenants", DEFAULT_TENANT)
    found = rows.find("databases", tenant=DEFAULT_TENANT, name=DEFAULT_DATABASE)
    if found is None:
        found = (uuid.UUID(int=0).bytes, DEFAULT_TENANT, DEFAULT_DATABASE)
        rows.insert("databases", *found)
    return bytes(found[0])


@contextlib.contextmanager
def _writing(path: str, *, make: bool = False) -> Iterator[Rows]:
    file = CatalogFile(path, read_only=False, busy_timeout=_BUSY_TIMEOUT)
    try:
        with file.writing() as rows:
            if make:
                file.make_tables()
            yield rows
        file.reserve()
    finally:
        file.close()
