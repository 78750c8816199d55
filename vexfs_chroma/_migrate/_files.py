"""The file formats of an export: how a collection becomes a file, and a file a collection."""

from __future__ import annotations

import abc
import contextlib
import io
import json
import shutil
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from chromadb.errors import ChromaError

from vexfs_chroma._migrate._pages import Page, metadata_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

MANIFEST = "manifest.json"
_RECORDS = "records.jsonl"
_VECTORS = "vectors.npy"


class Sink(abc.ABC):
    """A file that is being written."""

    def __init__(self) -> None:
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, ChromaError):  # what could be read is kept
            self.close()
            return
        self.abandon()

    @abc.abstractmethod
    def write(self, page: Page) -> None:
        """Append some records."""

    @abc.abstractmethod
    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Close a file that nobody wants any more: the first error is the one to tell."""
        with contextlib.suppress(Exception):
            self.close()

    def count(self) -> int:
        """How many records the finished file has."""
        return self._rows


class FileFormat(abc.ABC):
    """One format."""

    suffix: ClassVar[str]

    @abc.abstractmethod
    def sink(self, path: Path, rows: int, dimension: int) -> Sink:
        """A new file for so many records."""

    @abc.abstractmethod
    def pages(self, path: Path, size: int) -> Iterator[Page]:
        """The records of a file.  Raises ValueError when it is not one."""


def _page(records: list[dict[str, Any]], vectors: Any) -> Page:
    return Page(
        [record["id"] for record in records],
        np.asarray(vectors, np.float32),
        [record.get("document") for record in records],
        [record.get("uri") for record in records],
        [metadata_from_json(record.get("metadata")) for record in records],
    )


# -- jsonl ---------------------------------------------------------------------------------------


class _JsonLines(FileFormat):
    """Numbers are written so that they are read as the same float32."""

    suffix = "jsonl"

    def sink(self, path: Path, rows: int, dimension: int) -> Sink:
        return _JsonLinesSink(path)

    def pages(self, path: Path, size: int) -> Iterator[Page]:
        records: list[dict[str, Any]] = []
        with path.open("rb") as file:
            for line in file:
                records.append(msgspec.json.decode(line))
                if len(records) == size:
                    yield _page(records, [record["embedding"] for record in records])
                    records = []
        if records:
            yield _page(records, [record["embedding"] for record in records])


class _JsonLinesSink(Sink):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder()

    def write(self, page: Page) -> None:
        lines = [
            {**record, "embedding": vector}
            for record, vector in zip(page.content(), page.vectors.tolist(), strict=True)
        ]
        self._file.write(self._encoder.encode_lines(lines))
        self._rows += len(lines)

    def close(self) -> None:
        self._file.close()


# -- npz -----------------------------------------------------------------------------------------


class _Npz(FileFormat):
    """A zip file: `numpy.load(file)["vectors"]` is the matrix, records.jsonl has the rest."""

    suffix = "npz"

    def sink(self, path: Path, rows: int, dimension: int) -> Sink:
        return _NpzSink(path, rows, dimension)

    def pages(self, path: Path, size: int) -> Iterator[Page]:
        try:
            yield from self._pages(path, size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(str(error) or "it ends too early") from error

    def _pages(self, path: Path, size: int) -> Iterator[Page]:
        with zipfile.ZipFile(path) as archive, archive.open(_VECTORS) as vectors:
            rows, dimension = _read_npy_header(vectors)
            with archive.open(_RECORDS) as lines:
                for first in range(0, rows, size):
                    count = min(size, rows - first)
                    data = vectors.read(count * dimension * 4)
                    records = [msgspec.json.decode(lines.readline()) for _ in range(count)]
                    matrix = np.frombuffer(data, "<f4").reshape(count, dimension)
                    yield _page(records, matrix)


def _read_npy_header(file: IO[bytes]) -> tuple[int, int]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("vectors.npy has an unknown version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype != np.dtype("<f4") or len(shape) != 2:
        raise ValueError("vectors.npy is not a matrix of float32")
    return shape[0], shape[1]


class _NpzSink(Sink):
    """The vectors go into the archive at once, the rest waits beside it, as JSON, for its turn."""

    def __init__(self, path: Path, rows: int, dimension: int) -> None:
        super().__init__()
        self._path, self._promised, self._dimension = path, rows, dimension
        self._beside = path.with_suffix(".tmp")
        self._records = self._beside.open("w+b")
        self._encoder = msgspec.json.Encoder()
        self._begin(rows)

    def _begin(self, rows: int) -> None:
        self._archive = zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, allowZip64=True)
        self._vectors = self._archive.open(
            zipfile.ZipInfo(_VECTORS, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True
        )
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, self._dimension)}
        np.lib.format.write_array_header_1_0(header, shape)
        self._vectors.write(header.getvalue())

    def _shorten(self) -> None:
        """Records were deleted meanwhile: copy the vectors behind a header that says so."""
        self._archive.close()
        longer = self._path.with_suffix(".longer.tmp")
        self._path.rename(longer)
        with zipfile.ZipFile(longer) as archive, archive.open(_VECTORS) as vectors:
            _read_npy_header(vectors)
            self._begin(self._rows)
            shutil.copyfileobj(vectors, self._vectors)
        self._vectors.close()
        longer.unlink()

    def write(self, page: Page) -> None:
        self._vectors.write(np.ascontiguousarray(page.vectors, "<f4").tobytes())
        self._records.write(self._encoder.encode_lines(list(page.content())))
        self._rows += len(page.ids)

    def close(self) -> None:
        self._vectors.close()
        if self._rows < self._promised:
            self._shorten()
        self._records.seek(0)
        entry = zipfile.ZipInfo(_RECORDS, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        with self._archive.open(entry, "w", force_zip64=True) as into:
            while block := self._records.read(1 << 20):
                into.write(block)
        self._archive.close()
        self._records.close()
        self._beside.unlink()

    def abandon(self) -> None:
        for part in (self._vectors, self._archive, self._records):
            with contextlib.suppress(Exception):
                part.close()


# -- parquet -------------------------------------------------------------------------------------


class _Parquet(FileFormat):
    """Columns id, embedding (a fixed-size list), document, uri, and metadata as JSON text."""

    suffix = "parquet"

    def __init__(self) -> None:
        _pyarrow()  # say at once that it is missing

    def sink(self, path: Path, rows: int, dimension: int) -> Sink:
        return _ParquetSink(path, dimension)

    def pages(self, path: Path, size: int) -> Iterator[Page]:
        _, parquet = _pyarrow()
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(size):
                records = batch.drop_columns("embedding").to_pylist()
                for record in records:
                    record["metadata"] = record["metadata"] and json.loads(record["metadata"])
                matrix = np.asarray(batch.column("embedding").flatten(), np.float32)
                yield _page(records, matrix.reshape(len(records), -1))


class _ParquetSink(Sink):
    def __init__(self, path: Path, dimension: int) -> None:
        super().__init__()
        self._arrow, parquet = _pyarrow()
        arrow = self._arrow
        self._dimension = max(dimension, 1)
        self._schema = arrow.schema(
            [
                arrow.field("id", arrow.string(), nullable=False),
                arrow.field("embedding", arrow.list_(arrow.float32(), self._dimension)),
                arrow.field("document", arrow.string()),
                arrow.field("uri", arrow.string()),
                arrow.field("metadata", arrow.string()),
            ]
        )
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, page: Page) -> None:
        arrow = self._arrow
        flat = arrow.array(np.ascontiguousarray(page.vectors).reshape(-1))
        metadatas = [
            json.dumps(record["metadata"], ensure_ascii=False) if "metadata" in record else None
            for record in page.content()
        ]
        columns = [
            arrow.array(page.ids, arrow.string()),
            arrow.FixedSizeListArray.from_arrays(flat, self._dimension),
            arrow.array(page.documents, arrow.string()),
            arrow.array(page.uris, arrow.string()),
            arrow.array(metadatas, arrow.string()),
        ]
        self._writer.write_batch(arrow.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows += len(page.ids)

    def close(self) -> None:
        self._writer.close()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow, which is not installed: "
            "pip install 'vexfs-chroma[parquet]'"
        ) from error
    return pa, parquet


FORMATS: dict[str, Callable[[], FileFormat]] = {
    "jsonl": _JsonLines,
    "npz": _Npz,
    "parquet": _Parquet,
}
