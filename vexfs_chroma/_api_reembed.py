"""Other embeddings for all records of a collection, from their documents.

What is embedded is kept in a file without a name beside the database until every record has its
new embedding; then the engine changes over, all at once.  It refuses when records were written
since they were read, so they are read again: equal documents are embedded once, so that takes as
long as reading.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
from chromadb.errors import InternalError, InvalidArgumentError

from vexfs_chroma import _config, _engine, _expiry
from vexfs_chroma._api_reindex import ReindexOperations, change_schema
from vexfs_chroma._errors import DatabaseLockedError, ReadOnlyError, StorageFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO
    from uuid import UUID

    from numpy.typing import NDArray
    from typing_extensions import Self

    Embed = Callable[[list[str]], Any]
    Progress = Callable[[int, int], None]

_PAGE = 1000
"""Records read at once."""
_ROUNDS = 20
"""How often records are read again before it is given up."""


class _WrittenMeanwhileError(Exception):
    """Takes back the change of the catalog."""


class Embedded:
    """The embeddings of documents, in a file."""

    def __init__(self, embed: Embed, batch_size: int, directory: str | None) -> None:
        self._embed = embed
        self._batch_size = batch_size
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._rows: dict[bytes, int] = {}
        self._dimension = 0
        self._file: BinaryIO = self._new_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rows_of(self, documents: list[str]) -> Iterator[list[int]]:
        """The rows of their embeddings, batch by batch; what is new is embedded."""
        for start in range(0, len(documents), self._batch_size):
            batch = documents[start : start + self._batch_size]
            digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in batch]
            new = {
                digest: text
                for digest, text in zip(digests, batch, strict=True)
                if digest not in self._rows
            }
            if new:
                self._append(list(new.values()))
                first = len(self._rows)
                self._rows.update((digest, first + i) for i, digest in enumerate(new))
            yield [self._rows[digest] for digest in digests]

    def _append(self, texts: list[str]) -> None:
        embeddings = self._embed(texts)
        try:
            made = np.asarray(embeddings, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"the embedding function gave no matrix of numbers: {error}"
            ) from error
        if made.ndim != 2 or len(made) != len(texts) or made.shape[1] == 0:
            raise InvalidArgumentError(
                f"the embedding function gave {made.shape} for {len(texts)} documents, expected "
                "(documents, dimension)"
            )
        if not np.isfinite(made).all():
            raise InvalidArgumentError("the embedding function gave a number that is not finite")
        self._dimension = self._dimension or made.shape[1]
        if made.shape[1] != self._dimension:
            raise InvalidArgumentError(
                f"the embedding function gave dimension {made.shape[1]} after {self._dimension}"
            )
        _write(self._file, made)

    @contextlib.contextmanager
    def matrix(self, rows: list[int]) -> Iterator[NDArray[np.float32]]:
        """float32, len(rows) x dimension: these embeddings, in this order."""
        if not rows:
            yield np.empty((0, 0), np.float32)
            return
        with contextlib.ExitStack() as stack:
            made = self._mapped(self._file, stack)
            if rows != list(range(len(made))):
                ordered = stack.enter_context(self._new_file())
                for start in range(0, len(rows), _PAGE):
                    _write(ordered, made[rows[start : start + _PAGE]])
                made = self._mapped(ordered, stack)
            yield made

    def _mapped(self, file: BinaryIO, stack: contextlib.ExitStack) -> NDArray[np.float32]:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        stack.callback(_close, mapped)
        return np.frombuffer(mapped, np.float32).reshape(-1, self._dimension)

    def _new_file(self) -> BinaryIO:
        return self._stack.enter_context(tempfile.TemporaryFile(buffering=0, dir=self._directory))


def _write(file: BinaryIO, rows: NDArray[np.float32]) -> None:
    left = np.ascontiguousarray(rows).data.cast("B")
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFullError(
            "no room for new embeddings beside the database: free some space and try again"
        ) from error


def _close(mapped: mmap.mmap) -> None:
    with contextlib.suppress(BufferError):  # an array is of it: it goes when that goes
        mapped.close()


class ReembedOperations(ReindexOperations):
    """What chromadb's interface has nothing for: other embeddings for what is there."""

    _path: str | None

    def reembed_collection(
        self,
        id: UUID,
        embed: Embed,
        function: dict[str, Any] | None,
        batch_size: int,
        progress: Progress | None,
    ) -> int:
        """Give all records embeddings of their documents; returns how many there are.

        `function` is its form in configurations.
        """
        _, database = self._opened()
        if database.read_only:
            raise ReadOnlyError(database.why_read_only)
        with Embedded(embed, batch_size, self._path) as embedded:
            for _ in range(_ROUNDS):
                lsn, rows = self._embed_all(id, embedded, progress)
                with embedded.matrix(rows) as matrix:
                    if self._change_over(id, lsn, matrix, function):
                        return len(rows)
        raise DatabaseLockedError(
            f"collection [{id}] was written to all the time, so nothing was changed; let its "
            "writers rest while reembed() ends, then call it again"
        )

    def _embed_all(
        self, id: UUID, embedded: Embedded, progress: Progress | None
    ) -> tuple[int, list[int]]:
        """The number of the last write that was seen, and the rows of all records' embeddings."""
        rows: list[int] = []
        after: bytes | None = None
        with self._using(id) as collection:
            if isinstance(collection.engine, _expiry.ExpiringCollection):
                collection.engine.expire()
            info = collection.engine.info()
        total = info.rows
        while True:
            with self._using(id) as collection:
                # What expires meanwhile is there until it is deleted.
                page, after = _engine.Collection.get_ordered(
                    collection.engine, key=None, after=after, limit=_PAGE, documents=True
                )
            if not page.ids:
                return info.lsn, rows
            documents = _documents_of(page.ids, page.documents or [])
            for found in embedded.rows_of(documents):
                rows += found
                if progress is not None:
                    progress(len(rows), max(total, len(rows)))

    def _change_over(
        self, id: UUID, lsn: int, matrix: NDArray[np.float32], function: dict[str, Any] | None
    ) -> bool:
        """False: there were writes after `lsn`, and nothing has changed."""
        catalog, _ = self._opened()
        done = False
        with self._using(id) as collection:
            engine = collection.engine

            def change(schema: dict[str, Any]) -> dict[str, Any]:
                nonlocal done
                changed = _config.update_schema(schema, {"embedding_function": function})
                done = engine.reembed(lsn, matrix)
                if not done:
                    raise _WrittenMeanwhileError
                return changed

            try:
                change_schema(catalog, id, change)
            except _WrittenMeanwhileError:
                return False
            except Exception as error:
                if not done:
                    raise
                raise InternalError(
                    "all records have their new embeddings, but the configuration does not name "
                    f"the new embedding function, because the catalog was not changed: {error}; "
                    "call modify(configuration={'embedding_function': ...})"
                ) from error
        self._reopen(id)
        return True


def _documents_of(ids: list[str], documents: list[str | None]) -> list[str]:
    missing = [id for id, text in zip(ids, documents, strict=True) if text is None]
    if missing:
        raise InvalidArgumentError(
            f"record {missing[0]!r} has no document that could be embedded; update or delete what "
            "has none, or give all records their embeddings with update()"
        )
    return [text for text in documents if text is not None]
