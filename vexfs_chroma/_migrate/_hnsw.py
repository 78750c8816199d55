"""Reads the vectors of a Chroma index: `header.bin`, `data_level0.bin` and `length.bin`.

The layout is hnswlib's, in Chroma's variant that is saved in place.  `data_level0.bin` is an array
of elements of equal size:

    links of layer 0   4 bytes: their number (16 bits), then a byte whose bit 0 means "deleted";
                       then max_links0 numbers of 32 bits
    vector             float32
    label              64 bits; 0 where nothing was written yet

For the space "cosine" the vectors are divided by their length, which is in `length.bin`: Chroma
itself shows the product.  Nothing here is trusted: sizes come from the header only when they agree
with each other and with the file, and everything is read with bounds.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
_MOST_DIMENSIONS = 1 << 20
_BLOCK_BYTES = 8 << 20
_DELETED = 1


class IndexDamagedError(ValueError):
    """The files of an index cannot be used."""


class VectorFiles:
    """The vectors in one directory of an index, by label."""

    def __init__(
        self, directory: Path, *, dimension: int | None, max_neighbors: int, cosine: bool
    ) -> None:
        """Read the labels.

        Args:
            directory: Where the files are.
            dimension: What the catalog says; used to check the header, or instead of it.
            max_neighbors: What the configuration says; used where the header is damaged.
            cosine: Whether the vectors are divided by their length.
        """
        self.notes: list[str] = []
        self.dimension = 0
        self.count = 0
        self.labels: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.deleted: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._cosine = cosine
        self._file = -1
        self._size = self._vector_at = 0
        data = directory / "data_level0.bin"
        try:
            self._file = os.open(data, os.O_RDONLY)
        except OSError as error:
            raise IndexDamagedError(f"{data}: {error.strerror}") from error
        try:
            length = os.fstat(self._file).st_size
            self._layout(directory / "header.bin", length, dimension, max_neighbors)
            self._read_labels()
            self._lengths = self._read_lengths(directory / "length.bin") if cosine else None
        except BaseException:
            self.close()
            raise
        self._element_of = {
            int(label): i
            for i, label in enumerate(self.labels.tolist())
            if label and not self.deleted[i]
        }

    def close(self) -> None:
        """Close the file.  Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def live_labels(self) -> list[int]:
        """The labels that are not marked as deleted, in order."""
        return sorted(self._element_of)

    def vectors(self, labels: Sequence[int]) -> list[NDArray[np.float32] | None]:
        """The vectors as Chroma shows them; None for labels without one."""
        return [self._vector(self._element_of.get(label)) for label in labels]

    def has_length(self, label: int) -> bool:
        """Whether the vector is whole; without its length, only the direction is known."""
        element = self._element_of.get(label)
        return self._lengths is None or (element is not None and element < len(self._lengths))

    def _vector(self, element: int | None) -> NDArray[np.float32] | None:
        if element is None:
            return None
        size = 4 * self.dimension
        data = os.pread(self._file, size, element * self._size + self._vector_at)
        if len(data) != size:
            return None
        vector: NDArray[np.float32] = np.frombuffer(data, "<f4").astype(np.float32)
        if self._lengths is not None and element < len(self._lengths):
            with np.errstate(over="ignore", invalid="ignore"):
                vector = vector * self._lengths[element]
        return vector if np.isfinite(vector).all() else None

    # -- layout ----------------------------------------------------------------------------------

    def _layout(self, header: Path, length: int, dimension: int | None, max_neighbors: int) -> None:
        try:
            count = self._layout_from_header(header, dimension)
        except (IndexDamagedError, OSError) as error:
            if not dimension or not 0 < max_neighbors < 1 << 16:
                raise IndexDamagedError(f"{header}: {error}") from error
            self.notes.append(f"{header.name}: {error}; its sizes were computed instead")
            self.dimension = dimension
            self._vector_at = 4 + 2 * max_neighbors * 4
            self._size = self._vector_at + 4 * dimension + 8
            count = length // self._size
        fits = length // self._size
        if count > fits:
            self.notes.append(f"data_level0.bin has {fits} of {count} vectors; it was cut short")
        self.count = min(count, fits)

    def _layout_from_header(self, header: Path, dimension: int | None) -> int:
        data = header.read_bytes()
        if len(data) < _HEADER.size:
            raise IndexDamagedError(f"{len(data)} bytes instead of {_HEADER.size}")
        version, level0, _, count, size, label_at, vector_at, *_rest = _HEADER.unpack_from(data)
        max_links0 = _rest[3]
        found = (label_at - vector_at) // 4
        if (
            version != 1
            or level0 != 0
            or vector_at != 4 + 4 * max_links0
            or label_at + 8 != size
            or (label_at - vector_at) % 4
            or not 0 < found <= _MOST_DIMENSIONS
        ):
            raise IndexDamagedError("it contradicts itself")
        if dimension and found != dimension:
            raise IndexDamagedError(f"{found} dimensions, but the collection has {dimension}")
        self.dimension, self._size, self._vector_at = found, size, vector_at
        return int(count)

    def _read_labels(self) -> None:
        labels, deleted = [], []
        step = max(1, _BLOCK_BYTES // self._size)
        for first in range(0, self.count, step):
            rows = min(step, self.count - first)
            data = os.pread(self._file, rows * self._size, first * self._size)
            rows = len(data) // self._size
            block = np.frombuffer(data, np.uint8, rows * self._size).reshape(rows, self._size)
            label_bytes = np.ascontiguousarray(block[:, self._size - 8 :])
            labels.append(label_bytes.view("<u8").reshape(-1).astype(np.uint64))
            deleted.append((block[:, 2] & _DELETED).astype(np.bool_))
        if labels:
            self.labels, self.deleted = np.concatenate(labels), np.concatenate(deleted)

    def _read_lengths(self, path: Path) -> NDArray[np.float32]:
        try:
            data = path.read_bytes()
        except OSError as error:
            self.notes.append(f"{path.name}: {error.strerror}; vectors come over with length 1")
            return np.zeros(0, np.float32)
        lengths: NDArray[np.float32] = np.frombuffer(data[: len(data) // 4 * 4], "<f4")
        if len(lengths) < self.count:
            self.notes.append(
                f"{path.name} has {len(lengths)} of {self.count} lengths; it was cut short"
            )
        return lengths.astype(np.float32)
