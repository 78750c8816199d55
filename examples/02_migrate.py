"""Move a program and its data from ChromaDB to vexfs_chroma.

An old program has a Chroma database.  This script copies it over (`vexctl import chroma` does the
same), compares the records, and runs the program on the copy: by one changed import, then by
`install()`, for code that is not yours.

    python examples/02_migrate.py                        in build/migrate
"""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import chromadb
import numpy as np
from rich.table import Table
from shared import arguments, console, read_texts, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma

PAGE = 1000
QUESTIONS = ["encode and decode text", "wait until a task is done", "write rows to a file"]
EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]

# ---- the old program: knows nothing of us ------------------------------------------------------


def fill(chroma: ModuleType, path: Path, limit: int, embedding: Path) -> None:
    ids, texts, metadatas = read_texts(limit)
    with chroma.PersistentClient(path=path) as client:
        notes = client.create_collection(
            "notes",
            embedding_function=TextEmbedding.fit(texts, embedding),
            configuration={"hnsw": {"space": "cosine"}},
            metadata={"about": "the standard library"},
        )
        for i in range(0, len(ids), PAGE):
            part = slice(i, i + PAGE)
            notes.add(ids=ids[part], documents=texts[part], metadatas=metadatas[part])


def ask(chroma: ModuleType, path: Path) -> list[str]:
    """Ids of the nearest texts.  `chroma` is what the program's import line brings in."""
    with chroma.PersistentClient(path=path) as client:
        notes = client.get_collection("notes")
        found = notes.query(query_texts=QUESTIONS, n_results=3, where={"kind": "function"})
        return [id for ids in found["ids"] for id in ids]


# ---- the move ----------------------------------------------------------------------------------


def differences(old: chromadb.Collection, new: chromadb.Collection, samples: int) -> int:
    """How many of some random records are not the same.

    What Chroma shows of vectors with the space "cosine" is rounded; what comes over need not be.
    """
    ids = random.Random(0).sample(old.get(include=[])["ids"], samples)
    before, after = (records(c.get(ids=ids, include=EVERYTHING)) for c in (old, new))
    return sum(
        id not in after
        or before[id][1:] != after[id][1:]
        or not np.allclose(before[id][0], after[id][0], rtol=1e-6, atol=1e-7)
        for id in ids
    )


def records(page: chromadb.GetResult) -> dict[str, list[Any]]:
    columns = (page[name] for name in EVERYTHING)
    return {id: row for id, *row in zip(page["ids"], *columns, strict=True)}


def report(how: str, before: list[str], after: list[str]) -> None:
    same = sum(a == b for a, b in zip(before, after, strict=True))
    console.print(f"  {how:<44} {same} of {len(before)} answers the same")


def main() -> None:
    options = arguments(__doc__, "build/migrate", limit=2000).parse_args()
    old, new = options.path / "chroma", options.path / "vexfs"
    start_over(old, new)

    console.print("[bold]The old program fills a Chroma database")
    fill(chromadb, old, options.limit, options.path / "embedding.npz")
    answers = ask(chromadb, old)

    console.print("[bold]It is copied, without Chroma: its files are read")
    with timed("copy", options.limit):
        copied = vexfs_chroma.import_chroma(old, new)
    assert copied.ok, copied  # it tells what was lost, record by record

    table = Table("collection", "Chroma", "here", "samples compared", "different")
    with chromadb.PersistentClient(path=old) as source, \
            vexfs_chroma.PersistentClient(path=new) as target:  # fmt: skip
        for collection in source.list_collections():
            copy = target.get_collection(collection.name)
            samples = min(200, collection.count())
            numbers = [collection.count(), copy.count(), samples]
            numbers += [differences(collection, copy, samples)]
            table.add_row(collection.name, *map(str, numbers))
    console.print(table)

    console.print("[bold]The program goes on with the copy")
    report("import vexfs_chroma as chromadb", answers, ask(vexfs_chroma, new))

    vexfs_chroma.install()  # from here on, everybody's `import chromadb` is served by us
    report("install(), and the import unchanged", answers, ask(chromadb, new))


if __name__ == "__main__":
    main()
