"""MessagePack both ways: what crosses the border to the engine besides vectors.

msgspec encodes the built-in types only.  Most batches hold nothing else and go through untouched.
Everything else that chromadb's front end lets pass (numpy scalars, subclasses of str and int,
sequences that are no lists) reaches `_encode_other`.  SparseVector is a dataclass, which msgspec
would write as a map without asking, so metadata is looked through for it first.

A sparse vector is extension type 1: u32 n, n * u32 indices, n * f32 values, all little-endian,
then the MessagePack array of its n labels if it has any.
"""

from __future__ import annotations

import contextlib
import operator
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson
from chromadb.base_types import SparseVector
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._errors import CorruptionError

T = TypeVar("T")

SPARSE_VECTOR = 1
_FLOAT = np.dtype("<f4")
_INTEGER, _NUMBERS = frozenset({int}), frozenset({int, float})
_INT64_MAX = 2**63 - 1

Metadata = Mapping[str, Any]
Records = tuple[
    list[str],
    "list[str | None] | None",
    "list[dict[str, Any] | None] | None",
    "list[str | None] | None",
]


def encode(value: object) -> bytes:
    """`value` as MessagePack.  Raises InvalidArgumentError for what has no such form.

    Text with a lone surrogate has no UTF-8 form: that is a UnicodeEncodeError, as in Chroma.
    """
    try:
        return _encoder.encode(value)
    except OverflowError as error:
        raise InvalidArgumentError(
            "an integer does not fit in 64 bits; store it as a string or a float"
        ) from error
    except RecursionError as error:
        raise InvalidArgumentError("a value is nested too deeply") from error
    except TypeError as error:
        raise InvalidArgumentError(str(error)) from error


def encode_records(
    ids: Sequence[str],
    documents: Sequence[str | None] | None,
    metadatas: Sequence[Metadata | None] | None,
    uris: Sequence[str | None] | None,
) -> bytes:
    """The four columns of a write."""
    if metadatas is not None and _holds_sparse_vector(metadatas):
        metadatas = [m and {key: _value_on_wire(m[key]) for key in m} for m in metadatas]
    return encode((ids, documents, metadatas, uris))


def decode_records(blob: Any) -> Records:
    """The four columns of a result."""
    try:
        ids, documents, metadatas, uris = _decoder.decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise CorruptionError(f"a stored record cannot be decoded: {error}") from error
    return ids, documents, metadatas, uris


def decode_map(blob: Any) -> dict[str, int]:
    """A map of strings to integers."""
    result: dict[str, int] = _decoder.decode(blob)
    return result


def decode_items(blob: Any) -> list[Any]:
    """A report: an array of arrays."""
    result: list[Any] = _decoder.decode(blob)
    return result


def decode_as(kind: type[T], blob: Any) -> T:
    """An answer of the engine, of a type that msgspec knows."""
    return msgspec.msgpack.decode(blob, type=kind)


def _holds_sparse_vector(metadatas: Sequence[Metadata | None]) -> bool:
    # All of it runs in C: about 20 ns per value.
    values = chain.from_iterable(m.values() for m in metadatas if m)
    return any(issubclass(t, SparseVector) for t in set(map(type, values)))


def _value_on_wire(value: object) -> object:
    return sparse_as_ext(value) if isinstance(value, SparseVector) else value


def sparse_as_ext(value: SparseVector) -> msgspec.msgpack.Ext:
    """A sparse vector as the engine reads it."""
    packed = _packed(value.indices, value.values) if value.labels is None else None
    if packed is not None:
        return msgspec.msgpack.Ext(SPARSE_VECTOR, packed)
    try:
        indices = np.asarray(value.indices, dtype=np.int64)
        with np.errstate(over="ignore"):  # the engine refuses the infinity
            values = np.asarray(value.values, dtype="<f4")
    except (OverflowError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"a sparse vector is malformed: {error}") from error
    if indices.size and (indices.min() < 0 or indices.max() > 0xFFFFFFFF):
        raise InvalidArgumentError("sparse vector indices must be between 0 and 4294967295")
    data = len(indices).to_bytes(4, "little") + indices.astype("<u4").tobytes() + values.tobytes()
    if value.labels is not None:
        data += encode(value.labels)
    return msgspec.msgpack.Ext(SPARSE_VECTOR, data)


def _packed(indices: object, values: object) -> bytes | None:
    """The bytes of lists of exact numbers; None for all else, and for what does not fit.

    A few dozen entries, as there usually are, take a tenth of the time that arrays need for them.
    """
    if (
        type(indices) is list
        and type(values) is list
        and len(indices) == len(values)
        and _INTEGER.issuperset(map(type, indices))
        and _NUMBERS.issuperset(map(type, values))
    ):
        n = len(indices)
        with contextlib.suppress(struct.error, OverflowError):
            return struct.pack(f"<I{n}I{n}f", n, *indices, *values)
    return None


def _ext_as_sparse(code: int, data: memoryview) -> SparseVector:
    if code != SPARSE_VECTOR or len(data) < 4:
        raise ValueError(f"extension type {code} of {len(data)} bytes")
    n = int.from_bytes(data[:4], "little")
    end = 4 + 8 * n
    if len(data) < end:
        raise ValueError(f"sparse vector of {n} entries in {len(data)} bytes")
    indices = list(struct.unpack_from(f"<{n}I", data, 4))
    # As over HTTP, 0.1 comes back as 0.1: the shortest number that is the same in single precision.
    numbers = np.frombuffer(data, _FLOAT, n, 4 + 4 * n).astype(np.float32)
    values = orjson.loads(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY))
    if len(data) > end:
        return SparseVector(indices, values, _decoder.decode(data[end:]))
    ascends = all(map(operator.lt, indices, indices[1:]))
    if None in values or not ascends:  # NaN, infinity: nothing that was stored
        return SparseVector(indices, values)  # raises
    # What SparseVector() asks of every entry, in Python, has been asked of all of them.
    made = object.__new__(SparseVector)
    made.indices, made.values, made.labels = indices, values, None
    return made


def _encode_other(value: object) -> object:
    """What msgspec asks for types that it does not know: the built-in value of the same kind."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.ndarray):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_decoder = msgspec.msgpack.Decoder(ext_hook=_ext_as_sparse)


def as_index(value: object, name: str, largest: int = _INT64_MAX) -> int:
    """A count given by the caller: not negative; larger than `largest` means `largest`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise InvalidArgumentError(
            f"{name} must be an integer, got {type(value).__name__}"
        ) from error
    if number < 0:
        raise InvalidArgumentError(f"{name} must not be negative, got {number}")
    return min(number, largest)


def as_matrix(vectors: object) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows of float32 in C order; the argument itself when it has that form already."""
    if (
        type(vectors) is np.ndarray
        and vectors.dtype == np.float32
        and vectors.ndim == 2
        and vectors.flags.c_contiguous
    ):
        return vectors
    try:
        with np.errstate(over="ignore"):  # the engine refuses the infinity
            matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"vectors must be rows of numbers: {error}") from error
    if matrix.ndim != 2:
        raise InvalidArgumentError(f"vectors must have two dimensions, got {matrix.ndim}")
    return matrix
