"""LangChain's Chroma store: what its own tests leave out, on chromadb and on us.

`make ecosystem` runs its own tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_chroma", reason="needs the extra 'rag'")

from chromadb import K, Knn, Rrf, Schema, Search, SparseVector, SparseVectorIndexConfig
from chromadb.api.types import SparseEmbeddingFunction
from chromadb.utils.embedding_functions import register_sparse_embedding_function
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from stores import Pair, both, opened, vector

import vexfs_chroma
from vexfs_chroma import Bm25

# The warning has the documents in it, in which chromadb orders metadata at random.
pytestmark = pytest.mark.filterwarnings("ignore:Relevance scores must be:UserWarning")

DOCUMENT = K.DOCUMENT.name
COLORS = ["red", "green", "blue"]
QUERY = "text 4 is green"
SEARCHES: list[dict[str, Any]] = [
    {},
    {"k": 30},
    {"filter": {"color": "red"}},
    {"filter": {"$and": [{"at": {"$gt": 5}}, {"odd": True}]}},
    {"where_document": {"$contains": "blue"}},
    {"where_document": {"$regex": "[1-3] is"}, "filter": {"at": {"$lte": 20}}},
    {"filter": {"color": "none"}},
    {"filter": {}},
    {"k": 0},
]
MMR_SEARCHES: list[dict[str, Any]] = [
    {},
    {"k": 10, "fetch_k": 12},
    {"lambda_mult": 0.0},
    {"lambda_mult": 1.0, "filter": {"odd": True}},
    {"k": 3, "fetch_k": 30, "where_document": {"$not_contains": "green"}},
    {"filter": {"color": "none"}},
]
RETRIEVERS: dict[str, dict[str, Any]] = {
    "similarity": {"k": 5},
    "mmr": {"k": 5, "fetch_k": 10},
    "similarity_score_threshold": {"score_threshold": 0.2, "k": 20},
}


class LocalEmbeddings(Embeddings):
    """Of texts, and of images by their paths."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return vector(text)

    def embed_image(self, uris: list[str]) -> list[list[float]]:
        return [vector(Path(uri).name) for uri in uris]


@register_sparse_embedding_function
class Letters(SparseEmbeddingFunction):  # type: ignore[type-arg]
    """How often each letter occurs."""

    def __init__(self) -> None:
        pass

    def __call__(self, input: list[str]) -> list[SparseVector]:
        codes = [sorted({ord(letter) for letter in text}) for text in input]
        return [
            SparseVector(of, [float(text.count(chr(code))) for code in of])
            for text, of in zip(input, codes, strict=True)
        ]

    @staticmethod
    def name() -> str:
        return "ecosystem_letters"

    def get_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> Letters:
        return Letters()


def documents(count: int = 24) -> list[Document]:
    made = []
    for at in range(count):
        color = COLORS[at % 3]
        about = {"color": color, "at": at, "odd": at % 2 == 1} if at % 5 else {}
        made.append(Document(id=f"d{at:02}", page_content=f"text {at} is {color}", metadata=about))
    return made


def on(clients: Pair, **kwargs: Any) -> Pair:
    """Stores on the collection "texts" of both clients."""
    sides = (clients.theirs, clients.ours)
    return Pair(*(Chroma("texts", LocalEmbeddings(), client=it, **kwargs) for it in sides))


@contextmanager
def filled(folder: Path, space: str) -> Iterator[Pair]:
    with opened(folder) as clients:
        stores = on(clients, collection_configuration={"hnsw": {"space": space}})
        assert len(both(stores, "add_documents", documents())) == 24
        yield stores


