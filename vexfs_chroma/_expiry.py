"""Records that expire.

A collection whose own metadata names a key, `{"vexfs:ttl": "expires_at"}` say, forgets each record
at the time that the record's metadata has under that key, in seconds since the Unix epoch.  Nobody
sees a record from that moment on: reads leave out what has expired, and a write deletes what it
meets of it, so that an id can be added again.  What nobody meets is deleted in the background.

All of that is done between the API and the engine: an `ExpiringCollection` is the engine's handle
to everything above it, and other collections have nothing of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec
import numpy as np
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError
from typing_extensions import override

from vexfs_chroma import _engine
from vexfs_chroma._records import HIDDEN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from vexfs_chroma._engine import Filter

TTL = "vexfs:ttl"
"""The key of a collection's metadata that says under which key records have their time."""

TTL_SECONDS = "vexfs:ttl_seconds"
"""The key that says how long records live that are written without a time of their own."""

SWEEP_SECONDS = 60.0
"""Expired records are looked for in the background so often, at most."""


def now() -> float:
    """The time, in seconds since the Unix epoch."""
    return time.time()


class Expiry(msgspec.Struct, frozen=True):
    """When the records of a collection expire."""

    key: str
    seconds: float | None = None

    def refuse_types(self, types: int) -> None:
        """Raise when records have had something else than numbers under the key."""
        if types & ~_engine.KEY_NUMBERS:
            raise InvalidArgumentError(
                f"records of this collection have values under {self.key!r} that are no numbers, "
                f"so {TTL!r} cannot name it: it takes seconds since the Unix epoch"
            )


def read_expiry(metadata: Mapping[str, Any] | None) -> Expiry | None:
    """What the metadata of a collection says; None: records stay.

    Raises InvalidArgumentError for what says nothing that can be done.
    """
    if not metadata or not (TTL in metadata or TTL_SECONDS in metadata):
        return None
    key, seconds = metadata.get(TTL), metadata.get(TTL_SECONDS)
    if not isinstance(key, str) or not key or key[0] in "#$" or key.startswith(HIDDEN_PREFIX):
        raise InvalidArgumentError(f"{TTL} must be the name of a metadata key, got {key!r}")
    if seconds is not None and not _is_duration(seconds):
        raise InvalidArgumentError(f"{TTL_SECONDS} must be a number above 0, got {seconds!r}")
    return Expiry(key, seconds)


def open_collection(
    database: _engine.Database, id: UUID, metadata: Mapping[str, Any] | None
) -> _engine.Collection:
    """The collection with this metadata, opened as one with expiry where the metadata says so."""
    try:
        expiry = read_expiry(metadata)
    except InvalidArgumentError:  # nothing that was checked when it was set
        expiry = None
    if expiry is None:
        return database.open_collection(id)
    return database.open_collection(
        id, partial(ExpiringCollection, expiry=expiry, takes_writes=not database.read_only)
    )


def stamped(metadatas: Any, n: int, ttl: object, collection_metadata: Any) -> Any:
    """The metadata of a write of `n` records that are to live for `ttl`: seconds or a timedelta."""
    expiry = read_expiry(collection_metadata)
    if expiry is None:
        raise InvalidArgumentError(
            "records of this collection do not expire; create it with "
            f'metadata={{"{TTL}": "expires_at"}} to give them a ttl'
        )
    time_is_up = now() + _seconds(ttl)
    given = [metadatas] if isinstance(metadatas, dict) else metadatas
    if given is None:
        given = [None] * n
    if not isinstance(given, list) or not all(isinstance(m, dict | None) for m in given):
        return metadatas  # a mistake, which chromadb tells
    return [{**(metadata or {}), expiry.key: time_is_up} for metadata in given]


def _seconds(ttl: object) -> float:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not isinstance(seconds, bool) and isinstance(seconds, int | float | np.number):
        with contextlib.suppress(OverflowError):
            if _is_duration(float(seconds)):
                return float(seconds)
    raise InvalidArgumentError(
        f"ttl must be a timedelta or a number of seconds above 0, got {ttl!r}"
    )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_duration(value: object) -> TypeGuard[int | float]:
    return _is_number(value) and 0 < value < float("inf")


