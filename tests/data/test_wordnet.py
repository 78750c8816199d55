"""100,000 real records: nothing changes by closing and reopening, results are exact, files compact.

Needs the data sets of VEXFS_DATA; run with `pytest -m slow tests/data -s` to see the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vexfs_chroma import _engine
from vexfs_chroma._bench import _data

ROWS = 100_000
BATCH = 10_000
N_QUERIES = 100

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif("VEXFS_DATA" not in os.environ, reason="VEXFS_DATA names no data sets"),
]

ANSWER = """
import json, sys
import vexfs_chroma
from vexfs_chroma._bench import _data
queries = _data.load(1).queries[:{n_queries}]
client = vexfs_chroma.PersistentClient(sys.argv[1])
rows = client.get_collection("wordnet", embedding_function=None)
everything = ["documents", "metadatas", "embeddings"]
include = [*everything, "distances"]
found = rows.query(query_embeddings=queries, n_results=10, include=include, exact=True)
page = rows.get(limit=500, offset=70_000, include=everything)
nouns = rows.get(where={{"pos": "noun"}}, where_document={{"$contains": "animal"}}, include=[])
def plain(value):
    return value.tolist() if hasattr(value, "tolist") else value
found["embeddings"] = [plain(e) for e in found["embeddings"]]
page["embeddings"] = plain(page["embeddings"])
json.dump([rows.count(), found, page, nouns["ids"]], sys.stdout, default=plain)
"""


@pytest.fixture(scope="module")
def wordnet() -> _data.Rows:
    return _data.load(ROWS)


@pytest.fixture(scope="module")
def database(wordnet: _data.Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import vexfs_chroma

    path = tmp_path_factory.mktemp("wordnet") / "database"
    with vexfs_chroma.PersistentClient(str(path)) as client:
        rows = client.create_collection(
            "wordnet", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        for at in range(0, ROWS, BATCH):
            part = slice(at, at + BATCH)
            rows.add(
                ids=wordnet.ids[part],
                embeddings=wordnet.vectors[part],
                documents=wordnet.documents[part],
                metadatas=wordnet.metadatas[part],
            )
    return path


def ask_in_fresh_process(path: Path) -> Any:
    script = ANSWER.format(n_queries=N_QUERIES)
    command = [sys.executable, "-c", script, str(path)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(finished.stdout)


def test_reopening_changes_nothing(wordnet: _data.Rows, database: Path) -> None:
    first, second = ask_in_fresh_process(database), ask_in_fresh_process(database)
    assert first == second
    count, found, page, _nouns = first
    assert count == ROWS
    assert page["ids"] == wordnet.ids[70_000:70_500]
    assert page["documents"] == wordnet.documents[70_000:70_500]
    assert page["metadatas"] == wordnet.metadatas[70_000:70_500]
    assert np.array_equal(page["embeddings"], wordnet.vectors[70_000:70_500])
    row_of = {name: row for row, name in enumerate(wordnet.ids)}
    for answers, documents in zip(found["ids"], found["documents"], strict=True):
        assert documents == [wordnet.documents[row_of[name]] for name in answers]


def test_results_are_exact(wordnet: _data.Rows, database: Path) -> None:
    _, found, _, nouns = ask_in_fresh_process(database)
    base = wordnet.vectors.astype(np.float64)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    row_of = {name: row for row, name in enumerate(wordnet.ids)}
    for query, ids, distances in zip(
        wordnet.queries[:N_QUERIES].astype(np.float64),
        found["ids"],
        found["distances"],
        strict=True,
    ):
        exact = 1 - base @ (query / np.linalg.norm(query))
        nearest = np.sort(exact)[:10]
        assert np.allclose(distances, exact[[row_of[name] for name in ids]], rtol=1e-5, atol=1e-6)
        assert np.allclose(distances, nearest, rtol=1e-5, atol=1e-6)
    expected = [
        name
        for name, text, metadata in zip(
            wordnet.ids, wordnet.documents, wordnet.metadatas, strict=True
        )
        if metadata["pos"] == "noun" and "animal" in text
    ]
    assert expected
    assert nouns == expected


def test_files_are_compact(wordnet: _data.Rows, database: Path) -> None:
    engine = _engine.Database(str(database), read_only=True)
    (name,) = engine.list_collections()
    assert isinstance(name, uuid.UUID)
    info = engine.open_collection(name).info()
    json_bytes = sum(len(json.dumps(metadata)) for metadata in wordnet.metadatas)
    sealed = info.raw_document_bytes / sum(len(text.encode()) for text in wordnet.documents)
    documents = info.raw_document_bytes / info.stored_document_bytes
    metadata = sealed * json_bytes / info.stored_metadata_bytes
    packed = info.raw_metadata_bytes / info.stored_metadata_bytes
    print(f"\ndocuments {documents:.2f}x, metadata {metadata:.2f}x (MessagePack {packed:.2f}x)")
    engine.close()
    assert sealed == 1  # closing sealed the last memtable
    assert documents >= 2.3
    assert metadata >= 6
