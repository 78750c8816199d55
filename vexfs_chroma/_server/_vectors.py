"""Embeddings in JSON: rows of numbers, or base64 of little-endian float32, as one float32 array.

Numbers are the larger part of most requests, so they have a way of their own: orjson reads them and
`struct` packs them, which takes half the time of a typed decoder and `numpy.array`.  Whatever that
way does not take as it is goes the other way, which is exact about types and errors.
"""

from __future__ import annotations

import functools
import re
import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from vexfs_chroma._server._bodies import decode, unfit
from vexfs_chroma._server._errors import HttpError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

_numbers = msgspec.json.Decoder(list[list[float]])
_strings = msgspec.json.Decoder(list[bytes])
_some_numbers = msgspec.json.Decoder(list[list[float] | None])
_some_strings = msgspec.json.Decoder(list[bytes | None])
# The first thing inside the outer brackets that is not null.
_FIRST = re.compile(rb"\s*\[(?:\s*null\s*,)*\s*(.?)")


def rows_of(raw: msgspec.Raw, limit: int, *, base64: bool = True) -> Matrix | None:
    """All rows as a matrix; None where there is none.  `limit`: the most numbers in a row."""
    if base64 and _is_base64(raw):
        return _from_bytes(_decode(_strings, memoryview(raw)), limit)
    body = bytes(raw)
    packed = _pack(body, limit)
    if packed is not None:
        return packed
    return _from_lists(_decode(_numbers, body, strings=base64), limit)


def some_rows_of(raw: msgspec.Raw, limit: int) -> tuple[list[bool] | None, Matrix | None]:
    """Which records have an embedding, None where nothing was said, and those as a matrix."""
    if _is_base64(raw):
        coded = _decode(_some_strings, memoryview(raw))
        present = [row is not None for row in coded]
        return present, _from_bytes([row for row in coded if row is not None], limit)
    body = bytes(raw)
    if not body or body.strip() == b"null":
        return None, None
    rows = _decode(_some_numbers, body)
    present = [row is not None for row in rows]
    return present, _from_lists([row for row in rows if row is not None], limit)


def _pack(body: bytes, limit: int) -> Matrix | None:
    """Rows of numbers as a matrix; None for all else, be it unusual or wrong."""
    if b"t" in body or b"f" in body:  # true and false are numbers to struct
        return None
    try:
        rows = orjson.loads(body)
        width = len(rows[0])
        if not 0 < width <= limit:
            return None
        pack = _packer(width)
        flat = np.frombuffer(b"".join([pack(*row) for row in rows]), dtype=np.float32)
    except (ValueError, TypeError, LookupError, OverflowError, struct.error):
        return None
    return flat.reshape(len(rows), width)


@functools.lru_cache(maxsize=64)
def _packer(width: int) -> Callable[..., bytes]:
    return struct.Struct(f"={width}f").pack


def _is_base64(raw: msgspec.Raw) -> bool:
    first = _FIRST.match(memoryview(raw))
    return first is not None and first[1] == b'"'


def _decode(decoder: Any, body: bytes | memoryview, *, strings: bool = True) -> Any:
    try:
        return decode(decoder, body)
    except HttpError as error:
        if error.message.endswith("Invalid base64 encoded string"):
            raise invalid("Invalid base64 string in embeddings") from error
        if error.status == 422:
            name = "embeddings" if strings else "query_embeddings"
            text = error.message.rpartition("target type: ")[2]
            raise unfit(f"{text} - at `$.{name}`") from error
        raise


def _from_lists(rows: Sequence[list[float]], limit: int) -> Matrix | None:
    if not rows:
        return None
    _check_width({len(row) for row in rows}, limit)
    with np.errstate(over="ignore"):  # the engine refuses the infinity
        return np.array(rows, dtype=np.float32)


def _from_bytes(rows: Sequence[bytes], limit: int) -> Matrix | None:
    if not rows:
        return None
    for size in {len(row) for row in rows}:
        if size % 4:
            raise invalid(
                f"Invalid byte length: {size} bytes cannot be converted to f32 values "
                "(must be divisible by 4)"
            )
    _check_width({len(row) // 4 for row in rows}, limit)
    flat = np.frombuffer(b"".join(rows), dtype="<f4")
    return flat.astype(np.float32, copy=False).reshape(len(rows), -1)


def _check_width(widths: set[int], limit: int) -> None:
    if len(widths) != 1:
        raise invalid("Inconsistent dimensions in provided embeddings")
    (width,) = widths
    if not width:
        raise invalid("Validation error: embeddings: Each embedding must have at least 1 dimension")
    if width > limit:
        raise invalid(f"an embedding has {width} numbers, more than the server's limit of {limit}")
