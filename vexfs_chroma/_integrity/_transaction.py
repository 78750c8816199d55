"""The file of a transaction that is not carried out yet (docs/format.md, "Transact")."""

from __future__ import annotations

import contextlib
import struct
import uuid
from pathlib import Path

FILE_NAME = "transaction"

_HEADER_BYTES = 64
_COUNT = struct.Struct("<I")
_COUNT_AT = 12
_PART = struct.Struct("<16sQQ")
_ALIGNMENT = 8


def read_numbers(path: str) -> dict[uuid.UUID, int]:
    """The number of the batch that the transaction of a database is in each of its collections.

    Of a file that was found sound; empty where it went meanwhile.
    """
    numbers: dict[uuid.UUID, int] = {}
    with contextlib.suppress(FileNotFoundError, struct.error):  # whoever is at it goes on
        file = Path(path, FILE_NAME).read_bytes()
        (count,) = _COUNT.unpack_from(file, _COUNT_AT)
        at = _HEADER_BYTES
        for _ in range(count):
            id, number, length = _PART.unpack_from(file, at)
            numbers[uuid.UUID(bytes=id)] = number
            at += _PART.size + -(-length // _ALIGNMENT) * _ALIGNMENT
    return numbers


def guess_numbers(path: str) -> tuple[dict[uuid.UUID, int], bool]:
    """As `read_numbers`, of a damaged file: what its parts seem to say; whether they fill it."""
    numbers: dict[uuid.UUID, int] = {}
    try:
        file = Path(path, FILE_NAME).read_bytes()
    except OSError:
        return numbers, False
    at = _HEADER_BYTES
    while len(file) - at >= _PART.size:
        id, number, length = _PART.unpack_from(file, at)
        if length > len(file) - at - _PART.size:
            break
        numbers[uuid.UUID(bytes=id)] = number
        at += _PART.size + -(-length // _ALIGNMENT) * _ALIGNMENT
    return numbers, at == len(file) and bool(numbers)
