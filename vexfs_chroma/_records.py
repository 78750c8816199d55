"""Records on their way to the engine and back: embeddings, metadata, the shapes of results.

Batches are large, so nothing here works per number, and per record only where metadata must be
looked at: whatever needs no change is passed on as it is.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from chromadb.base_types import SparseVector
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._plain import are_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vexfs_chroma import _engine

T = TypeVar("T")

HIDDEN_PREFIX = "chroma:"
"""Metadata keys that Chroma keeps for itself: stored, compared, but never shown."""

_ID_BYTES_MAX = 65_535  # of the engine
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# From this many rows on, one question to the engine is cheaper than looking at every key.
_MANY_ROWS = 32


# -- embeddings ----------------------------------------------------------------------------------


def as_matrix(embeddings: Any, argument: str = "embeddings") -> NDArray[np.float32]:
    """The embeddings as one C-contiguous float32 block.

    A list of rows is joined by one concatenation.  The rows of one 2-d array could be recognised
    and the array used uncopied, but looking at the address of every row takes longer than copying.
    Rows that are no vectors raise Chroma's TypeError, which names the argument.
    """
    first = embeddings[0] if len(embeddings) == 1 else None
    if type(first) is np.ndarray and first.dtype == np.float32 and first.ndim == 1:
        return np.ascontiguousarray(first).reshape(1, -1)
    with np.errstate(over="ignore"):  # the engine refuses the infinity
        if type(embeddings) is np.ndarray and embeddings.ndim == 2:
            matrix: NDArray[np.float32] = np.ascontiguousarray(embeddings, dtype=np.float32)
        elif len(set(map(len, embeddings))) != 1:
            raise InvalidArgumentError("Inconsistent dimensions in provided embeddings")
        else:
            if set(map(np.ndim, embeddings)) != {1}:
                raise TypeError(
                    f"argument '{argument}': only 0-dimensional arrays can be converted to Python "
                    "scalars"
                )
            if any(issubclass(kind, np.ma.MaskedArray) for kind in set(map(type, embeddings))):
                embeddings = [np.ma.filled(row.astype(np.float32), np.nan) for row in embeddings]
            flat = np.concatenate(embeddings, dtype=np.float32, casting="unsafe")
            matrix = flat.reshape(len(embeddings), -1)
    if matrix.shape[1] == 0:
        raise InvalidArgumentError(
            "Validation error: embeddings: Each embedding must have at least 1 dimension"
        )
    return matrix


def why_refused(
    collection: _engine.Collection,
    ids: Sequence[str],
    vectors: NDArray[np.float32] | None,
    error: InvalidArgumentError,
) -> InvalidArgumentError:
    """The engine refused a call with these arguments: the same in Chroma's words, if it has any."""
    return _refusal(collection, ids, vectors) or error


def check_before(
    collection: _engine.Collection, ids: Sequence[str], vectors: NDArray[np.float32] | None
) -> None:
    """Raise what writing these would."""
    refusal = _refusal(collection, ids, vectors)
    if refusal is not None:
        raise refusal
    for row, id in enumerate(ids):
        if len(id.encode()) > _ID_BYTES_MAX:
            raise InvalidArgumentError(
                f"the id of record {row} must have 1 to {_ID_BYTES_MAX} bytes"
            )


def _refusal(
    collection: _engine.Collection, ids: Sequence[str], vectors: NDArray[np.float32] | None
) -> InvalidArgumentError | None:
    if vectors is not None:
        if ids and not np.isfinite(vectors).all():
            return InvalidArgumentError(
                "Validation error: embeddings: Embeddings must not contain NaN or Infinity values"
            )
        dimension = collection.info().dimension
        if dimension and dimension != vectors.shape[1]:
            return InvalidArgumentError(
                f"Collection expecting embedding with dimension of {dimension}, "
                f"got {vectors.shape[1]}"
            )
    if "" in ids:
        return InvalidArgumentError("Empty ID, ID must have at least one character")
    return None


def check_text(op: str, ids: Sequence[str], metadatas: Sequence[Any] | None) -> None:
    """Some text of a write has a lone surrogate.  Raise as Chroma does, if it is in these."""
    for id in ids:
        id.encode()
    for metadata in metadatas or ():
        for key, value in (metadata or {}).items():
            key.encode()
            if not is_text(value):
                raise TypeError(f"argument 'metadatas': {_not_a_value(op)}")
            if isinstance(value, list) and not all(map(is_text, value)):
                kind = _not_a_value(op).replace("object", "list")
                reason = "mixed or unsupported element types"
                raise TypeError(f"argument 'metadatas': {kind}: {reason}")


