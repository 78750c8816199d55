"""Reads what is derived by docs/format.md: code rows, graph files, the head.

What the page calls derived and leaves to a table in a header of the engine (COLUMNS, TEXT) is not
read: a reader may ignore it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .primitives import align, check, crc, known, u32, u64

GROUP = 1024  # first ids are multiples of it
UPPER_LISTS = 4096
UNLINKED, LINKED, DUPLICATE = 0, 2, 4


def check_codes(codes: bytes, tag: int, vectors: np.ndarray) -> int:
    """How many rows were compared with the vectors that they stand for; 0: no section of ours."""
    rows, dimension = vectors.shape
    if not 1 <= tag <= 3:
        return 0
    width = {1: 1, 2: 2, 3: 4}[tag]
    stride = align(dimension * width + 16, 64)
    if len(codes) != rows * stride:
        return 0
    for row in range(rows):
        raw = codes[row * stride : (row + 1) * stride]
        scale, least, norm, total = struct.unpack("<fffI", raw[-16:])
        check(not any(raw[dimension * width : -16]), "zeros of a code row")
        elements = np.frombuffer(raw, {1: "u1", 2: "<f2", 3: "<f4"}[tag], dimension)
        decoded = least + scale * elements.astype(np.float64)
        vector = vectors[row].astype(np.float64)
        slack = 1e-5 * max(1.0, float(np.abs(vector).max()))
        check(np.all(np.abs(decoded - vector) <= (scale / 2 if tag == 1 else 0) + slack), "a code")
        check(np.isclose(norm, (vector**2).sum(), rtol=1e-4, atol=1e-6), "norm of a code row")
        check(total == (int(elements.sum(dtype=np.uint64)) if tag == 1 else 0), "sum of codes")
    return rows


@dataclass
class Graph:
    ids: int
    linked: int
    duplicates: int
    links: dict[int, list[list[int]]]
    """By linked node: the lists of its levels, lowest first."""


def read_graph(sections: dict[int, bytes], rows_of: dict[int, int]) -> Graph:
    """The graph, of vec files with so many rows; every link checked."""
    info = sections[1]
    version, kind, space, _, _, m, _, record = struct.unpack("<8I", info[:32])
    ids, n_linked, n_duplicates, n_lists = struct.unpack("<4I", info[48:64])
    entry, n_sources = struct.unpack("<QI", info[64:76])
    known(version == 1 and 1 <= kind <= 3 and space <= 3, "graph")
    check(len(info) == 96 and not any(info[76:]), "INFO of a graph")
    check(record == align(16 + 8 * m, 64) and len(sections[33]) == ids * record, "records")
    check(len(sections.get(34, b"")) == n_lists * (4 + 4 * m), "upper lists")
    end = 0
    of_row = set()
    for at in range(0, 16 * n_sources, 16):
        file_no, rows, first = struct.unpack_from("<QII", sections[32], at)
        check(first >= end and first % GROUP == 0 and rows_of.get(file_no) == rows, "a source")
        end = first + rows
        of_row |= set(range(first, end))
    check(len(sections[32]) == 16 * n_sources and end == ids, "sources")
    graph = Graph(ids, n_linked, n_duplicates, {})
    levels, chains = {}, {}
    for node in range(ids):
        raw = sections[33][node * record : (node + 1) * record]
        n, level, state, chain, _, upper = struct.unpack_from("<HBBIII", raw)
        if node not in of_row:
            check(not any(raw), "a record of no row")
            continue
        known(state in {UNLINKED, LINKED, DUPLICATE}, "state of a node")
        if state == UNLINKED:
            continue
        targets = list(struct.unpack_from(f"<{2 * m}I", raw, 16))
        chains[node] = (state, chain, targets[:2])
        if state == LINKED:
            check(n <= 2 * m and upper + level <= n_lists, "a linked node")
            check(level == 0 or upper % UPPER_LISTS + level <= UPPER_LISTS, "block of upper lists")
            levels[node] = level
            lists = [targets[:n]]
            for index in range(upper, upper + level):
                count = struct.unpack_from("<H", sections[34], index * (4 + 4 * m))[0]
                check(count <= m, "an upper list")
                lists.append(
                    list(struct.unpack_from(f"<{count}I", sections[34], index * (4 + 4 * m) + 4))
                )
            graph.links[node] = lists
    for lists in graph.links.values():
        for level, targets in enumerate(lists):
            check(all(levels.get(to, -1) >= level for to in targets), "a link")
    check(len(levels) == n_linked and len(chains) - len(levels) == n_duplicates, "nodes")
    check_chains(chains)
    if entry == (1 << 64) - 1:
        check(not levels, "an entry")
    else:
        check(levels.get(entry & 0xFFFFFFFF) == entry >> 32 == max(levels.values()), "the entry")
    return graph


def check_chains(chains: dict[int, tuple[int, int, list[int]]]) -> None:
    """Duplicates hang in rings: the linked node knows the last, the last the first."""
    for node, (state, chain, _) in chains.items():
        if state == LINKED and chain != 0:
            at, before, seen = chains[chain - 1][1] - 1, 0, []
            while True:
                kind, following, (previous, owner) = chains[at]
                check(kind == DUPLICATE and owner == node and previous == before, "a duplicate")
                seen.append(at)
                if at == chain - 1:
                    break
                at, before = following - 1, at + 1
            check(len(seen) == len(set(seen)), "a ring of duplicates")


def read_head(path: Path, collection: bytes) -> tuple[int, int, int, int]:
    """Generation, log, end and lsn of a head that is whole."""
    data = path.read_bytes()
    check(len(data) == 64 and data[:8] == b"VXHD\r\n\x1a\n" and not any(data[56:60]), "head")
    check(u32(data, 60) == crc(data[:60], crc(collection)), "checksum of the head")
    return u64(data, 16), u64(data, 24), u64(data, 32), u64(data, 40)
