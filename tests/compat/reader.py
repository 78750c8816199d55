"""Reads a database by docs/format.md alone, without the engine.

A second implementation, so that the page cannot drift from the files: `read_collection` checks what
the page says and returns the live records in order of insertion.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import struct
import uuid
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import zstandard

from .derived_reader import Graph, check_codes, read_graph, read_head
from .log_reader import Record, replay_logs
from .primitives import align, check, crc, id_hash, known, u32, u64

# ---- catalog ----

TABLES = {
    "tenants": "name",
    "databases": "id, tenant, name",
    "collections": "position, id, database_id, name, metadata, schema",
    "dropped": "id",
    "identity": "id",
}


def row_checksum(table: str, row: tuple) -> int:
    data = b""
    for value in (table, *row):
        raw = value.encode() if isinstance(value, str) else value
        if raw is None:
            data += b"N"
        elif isinstance(raw, int):
            data += b"I" + raw.to_bytes(8, "little", signed=True)
        else:
            data += b"TB"[raw is value :][:1] + len(raw).to_bytes(8, "little") + raw
    return zlib.crc32(data)


def read_catalog(
    path: Path, owner: bytes
) -> dict[tuple[str, str, str], tuple[uuid.UUID, dict | None, dict]]:
    """(tenant, database, name) -> id, metadata and schema of every collection, oldest first."""
    with contextlib.closing(sqlite3.connect(path / "catalog.sqlite3")) as db:
        known(db.execute("PRAGMA user_version").fetchone() == (1,), "catalog")
        check(db.execute("PRAGMA application_id").fetchone() == (0x56455846,), "catalog")
        rows: dict[str, list[tuple]] = {}
        for table, columns in TABLES.items():
            order = "ORDER BY position" if table == "collections" else ""
            stored = db.execute(f"SELECT {columns}, crc FROM {table} {order}").fetchall()
            check(all(crc == row_checksum(table, row) for *row, crc in stored), f"rows of {table}")
            rows[table] = [row[:-1] for row in stored]
    check(rows["identity"] == [(owner,)], "catalog of another database")
    homes = {id: (tenant, name) for id, tenant, name in rows["databases"]}
    collections = {
        (*homes[home], name): (uuid.UUID(bytes=id), json.loads(metadata or "null"), json.loads(sch))
        for _, id, home, name, metadata, sch in rows["collections"]
    }
    check(not {id for (id,) in rows["dropped"]} & {c[0].bytes for c in collections.values()}, "ids")
    return collections


# ---- superblock, manifest ----


def read_superblock(path: Path) -> bytes:
    data = (path / "VEXFS").read_bytes()
    check(len(data) == 96 and data[:8] == b"VXSB\r\n\x1a\n", "superblock")
    check(u32(data, 92) == crc(data[:92]), "superblock checksum")
    known(data[8:10] == b"\1\0" and u64(data, 32) == 0, "superblock")
    return data[16:32]


@dataclass
class Entry:
    kind: int
    file_no: int
    size: int
    crc: int
    rows: int
    seq_lo: int
    seq_hi: int
    tombs_file_no: int
    tombs_size: int
    tombs_crc: int
    dead: int


@dataclass
class Manifest:
    lsn: int
    next_seq: int
    live_rows: int
    wal_first: int
    dimension: int
    lineage: bytes
    entries: list[Entry]
    keys: dict[str, int]


def read_manifest(directory: Path, uuid: bytes) -> Manifest:
    path = max(directory.glob("manifest-" + "[0-9]" * 20))
    data = path.read_bytes()
    check(data[:8] == b"VXMF\r\n\x1a\n" and len(data) == 64 + u32(data, 12), "manifest length")
    check(u32(data, 60) == crc(data[64:], crc(data[:60])), "manifest checksum")
    known(data[8:10] == b"\1\0" and u32(data, 56) <= 1, "manifest")
    check(data[16:32] == uuid and u64(data, 32) == int(path.name[9:]), "manifest of another")
    body = data[64:]
    space, dimension, lsn, next_seq, live, wal_first, next_file_no, n, keys_len = struct.unpack(
        "<IIQQQQQII", body[:56]
    )
    known(space <= 3, "space")
    check(len(body) == 72 + 96 * n + keys_len and dimension <= 65536, "manifest counts")
    check(body[56:72].hex() == directory.name, "manifest of another collection")
    entries = []
    for at in range(72, 72 + 96 * n, 96):
        f = struct.unpack("<IIQQIIQQQQQQIIQ", body[at : at + 96])
        known(f[0] in (1, 2) and f[1] == 0, "entry")
        check(0 < f[2] < next_file_no and f[10] < next_file_no, "file numbers")
        check(f[6] <= f[7] < next_seq and f[8] <= f[9] <= lsn and f[13] <= f[5], "entry")
        entries.append(Entry(f[0], f[2], f[3], f[4], f[5], f[6], f[7], f[10], f[11], f[12], f[13]))
    keys = msgspec.msgpack.decode(body[72 + 96 * n :]) if keys_len else {}
    lineage = data[40:56] if u32(data, 56) else body[56:72]
    check(any(lineage) and (not u32(data, 56) or lineage != body[56:72]), "fork of nothing")
    return Manifest(lsn, next_seq, live, wal_first, dimension, lineage, entries, keys)


# ---- containers ----


class Sections(dict[int, bytes]):
    """The bytes of a container's sections by kind, and their tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[int, int] = {}


