"""Full text by BM25: the engine beside tantivy, bm25s and SQLite's FTS5, in one run.

    make bench-text                          WordNet's glosses (VEXFS_DATA), else made-up documents
    make bench-text ARGS="--queries 200"

Every library indexes the same documents, one thread each, and answers the same queries: words of
random documents, any of which may match, the best 10.  Times are of a whole call in Python, the
best of three; of the engine in C, by build/bench_text, before and after the others.  Of tantivy
also without parsing the query.  The scores are compared with those of bm25s on the same tokens.
Libraries that are not installed (`make peers`) are left out.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = "wordnet-minilm-384-cosine"
ROUNDS = 3
LIMIT = 10
SEED = 1


def load_documents() -> list[str]:
    """WordNet's glosses, or as many documents of made-up words."""
    folder = os.environ.get("VEXFS_DATA")
    if folder:
        sys.path.insert(0, folder)
        import load  # type: ignore[import-not-found]

        return [text.replace("\n", " ") for text in load.load(DATA)[4]]
    rng = random.Random(SEED)  # noqa: S311 - the same every time
    words = [f"w{int(1.0005 ** rng.randrange(20000))}" for _ in range(20000)]
    return [" ".join(rng.choices(words, k=rng.randrange(3, 30))) for _ in range(100_000)]


def make_queries(documents: list[str], n: int) -> list[str]:
    """One to six words of a random document each."""
    rng = random.Random(SEED)  # noqa: S311 - the same every time
    words = (re.findall(r"\w+", rng.choice(documents)) for _ in range(n))
    return [" ".join(rng.sample(w, min(len(w), rng.randint(1, 6)))) for w in words]


def measure(name: str, queries: list[Any], ask: Callable[[Any], Any]) -> None:
    """Print percentiles of the time that a query takes."""
    took = [float("inf")] * len(queries)
    for _ in range(ROUNDS):
        for i, query in enumerate(queries):
            start = time.perf_counter()
            ask(query)
            took[i] = min(took[i], (time.perf_counter() - start) * 1e6)
    took.sort()
    p50, p95, p99 = (took[len(took) * p // 100] for p in (50, 95, 99))
    print(f"  {name:28} p50 {p50:9.1f} us   p95 {p95:9.1f} us   p99 {p99:9.1f} us   "
          f"mean {statistics.mean(took):9.1f} us", flush=True)  # fmt: skip


def added(name: str, n: int, start: float, size: int | None) -> None:
    """Print how long indexing took."""
    us = (time.perf_counter() - start) * 1e6 / n
    size_text = f", {size // 1024} KB" if size is not None else ""
    print(f"{name}: {us:.1f} us per document{size_text}", flush=True)


def run_tantivy(documents: list[str], queries: list[str], folder: Path) -> None:
    """Measure tantivy, without stored text."""
    import tantivy  # type: ignore[import-not-found]

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("body", stored=False)
    builder.add_integer_field("id", stored=True)
    path = folder / "tantivy"
    path.mkdir()
    index = tantivy.Index(builder.build(), path=str(path))
    writer = index.writer(heap_size=200_000_000, num_threads=1)
    start = time.perf_counter()
    for i, text in enumerate(documents):
        writer.add_document(tantivy.Document(body=text, id=i))
    writer.commit()
    writer.wait_merging_threads()
    added("tantivy", len(documents), start, sum(f.stat().st_size for f in path.iterdir()))
    index.reload()
    searcher = index.searcher()
    parsed = [index.parse_query(query, ["body"]) for query in queries]

    def ask(query: str) -> Any:
        return searcher.search(index.parse_query(query, ["body"]), LIMIT, count=False).hits

    measure("tantivy", queries, ask)
    measure("tantivy, parsed before", parsed, lambda q: searcher.search(q, LIMIT, count=False).hits)


def run_bm25s(documents: list[str], queries: list[str], folder: Path) -> None:
    """Measure bm25s, and compare its scores with the engine's."""
    import bm25s  # type: ignore[import-not-found]

    start = time.perf_counter()
    tokens = bm25s.tokenize(documents, stopwords=None, show_progress=False)
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index(tokens, show_progress=False)
    added("bm25s", len(documents), start, None)

    def ask(query: str) -> Any:
        found = bm25s.tokenize([query], stopwords=None, show_progress=False)
        return index.retrieve(found, k=LIMIT, show_progress=False)

    measure("bm25s", queries[:200], ask)
    compare(documents, queries, folder)


def compare(documents: list[str], queries: list[str], folder: Path) -> None:
    """Print the largest difference between the engine's scores and bm25s's on our tokens."""
    import bm25s

    sys.path.insert(0, str(ROOT / "tests" / "rank"))
    import words  # type: ignore[import-not-found]

    def tokens(text: str) -> list[str]:
        return [token.decode() for token in words.tokens(text.encode())]

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, dtype="float64")
    index.index([tokens(text) for text in documents], show_progress=False)
    known = set(index.vocab_dict)
    largest, n = 0.0, 0
    ours = (folder / "results").read_text().splitlines()
    for query, line in list(zip(queries, ours, strict=True))[:300]:
        scores = index.get_scores([t for t in sorted(tokens(query)) if t in known])
        expected = sorted(scores, reverse=True)[:LIMIT]
        fields = line.split()
        for place, (row, score) in enumerate(zip(fields[::2], fields[1::2], strict=True)):
            theirs = scores[int(row)]
            for other in (theirs, expected[place]):
                largest = max(largest, abs(float(score) - other) / other)
            n += 1
    print(
        f"  {n} scores compared with bm25s on the same tokens: they differ by {largest:.1e} at most"
    )


def run_fts5(documents: list[str], queries: list[str]) -> None:
    """Measure SQLite's FTS5, without stored text."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(body, content='')")
    start = time.perf_counter()
    connection.executemany("INSERT INTO t(rowid, body) VALUES (?, ?)", enumerate(documents))
    connection.commit()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    added("SQLite FTS5", len(documents), start, pages * page_bytes)
    asked = [" OR ".join(f'"{w}"' for w in re.findall(r"\w+", query)) for query in queries]
    sql = "SELECT rowid, rank FROM t WHERE t MATCH ? ORDER BY rank LIMIT ?"
    measure("SQLite FTS5", asked[:200], lambda q: connection.execute(sql, (q, LIMIT)).fetchall())


def run_engine(folder: Path) -> None:
    """Measure the engine in C."""
    print("the engine, in C", flush=True)
    subprocess.run(
        [ROOT / "build" / "bench_text", folder / "documents", folder / "queries", str(LIMIT),
         folder / "results"],
        check=True,
    )  # fmt: skip


def main() -> None:
    """Measure all that are installed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=1000)
    args = parser.parse_args()
    documents = load_documents()
    queries = make_queries(documents, args.queries)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "documents").write_text("".join(f"{text}\n" for text in documents))
        (folder / "queries").write_text("".join(f"{query}\n" for query in queries))
        run_engine(folder)
        if util.find_spec("tantivy"):
            run_tantivy(documents, queries, folder)
        if util.find_spec("bm25s"):
            run_bm25s(documents, queries, folder)
        run_fts5(documents, queries)
        run_engine(folder)


if __name__ == "__main__":
    main()
