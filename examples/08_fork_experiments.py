"""A fork for every experiment, and a fork to go back to.

The documentation of the standard library is stored once.  Then three ideas are tried side by side,
each on a fork of its own: leave out short texts, leave out private names, put the name of a
function in front of its text.  The one that answers best takes the collection's place, and a
mistake made on it is taken back by going to a fork from before.

    python examples/08_fork_experiments.py                        all texts
    python examples/08_fork_experiments.py --limit 1000           fewer
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shared import arguments, console, read_texts, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb

QUESTIONS = 200


def disk_bytes(path: Path) -> int:
    """What the files in a directory take, each counted once however many names it has."""
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum({stat.st_ino: stat.st_blocks * 512 for stat in files}.values())


def leave_out_short(notes: Any) -> None:
    notes.delete(where={"length": {"$lt": 60}})


def leave_out_private(notes: Any) -> None:
    found = notes.get(include=["metadatas"])
    private = [
        id
        for id, about in zip(found["ids"], found["metadatas"], strict=True)
        if any(part.startswith("_") for part in about["name"].split("."))
    ]
    if private:
        notes.delete(ids=private)


def put_names_in_front(notes: Any) -> None:
    found = notes.get(include=["documents", "metadatas"])
    texts = [
        f"{about['name'].replace('.', ' ').replace('_', ' ')}: {text}"
        for about, text in zip(found["metadatas"], found["documents"], strict=True)
    ]
    notes.update(ids=found["ids"], documents=texts)


EXPERIMENTS: dict[str, Callable[[Any], None]] = {
    "leave-out-short": leave_out_short,
    "leave-out-private": leave_out_private,
    "names-in-front": put_names_in_front,
}


def score(notes: Any, questions: list[str], answers: list[str]) -> float:
    """How many of the questions have their answer among the first three."""
    found = notes.query(query_texts=questions, n_results=3, include=[])["ids"]
    return sum(answer in ids for answer, ids in zip(answers, found, strict=True)) / len(answers)


def main() -> None:
    options = arguments(__doc__, "build/forks").parse_args()
    start_over(options.path / "database")
    ids, texts, metadatas = read_texts(options.limit)
    with timed("fit the embedding to every fourth"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts[::4], options.path / "embedding.npz")
    # A function asked for by what it is called: "asyncio locks Lock acquire".
    asked = np.random.default_rng(7).choice(len(ids), min(QUESTIONS, len(ids)), replace=False)
    questions = [metadatas[i]["name"].replace(".", " ").replace("_", " ") for i in asked]
    answers = [ids[i] for i in asked]

    database = options.path / "database"
    with chromadb.PersistentClient(path=database) as client:
        notes = client.create_collection("notes", embedding_function=embedding)
        with timed("embed and store", len(ids)), console.status("Storing"):
            notes.add(ids=ids, documents=texts, metadatas=metadatas)
        client.vacuum()
        client.wait_idle()
        scores = {"notes": score(notes, questions, answers)}

        before = disk_bytes(database)
        forks = {}
        with timed(f"fork {len(EXPERIMENTS)} times"):
            for name in EXPERIMENTS:
                forks[name] = notes.fork(name)
        added = (disk_bytes(database) - before) >> 10
        console.print(f"    {before >> 10:,} KiB before, {added:,} KiB more for all forks")
        for name, change in EXPERIMENTS.items():
            with timed(f"experiment: {name}"):
                change(forks[name])
            scores[name] = score(forks[name], questions, answers)
        console.print(f"    forks in the line: {notes.fork_count()}")
        for name, share in scores.items():
            records = client.get_collection(name, embedding_function=embedding).count()
            console.print(f"    {name:<20} {records:>7,} records {share:>7.1%} found")

        # The best takes the place of the original; the others go, and their space with them.
        best = max(EXPERIMENTS, key=scores.__getitem__)
        client.delete_collection("notes")
        forks[best].modify(name="notes")
        for name in EXPERIMENTS.keys() - {best}:
            client.delete_collection(name)
        console.print(f"    notes is {best} now")

        # Going back: a fork before every risky step.
        notes = client.get_collection("notes", embedding_function=embedding)
        rows = notes.count()
        saved = notes.fork("before-the-mistake")
        notes.delete(where={"length": {"$gte": 0}})
        console.print(f"    after a mistake: {notes.count():,} records")
        with timed("go back"):
            client.delete_collection("notes")
            saved.modify(name="notes")
        back = client.get_collection("notes", embedding_function=embedding).count()
        console.print(f"    gone back: {back:,} records of {rows:,}")


if __name__ == "__main__":
    main()
