"""Filters beyond Chroma's against a model in plain Python, in every state that records can be in.

A failure prints its seed; VEXFS_FILTER_SEED and VEXFS_FILTER_ROUNDS run others, and more.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import filter_model as model
import pytest

import vexfs_chroma

SEED = int(os.environ.get("VEXFS_FILTER_SEED", "20261129"))
ROUNDS = int(os.environ.get("VEXFS_FILTER_ROUNDS", "60"))


class World:
    """A collection, and the plain list of its records."""

    def __init__(self, collection: Any, random: Random) -> None:
        self.collection, self.random = collection, random
        self.records: dict[str, tuple[dict[str, Any] | None, str | None]] = {}
        self.made = 0

    def add(self, n: int) -> None:
        ids = [f"r{self.made + i}" for i in range(n)]
        self.made += n
        metadatas = [model.random_metadata(self.random) for _ in ids]
        documents = [model.random_document(self.random) for _ in ids]
        vectors = [[self.random.random(), 1.0] for _ in ids]
        self.collection.add(ids=ids, embeddings=vectors, metadatas=metadatas, documents=documents)
        self.records.update(zip(ids, zip(metadatas, documents, strict=True), strict=True))

    def change(self) -> None:
        """Some records go, some get other metadata."""
        some = self.random.sample(sorted(self.records), len(self.records) // 8)
        gone, changed = some[::2], some[1::2]
        self.collection.delete(ids=gone)
        for one in gone:
            del self.records[one]
        for one in changed:
            new = model.random_metadata(self.random) or {"s": "new"}
            old, document = self.records[one]
            self.collection.update(ids=[one], metadatas=[new])
            self.records[one] = ({**(old or {}), **new}, document)

    def flush(self) -> None:
        with self.collection._api._using(self.collection.id) as opened:
            opened.engine.flush()

    def check_aggregates(self, where: Any, where_document: Any, ids: list[str], state: str) -> None:
        filters = {"where": where, "where_document": where_document}
        about = (SEED, state, filters)
        metadatas = [self.records[one][0] for one in ids]
        assert self.collection.count(**filters) == len(ids), about
        facets = self.collection.facets(model.KEYS, **filters)
        for key in model.KEYS:
            counts = model.counts(metadatas, key)
            ascending = sorted(counts, key=lambda one: model.place(one[1]))
            most = sorted(ascending, key=lambda one: -counts[one])
            assert [(type(v), v, n) for v, n in facets[key]] == [(*o, counts[o]) for o in most], (
                about
            )
            distinct = self.collection.distinct(key, **filters)
            assert [(type(value), value) for value in distinct] == ascending, about
            ends = self.collection.min_max(key, **filters)
            assert ends == ((ascending[0][1], ascending[-1][1]) if ascending else None), about
        having = {key: sum(key in (m or {}) for m in metadatas) for key in model.KEYS}
        found = {key: summary.records for key, summary in self.collection.keys(**filters).items()}
        assert found == {key: n for key, n in sorted(having.items()) if n}, about

    def check_order(self, where: Any, where_document: Any, ids: list[str], state: str) -> None:
        key, descending = self.random.choice(model.KEYS), self.random.random() < 0.5
        expected = model.ordered([(one, self.records[one][0]) for one in ids], key, descending)
        size = self.random.choice([1 + len(ids) // 3, len(ids) + 1])
        found: list[str] = []
        after = None
        while after is not None or not found:
            page = self.collection.get(
                where=where, where_document=where_document, include=[],
                order_by=key, descending=descending, after=after, limit=size,
            )  # fmt: skip
            found += page["ids"]
            after = page["next"]
            if not page["ids"]:
                break
        assert found == expected, (SEED, state, where, where_document, key, descending)

    def check(self, rounds: int, state: str) -> int:
        found = 0
        for _ in range(rounds):
            where = model.random_where(self.random) if self.random.random() < 0.8 else None
            where_document = (
                model.random_where_document(self.random)
                if where is None or self.random.random() < 0.2
                else None
            )
            expected = [
                one
                for one, (metadata, document) in self.records.items()
                if (where is None or model.holds(where, metadata))
                and (where_document is None or model.document_holds(where_document, document))
            ]
            got = self.collection.get(where=where, where_document=where_document, include=[])["ids"]
            assert got == expected, (SEED, state, where, where_document)
            near = self.collection.query(
                query_embeddings=[[0.5, 1.0]], n_results=len(self.records) + 1,
                where=where, where_document=where_document, include=[],
            )["ids"][0]  # fmt: skip
            assert sorted(near) == sorted(expected), (SEED, state, where, where_document)
            self.check_aggregates(where, where_document, expected, state)
            self.check_order(where, where_document, expected, state)
            found += len(expected)
        return found


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_filters_mean_what_the_model_says(place: str, tmp_path: Any) -> None:
    def open_client() -> Any:
        return (
            vexfs_chroma.EphemeralClient()
            if place == "memory"
            else vexfs_chroma.PersistentClient(tmp_path)
        )

    client = open_client()
    collection = client.create_collection("filtered", embedding_function=None)
    world = World(collection, Random(SEED))
    try:
        world.add(150)
        found = world.check(ROUNDS, "memtable")
        world.flush()
        found += world.check(ROUNDS, "a file")
        world.change()
        world.add(60)
        found += world.check(ROUNDS, "a file, and memory")
        world.flush()
        world.change()
        client.vacuum()
        found += world.check(ROUNDS, "compacted")
        if place == "disk":
            client.close()
            client = open_client()
            world.collection = client.get_collection("filtered", embedding_function=None)
            found += world.check(ROUNDS, "opened again")
        assert found > 20 * ROUNDS
    finally:
        client.delete_collection("filtered")
        client.close()
