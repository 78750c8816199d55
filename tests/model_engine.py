"""A model of the engine: the interface of `vexfs_chroma._engine` over a dict and numpy.

It is meant to be obviously correct, not fast: every filter looks at every record, every query at
every vector.  Property tests use it as the oracle of the real engine, and the Python package can
be tested against it where the engine is not built (see use_model.py).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from chromadb.base_types import SparseVector
from chromadb.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UniqueConstraintError,
)
from numpy.typing import NDArray

F_AND, F_OR = 1, 2
F_EQ, F_NE, F_GT, F_GE, F_LT, F_LE, F_IN, F_NIN, F_CONTAINS, F_NOT_CONTAINS = range(16, 26)
F_DOC_CONTAINS, F_DOC_NOT_CONTAINS, F_DOC_REGEX, F_DOC_NOT_REGEX = range(32, 36)
F_ID_IN, F_ID_NOT_IN = 48, 49

Filter = list[Any]
SPACES = ("l2", "ip", "cosine", "l1")
_OPPOSITE = {
    F_NE: F_EQ,
    F_NIN: F_IN,
    F_NOT_CONTAINS: F_CONTAINS,
    F_DOC_NOT_CONTAINS: F_DOC_CONTAINS,
    F_DOC_NOT_REGEX: F_DOC_REGEX,
    F_ID_NOT_IN: F_ID_IN,
}


@dataclass(slots=True)
class Rows:
    counts: list[int]
    ids: list[str]
    documents: list[str | None] | None
    metadatas: list[dict[str, Any] | None] | None
    uris: list[str | None] | None
    vectors: NDArray[np.float32] | None
    distances: NDArray[np.float32] | None


@dataclass(slots=True, frozen=True)
class CollectionInfo:
    rows: int
    lsn: int
    next_seq: int
    memtable_rows: int
    memtable_bytes: int
    disk_bytes: int
    dimension: int
    space: str
    vector_files: int
    payload_files: int
    raw_document_bytes: int
    stored_document_bytes: int
    raw_metadata_bytes: int
    stored_metadata_bytes: int


@dataclass(slots=True)
class Record:
    id: str
    seq: int
    vector: NDArray[np.float32]
    document: str | None = None
    metadata: dict[str, Any] | None = None
    uri: str | None = None


class State:
    """What a collection holds; handles on it share it."""

    def __init__(self, space: str) -> None:
        self.space = space
        self.records: dict[str, Record] = {}  # in order of seq: only new records are inserted
        self.next_seq = 0
        self.lsn = 0
        self.dimension = 0
        self.keys: dict[str, int] = {}


class Database:
    def __init__(
        self,
        path: str | None,
        *,
        durability: str = "full",
        read_only: bool = False,
        create: bool = True,
        busy_timeout: float = 30.0,
        memtable_rows: int = 0,
        memtable_bytes: int = 0,
    ) -> None:
        if durability not in {"full", "normal", "off"}:
            raise InvalidArgumentError(f"durability must be full, normal or off: {durability!r}")
        self.lock = threading.RLock()
        self.states: dict[uuid.UUID, State] = {}
        self.read_only = read_only
        self.closed = False

    def check_open(self) -> None:
        if self.closed:
            raise InternalError("the database is closed")

    def load(self) -> None:
        """Called with the lock held before every operation, for models that store something."""

    def save(self) -> None:
        """Called with the lock held after every change."""

    def create_collection(self, id: uuid.UUID, space: str) -> None:
        if space not in SPACES:
            raise InvalidArgumentError(f"space must be one of {SPACES}, got {space!r}")
        with self.lock:
            self.check_open()
            self.load()
            if id in self.states:
                raise UniqueConstraintError(f"collection {id} exists")
            self.states[id] = State(space)
            self.save()

    def open_collection(self, id: uuid.UUID) -> Collection:
        with self.lock:
            collection = Collection(self, id)
            collection.state()
            return collection

    def drop_collection(self, id: uuid.UUID) -> None:
        with self.lock:
            self.check_open()
            self.load()
            if self.states.pop(id, None) is None:
                raise NotFoundError(f"no collection {id}")
            self.save()

    def list_collections(self) -> list[uuid.UUID]:
        with self.lock:
            self.check_open()
            self.load()
            return sorted(self.states)

    def close(self) -> None:
        self.closed = True


class Collection:
    def __init__(self, database: Database, id: uuid.UUID) -> None:
        self.database, self.id = database, id

    def state(self) -> State:
        self.database.check_open()
        self.database.load()
        found = self.database.states.get(self.id)
        if found is None:
            raise NotFoundError(f"no collection {self.id}")
        return found

    # -- writes --------------------------------------------------------------------------------

    def write(
        self,
        op: str,
        ids: Sequence[str],
        vectors: NDArray[np.float32] | None,
        documents: Sequence[str | None] | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None,
        uris: Sequence[str | None] | None,
    ) -> int:
        with self.database.lock:
            state = self.state()
            if len(set(ids)) != len(ids) or not all(ids):
                raise InvalidArgumentError("ids must be unique and not empty")
            if vectors is None and op != "update":
                raise InvalidArgumentError("vectors are required")
            if vectors is not None:
                self._check_vectors(state, vectors, len(ids))
            changed = 0
            for i, id in enumerate(ids):
                old = state.records.get(id)
                if (op == "add" and old) or (op == "update" and not old):
                    continue
                vector = None if vectors is None else np.array(vectors[i], dtype=np.float32)
                if old is None:
                    assert vector is not None
                    old = state.records[id] = Record(id, state.next_seq, vector)
                    state.next_seq += 1
                elif vector is not None:
                    old.vector = vector
                if documents is not None and documents[i] is not None:
                    old.document = documents[i]
                if uris is not None and uris[i] is not None:
                    old.uri = uris[i]
                if metadatas is not None and metadatas[i] is not None:
                    old.metadata = merge(old.metadata, metadatas[i])
                    note_keys(state, metadatas[i])
                changed += 1
            if vectors is not None and len(ids) and not state.dimension:
                state.dimension = vectors.shape[1]
            state.lsn += 1
            self.database.save()
            return changed

    @staticmethod
    def _check_vectors(state: State, vectors: NDArray[np.float32], n: int) -> None:
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        assert vectors.ndim == 2
        assert len(vectors) == n
        if state.dimension and vectors.shape[1] != state.dimension:
            raise InvalidArgumentError(f"dimension {vectors.shape[1]}, not {state.dimension}")
        if not np.isfinite(vectors).all():
            raise InvalidArgumentError("NaN or infinity in a vector")

    def delete(
        self, ids: Sequence[str] | None, filter: Filter | None, limit: int | None = None
    ) -> int:
        if ids is None and filter is None:
            raise InvalidArgumentError("ids or filter is required")
        with self.database.lock:
            state = self.state()
            doomed = [r.id for r in selected(state, ids, filter)][:limit]
            for id in doomed:
                del state.records[id]
            state.lsn += 1
            self.database.save()
            return len(doomed)

    # -- reads ---------------------------------------------------------------------------------

    def count(self, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        with self.database.lock:
            return sum(1 for _ in selected(self.state(), ids, filter))

    def get(
        self,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        *,
        offset: int = 0,
        limit: int | None = None,
        documents: bool = False,
        metadatas: bool = False,
        uris: bool = False,
        vectors: bool = False,
    ) -> Rows:
        with self.database.lock:
            state = self.state()
            found = list(selected(state, ids, filter))[offset:]
            if limit is not None:
                found = found[:limit]
            return rows(state, [found], None, documents, metadatas, uris, vectors)

    def query(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        ids: Sequence[str] | None = None,
        filter: Filter | None = None,
        documents: bool = False,
        metadatas: bool = False,
        uris: bool = False,
        vectors: bool = False,
    ) -> Rows:
        with self.database.lock:
            state = self.state()
            if state.dimension and queries.shape[1] != state.dimension:
                raise InvalidArgumentError(f"dimension {queries.shape[1]}, not {state.dimension}")
            if ids is not None and filter is None and state.dimension:
                missing = [id for id in ids if id not in state.records]
                if missing:
                    raise NotFoundError(f"no record {missing[0]}")
            candidates = list(selected(state, ids, filter))
            found, distances = [], []
            for query in queries:
                near = distance(state.space, candidates, query)
                order = np.argsort(near, kind="stable")[:k]  # stable: ties in order of seq
                found.append([candidates[i] for i in order])
                distances.append(near[order])
            return rows(state, found, distances, documents, metadatas, uris, vectors)

    def info(self) -> CollectionInfo:
        with self.database.lock:
            state = self.state()
            return CollectionInfo(
                rows=len(state.records),
                lsn=state.lsn,
                next_seq=state.next_seq,
                memtable_rows=len(state.records),
                memtable_bytes=0,
                disk_bytes=0,
                dimension=state.dimension,
                space=state.space,
                vector_files=0,
                payload_files=0,
                raw_document_bytes=0,
                stored_document_bytes=0,
                raw_metadata_bytes=0,
                stored_metadata_bytes=0,
            )

    def metadata_keys(self) -> dict[str, int]:
        with self.database.lock:
            return dict(self.state().keys)

    def flush(self) -> None:
        self.state()

    def close(self) -> None:
        pass


# -- metadata ----------------------------------------------------------------------------------


def merge(old: dict[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`new` over `old`; None deletes a key.  Without keys it is {} if it was written as {}."""
    assert new is not None
    merged = {k: v for k, v in {**(old or {}), **new}.items() if v is not None}
    if merged:
        return merged
    return {} if (not new and not old) or old == {} else None