def read_container(
    path: Path, uuid: bytes, kind: int, size: int | None = None, footer_crc: int | None = None
) -> Sections:
    """Graph files are in no manifest, which would know size and checksum."""
    data = path.read_bytes()
    size = len(data) if size is None else size
    check(len(data) == size >= 128 and data[:8] == b"VXSG\r\n\x1a\n", "container")
    check(u32(data, 60) == crc(data[:60]), "container header")
    known(data[8:10] == b"\1\0", "container")
    check(data[16:32] == uuid and u32(data, 12) == kind, "container of another")
    check(u64(data, 32) == int(path.name[4:-4]), "container number")
    footer = data[-64:]
    table, n, table_crc, chunks, n_chunks, chunks_crc, length = struct.unpack(
        "<QIIQIIQ", footer[:40]
    )
    check(footer[56:] == b"\n\x1a\n\rGSXV" and length == size, "container footer")
    check(u32(footer, 52) == crc(footer[:52]), "footer checksum")
    check(footer_crc in {None, u32(footer, 52)}, "it is not the file that the manifest lists")
    check(table % 8 == 0 and chunks == table + 48 * n, "tables")
    check(align(chunks + 4 * n_chunks) == size - 64 and n_chunks == -(-table // 65536), "tables")
    check(crc(data[table:chunks]) == table_crc, "section table")
    check(crc(data[chunks : chunks + 4 * n_chunks]) == chunks_crc, "chunk table")
    for i in range(n_chunks):
        chunk = data[i << 16 : min((i + 1) << 16, table)]
        check(crc(chunk) == u32(data, chunks + 4 * i), f"chunk {i}")
    sections = Sections()
    end = 64
    for at in range(table, chunks, 48):
        section, flags, offset, length, _, tag, section_crc, _ = struct.unpack(
            "<IIQQQIIQ", data[at : at + 48]
        )
        known(1 <= section <= 11 or flags & 1, f"section {section}")
        check(end <= offset and offset % 64 == 0 and offset + length <= table, "section place")
        end = offset + length
        if section not in sections:
            sections[section] = data[offset:end]
            sections.tags[section] = tag
        check(crc(data[offset:end]) == section_crc, f"section {section}")
    return sections


def read_block_column(data: bytes, rows: int) -> list[bytes | None]:
    magic, n, n_blocks, n_present, raw_bytes, total, dict_len, dict_crc, table_crc = struct.unpack(
        "<IIIIQQIII", data[:44]
    )
    check(magic == u32(b"VXBC", 0) and n == rows and total <= len(data), "block column")
    check(u32(data, 60) == crc(data[:60]), "block column header")
    dict_at = 64 + 20 * n_blocks
    dictionary = data[dict_at : dict_at + dict_len]
    check(crc(data[64:dict_at]) == table_crc and crc(dictionary) == dict_crc, "block tables")
    trained = zstandard.ZstdCompressionDict(dictionary) if dict_len else None
    zstd = zstandard.ZstdDecompressor(trained)
    table = [struct.unpack("<QIII", data[at : at + 20]) for at in range(64, dict_at, 20)]
    values: list[bytes | None] = []
    for i, (offset, first, size, block_crc) in enumerate(table):
        end, following = table[i + 1][:2] if i + 1 < n_blocks else (total, n)
        raw = data[offset:end]
        check(crc(raw) == block_crc and first == len(values), f"block {i}")
        if size >> 30:
            known(size >> 30 == 1, "codec")
            raw = zstd.decompress(raw, max_output_size=size & 0x3FFFFFFF)
        check(len(raw) == size & 0x3FFFFFFF, "block length")
        values += _unpack_values(raw, following - first)
    check(sum(v is not None for v in values) == n_present, "present values")
    check(sum(len(v) for v in values if v is not None) == raw_bytes, "bytes of values")
    return values or [None] * n


def _unpack_values(raw: bytes, count: int) -> list[bytes | None]:
    pos, codes = 0, []
    for _ in range(count):
        code = shift = 0
        while True:
            code |= (raw[pos] & 0x7F) << shift
            shift, pos = shift + 7, pos + 1
            if not raw[pos - 1] & 0x80:
                break
        codes.append(code)
    values: list[bytes | None] = []
    for code in codes:
        values.append(raw[pos : pos + code - 1] if code else None)
        pos += max(code - 1, 0)
    check(pos == len(raw), "values of a block")
    return values


def read_vectors(sections: Sections, entry: Entry) -> dict[int, np.ndarray]:
    dimension, element, stride, rows = struct.unpack("<IIII", sections[1])
    dtype = np.dtype({0: "<f4", 1: "<f2", 2: "u1"}[element])
    row_bytes = dtype.itemsize * dimension
    padded = align(row_bytes, 64)
    check(stride == (padded if (padded - row_bytes) * 8 <= row_bytes else row_bytes), "stride")
    check(rows == entry.rows and len(sections[3]) == rows * stride, "vectors")
    seqs = np.frombuffer(sections[2], "<u8")
    check(len(seqs) == rows and np.all(seqs[1:] > seqs[:-1]), "seqs")
    data = np.frombuffer(sections[3], np.uint8).reshape(rows, stride)[:, :row_bytes]
    vectors = np.ascontiguousarray(data).view(dtype).astype(np.float32)
    norms = np.frombuffer(sections[4], "<f4")
    check(np.allclose(norms, (vectors.astype(float) ** 2).sum(axis=1), rtol=1e-4), "norms")
    if 13 in sections:
        check_codes(sections[13], sections.tags[13], vectors)
    return dict(zip(map(int, seqs), vectors, strict=True))


def read_payloads(sections: dict, entry: Entry) -> dict[int, tuple]:
    rows, _, document_bytes, metadata_bytes = struct.unpack("<IIQQ", sections[1])
    seqs = [int(seq) for seq in np.frombuffer(sections[2], "<u8")]
    check(rows == entry.rows == len(seqs) and seqs == sorted(set(seqs)), "seqs")
    offsets = np.frombuffer(sections[5], "<u4", rows + 1)
    raw = sections[5][align(4 * (rows + 1)) :]
    ids = [raw[a:b] for a, b in pairwise(offsets)]
    check(offsets[0] == 0 and offsets[-1] == len(raw), "ids")
    hashes = np.frombuffer(sections[6], "<u8", rows)
    by_hash = np.frombuffer(sections[6], "<u4", offset=8 * rows)
    check(np.all(hashes[1:] >= hashes[:-1]) and sorted(by_hash) == list(range(rows)), "id index")
    check(all(id_hash(ids[row]) == h for h, row in zip(hashes, by_hash, strict=True)), "id index")
    columns = [
        read_block_column(sections[kind], rows) if kind in sections else [None] * rows
        for kind in (7, 8, 9)
    ]
    for column, expected in zip(columns[:2], (document_bytes, metadata_bytes), strict=True):
        check(sum(len(v or b"") for v in column) == expected, "bytes of documents or metadata")
    return dict(zip(seqs, zip(ids, *columns, strict=True), strict=True))


def read_dead(directory: Path, uuid: bytes, entry: Entry) -> set[int]:
    if entry.tombs_file_no == 0:
        return set()
    path = directory / f"del-{entry.tombs_file_no:012}.vxd"
    sections = read_container(path, uuid, 3, entry.tombs_size, entry.tombs_crc)
    file_no, rows, dead = struct.unpack("<QII", sections[1])
    bits = np.unpackbits(np.frombuffer(sections[11], np.uint8), bitorder="little")
    check((file_no, rows, dead) == (entry.file_no, entry.rows, entry.dead), "tombstones")
    check(len(bits) == align(rows, 64) and bits.sum() == dead, "tombstones")
    return set(np.flatnonzero(bits))


# ---- a collection ----


def read_collection(path: Path, collection: bytes) -> dict[int, Record]:
    """The live records of a collection that nobody is writing, by seq."""
    uuid = read_superblock(path)
    directory = path / "collections" / collection.hex()
    manifest = read_manifest(directory, uuid)
    vectors: dict[int, np.ndarray] = {}
    payloads: dict[int, tuple] = {}
    for entry in manifest.entries:
        name = ("", "vec-%012d.vxv", "pay-%012d.vxp")[entry.kind] % entry.file_no
        sections = read_container(directory / name, uuid, entry.kind, entry.size, entry.crc)
        rows = (read_vectors if entry.kind == 1 else read_payloads)(sections, entry)
        check(min(rows) == entry.seq_lo and max(rows) == entry.seq_hi, "seqs of a file")
        dead = read_dead(directory, uuid, entry)
        live = {seq: row for i, (seq, row) in enumerate(rows.items()) if i not in dead}
        found = vectors if entry.kind == 1 else payloads
        check(not live.keys() & found.keys(), "two live rows of one seq")
        found.update(live)
    check(vectors.keys() == payloads.keys(), "a record has a vector row and a payload row")
    check(len(vectors) == manifest.live_rows, "live rows")
    records = {seq: Record(seq, vectors[seq]) for seq in sorted(vectors)}
    for seq, payload in payloads.items():
        records[seq].set_payload(*payload)
    replay_logs(directory, manifest.lineage, manifest.wal_first, manifest.lsn, records)
    return dict(sorted(records.items()))


# ---- what is derived ----


def read_graphs(path: Path, collection: bytes) -> list[Graph]:
    """The graphs of a collection; those of files that are gone count for nothing."""
    uuid = read_superblock(path)
    directory = path / "collections" / collection.hex()
    entries = read_manifest(directory, uuid).entries
    rows_of = {entry.file_no: entry.rows for entry in entries if entry.kind == 1}
    return [
        read_graph(read_container(file, uuid, 4), rows_of)
        for file in sorted(directory.glob("gra-*.vxg"))
    ]


def check_head(path: Path, collection: bytes) -> None:
    """The head of a collection that nobody is writing names its newest manifest and log."""
    directory = path / "collections" / collection.hex()
    generation, log, end, _ = read_head(directory / "head", collection)
    check(generation == int(max(directory.glob("manifest-*")).name[9:]), "head")
    newest = max(directory.glob("wal-*"))
    check(log == int(newest.name[4:]) and 64 <= end <= newest.stat().st_size, "head")