def is_text(value: Any) -> bool:
    """Whether a value, if it is a string, has a UTF-8 form, that is, no lone surrogates."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    return True


# -- metadata ------------------------------------------------------------------------------------


def stored_metadatas(
    op: str, metadatas: Sequence[Any] | None, uris: Sequence[str | None] | None
) -> Sequence[Any] | None:
    """What to store for the metadata of a write.

    Integers that do not fit become floats, NaN and infinity are left out, as in Chroma; and a
    record with a uri has metadata {}, not None.  Raises what Chroma raises.
    """
    stored = metadatas
    if metadatas is not None and not are_plain(metadatas):
        stored = [_stored_metadata(op, i, metadata) for i, metadata in enumerate(metadatas)]
    for uri in uris or ():
        if uri is not None and not isinstance(uri, str):
            raise TypeError(
                f"argument 'uris': '{type(uri).__name__}' object cannot be converted to 'PyString'"
            )
    if uris is None or not any(uri is not None for uri in uris):
        return stored
    given: Sequence[Any] = [None] * len(uris) if stored is None else stored
    return [
        {} if metadata is None and uri is not None else metadata
        for metadata, uri in zip(given, uris, strict=True)
    ]


def _stored_metadata(op: str, i: int, metadata: Any) -> dict[str, Any] | None:
    """What to store for the metadata of record `i`."""
    if metadata is None:
        return None
    if any(not key or key[0] in "#$" for key in metadata):
        raise InvalidArgumentError(f"Validation error: metadatas: Invalid metadata at index {i}")
    values = {key: _stored_value(op, value) for key, value in metadata.items()}
    stored = {key: value for key, value in values.items() if value is not _DROP}
    return stored if stored or not metadata else None


_DROP = object()


def _stored_value(op: str, value: Any) -> Any:
    """What to store for one value of metadata, as a built-in type.

    _DROP for nothing; None, in an update, for nothing in the place of what is stored now.
    """
    if value is None and op != "add":
        return None
    if isinstance(value, bool | SparseVector):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        return stored_integer(value, f"argument 'metadatas': {_not_a_value(op)}")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _nothing(op)
    if isinstance(value, list) and not value:
        return []  # who does not keep these has not let it come here
    if isinstance(value, list):
        stored = [_stored_value("add", item) for item in value]
        if any(item is _DROP for item in stored):
            return _nothing(op)
        if any(type(item) is not type(stored[0]) for item in stored):
            return [float(item) for item in stored]  # one of the integers did not fit
        return stored
    raise TypeError(f"argument 'metadatas': {_not_a_value(op)}")


def _nothing(op: str) -> Any:
    return _DROP if op == "add" else None


def _not_a_value(op: str) -> str:
    kind = "MetadataValue" if op == "add" else "UpdateMetadataValue"
    return f"Cannot convert Python object to {kind}"


def stored_integer(value: int, error: str) -> int | float:
    """A built-in integer, or a float where 64 bits do not do."""
    if _INT64_MIN <= value <= _INT64_MAX:
        return int(value)
    try:
        return float(value)
    except OverflowError as overflow:
        raise TypeError(error) from overflow


def stored_collection_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """What to keep of the (checked) metadata of a collection: no None, and no NaN."""
    if metadata is None:
        return None
    stored = {k: v for k, v in metadata.items() if v is not None and v == v}  # noqa: PLR0124
    return stored or None


def visible_metadatas(
    collection: _engine.Collection, metadatas: list[dict[str, Any] | None] | None
) -> list[dict[str, Any] | None] | None:
    """The metadata of found records without the hidden keys."""
    if not metadatas:
        return metadatas
    if len(metadatas) >= _MANY_ROWS and not any(
        key.startswith(HIDDEN_PREFIX) for key in collection.metadata_keys()
    ):
        return metadatas
    # Joining and searching all keys runs in C: a tenth of the time of a look at each.
    if HIDDEN_PREFIX not in "\n".join(chain.from_iterable(m for m in metadatas if m)):
        return metadatas
    return [
        {key: value for key, value in metadata.items() if not key.startswith(HIDDEN_PREFIX)}
        if metadata and any(key.startswith(HIDDEN_PREFIX) for key in metadata)
        else metadata
        for metadata in metadatas
    ]


# -- results -------------------------------------------------------------------------------------


def as_embeddings(vectors: NDArray[np.float32] | None) -> Any:
    """Embeddings as Chroma shows them: float64, and a list when there are none."""
    if vectors is None:
        return None
    return vectors.astype(np.float64) if len(vectors) else []


def split(flat: list[T], counts: Sequence[int]) -> list[list[T]]:
    """Rows of all queries, one after the other, as one list for each query."""
    if len(counts) == 1:
        return [flat]
    k = counts[0] if counts else 0
    if k and counts.count(k) == len(counts):  # as in nearly every query
        return [flat[start : start + k] for start in range(0, len(flat), k)]
    out, start = [], 0
    for count in counts:
        out.append(flat[start : start + count])
        start += count
    return out


def split_optional(flat: list[Any] | None, counts: Sequence[int]) -> Any:
    """The same for a column that may not have been asked for."""
    return None if flat is None else split(flat, counts)


def split_distances(distances: NDArray[np.float32] | None, counts: Sequence[int]) -> Any:
    """The same for distances, as numbers of Python."""
    if distances is None:
        return None
    k = counts[0] if counts else 0
    if k and counts.count(k) == len(counts):
        return distances.reshape(len(counts), k).tolist()
    return split(distances.tolist(), counts)


def split_embeddings(vectors: NDArray[np.float32] | None, counts: Sequence[int]) -> Any:
    """The same for embeddings."""
    if vectors is None:
        return None
    wide = vectors.astype(np.float64)
    out: list[Any] = []
    start = 0
    for count in counts:
        out.append(wide[start : start + count] if count else [])
        start += count
    return out
