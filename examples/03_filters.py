"""Filter records by their metadata and by their text.

Every operator once, on the documentation of the standard library: how many records match, and how
long it takes to find them.  The same filters narrow a search by meaning down.

    python examples/03_filters.py                        all texts
    python examples/03_filters.py --limit 1000           fewer
"""

from __future__ import annotations

import time
from typing import Any

from rich.table import Table
from shared import arguments, console, read_texts, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb

METADATA: list[dict[str, Any]] = [
    {"kind": "class"},  # the short form of $eq
    {"kind": {"$ne": "class"}},
    {"length": {"$gt": 500}},
    {"length": {"$lte": 500}},
    {"length": {"$gte": 100.5}},  # numbers compare by value
    {"line": {"$lt": 50}},
    {"kind": {"$in": ["class", "module"]}},
    {"kind": {"$nin": ["class", "module"]}},
    {"path": {"$contains": "asyncio"}},  # in a list: is one of its values
    {"path": {"$not_contains": "asyncio"}},
    {"$and": [{"kind": "class"}, {"length": {"$gt": 500}}]},
    {"$or": [{"kind": "module"}, {"$and": [{"line": {"$lt": 50}}, {"length": {"$gt": 500}}]}]},
]
TEXT: list[dict[str, Any]] = [
    {"$contains": "file"},  # any part of the text, as it is written
    {"$not_contains": "file"},
    {"$contains": "end of file"},
    {"$regex": r"(?i)\bdeprecated\b.*\d\.\d"},
    {"$not_regex": r"^[A-Z].*\.$"},
    {"$and": [{"$contains": "thread"}, {"$not_contains": "lock"}]},
    {"$or": [{"$contains": "IPv6"}, {"$contains": "socket"}]},
]
BOTH = {"where": {"kind": "function"}, "where_document": {"$contains": "timeout"}}


def matches(collection: chromadb.Collection, **filters: Any) -> tuple[list[str], float]:
    """The ids of the records that match, and the milliseconds that it took; the best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        ids = collection.get(**filters, include=[])["ids"]
        best = min(best, (time.perf_counter() - started) * 1000)
    return ids, best


def main() -> None:
    options = arguments(__doc__, "build/filters").parse_args()
    start_over(options.path / "database")
    ids, texts, metadatas = read_texts(options.limit)
    for about in metadatas:
        about["path"] = about["name"].split(".")  # lists are metadata, too
    with timed("fit the embedding to every fourth"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts[::4], options.path / "embedding.npz")

    with chromadb.PersistentClient(path=options.path / "database") as client:
        notes = client.create_collection("notes", embedding_function=embedding)
        with timed("embed and store", len(ids)), console.status("Storing"):
            notes.add(ids=ids, documents=texts, metadatas=metadatas)

        table = Table("filter", title=f"{len(ids):,} records", title_justify="left")
        table.add_column("match", justify="right", style="green")
        table.add_column("ms", justify="right", style="cyan")
        filters = [{"where": where} for where in METADATA]
        filters += [{"where_document": text} for text in TEXT]
        for filter in [*filters, BOTH]:
            found, milliseconds = matches(notes, **filter)
            shown = ", ".join(f"{name}={value}" for name, value in filter.items())
            table.add_row(shown, f"{len(found):,}", f"{milliseconds:.2f}")
        console.print(table)

        question = "give up after some seconds"
        with timed(f"search: {question}"):
            found = notes.query(query_texts=[question], n_results=3, **BOTH)
        for distance, id in zip(found["distances"][0], found["ids"][0], strict=True):
            console.print(f"    {distance:.3f}  {id}")


if __name__ == "__main__":
    main()
