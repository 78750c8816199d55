"""What our collections have beyond chromadb's: exact search, explain, stats, waiting, progress."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import time
import uuid

import chromadb
import numpy as np
import pytest
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.api.types import EmbeddingFunction, IndexingStatus
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import LocalClient, LocalCollection, QueryPlan

SEED = 20261129
ROWS, DIMENSION = 3000, 16
FROM_ROWS = 500  # a graph is built


@pytest.fixture(autouse=True)
def no_system_survives():
    yield
    for system in list(SharedSystemClient._identifier_to_system.values()):
        system.stop()
    SharedSystemClient.clear_system_cache()


@pytest.fixture(autouse=True)
def graphs_of_small_collections(monkeypatch):
    monkeypatch.setenv("VEXFS_INDEX_ROWS", str(FROM_ROWS))


@pytest.fixture(params=["memory", "disk"])
def client(request, tmp_path):
    if request.param == "memory":
        return vexfs_chroma.EphemeralClient()
    return vexfs_chroma.PersistentClient(tmp_path)


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((60, DIMENSION))
    noise = 0.4 * random.standard_normal((ROWS + 100, DIMENSION))
    return (centres[random.integers(0, 60, ROWS + 100)] + noise).astype(np.float32)


def fill(client, vectors, rows=ROWS, name="abc"):
    collection = client.create_collection(name, embedding_function=None)
    collection.add(
        ids=[str(i) for i in range(rows)],
        embeddings=vectors[:rows],
        documents=[f"document {i}" for i in range(rows)],
        metadatas=[{"n": i} for i in range(rows)],
    )
    return collection


def fill_indexed(client, vectors, rows=ROWS):
    collection = fill(client, vectors, rows)
    collection.wait_for_index(60)
    return collection


# -- the class -----------------------------------------------------------------------------------


def test_every_way_to_a_collection_gives_ours(client):
    made = client.create_collection("abc", embedding_function=None, metadata={"a": 1})
    for collection in (
        made,
        client.get_collection("abc", embedding_function=None),
        client.get_collection_by_id(made.id, embedding_function=None),
        client.get_or_create_collection("abc", embedding_function=None),
        client.create_collection("abc", embedding_function=None, get_or_create=True),
        copy.copy(made),
    ):
        assert type(collection) is LocalCollection
        assert isinstance(collection, chromadb.Collection)
        assert collection == made
        assert (collection.name, collection.id, collection.metadata) == ("abc", made.id, {"a": 1})
    assert [type(collection) for collection in client.list_collections()] == [LocalCollection]
    assert type(client) is LocalClient


def test_it_behaves_as_chromadbs(client):
    ours = client.create_collection("abc", embedding_function=None)
    theirs = ChromaCollection(client._server, ours.get_model(), embedding_function=None)
    assert ours == theirs
    assert theirs == ours
    assert repr(ours) == repr(theirs)
    assert type(ours).__name__ == type(theirs).__name__
    assert ours.__hash__ is theirs.__hash__
    for collection in (ours, theirs):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(collection)
    assert vexfs_chroma.Collection is chromadb.Collection


def test_a_fork_is_ours(client):
    collection = client.create_collection("abc", embedding_function=None)
    assert type(collection.fork("def")) is LocalCollection


def test_arguments_of_collections_are_passed_on(client):
    class Tiny(EmbeddingFunction):
        def __init__(self):
            pass

        def __call__(self, input):
            return [np.array([len(text), 1], dtype=np.float32) for text in input]

    configuration = {"hnsw": {"space": "ip", "ef_search": 33}}
    made = client.create_collection("abc", None, configuration, {"a": 1}, Tiny(), None, False)
    assert made.configuration_json["hnsw"]["space"] == "ip"
    assert made.configuration_json["hnsw"]["ef_search"] == 33
    made.add(ids=["1", "2"], documents=["x", "xxxx"])
    for collection in (
        client.get_collection("abc", Tiny(), None),
        client.get_collection_by_id(made.id, Tiny(), None),
        client.get_or_create_collection("abc", None, None, None, Tiny(), None),
    ):
        assert collection.query(query_texts="xxx", n_results=1, exact=True)["ids"] == [["2"]]
        assert collection.explain(query_texts="xxx", n_results=1).rows == 2
    assert len(client.list_collections(1, 0)) == 1
    assert len(client.list_collections(limit=1, offset=1)) == 0


@pytest.mark.parametrize(
    "name",
    [
        "create_collection",
        "get_collection",
        "get_collection_by_id",
        "get_or_create_collection",
        "list_collections",
    ],
)
def test_signatures_of_the_client(name):
    def shape(owner):
        parameters = inspect.signature(getattr(owner, name)).parameters.values()
        return [(p.name, p.kind, type(p.default)) for p in parameters]

    assert shape(LocalClient) == shape(chromadb.api.client.Client)


def test_signature_of_query():
    ours = list(inspect.signature(LocalCollection.query).parameters.values())
    theirs = list(inspect.signature(ChromaCollection.query).parameters.values())
    assert [(p.name, p.kind, p.default) for p in ours[: len(theirs)]] == [
        (p.name, p.kind, p.default) for p in theirs
    ]
    assert [(p.name, p.kind, p.default) for p in ours[len(theirs) :]] == [
        ("exact", inspect.Parameter.KEYWORD_ONLY, False)
    ]
    explained = [p.name for p in inspect.signature(LocalCollection.explain).parameters.values()]
    assert explained == [p.name for p in ours if p.name != "include"]


@pytest.mark.parametrize("how", ["persistent", "ephemeral", "default", "settings"])
def test_install_gives_ours(tmp_path, how):
    settings = chromadb.Settings(is_persistent=True, persist_directory=str(tmp_path))
    make = {
        "persistent": lambda: chromadb.PersistentClient(str(tmp_path)),
        "ephemeral": chromadb.EphemeralClient,
        "default": chromadb.Client,
        "settings": lambda: chromadb.Client(settings),
    }[how]
    vexfs_chroma.install()
    try:
        client = make()
        collection = client.create_collection("abc", embedding_function=None)
        assert type(client) is LocalClient
        assert type(collection) is LocalCollection
        assert isinstance(client, chromadb.ClientCreator)
    finally:
        vexfs_chroma.uninstall()
    collection.add(ids=["a"], embeddings=[[1, 2]])
    assert collection.explain(query_embeddings=[[1, 2]]).rows == 1
    client.close()
    theirs = chromadb.EphemeralClient()
    try:
        assert type(theirs) is chromadb.api.client.Client is chromadb.ClientCreator
    finally:
        theirs.close()


def test_after_install_the_class_of_clients_is_still_one():
    class Earlier(chromadb.ClientCreator):
        pass

    vexfs_chroma.install()
    try:
        creator = chromadb.ClientCreator
        assert issubclass(creator, chromadb.api.client.Client)
        assert issubclass(LocalClient, creator)
        assert issubclass(Earlier, creator)
        assert not issubclass(LocalCollection, creator)
        assert not isinstance(3, creator)

        class Own(creator):
            pass

        with Own(settings=chromadb.Settings()) as own, creator() as made:
            assert type(own) is Own
            assert type(made) is LocalClient
            assert isinstance(own, creator)
            assert not isinstance(made, Own)
            assert not issubclass(LocalClient, Own)
        creator.clear_system_cache()
    finally:
        vexfs_chroma.uninstall()


def test_install_leaves_clients_of_servers_alone(monkeypatch):
    made = []
    vexfs_chroma.install()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                "vexfs_chroma._install.Client", lambda *args: made.append(args) or "theirs"
            )
            assert chromadb.HttpClient("example.test", 1) == "theirs"
    finally:
        vexfs_chroma.uninstall()
    assert chromadb.ClientCreator is chromadb.api.client.Client
    tenant, database, settings = made[0]
    assert (tenant, database) == ("default_tenant", "default_database")
    assert settings.chroma_server_host == "example.test"


# -- query(exact=) -------------------------------------------------------------------------------


def test_exact_is_brute_force(client, vectors):
    collection = fill_indexed(client, vectors)
    queries = vectors[ROWS:]
    distances = ((queries[:, None, :].astype(np.float64) - vectors[None, :ROWS]) ** 2).sum(axis=2)
    nearest = [
        [str(i) for i in row] for row in np.argsort(distances, axis=1, kind="stable")[:, :10]
    ]
    exact = collection.query(query_embeddings=queries, exact=True)
    assert exact["ids"] == nearest
    assert np.allclose(exact["distances"], np.sort(distances, axis=1)[:, :10], rtol=1e-4)
    found = collection.query(query_embeddings=queries)
    hits = sum(len(set(a) & set(b)) for a, b in zip(found["ids"], nearest, strict=True))
    assert hits >= 0.95 * 10 * len(queries)
    assert exact.keys() == found.keys()


def test_exact_takes_everything_that_query_takes(client, vectors):
    collection = fill(client, vectors, 50)
    kwargs = {
        "ids": [str(i) for i in range(40)],
        "n_results": 3,
        "where": {"n": {"$lt": 30}},
        "where_document": {"$contains": "document 2"},
        "include": ["embeddings", "documents", "metadatas", "uris", "distances"],
    }
    exact = collection.query(vectors[22], exact=True, **kwargs)
    plain = collection.query(vectors[22], exact=False, **kwargs)
    assert exact["ids"] == plain["ids"]
    assert exact["ids"][0][0] == "22"
    assert exact["documents"] == plain["documents"]
    assert exact["metadatas"] == plain["metadatas"]
    assert exact["uris"] == plain["uris"]
    assert np.array_equal(exact["embeddings"], plain["embeddings"])
    positional = collection.query(vectors[22], None, None, None, None, 3, {"n": 7}, None, ["uris"])
    assert positional["ids"] == [["7"]]


@pytest.mark.parametrize("method", ["query", "explain"])
@pytest.mark.parametrize("exact", [1, 0, None, "yes", "", [], np.True_])
def test_exact_is_true_or_false(client, method, exact):
    collection = client.create_collection("abc", embedding_function=None)
    with pytest.raises(InvalidArgumentError, match="exact must be True or False, got"):
        getattr(collection, method)(query_embeddings=[[1, 2]], exact=exact)


# -- explain -------------------------------------------------------------------------------------


def test_explain_a_walk(client, vectors):
    collection = fill_indexed(client, vectors)
    collection.add(ids=["more"], embeddings=vectors[ROWS : ROWS + 1])
    plan = collection.explain(query_embeddings=vectors[:2], n_results=5)
    assert isinstance(plan, QueryPlan)
    assert plan.strategy == "graph"
    assert (plan.queries, plan.rows, plan.graph_rows) == (2, ROWS + 1, ROWS)
    assert (plan.ef, plan.quantization, plan.abandoned_walks) == (100, "sq8", 0)
    assert 0 < plan.walk_hops < plan.walk_distances < 2 * ROWS
    assert plan.exact_distances >= 10
    assert plan.read_rows == 2  # the new one, for each
    assert min(plan.select_ms, plan.search_ms, plan.fetch_ms) >= 0
    assert plan.search_ms < 60_000
    shown = str(plan).splitlines()
    assert shown[0].startswith("graph (ef 100, sq8): a walk meets far fewer")
    assert shown[1] == "  rows  3,001 may be found, 3,000 of them by the graph"
    assert shown[2].endswith(" exact distances, 2 rows read, for 2 query vectors")
    assert len(shown) == 4
    with pytest.raises(AttributeError):
        plan.rows = 1


def test_explain_why_all_rows_are_read(client, vectors):
    collection = fill_indexed(client, vectors)
    for kwargs, rows, reason in (
        ({"exact": True}, ROWS, "exact search was asked for"),
        ({"where": {"n": {"$lt": 700}}}, 700, "few records are selected"),
        ({"ids": ["1", "2"]}, 2, "few records are selected"),
        ({"where_document": {"$contains": "document 12"}}, 111, "few records are selected"),
        ({"n_results": 1000}, ROWS, "so many results are asked for"),
        ({"where": {"n": -1}}, 0, "no record to find"),
    ):
        plan = collection.explain(query_embeddings=vectors[:1], **kwargs)
        assert plan.strategy == "exact", kwargs
        assert reason in plan.reason, kwargs
        assert (plan.rows, plan.read_rows, plan.ef) == (rows, rows, None), kwargs
        assert plan.walk_distances == plan.walk_hops == plan.exact_distances == 0
        assert str(plan).startswith(f"exact: {plan.reason}\n")
        assert f"\n  work  {rows:,} rows read, for 1 query vector\n" in str(plan)


def test_explain_why_there_is_no_graph(client, vectors):
    collection = client.create_collection("abc", embedding_function=None)
    plan = collection.explain(query_embeddings=[[1, 2]])
    assert (plan.strategy, plan.rows, plan.queries) == ("exact", 0, 1)
    assert "no record to find" in plan.reason
    collection = fill(client, vectors, FROM_ROWS - 1, "small")
    plan = collection.explain(query_embeddings=vectors[:3])
    assert plan.reason == "no graph: collections get one from 500 records on"
    assert plan.read_rows == 3 * (FROM_ROWS - 1)
    collection.add(ids=["x", "y"], embeddings=vectors[:2])
    reason = collection.explain(query_embeddings=vectors[:1]).reason
    assert reason.startswith("no graph yet: it is being loaded or built")


def test_explain_where_graphs_are_never_built(tmp_path, monkeypatch, vectors):
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "0")
    collection = fill(vexfs_chroma.PersistentClient(tmp_path), vectors)
    collection.wait_for_index(10)
    plan = collection.explain(query_embeddings=vectors[:1])
    assert (plan.strategy, plan.rows) == ("exact", ROWS)
    assert "this database builds none" in plan.reason
    assert collection.stats()["index"]["from_rows"] is None
    assert collection.stats()["index"]["unindexed_rows"] == ROWS
    assert collection.get_indexing_status().op_indexing_progress == 1.0


REFUSED = [
    {},
    {"query_embeddings": [[1, 2]]},
    {"query_embeddings": [[1, 2, 3], [1, 2]]},
    {"query_embeddings": [[1] * DIMENSION], "n_results": 0},
    {"query_embeddings": [[1] * DIMENSION], "n_results": -1},
    {"query_embeddings": [[1] * DIMENSION], "n_results": "2"},
    {"query_embeddings": [[1] * DIMENSION], "n_results": 2**40},
    {"query_embeddings": [[1] * DIMENSION], "ids": ["missing"]},
    {"query_embeddings": [[1] * DIMENSION], "ids": [1]},
    {"query_embeddings": [[1] * DIMENSION], "where": {"$bad": 1}},
    {"query_embeddings": [[1] * DIMENSION], "where_document": {"$contains": 1}},
    {"query_embeddings": "text"},
    {"query_texts": "there is no embedding function"},
    {"query_uris": "there is no data loader"},
]


def test_explain_and_exact_refuse_what_query_refuses(client, vectors):
    collection = fill(client, vectors, 10)
    plain = ChromaCollection(client._server, collection.get_model(), embedding_function=None)
    for kwargs in REFUSED:
        errors = []
        for call in (
            plain.query,
            collection.query,
            lambda **kwargs: collection.query(**kwargs, exact=True),
            collection.explain,
        ):
            with pytest.raises(Exception) as caught:
                call(**kwargs)
            errors.append((type(caught.value), str(caught.value)))
        assert len(set(errors)) == 1, kwargs


# -- stats ---------------------------------------------------------------------------------------


def test_stats_are_plain_and_complete(client, vectors):
    empty = client.create_collection("empty", embedding_function=None).stats()
    assert (empty["rows"], empty["dimension"], empty["space"]) == (0, None, "l2")
    collection = fill(client, vectors)
    before = collection.stats()
    assert before["unflushed"]["rows"] == ROWS
    assert before["unflushed"]["bytes"] > vectors[:ROWS].nbytes
    collection.wait_for_index(60)
    stats = collection.stats()
    assert json.loads(json.dumps(stats)) == stats
    assert {key: list(value) for key, value in stats.items() if isinstance(value, dict)} == {
        "files": ["vectors", "payloads"],
        "unflushed": ["rows", "bytes"],
        "index": [
            "from_rows",
            "indexed_rows",
            "unindexed_rows",
            "bytes",
            "quantization",
            "max_neighbors",
            "ef_construction",
            "ef_search",
        ],
        "documents": ["raw_bytes", "stored_bytes"],
        "metadatas": ["raw_bytes", "stored_bytes"],
    }
    documented = LocalCollection.stats.__doc__
    for key, value in stats.items():
        assert key in documented
        assert not isinstance(value, dict) or all(name in documented for name in value)
    assert (stats["rows"], stats["dimension"], stats["space"]) == (ROWS, DIMENSION, "l2")
    assert stats["disk_bytes"] > vectors[:ROWS].nbytes
    assert stats["files"] == {"vectors": 1, "payloads": 1}
    assert stats["unflushed"]["rows"] == 0
    index = stats["index"]
    assert (index["from_rows"], index["indexed_rows"], index["unindexed_rows"]) == (500, ROWS, 0)
    assert index["bytes"] > 64 * ROWS
    assert index["quantization"] == "sq8"
    assert [index[key] for key in ("max_neighbors", "ef_construction", "ef_search")] == [
        16,
        100,
        100,
    ]
    raw = sum(len(f"document {i}") for i in range(ROWS))
    assert raw <= stats["documents"]["raw_bytes"] <= raw + 4 * ROWS
    assert 0 < stats["documents"]["stored_bytes"] < raw / 2
    assert 0 < stats["metadatas"]["stored_bytes"] < stats["metadatas"]["raw_bytes"]


def test_modifying_keeps_the_graph(client, vectors):
    collection = fill_indexed(client, vectors)
    for ef in (50, 150):
        collection.modify(configuration={"hnsw": {"ef_search": ef}})
        plan = collection.explain(query_embeddings=vectors[:1].tolist(), n_results=3)
        assert (plan.strategy, plan.ef) == ("graph", ef)


def test_stats_after_deletes_and_modify(client, vectors):
    collection = fill_indexed(client, vectors)
    collection.delete(where={"n": {"$lt": 400}})
    index = collection.stats()["index"]
    assert collection.stats()["rows"] == index["indexed_rows"] == ROWS - 400
    collection.delete(where={"n": {"$gte": 450}})
    assert collection.stats()["rows"] == 50
    assert collection.get_indexing_status().op_indexing_progress == 1.0
    client.vacuum()
    collection.wait_for_index(60)
    stats = collection.stats()
    assert stats["rows"] == 50
    assert stats["index"]["indexed_rows"] == stats["index"]["bytes"] == 0
    assert stats["disk_bytes"] < vectors[:ROWS].nbytes
    collection.modify(configuration={"hnsw": {"ef_search": 7}})
    assert collection.stats()["index"]["ef_search"] == 7
    collection.delete(where={"n": {"$gte": 0}})
    assert collection.stats()["rows"] == 0
    assert collection.get_indexing_status() == IndexingStatus(0, 0, 0, 1.0)


@pytest.mark.parametrize(
    ("quantization", "used"), [("none", "none"), ("sq8", "sq8"), ("auto", "sq8")]
)
@pytest.mark.parametrize("make", ["EphemeralClient", "PersistentClient", "Client"])
def test_quantization(tmp_path, vectors, make, quantization, used):
    path = {"path": tmp_path} if make == "PersistentClient" else {}
    client = getattr(vexfs_chroma, make)(**path, quantization=quantization)
    collection = fill_indexed(client, vectors, FROM_ROWS)
    assert collection.stats()["index"]["quantization"] == used
    plan = client.get_collection("abc", embedding_function=None).explain(vectors[:1])
    assert (plan.strategy, plan.quantization) == ("exact", used)
    assert "many results" in plan.reason


def test_quantization_of_a_walk(vectors):
    collection = fill_indexed(vexfs_chroma.EphemeralClient(quantization="none"), vectors)
    plan = collection.explain(vectors[:1])
    assert (plan.strategy, plan.quantization) == ("graph", "none")
    assert str(plan).startswith("graph (ef 100, none): ")


def test_conflicting_quantizations(tmp_path):
    first = vexfs_chroma.PersistentClient(tmp_path, quantization="none")
    assert vexfs_chroma.PersistentClient(tmp_path)._server.options.quantization == "none"
    for path in (tmp_path, f"{tmp_path}/x/.."):
        vexfs_chroma.PersistentClient(path, quantization="none")
        with pytest.raises(ValueError, match="with quantization='none', not 'sq8'"):
            vexfs_chroma.PersistentClient(path, quantization="sq8")
    vexfs_chroma.EphemeralClient(quantization="sq8")
    for make in (vexfs_chroma.EphemeralClient, vexfs_chroma.Client):
        with pytest.raises(
            ValueError, match=r"^the database in memory is already open in this pro"
        ):
            make(quantization="none")
    assert first.count_collections() == 0


@pytest.mark.parametrize("bad", ["", "sq4", "SQ8", "f16", 8, True, b"sq8", ["sq8"]])
def test_bad_quantizations(tmp_path, bad):
    for make in (
        lambda: vexfs_chroma.PersistentClient(tmp_path, quantization=bad),
        lambda: vexfs_chroma.EphemeralClient(quantization=bad),
        lambda: vexfs_chroma.Client(quantization=bad),
    ):
        with pytest.raises(
            InvalidArgumentError, match="quantization must be one of auto, sq8, none"
        ):
            make()
    assert list(tmp_path.iterdir()) == []


def test_quantization_from_the_environment(tmp_path, monkeypatch, vectors):
    monkeypatch.setenv("VEXFS_QUANTIZATION", "none")
    with vexfs_chroma.PersistentClient(tmp_path / "a") as client:
        assert fill_indexed(client, vectors).stats()["index"]["quantization"] == "none"
    with vexfs_chroma.PersistentClient(tmp_path / "b", quantization="sq8") as client:
        assert fill_indexed(client, vectors).stats()["index"]["quantization"] == "sq8"


# -- waiting, and progress -----------------------------------------------------------------------


def test_the_index_becomes_ready_by_itself(client, vectors):
    collection = fill(client, vectors)
    status = collection.get_indexing_status()
    assert isinstance(status, IndexingStatus)
    assert status.total_ops == status.num_indexed_ops + status.num_unindexed_ops == ROWS
    until = time.monotonic() + 20
    while status.op_indexing_progress < 1.0 and time.monotonic() < until:
        time.sleep(0.02)
        status = collection.get_indexing_status()
    assert status == IndexingStatus(ROWS, 0, ROWS, 1.0)
    assert collection.explain(vectors[:1]).strategy == "graph"


def test_progress_counts_what_is_left_to_do(client, vectors):
    collection = client.create_collection("abc", embedding_function=None)
    assert collection.get_indexing_status() == IndexingStatus(0, 0, 0, 1.0)
    small = fill(client, vectors, FROM_ROWS - 1, "small")
    assert small.get_indexing_status() == IndexingStatus(499, 0, 499, 1.0)
    large = fill(client, vectors, ROWS, "large")
    left = large.get_indexing_status()  # the worker may be quick
    assert left.op_indexing_progress == left.num_indexed_ops / ROWS
    large.wait_for_index(60)
    large.add(ids=["x", "y"], embeddings=vectors[:2])
    assert large.get_indexing_status() == IndexingStatus(ROWS + 2, 0, ROWS + 2, 1.0)
    assert large.stats()["index"]["unindexed_rows"] == 2  # a short tail: read by every query
    large.wait_for_index(60)
    assert large.stats()["index"]["indexed_rows"] == ROWS + 2


def test_after_reopening(tmp_path, vectors):
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        expected = fill_indexed(client, vectors).stats()
    for read_only in (False, True):
        with vexfs_chroma.PersistentClient(tmp_path, read_only=read_only) as client:
            collection = client.get_collection("abc", embedding_function=None)
            until = time.monotonic() + 20  # asking has the graph loaded
            while collection.get_indexing_status().op_indexing_progress < 1.0:
                assert time.monotonic() < until
                time.sleep(0.01)
            stats = collection.stats()
            assert stats["rows"] == stats["index"]["indexed_rows"] == ROWS
            assert stats["index"]["quantization"] == "sq8"
            assert stats["files"] == expected["files"]
            assert stats["documents"] == expected["documents"]
            assert collection.explain(vectors[:1]).strategy == "graph"
            exact = collection.query(vectors[:5], n_results=1, exact=True)
            assert exact["ids"] == [[str(i)] for i in range(5)]
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.get_collection("abc", embedding_function=None)
        collection.wait_for_index(20)
        assert collection.stats()["index"]["indexed_rows"] == ROWS


def test_read_only_without_a_graph(tmp_path, monkeypatch, vectors):
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "0")
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        fill(client, vectors)
        client.vacuum()
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "500")
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True) as client:
        collection = client.get_collection("abc", embedding_function=None)
        collection.wait_for_index(20)  # nobody builds one here
        assert collection.get_indexing_status() == IndexingStatus(0, ROWS, ROWS, 0.0)
        assert collection.explain(vectors[:1]).strategy == "exact"


def test_waiting_has_an_end(client, vectors):
    collection = fill(client, vectors)
    with pytest.raises(TimeoutError, match="not done after 0 seconds"):
        collection.wait_for_index(0)
    collection.wait_for_index(timeout=60.0)
    collection.wait_for_index()
    collection.wait_for_index(0)  # it is ready
    fill(client, vectors, 10, "small").wait_for_index(0)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True, [1]])
def test_bad_timeouts(client, timeout):
    collection = client.create_collection("abc", embedding_function=None)
    for wait in (collection.wait_for_index, client.wait_idle):
        with pytest.raises(InvalidArgumentError, match="timeout must be a number of seconds, got"):
            wait(timeout)


# -- what is not there ---------------------------------------------------------------------------

CALLS = {
    "exact": lambda c: c.query(query_embeddings=[[1.0] * DIMENSION], exact=True),
    "explain": lambda c: c.explain(query_embeddings=[[1.0] * DIMENSION]),
    "stats": lambda c: c.stats(),
    "wait_for_index": lambda c: c.wait_for_index(1),
    "get_indexing_status": lambda c: c.get_indexing_status(),
}


def gone(collection, call):
    text = f"Collection .{collection.id}. does not exist"
    with pytest.raises(NotFoundError, match=text):
        CALLS[call](collection)


def test_of_a_deleted_collection(client, vectors):
    for call in CALLS:
        collection = fill(client, vectors, 10)
        client.delete_collection("abc")
        gone(collection, call)


def test_of_a_collection_deleted_elsewhere(tmp_path, vectors):
    here = vexfs_chroma.PersistentClient(tmp_path)
    there = vexfs_chroma.PersistentClient(f"{tmp_path}/x/..")  # another System on the directory
    for call in CALLS:
        fill(there, vectors, 10)
        collection = here.get_collection("abc", embedding_function=None)
        assert collection.count() == 10
        there.delete_collection("abc")
        gone(collection, call)


def test_of_a_closed_client(client, vectors):
    collection = fill(client, vectors, 10)
    client.close()
    for call in CALLS.values():
        with pytest.raises(InternalError, match="closed"):
            call(collection)


def test_of_an_unknown_collection(client):
    with pytest.raises(NotFoundError):
        client._server.collection_stats(uuid.uuid4())
