"""Numbers, checksums and complaints of the reader of docs/format.md."""

from __future__ import annotations


class Corrupt(Exception):
    """The files violate the format."""


class LaterRelease(Exception):
    """The files use something that version 1 does not have."""


def check(condition: object, what: str) -> None:
    if not condition:
        raise Corrupt(what)


def known(condition: object, what: str) -> None:
    if not condition:
        raise LaterRelease(what)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc(data: bytes, seed: int = 0) -> int:
    value = seed ^ 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def align(value: int, to: int = 8) -> int:
    return -(-value // to) * to


def id_hash(data: bytes) -> int:
    mask = (1 << 64) - 1
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & mask
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & mask
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & mask
    return h ^ h >> 33
