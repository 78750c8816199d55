"""Search the documentation of Python's standard library, by meaning.

Every Python comes with about ten thousand documentation strings.  This script embeds them,
stores them in a database on disk, opens the database again, and asks it questions: nearest
texts, filters on metadata, filters on the text itself.  Nothing is downloaded.

    python examples/01_quickstart.py                     build (the first time), then search
    python examples/01_quickstart.py "parse a date"      ask your own question
    python examples/01_quickstart.py --fresh             build again from nothing
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import track
from rich.table import Table
from shared import arguments, console, read_texts, source_files, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb  # <- the whole migration

COLLECTION = "standard-library"
BATCH = 500

QUESTIONS = [
    "compress and decompress data",
    "run a function in another process",
    "parse command line options",
]


def fingerprint(limit: int | None) -> str:
    """Changes whenever the index would: another Python, other sources, another limit."""
    facts = [sys.version, str(limit)]
    facts += [f"{file}:{file.stat().st_size}" for file in source_files()]
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=16).hexdigest()


# ---- the database ------------------------------------------------------------------------------


def already_built(client: chromadb.ClientAPI, mark: str) -> bool:
    """An earlier run finished, and nothing changed since."""
    try:
        collection = client.get_collection(COLLECTION)
    except chromadb.errors.NotFoundError:
        return False
    about = collection.metadata or {}
    return about.get("fingerprint") == mark and about.get("rows") == collection.count()


def build(client: chromadb.ClientAPI, path: Path, limit: int | None, mark: str) -> None:
    ids, texts, metadatas = read_texts(limit)
    with timed(f"fit the embedding to {len(texts):,} texts"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts, path / "embedding.npz")

    if COLLECTION in [c.name for c in client.list_collections()]:
        client.delete_collection(COLLECTION)
    about = {"fingerprint": mark, "rows": len(ids)}
    collection = client.create_collection(COLLECTION, embedding_function=embedding, metadata=about)
    with timed(f"embed and store {len(texts):,} texts"):
        for i in track(range(0, len(ids), BATCH), "Storing", console=console):
            part = slice(i, i + BATCH)
            collection.add(ids=ids[part], documents=texts[part], metadatas=metadatas[part])


# ---- the questions -----------------------------------------------------------------------------


def show(title: str, collection: chromadb.Collection, question: str, **filters: Any) -> None:
    started = time.perf_counter()
    found = collection.query(query_texts=[question], n_results=5, **filters)
    milliseconds = (time.perf_counter() - started) * 1000
    table = Table(title=title, title_justify="left", expand=True)
    table.add_column("distance", justify="right", style="cyan", no_wrap=True)
    table.add_column("name", style="green", no_wrap=True, ratio=3)
    table.add_column("kind", no_wrap=True)
    table.add_column("first line", no_wrap=True, ratio=4)
    rows = zip(found["distances"][0], found["metadatas"][0], found["documents"][0], strict=True)
    for distance, about, text in rows:
        table.add_row(f"{distance:.3f}", about["name"], about["kind"], text.splitlines()[0])
    console.print(table, f"  {milliseconds:.1f} ms, embedding the question included\n")


def main() -> None:
    parser = arguments(__doc__, "build/quickstart")
    parser.add_argument("question", nargs="*", help="your own question")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run built")
    options = parser.parse_args()
    if options.fresh:
        start_over(options.path)

    mark = fingerprint(options.limit)
    path = options.path / "database"
    with chromadb.PersistentClient(path=path) as client:
        if already_built(client, mark):
            console.print(f"Using what an earlier run built in {options.path} (--fresh rebuilds)")
        else:
            build(client, options.path, options.limit, mark)

    # Everything is on disk now.  Open it as any later program would.
    with chromadb.PersistentClient(path=path) as client:
        with timed("open the database again, get the collection"):
            collection = client.get_collection(COLLECTION)
        with timed("count it"):
            rows = collection.count()
        console.print(f"  {rows:,} texts in {path}\n")
        if options.question:
            question = " ".join(options.question)
            show(question, collection, question)
            return
        for question in QUESTIONS:
            show(question, collection, question)
        show("the same question, classes only", collection, QUESTIONS[1], where={"kind": "class"})
        show("functions whose longer text says gzip", collection, QUESTIONS[0],
             where={"$and": [{"kind": "function"}, {"length": {"$gt": 80}}]},
             where_document={"$contains": "gzip"})  # fmt: skip


if __name__ == "__main__":
    main()