@pytest.fixture(scope="module", params=["l2", "cosine", "ip"])
def readable(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Stores with all documents, for tests that only read."""
    with filled(tmp_path_factory.mktemp("readable"), request.param) as stores:
        yield stores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Pair]:
    with filled(tmp_path, "cosine") as stores:
        yield stores


def left(stores: Pair) -> set[str]:
    """The ids that are left in both."""
    return set(both(stores, "get")["ids"])


def test_searches(readable: Pair) -> None:
    for kwargs in SEARCHES:
        both(readable, "similarity_search", QUERY, **kwargs)
        both(readable, "similarity_search_with_score", QUERY, **kwargs)
        both(readable, "similarity_search_with_vectors", QUERY, **kwargs)
        both(readable, "similarity_search_with_relevance_scores", QUERY, **kwargs)
        both(readable, "similarity_search_by_vector", vector(QUERY), **kwargs)
        both(
            readable,
            "similarity_search_by_vector_with_relevance_scores",
            vector(QUERY),
            **kwargs,
        )
    assert both(readable, "similarity_search", QUERY)[0]["page_content"] == QUERY
    assert len(both(readable, "similarity_search", QUERY, 30)) == 24


def test_mmr(readable: Pair) -> None:
    for kwargs in MMR_SEARCHES:
        both(readable, "max_marginal_relevance_search", QUERY, **kwargs)
        both(readable, "max_marginal_relevance_search_by_vector", vector(QUERY), **kwargs)
    assert both(readable, "max_marginal_relevance_search", QUERY)[0]["page_content"] == QUERY


def test_retrievers(readable: Pair) -> None:
    for kind, kwargs in RETRIEVERS.items():
        made = {"search_type": kind, "search_kwargs": kwargs}
        both(readable, lambda store, made: store.as_retriever(**made).invoke(QUERY), made)


def test_get(readable: Pair) -> None:
    assert len(both(readable, "get", limit=7, offset=3)["ids"]) == 7
    both(readable, "get", ["d02", "d03", "other"])
    both(readable, "get", "d02")
    both(readable, "get", where={"at": {"$in": [1, 2, 5]}})
    both(readable, "get", where_document={"$contains": "blue"})
    everything = ["embeddings", "documents", "metadatas", "uris"]
    both(readable, "get", include=everything)
    assert len(both(readable, "get_by_ids", ["d03", "d02", "other"])) == 2


def test_update_and_delete(stores: Pair) -> None:
    changed = [Document(page_content="another text", metadata={"new": 1.5}), documents()[7]]
    both(stores, "update_documents", ["d01", "d02"], changed)
    both(stores, "update_document", "other", changed[0])
    assert both(stores, "similarity_search", "another text", 1)[0]["id"] == "d01"
    both(stores, "delete", ["d03", "other"])
    both(stores, "delete", where={"color": "green"})
    both(stores, "delete", where_document={"$contains": "blue"})
    both(stores, "delete")
    assert "d00" in left(stores)
    both(stores, "reset_collection")
    assert left(stores) == set()


def test_bad_documents(stores: Pair) -> None:
    nested = Document(id="bad", page_content="x", metadata={"a": {"b": 1}})
    both(stores, "add_documents", [nested])
    both(stores, "add_texts", ["x", "y"], ids=["same", "same"])
    both(stores, "add_texts", ["x"], [{"a": None}], ids=["none"])
    both(stores, "add_texts", [], ids=[])
    left(stores)


def test_images(stores: Pair, tmp_path: Path) -> None:
    uris = []
    for name in ("first.png", "second.png"):
        (tmp_path / name).write_bytes(name.encode())
        uris.append(str(tmp_path / name))
    ids = ["i1", "i2"]
    both(stores, "add_images", uris, [{"page": 1}, {}], ids=ids)
    assert both(stores, "get", ids, include=["documents", "uris"])["ids"] == ids
    found = both(stores, "similarity_search_by_image", uris[1], k=1)
    assert found[0]["id"] == "i2"
    both(stores, "similarity_search_by_image_with_relevance_score", uris[0])


def test_hybrid_search(tmp_path: Path) -> None:
    """Dense and sparse vectors and words, fused; chromadb's local mode does not implement it."""
    letters = Letters()
    schema = Schema().create_index(
        key="letters",
        config=SparseVectorIndexConfig(source_key="#document", embedding_function=letters),
    )
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        client.create_collection("texts", schema=schema)
        store = Chroma("texts", LocalEmbeddings(), client=client)
        store.add_documents(documents())
        fused = Rrf(
            [
                Knn(vector(QUERY), return_rank=True, limit=10, default=100.0),
                Knn("n", key="letters", return_rank=True, limit=10, default=100.0),
                Bm25("4 green", return_rank=True, limit=10, default=100.0),
            ]
        )
        search = Search(where=K("at") >= 0, rank=fused, limit=3, select=[DOCUMENT, "at", "color"])
        found = store.hybrid_search(search)
        assert found[0].page_content == QUERY
        assert found[0].metadata == {"at": 4, "color": "green"}
        assert [document.metadata["color"] for document in found] == ["green"] * 3


def test_fork(tmp_path: Path) -> None:
    """Chroma's local mode refuses it, whatever the store."""
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        client.create_collection("texts", configuration={"hnsw": {"space": "cosine"}})
        store = Chroma("texts", LocalEmbeddings(), client=client)
        store.add_documents(documents())
        fork = store.fork("copy")
        assert type(fork) is Chroma
        asked = {"k": 3, "filter": {"odd": True}}
        assert fork.similarity_search_with_score(QUERY, **asked) == (
            store.similarity_search_with_score(QUERY, **asked)
        )
        fork.delete(["d04"])
        fork.add_texts(["new"], [{"n": 1}], ids=["new"])
        assert [len(of.get()["ids"]) for of in (store, fork)] == [24, 24]
        assert store.get("new")["ids"] == fork.get("d04")["ids"] == []
        search = Search(rank=Bm25("new"), select=[DOCUMENT, "n"])
        assert [found.page_content for found in fork.hybrid_search(search)] == ["new"]
        assert store.hybrid_search(search) == []


def test_what_local_mode_refuses(stores: Pair) -> None:
    assert both(stores, "fork", "copy") == "NotImplementedError"


def test_asynchronous(stores: Pair) -> None:
    more = [Document(id="more", page_content="more")]
    assert both(stores, "aadd_documents", more) == ["more"]
    both(stores, "aadd_texts", ["even more"], ids=["even"])
    odd = {"k": 3, "filter": {"odd": True}}
    both(stores, "asimilarity_search", QUERY, **odd)
    both(stores, "asimilarity_search_with_score", QUERY, **odd)
    both(stores, "asimilarity_search_with_relevance_scores", QUERY, **odd)
    both(stores, "amax_marginal_relevance_search", QUERY, **odd)
    both(stores, "asimilarity_search_by_vector", vector(QUERY))
    both(stores, "aget_by_ids", ["d01", "d02"])
    both(stores, lambda store: asyncio.run(store.as_retriever().ainvoke(QUERY)))
    both(stores, "adelete", ["d01", "more"])
    assert len(left(stores)) == 24


def test_stores_are_persistent(tmp_path: Path) -> None:
    with filled(tmp_path, "ip"):
        pass
    with opened(tmp_path) as clients:
        stores = on(clients)
        assert len(left(stores)) == 24
        assert both(stores, "similarity_search", QUERY, 1)[0]["id"] == "d04"
