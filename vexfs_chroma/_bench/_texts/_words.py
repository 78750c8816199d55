"""Libraries of full text alone."""

from __future__ import annotations

import importlib
import re
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench._texts._base import K1, Asked, B, Given, TextIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Tantivy(TextIndex):
    """tantivy."""

    distribution = "tantivy"
    note = "one writer thread, numbers as a fast field; on stable storage after the one commit"

    def __init__(self, folder: str, given: Given) -> None:
        super().__init__(folder, given)
        tantivy = self._tantivy = importlib.import_module("tantivy")
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("body", stored=False)
        builder.add_integer_field("id", fast=True)
        path = self.folder / "index"
        path.mkdir()
        self._index = tantivy.Index(builder.build(), path=str(path))

    def add(self) -> None:
        """All documents and a commit."""
        writer = self._index.writer(heap_size=200_000_000, num_threads=1)
        for row, text in enumerate(self.given.documents):
            writer.add_document(self._tantivy.Document(body=text, id=row))
        writer.commit()
        writer.wait_merging_threads()

    def finish(self) -> None:
        """Look at what was committed."""
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(self, mode: str, query: Asked, limit: int) -> Any:
        """Parse, search, and read the numbers of what was found: hits have addresses only."""
        parsed = self._index.parse_query(query.text, ["body"])
        hits = self._searcher.search(parsed, limit, count=False).hits
        return hits, self._searcher.fast_field_values("id", [address for _, address in hits])

    def core(self, mode: str, query: Asked, limit: int) -> Callable[[], object]:
        """The search, parsed before; its hits are objects of Python already."""
        parsed = self._index.parse_query(query.text, ["body"])
        return partial(self._searcher.search, parsed, limit, count=False)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """The numbers that were read."""
        rows: list[int] = answer[1]
        return rows


class Bm25s(TextIndex):
    """bm25s, which keeps everything in memory."""

    distribution = "bm25s"
    note = "Lucene's variant, k1 1.2, b 0.75, its own tokenizer without stop words; in memory"

    def add(self) -> None:
        """Tokenize and index."""
        bm25s = self._bm25s = importlib.import_module("bm25s")
        tokens = bm25s.tokenize(self.given.documents, stopwords=None, show_progress=False)
        self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(tokens, show_progress=False)

    def search(self, mode: str, query: Asked, limit: int) -> Any:
        """Tokenize and score."""
        tokens = self._bm25s.tokenize([query.text], stopwords=None, show_progress=False)
        return self._index.retrieve(tokens, k=limit, show_progress=False)

    def core(self, mode: str, query: Asked, limit: int) -> Callable[[], object]:
        """Scoring, in numpy for the most part; tokenized before."""
        tokens = self._bm25s.tokenize([query.text], stopwords=None, show_progress=False)
        return partial(self._index.retrieve, tokens, k=limit, show_progress=False)

    def rows_of(self, answer: Any) -> Sequence[int]:
        """An array of numbers."""
        return [int(row) for row in answer[0][0]]

    def bytes(self) -> int | None:
        """Nothing is on disk."""
        return None


class Fts5(TextIndex):
    """SQLite's FTS5."""

    note = "contentless table, synchronous FULL; on stable storage after the one commit"

    @classmethod
    def version(cls) -> str:
        """Of SQLite."""
        return sqlite3.sqlite_version

    def __init__(self, folder: str, given: Given) -> None:
        super().__init__(folder, given)
        self._connection = sqlite3.connect(self.folder / "index.sqlite")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE VIRTUAL TABLE t USING fts5(body, content='')")

    def add(self) -> None:
        """One transaction."""
        rows = enumerate(self.given.documents)
        with self._connection:
            self._connection.executemany("INSERT INTO t(rowid, body) VALUES (?, ?)", rows)

    def finish(self) -> None:
        """Merge its segments into one."""
        with self._connection:
            self._connection.execute("INSERT INTO t(t) VALUES ('optimize')")

    def search(self, mode: str, query: Asked, limit: int) -> Any:
        """Any of the words, by its bm25()."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query.text))
        sql = "SELECT rowid, rank FROM t WHERE t MATCH ? ORDER BY rank LIMIT ?"
        return self._connection.execute(sql, (words, limit)).fetchall()

    def rows_of(self, answer: Any) -> Sequence[int]:
        """Row ids are numbers."""
        return [row for row, _ in answer]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
