"""Embeddings in JSON: rows of numbers, or base64 of little-endian float32, as one float32 array."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vexfs_chroma._server._bodies import decode, unfit
from vexfs_chroma._server._errors import HttpError, invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    body = bytes(raw)
    if base64 and _is_base64(body):
        return _from_bytes(_decode(_strings, body), limit)
    return _from_lists(_decode(_numbers, body, strings=base64), limit)


def some_rows_of(raw: msgspec.Raw, limit: int) -> tuple[list[bool], Matrix | None]:
    """Which records have an embedding, and those as a matrix."""
    body = bytes(raw)
    if not body or body.strip() == b"null":
        return [], None
    if _is_base64(body):
        coded = _decode(_some_strings, body)
        present = [row is not None for row in coded]
        return present, _from_bytes([row for row in coded if row is not None], limit)
    rows = _decode(_some_numbers, body)
    present = [row is not None for row in rows]
    return present, _from_lists([row for row in rows if row is not None], limit)


def _is_base64(body: bytes) -> bool:
    first = _FIRST.match(body)
    return first is not None and first[1] == b'"'


def _decode(decoder: Any, body: bytes, *, strings: bool = True) -> Any:
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