def type_bit(value: Any) -> int:
    if isinstance(value, list):
        return type_bit(value[0]) << 4
    if isinstance(value, SparseVector):
        return 256
    return {bool: 1, int: 2, float: 4, str: 8}[type(value)]


def note_keys(state: State, metadata: Mapping[str, Any] | None) -> None:
    for key, value in (metadata or {}).items():
        if value is not None:
            state.keys[key] = state.keys.get(key, 0) | type_bit(value)


# -- filters -----------------------------------------------------------------------------------


def selected(state: State, ids: Sequence[str] | None, filter: Filter | None) -> Iterator[Record]:
    """The selected records in order of seq."""
    wanted = None if ids is None else set(ids)
    for record in state.records.values():
        if (wanted is None or record.id in wanted) and (filter is None or matches(filter, record)):
            yield record


def matches(node: Filter, record: Record) -> bool:
    op = node[0]
    if op == F_AND:
        return all(matches(child, record) for child in node[1])
    if op == F_OR:
        return any(matches(child, record) for child in node[1])
    if op in _OPPOSITE:
        return not matches([_OPPOSITE[op], *node[1:]], record)
    if op == F_ID_IN:
        return record.id in node[1]
    if op == F_DOC_CONTAINS:
        return record.document is not None and node[1] in record.document
    if op == F_DOC_REGEX:
        return record.document is not None and regex_search(node[1], record.document)
    _, key, operand = node
    value = (record.metadata or {}).get(key)
    if op == F_CONTAINS:  # type-strict: 2.0 is not in [2]
        return isinstance(value, list) and any(
            type(x) is type(operand) and x == operand for x in value
        )
    if op == F_IN:
        return any(equal(value, x) for x in operand)
    if op == F_EQ:
        return equal(value, operand)
    if kind(value) is None or kind(value) != kind(operand):
        return False
    if op == F_GT:
        return bool(value > operand)
    if op == F_GE:
        return bool(value >= operand)
    if op == F_LT:
        return bool(value < operand)
    if op == F_LE:
        return bool(value <= operand)
    raise InvalidArgumentError(f"unknown filter operator {op}")


