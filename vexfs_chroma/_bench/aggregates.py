"""Counts of metadata beside chromadb's get(): `python -m vexfs_chroma._bench.aggregates`.

Generated records (seeded) in two databases on disk.  What one call counts here, a program on
chromadb counts by reading the metadata of all records, or of those that a filter leaves.  Both
sides answer the same questions, and the answers are compared; times are the best of a few, in one
process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20261129
BATCH, PAGE = 5000, 30_000
COLOURS = [f"colour {i}" for i in range(12)]
WORDS = [f"word {i}" for i in range(400)]
SOME = {"year": {"$gte": 2020}}


def records(n: int) -> list[dict[str, Any]]:
    """Metadata of five keys: few values, a list, a number of few and of many values, one rarely."""
    random = np.random.default_rng(SEED)
    colours = random.zipf(1.5, n) % len(COLOURS)
    years, prices = random.integers(1990, 2030, n), random.permutation(n) / 8
    words = random.integers(0, len(WORDS), (n, 3))
    return [
        {
            "colour": COLOURS[colours[i]],
            "year": int(years[i]),
            "price": float(prices[i]),
            "words": [WORDS[j] for j in words[i]],
        }
        | ({"rare": i} if i % 100 == 0 else {})
        for i in range(n)
    ]


def fill(client: Any, metadatas: list[dict[str, Any]]) -> Any:
    """A collection of these records."""
    collection = client.create_collection("counted", embedding_function=None)
    for start in range(0, len(metadatas), BATCH):
        part = metadatas[start : start + BATCH]
        collection.add(
            ids=[f"r{start + i}" for i in range(len(part))],
            embeddings=[[float(start + i), 1.0] for i in range(len(part))],
            metadatas=part,
        )
    return collection


def _read(collection: Any, where: Any = None, **more: Any) -> tuple[list[str], list[Any]]:
    """All ids, and metadata, page by page: chromadb cannot read many at once."""
    ids: list[str] = []
    metadatas: list[Any] = []
    while True:
        page = collection.get(where=where, limit=PAGE, offset=len(ids), **more)
        ids += page["ids"]
        metadatas += page["metadatas"] or []
        if len(page["ids"]) < PAGE:
            return ids, metadatas


def _plain(key: str, where: Any, count: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    """What a program on chromadb does: read all metadata, then count."""

    def ask(collection: Any) -> Any:
        _, found = _read(collection, where, include=["metadatas"])
        return count([metadata[key] for metadata in found if key in metadata])

    return ask


def _most(values: list[Any]) -> list[tuple[Any, int]]:
    return sorted(Counter(values).items(), key=lambda one: (-one[1], one[0]))[:10]


def _most_of_lists(lists: list[list[Any]]) -> list[tuple[Any, int]]:
    return _most(list(chain.from_iterable(map(set, lists))))


QUESTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "count of a filter": (
        lambda ours: ours.count(where=SOME),
        lambda theirs: len(_read(theirs, SOME, include=[])[0]),
    ),
    "distinct of 12 strings": (
        lambda ours: ours.distinct("colour"),
        _plain("colour", None, lambda values: sorted(set(values))),
    ),
    "facets of 12 strings": (
        lambda ours: ours.facets("colour", limit=10)["colour"],
        _plain("colour", None, _most),
    ),
    "the same, a quarter by a filter": (
        lambda ours: ours.facets("colour", where=SOME, limit=10)["colour"],
        _plain("colour", SOME, _most),
    ),
    "facets of lists, 400 strings": (
        lambda ours: ours.facets("words", limit=10)["words"],
        _plain("words", None, _most_of_lists),
    ),
    "min and max of a float": (
        lambda ours: ours.min_max("price"),
        _plain("price", None, lambda values: (min(values), max(values))),
    ),
    "distinct of a float, all different": (
        lambda ours: ours.distinct("price"),
        _plain("price", None, lambda values: sorted(set(values))),
    ),
    "the ten dearest": (
        lambda ours: ours.get(order_by="price", descending=True, limit=10, include=[])["ids"],
        lambda theirs: _dearest(*_read(theirs, include=["metadatas"])),
    ),
}


def _dearest(ids: list[str], metadatas: list[Any]) -> list[str]:
    prices = [metadata["price"] for metadata in metadatas]
    order = sorted(range(len(prices)), key=lambda i: -prices[i])[:10]
    return [ids[i] for i in order]


def best_of(times: int, ask: Callable[[Any], Any], collection: Any) -> tuple[float, Any]:
    """Milliseconds of the fastest, and the answer."""
    best, answer = float("inf"), None
    for _ in range(times):
        started = time.perf_counter()
        answer = ask(collection)
        best = min(best, (time.perf_counter() - started) * 1000)
    return best, answer


def main() -> None:
    """See the module's text."""
    import chromadb

    import vexfs_chroma

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    metadatas = records(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        our_client = vexfs_chroma.PersistentClient(Path(folder, "vexfs"))
        ours = fill(our_client, metadatas)
        theirs = fill(chromadb.PersistentClient(str(Path(folder, "chroma"))), metadatas)
        our_client.wait_idle()
        print(f"{options.rows:,} records | vexfs_chroma, ms | chromadb's get(), ms | ratio")
        for question, (ask_us, ask_them) in QUESTIONS.items():
            our_time, our_answer = best_of(options.times, ask_us, ours)
            their_time, their_answer = best_of(options.times, ask_them, theirs)
            if our_answer != their_answer:
                raise SystemExit(f"{question}: {our_answer!s:.200} and {their_answer!s:.200}")
            ratio = their_time / our_time
            print(f"{question} | {our_time:.2f} | {their_time:,.0f} | {ratio:,.0f}x", flush=True)
        our_client.close()


if __name__ == "__main__":
    main()
