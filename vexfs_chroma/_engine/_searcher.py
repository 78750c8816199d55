"""Searcher: one query at a time with nothing around the engine's call that is not needed.

For measurements, which compare it with the bindings of other libraries.  It belongs to one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vexfs_chroma._engine._status import check
from vexfs_chroma._engine._vexfs import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from vexfs_chroma._engine._collection import Collection

_decode = msgspec.msgpack.Decoder().decode


class Searcher:
    """Holds a collection open, and the memory that every call needs.  Use it in a `with` block."""

    def __init__(self, collection: Collection) -> None:
        self._handle = collection._handle
        self._out = ffi.new("vex_result **")

    def __enter__(self) -> Self:
        self._collection = self._handle.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.__exit__()

    def nearest(self, query: NDArray[np.float32], k: int) -> tuple[list[str], NDArray[np.float32]]:
        """The ids of the `k` nearest records of one C-contiguous vector, and their distances.

        Errors are those of Collection.query.
        """
        lent = ffi.from_buffer("float[]", query)
        out = self._out
        check(lib.vex_query(self._collection, ffi.NULL, lent, 1, len(lent), k, ffi.NULL, 0, out))
        result: Any = out[0]
        try:
            ids: list[str] = _decode(ffi.buffer(result.records, result.records_len))[0]
            distances = np.empty(result.n_rows, dtype=np.float32)
            ffi.memmove(distances, result.distances, 4 * result.n_rows)
        finally:
            lib.vex_result_free(result)
        return ids, distances

    def ranked(self, search: bytes) -> None:
        """Do a list of one RankedSearch, as MessagePack, and free what it found unread.

        Errors are those of Collection.search.
        """
        out = self._out
        check(lib.vex_search_ranked(self._collection, search, len(search), 1, out))
        lib.vex_result_free(out[0])
