"""Reads write-ahead logs and the batches in them by docs/format.md."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from .primitives import Corrupt, align, check, crc, known, u32, u64

FULL, FIRST, MIDDLE, LAST, CLOSE = range(1, 6)
PUT, VECTOR, PAYLOAD, DELETE = range(1, 5)


@dataclass
class Record:
    seq: int
    vector: np.ndarray
    id: str | None = None
    document: str | None = None
    metadata: dict | None = None
    uri: str | None = None

    def set_payload(
        self, id: bytes, document: bytes | None, metadata: bytes | None, uri: bytes | None
    ) -> None:
        self.id = id.decode()
        self.document = None if document is None else document.decode()
        self.metadata = None if metadata is None else msgspec.msgpack.decode(metadata)
        self.uri = None if uri is None else uri.decode()


@dataclass
class Frame:
    crc: int
    lsn: int
    synced_lsn: int
    link: int
    kind: int
    payload: bytes
    end: int


def read_frame(data: bytes, at: int, salt: int) -> Frame | None:
    """The valid frame at `at`, if there is one."""
    if at + 32 > len(data):
        return None
    frame_crc, length, lsn, synced, link, kind, flags, zero = struct.unpack_from(
        "<IIQQIBBH", data, at
    )
    end = at + 32 + length
    if not 1 <= length <= 1 << 20 or align(end) > len(data) or any(data[end : align(end)]):
        return None
    if frame_crc != crc(data[at + 4 : end], salt):
        return None
    known(FULL <= kind <= CLOSE and flags == zero == 0, "frame")
    return Frame(frame_crc, lsn, synced, link, kind, data[at + 32 : end], align(end))


def has_witness(data: bytes, start: int, salt: int, lsn: int) -> bool:
    return any(
        u32(data, at + 4)
        and u64(data, at + 8) >= u64(data, at + 16) >= lsn
        and read_frame(data, at, salt)
        for at in range(start, len(data) - 31, 8)
    )


def read_log(path: Path, collection: bytes, newest: bool) -> Iterator[tuple[int, bytes]]:
    """(lsn, body) of every record; Corrupt when the log does not end as it may."""
    data = path.read_bytes()
    check(len(data) >= 64 and data[:8] == b"VXWL\r\n\x1a\n", "log header")
    check(u32(data, 60) == crc(data[:60]) and data[16:32] == collection, "log header")
    known(data[8:10] == b"\1\0" and u32(data, 48) == 0, "log")
    check(u64(data, 32) == int(path.name[4:]), "log of another number")
    salt, lsn, at = u32(data, 12), u64(data, 40), 64
    body, link, begun = b"", salt, False
    while frame := read_frame(data, at, salt):
        if frame.link != link:
            break
        if frame.kind == CLOSE and not begun and frame.lsn == lsn - 1:
            return
        if frame.lsn != lsn or frame.kind not in ((MIDDLE, LAST) if begun else (FULL, FIRST)):
            break
        body += frame.payload
        at, link, begun = frame.end, frame.crc, True
        if frame.kind in (FULL, LAST):
            yield lsn, body
            lsn, body, link, begun = lsn + 1, b"", salt, False
    check(not has_witness(data, at, salt, lsn), "damage in a log")
    check(newest or (not begun and not any(data[at:])), "torn log that is not the newest")


def apply_batch(body: bytes, records: dict[int, Record]) -> None:
    magic, n, dimension, n_columns, _, txn, flags, n_vectors = struct.unpack_from("<IIIIQQII", body)
    check(magic == u32(b"VXB1", 0), "batch")
    known(txn == flags == 0, "batch")
    columns: dict[int, bytes] = {}
    for at in range(48, 48 + 24 * n_columns, 24):
        kind, column_flags, offset, length = struct.unpack_from("<IIQQ", body, at)
        known(1 <= kind <= 7 or column_flags & 1, f"column {kind}")
        check(offset % 8 == 0 and offset + length <= len(body), "column")
        columns[kind] = body[offset : offset + length]
    check(len(columns[1]) == n and len(columns[2]) == 8 * n, "operations")
    vectors = iter(np.frombuffer(columns.get(4, b""), "<f4").reshape(n_vectors, dimension))
    strings = [_strings(columns.get(kind), n) for kind in (3, 5, 6, 7)]
    for i, operation in enumerate(columns[1]):
        seq = u64(columns[2], 8 * i)
        payload = [column[i] for column in strings]
        check(operation == VECTOR or payload[0] is not None, "id")
        if operation == PUT:
            check(seq not in records, "a new record")
            records[seq] = Record(seq, next(vectors))
            records[seq].set_payload(*payload)
        elif operation == VECTOR:
            records[seq].vector = next(vectors)
        elif operation == PAYLOAD:
            records[seq].set_payload(*payload)
        else:
            check(operation == DELETE, "operation")
            check(records.pop(seq).id == payload[0].decode(), "deleted id")
    check(next(vectors, None) is None, "vectors")


def _strings(column: bytes | None, n: int) -> list[bytes | None]:
    if column is None:
        return [None] * n
    at, values = align(4 * n), []
    for i in range(n):
        length = u32(column, 4 * i)
        values.append(None if length == 0xFFFFFFFF else column[at : at + length])
        at += 0 if length == 0xFFFFFFFF else length
    check(at == len(column), "strings")
    return values


def replay_logs(
    directory: Path, collection: bytes, first: int, lsn: int, records: dict[int, Record]
) -> None:
    """Apply what is newer than `lsn`."""
    paths = sorted(p for p in directory.glob("wal-*") if p.name[4:].isdigit())
    paths = [p for p in paths if int(p.name[4:]) >= first]
    for number, path in enumerate(paths, first):
        if int(path.name[4:]) != number:
            raise Corrupt(f"log {number} is missing")
        for record_lsn, body in read_log(path, collection, path == paths[-1]):
            if record_lsn > lsn:
                check(record_lsn == lsn + 1, "a missing record")
                apply_batch(body, records)
                lsn = record_lsn
