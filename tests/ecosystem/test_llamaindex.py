"""LlamaIndex's ChromaVectorStore: the whole of it, on chromadb and on us.

The package ships no tests of its own.
"""

from __future__ import annotations

import operator as op
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import pytest

pytest.importorskip("llama_index.vector_stores.chroma", reason="needs the extra 'rag'")

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.chroma import ChromaVectorStore
from stores import Pair, both, opened, vector

import vexfs_chroma

COLORS = ["red", "green", "blue"]
ORDER = {">": op.gt, "<": op.lt, ">=": op.ge, "<=": op.le}
MMR = VectorStoreQueryMode.MMR
MMR_OPTIONS: list[dict[str, Any]] = [
    {},
    {"mmr_threshold": 0},
    {"mmr_threshold": 0.3},
    {"mmr_threshold": 1.0},
    {"mmr_threshold": "high"},
    {"mmr_prefetch_factor": 1.0},
    {"mmr_prefetch_k": 7},
    {"mmr_prefetch_k": 1},
    {"mmr_prefetch_k": 7, "mmr_prefetch_factor": 2.0},
    {"mmr_threshold": 0.5, "where": {"color": "red"}},
    {"mmr_threshold": 0.5, "where_document": {"$not_contains": "red"}},
    {"where": {"color": "none"}},
]


class Embedding(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return vector(query)


def nodes(count: int = 30) -> list[TextNode]:
    """Three nodes of each document; the last key is missing in some, and None in others."""
    made = []
    for at in range(count):
        color = COLORS[at % 3]
        about: dict[str, Any] = {"color": color, "at": at, "half": at / 2, "odd": at % 2 == 1}
        if at % 4:
            about["note"] = None if at % 4 == 1 else f"note {at}"
        text = f"node {at} is {color}"
        node = TextNode(id_=f"n{at:02}", text=text, metadata=about, embedding=vector(text))
        source = RelatedNodeInfo(node_id=f"document {at // 3}")
        node.relationships[NodeRelationship.SOURCE] = source
        made.append(node)
    return made


def ids_of(store: ChromaVectorStore, query: VectorStoreQuery) -> Any:
    return store.query(query).ids


def ids(stores: Pair, query: VectorStoreQuery, **kwargs: Any) -> Any:
    """The ids that a query gives on both, or the name of the error."""
    found = both(stores, "query", query, **kwargs)
    return found["ids"] if isinstance(found, dict) else found


def asked(text: str = "node 4 is green", top: int = 5, **kwargs: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=vector(text), similarity_top_k=top, **kwargs)


def only(key: str, operator: str, value: Any) -> MetadataFilters:
    return MetadataFilters(
        filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))]
    )


@pytest.fixture(params=["l2", "cosine", "ip"])
def space(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Pair]:
    with opened(tmp_path) as clients:
        yield clients


def empty(clients: Pair, space: str = "l2") -> Pair:
    settings = {"hnsw": {"space": space}}
    both(clients, lambda it: it.create_collection("nodes", configuration=settings).name)
    return made(clients)


def made(clients: Pair) -> Pair:
    """Stores on the collection that is there."""
    sides = (clients.theirs, clients.ours)
    return Pair(*(ChromaVectorStore(client.get_collection("nodes")) for client in sides))