class ExpiringCollection(_engine.Collection):
    """An open collection whose expired records nobody sees."""

    def __init__(
        self,
        database: _engine.Handle,
        pointer: Any,
        owner: object,
        expiry: Expiry,
        *,
        takes_writes: bool,
    ) -> None:
        super().__init__(database, pointer, owner)
        self.expiry = expiry
        self._takes_writes = takes_writes
        self._next_sweep = 0.0
        self._earliest = -1, 0.0

    # -- writes: what they meet of expired records is deleted first --------------------------------

    @override
    def write(
        self,
        op: str,
        ids: Sequence[str],
        vectors: NDArray[np.float32] | None,
        documents: Sequence[str | None] | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None,
        uris: Sequence[str | None] | None,
        *,
        plain: bool = False,
    ) -> int:
        self.check_times(metadatas)
        with _engine.apart():  # nobody sees what has expired, whatever becomes of a transaction
            expired = self._expired()
            if super().count(ids, expired):
                super().delete(ids, expired)
            self._sweep_sometimes()
        return super().write(op, ids, vectors, documents, metadatas, uris, plain=plain)

    def check_times(self, metadatas: Sequence[Mapping[str, Any] | None] | None) -> None:
        """Raise when a record would expire at what is no time."""
        key = self.expiry.key
        for metadata in metadatas or ():
            value = metadata.get(key) if metadata else None
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise InvalidArgumentError(
                    f"metadata {key!r} must be a number of seconds since the Unix epoch (records "
                    f"of this collection expire then; datetime has timestamp()), got {value!r}"
                )

    def timed(
        self, op: str, metadatas: Sequence[Mapping[str, Any] | None] | None, n: int
    ) -> Sequence[Mapping[str, Any] | None] | None:
        """The metadata of a write with a time for every record that begins a life by it."""
        if self.expiry.seconds is None or op == "update":
            return metadatas
        given = metadatas or [None] * n
        usual = {self.expiry.key: now() + self.expiry.seconds}
        return [
            metadata
            if metadata and metadata.get(self.expiry.key) is not None
            else {**(metadata or {}), **usual}
            for metadata in given
        ]

    @override
    def delete(
        self, ids: Sequence[str] | None, filter: Filter | None, limit: int | None = None
    ) -> int:
        with _engine.apart():
            self._sweep_sometimes()
        if ids is None or filter is not None:  # of ids, expired ones may go as well
            filter = self._living(filter)
        return super().delete(ids, filter, limit)

    def expire(self) -> int:
        """Delete all records that have expired; returns how many."""
        with _engine.apart():
            expired = self._expired()
            return super().delete(None, expired) if super().count(None, expired) else 0

    @override
    def compact(self) -> None:
        self.expire()
        super().compact()

    # -- reads: what has expired is left out ------------------------------------------------------

    @override
    def count(self, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        return super().count(ids, self._living(filter))

    @override
    def aggregate(
        self,
        kind: str,
        keys: Sequence[str],
        filter: Filter | None = None,
        limit: int | None = None,
    ) -> list[_engine.KeyValues]:
        return super().aggregate(kind, keys, self._living(filter), limit)

    @override
    def get(
        self, ids: Sequence[str] | None = None, filter: Filter | None = None, **options: Any
    ) -> _engine.Rows:
        return super().get(ids, self._living(filter), **options)

    @override
    def get_ordered(
        self, ids: Sequence[str] | None = None, filter: Filter | None = None, **options: Any
    ) -> tuple[_engine.Rows, bytes | None]:
        return super().get_ordered(ids, self._living(filter), **options)

    @override
    def query(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        **options: Any,
    ) -> _engine.Rows:
        living = self._living(filter)
        rows = super().query(queries, k, ids=ids, filter=living, **options)
        # Without a filter, an id that is not there is an error; with ours the engine raises none.
        if ids and filter is None and living is not None:
            missing = len(set(ids)) - super().count(ids, living)
            if missing > 0:
                raise NotFoundError(f"{missing} of the given ids do not exist")
        return rows

    @override
    def search(self, searches: Sequence[_engine.RankedSearch]) -> list[_engine.RankedRows]:
        if self._expires_first() > now():
            return super().search(searches)
        if self._takes_writes and any(search.weighs_words() for search in searches):
            self._sweep()  # how rare a word is would count them
        living = self._alive()
        if living is not None:
            searches = [
                msgspec.structs.replace(search, filter=_both(search.filter, living))
                for search in searches
            ]
        return super().search(searches)

    # -- which records are meant ------------------------------------------------------------------

    def _expired(self) -> Filter:
        return [_engine.F_LE, self.expiry.key, now()]

    def _living(self, filter: Filter | None) -> Filter | None:
        """The filter, for records that have not expired."""
        living = self._alive()
        return filter if living is None else _both(filter, living)

    def _alive(self) -> Filter | None:
        """The filter for records that have not expired; None where all have not."""
        if self._expires_first() > now():
            return None
        self._sweep_sometimes()
        key = self.expiry.key
        return [_engine.F_OR, [[_engine.F_NOT_EXISTS, key], [_engine.F_GT, key, now()]]]

    def _expires_first(self) -> float:
        """When the first of all records expires; it is looked up after every change."""
        lsn = self.lsn()
        seen, earliest = self._earliest
        if seen != lsn:
            (times,) = super().aggregate("range", [self.expiry.key])
            earliest = times.values[0] if times.values else float("inf")
            self._earliest = lsn, earliest
        return earliest

    def _sweep_sometimes(self) -> None:
        """Have the background delete expired records, once in a while."""
        if not self._takes_writes or time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        threading.Thread(target=self._sweep, name="vexfs-expiry", daemon=True).start()

    def _sweep(self) -> None:
        # Locked by another process, full, closed meanwhile: somebody will do it later.
        with contextlib.suppress(ChromaError):
            self.expire()


def _both(filter: Filter | None, living: Filter) -> Filter:
    return living if filter is None else [_engine.F_AND, [filter, living]]