def kind(value: Any) -> str | None:
    """Scalars compare within a kind only; Python compares int and float by exact value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "str" if isinstance(value, str) else None


def equal(value: Any, operand: Any) -> bool:
    return kind(value) is not None and kind(value) == kind(operand) and bool(value == operand)


def regex_search(pattern: str, text: str) -> bool:
    from vexfs_chroma._regex import compile_pattern

    return bool(compile_pattern(pattern).search(text))


# -- results -----------------------------------------------------------------------------------


def distance(
    space: str, records: Sequence[Record], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Distances in double precision, given back as float32."""
    if not records:
        return np.empty(0, dtype=np.float32)
    x = np.stack([r.vector for r in records]).astype(np.float64)
    q = query.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if space == "l2":
            out = ((x - q) ** 2).sum(axis=1)
        elif space == "l1":
            out = np.abs(x - q).sum(axis=1)
        elif space == "ip":
            out = 1.0 - x @ q
        else:
            norms = np.sqrt((x * x).sum(axis=1) * (q @ q))
            out = np.where(norms == 0, 1.0, 1.0 - (x @ q) / np.where(norms == 0, 1.0, norms))
        return out.astype(np.float32)


def rows(
    state: State,
    found: Sequence[Sequence[Record]],
    distances: Sequence[NDArray[np.float32]] | None,
    documents: bool,
    metadatas: bool,
    uris: bool,
    vectors: bool,
) -> Rows:
    flat = [record for group in found for record in group]
    matrix = None
    if vectors:
        matrix = np.array([r.vector for r in flat], dtype=np.float32)
        matrix = matrix.reshape(len(flat), state.dimension)
    return Rows(
        counts=[len(group) for group in found],
        ids=[r.id for r in flat],
        documents=[r.document for r in flat] if documents else None,
        metadatas=[None if r.metadata is None else dict(r.metadata) for r in flat]
        if metadatas
        else None,
        uris=[r.uri for r in flat] if uris else None,
        vectors=matrix,
        distances=None if distances is None else np.concatenate(distances),
    )


def stats() -> dict[str, int]:
    return {}


def simd_level() -> str:
    return "model"


def codec_name() -> str:
    return "model"