@pytest.fixture
def stores(clients: Pair) -> Pair:
    stores = empty(clients)
    both(stores, "add", nodes())
    return stores


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Stores for tests that only read."""
    with opened(tmp_path_factory.mktemp("filled")) as clients:
        stores = empty(clients)
        both(stores, "add", nodes())
        yield stores


def left(stores: Pair) -> set[str]:
    """The ids that are left in both."""
    return {node["id_"] for node in both(stores, "get_nodes", None)}


# ---- making, adding, reading --------------------------------------------------------------------


def test_it_is_on_us(stores: Pair) -> None:
    assert isinstance(stores.ours.client, chromadb.Collection)
    assert type(stores.ours.client._client).__module__.startswith("vexfs_chroma")
    assert not type(stores.theirs.client._client).__module__.startswith("vexfs_chroma")


def test_add_and_get(stores: Pair) -> None:
    assert both(stores, "add", nodes(32)[30:]) == ["n30", "n31"]
    assert both(stores, "add", []) == []
    assert len(left(stores)) == 32
    assert len(both(stores, "get_nodes", ["n07", "n02", "other"])) == 2
    red = only("color", "==", "red")
    assert len(both(stores, "get_nodes", None, red)) == 11
    assert len(both(stores, "get_nodes", ["n00", "n01"], red)) == 1
    everything = ["metadatas", "documents", "embeddings"]
    both(stores, lambda store: store.client.get(include=everything))


def test_add_twice_and_badly(stores: Pair) -> None:
    both(stores, "add", [TextNode(id_="n00", text="x", embedding=vector("x"))])
    both(stores, "add", [TextNode(id_="other", text="x")])
    both(stores, "add", [TextNode(id_="other", text="x", embedding=[1.0])])
    both(stores, "add", nodes(1) * 2)
    nested = TextNode(id_="other", text="x", embedding=vector("x"), metadata={"a": {"b": 1}})
    both(stores, "add", [nested])
    assert len(left(stores)) == 30


def test_records_that_are_not_nodes(stores: Pair) -> None:
    """Added to the collection by something else: the store makes nodes of them."""
    other = {"ids": ["a", "b"], "embeddings": [vector("a"), vector("b")]}
    about = [{"plain": 1, "doc_id": "d"}, {"plain": 2, "ref_doc_id": "d"}]
    both(stores, lambda it: it.client.add(**other, documents=["a", "b"], metadatas=about))
    plain = only("plain", ">", 0)
    assert ids(stores, asked("b", filters=plain)) == ["b", "a"]
    assert ids(stores, VectorStoreQuery(similarity_top_k=5, filters=plain)) == ["a", "b"]
    assert ids(stores, asked("a", mode=MMR, top=2, filters=plain)) == ["a", "b"]
    both(stores, lambda it: it.client.update(ids=["a"], metadatas=[{"doc_id": None}]))
    both(stores, lambda it: it.client.add(ids=["c"], embeddings=[vector("c")]))
    both(stores, "query", asked("c"))  # no document, no metadata


def test_class_functions(clients: Pair) -> None:
    stores = empty(clients)
    assert both(stores, lambda it: it.from_collection(it.client).add(nodes(1))) == ["n00"]
    assert both(stores, lambda it: it.from_collection(it)) == "Exception"  # not a collection
    assert both(stores, "from_params", "nodes") == "ValueError"  # on no folder
    assert both(stores, "class_name") == "ChromaVectorStore"
    both(stores, "to_dict")
    both(stores, "persist", "ignored")


def test_stores_are_persistent(tmp_path: Path) -> None:
    with opened(tmp_path) as clients:
        both(empty(clients, "cosine"), "add", nodes())
    with opened(tmp_path) as clients:
        stores = made(clients)
        assert len(left(stores)) == 30
        assert ids(stores, asked())[0] == "n04"
        both(stores, "delete", "document 1")
    with opened(tmp_path) as clients:
        assert len(left(made(clients))) == 27


def test_folder_instead_of_collection(tmp_path: Path) -> None:
    """The store makes a client of chromadb by itself, which install() makes one of ours."""
    settings = {"metadata": {"hnsw:space": "cosine"}}

    def make(folder: Path) -> ChromaVectorStore:
        return ChromaVectorStore.from_params(
            "nodes", persist_dir=str(folder), collection_kwargs=settings
        )

    def run(folder: Path) -> list[Any]:
        first = make(folder)
        first.add(nodes(3))
        second = make(folder)
        second.add(nodes(6)[3:])
        stores = (first, second)
        return [(it.query(asked()), it.get_nodes(None), it.client.metadata) for it in stores]

    def run_installed(folder: Path) -> list[Any]:
        vexfs_chroma.install()
        try:
            return run(folder)
        finally:
            vexfs_chroma.uninstall()

    sides = Pair((run, tmp_path / "chromadb"), (run_installed, tmp_path / "vexfs"))
    found = both(sides, lambda side: side[0](side[1]))
    assert [len(nodes) for _, nodes, _ in found] == [6, 6]
    assert (tmp_path / "chromadb" / "chroma.sqlite3").exists()
    assert not (tmp_path / "vexfs" / "chroma.sqlite3").exists()


# ---- queries ------------------------------------------------------------------------------------


def test_query(clients: Pair, space: str) -> None:
    stores = empty(clients, space)
    assert ids(stores, asked()) == []
    both(stores, "add", nodes())
    for mode in VectorStoreQueryMode:
        assert ids(stores, asked(mode=mode))[0] == "n04"
    assert len(ids(stores, asked(top=100))) == 30
    for top in (0, -1):
        both(stores, "query", asked(top=top))
    both(stores, "query", VectorStoreQuery(query_embedding=[1.0, 2.0]))


def test_query_without_a_vector(filled: Pair) -> None:
    assert len(ids(filled, VectorStoreQuery(similarity_top_k=7))) == 7
    late = only("at", ">", 20)
    assert len(ids(filled, VectorStoreQuery(similarity_top_k=30, filters=late))) == 9
    nothing = only("at", ">", 50)
    both(filled, "query", VectorStoreQuery(filters=nothing))
    matching = {"where_document": {"$contains": "blue"}, "offset": 2}
    both(filled, "query", VectorStoreQuery(similarity_top_k=3), **matching)


@pytest.mark.parametrize("operator", ["==", "!=", ">", "<", ">=", "<=", "in", "nin", "text_match"])
@pytest.mark.parametrize("key", ["color", "at", "half", "odd", "note", "missing"])
def test_filter_operators(filled: Pair, key: str, operator: str) -> None:
    values = ["green", "", 7, 7.0, 1, ["red", "blue"], [3, 4, 5], [4.0, 6.0], [], None]
    if key != "at":  # numbers compare by value on us
        values += [3.5, [0.5, 4.0]]
    if operator in ORDER:  # strings have an order on us: see the next test
        values = [value for value in values if not isinstance(value, str)]
    for value in values:
        for query in (asked(top=30), VectorStoreQuery(similarity_top_k=30)):
            query.filters = only(key, operator, value)
            both(filled, ids_of, query)


@pytest.mark.parametrize("operator", ORDER)
def test_strings_have_an_order(filled: Pair, operator: str) -> None:
    query = VectorStoreQuery(similarity_top_k=30, filters=only("color", operator, "green"))
    with pytest.raises(ValueError, match="Expected operand value to be an int or a float"):
        ids_of(filled.theirs, query)
    order = ORDER[operator]
    fitting = [node.node_id for node in nodes() if order(node.metadata["color"], "green")]
    assert sorted(ids_of(filled.ours, query)) == fitting


@pytest.mark.parametrize("condition", FilterCondition)
@pytest.mark.parametrize("inner", [FilterCondition.AND, FilterCondition.OR])
def test_filter_conditions(
    filled: Pair, condition: FilterCondition, inner: FilterCondition
) -> None:
    small = MetadataFilter(key="at", value=12, operator=FilterOperator.LT)
    pair = MetadataFilters(
        filters=[
            MetadataFilter(key="color", value="red"),
            MetadataFilter(key="half", value=10.0, operator=FilterOperator.GTE),
        ],
        condition=inner,
    )
    for parts in ([small, pair], [pair, small, pair], [pair], []):
        filters = MetadataFilters(filters=parts, condition=condition)
        found = ids(filled, asked(top=30, filters=filters))
        if condition == "or" and inner == "and" and parts == [small, pair]:
            assert len(found) == 12 + 3  # and 21, 24, 27


def test_own_arguments_of_chroma(filled: Pair) -> None:
    assert len(ids(filled, asked(top=30), where={"color": "red"})) == 10
    assert len(ids(filled, asked(top=30), where_document={"$contains": "blue"})) == 10
    assert len(ids(filled, asked(top=30), where={"at": {"$in": [1, 2]}}, ids=["n02", "n03"])) == 1
    red = only("color", "==", "red")
    assert ids(filled, asked(filters=red), where={"at": 1}) == "ValueError"
    ids(filled, asked(), include=["metadatas", "documents"])  # it reads the distances
    ids(filled, asked(), other=1)


def test_mmr(clients: Pair, space: str) -> None:
    stores = empty(clients, space)
    assert ids(stores, asked(mode=MMR)) == []
    both(stores, "add", nodes())
    late = only("at", ">=", 10)
    queries = [asked(mode=MMR), asked(top=25, mode=MMR), asked(mode=MMR, filters=late)]
    for kwargs in MMR_OPTIONS:
        for query in queries:
            ids(stores, query, **kwargs)
    assert ids(stores, queries[0])[0] == "n04"
    assert ids(stores, queries[0], mmr_threshold=1.5) == "ValueError"
    assert ids(stores, queries[0], mmr_threshold=0) != ids(stores, queries[0], mmr_threshold=1)


# ---- deleting -----------------------------------------------------------------------------------


def test_delete_by_document(stores: Pair) -> None:
    both(stores, "delete", "document 2")
    assert len(left(stores)) == 27
    both(stores, "delete", "another")
    assert len(left(stores)) == 27


def test_delete_nodes(stores: Pair) -> None:
    red = only("color", "==", "red")
    both(stores, "delete_nodes", ["n00", "n01", "other"])
    assert len(left(stores)) == 28
    both(stores, "delete_nodes", ["n02", "n03"], red)
    assert len(left(stores)) == 27
    both(stores, "delete_nodes", filters=red)
    both(stores, "delete_nodes")
    left(stores)
    assert "n02" in left(stores)


def test_clear(stores: Pair) -> None:
    both(stores, "clear")
    assert left(stores) == set()
    both(stores, "clear")
    both(stores, "add", nodes(2))
    assert left(stores) == {"n00", "n01"}


# ---- asynchronous ------------------------------------------------------------------------------


def test_asynchronous(clients: Pair) -> None:
    stores = empty(clients)
    assert len(both(stores, "async_add", nodes())) == 30
    for mode in (VectorStoreQueryMode.DEFAULT, MMR):
        found = both(stores, "aquery", asked(mode=mode))
        assert found["ids"][0] == "n04"
    assert len(both(stores, "aget_nodes", ["n01", "n02"])) == 2
    both(stores, "adelete", "document 0")
    both(stores, "adelete_nodes", ["n03", "n04"])
    assert len(left(stores)) == 25
    both(stores, "aclear")
    assert left(stores) == set()


# ---- an index on it -----------------------------------------------------------------------------


def test_index(clients: Pair, tmp_path: Path) -> None:
    stores = empty(clients)
    documents = [
        Document(doc_id=f"d{at}", text=f"text {at}", metadata={"at": at, "color": COLORS[at % 3]})
        for at in range(12)
    ]
    for document in documents:
        document.excluded_embed_metadata_keys = ["at", "color"]

    def run(store: ChromaVectorStore) -> list[Any]:
        embedding = Embedding()
        storage = StorageContext.from_defaults(vector_store=store)
        VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=embedding)
        index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
        seen = []

        def see(**kwargs: Any) -> None:
            found = index.as_retriever(**kwargs).retrieve("text 7")
            seen.append([(one.node.ref_doc_id, one.text, one.metadata, one.score) for one in found])

        see(similarity_top_k=3)
        see(similarity_top_k=3, vector_store_query_mode="mmr")
        threshold = {"mmr_threshold": 0.2}
        see(similarity_top_k=3, vector_store_query_mode="mmr", vector_store_kwargs=threshold)
        see(filters=only("color", "!=", "green"))
        see(vector_store_kwargs={"where_document": {"$contains": "1"}})
        index.insert(Document(doc_id="d12", text="text 12", metadata={"at": 12}))
        index.delete_ref_doc("d7", delete_from_docstore=True)
        changed = documents[3].model_copy()
        changed.set_content("text 3, changed")
        index.update_ref_doc(changed)
        see(similarity_top_k=20)
        return seen

    seen = both(stores, run)
    assert seen[0][0][:2] == ["d7", "text 7"]
    assert len(seen[-1]) == 12
    assert {"text 12", "text 3, changed"} <= {one[1] for one in seen[-1]}
