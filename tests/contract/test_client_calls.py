"""Collections, databases, tenants: names, configurations, metadata, and what is refused."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import samples as S
from compare import Pair


@pytest.fixture
def database(clients: Pair) -> Iterator[Pair]:
    """Both clients on a new, empty database."""
    name = f"db-{uuid.uuid4().hex[:8]}"
    for side in (clients.theirs, clients.ours):
        admin = side._admin_client
        admin.create_database(name)
        side.set_database(name)
    yield clients
    for side in (clients.theirs, clients.ours):
        for collection in side.list_collections():
            side.delete_collection(collection.name)
        side.set_database("default_database")
        side._admin_client.delete_database(name)


def described(client: Any) -> list[Any]:
    """Everything a client tells of its collections."""
    found = sorted(client.list_collections(), key=lambda c: c.name)
    return [(c.name, c.metadata, c.configuration_json, c.count(), c.tenant) for c in found]


def test_names(database: Pair) -> None:
    for name in S.NAMES:
        database.apply(f"create {name!r}", lambda c, n=name: c.create_collection(n).name)
        database.apply(f"create {name!r} again", lambda c, n=name: c.create_collection(n).name)
        database.apply(f"get {name!r}", lambda c, n=name: c.get_collection(n).name)
        database.apply(
            f"get_or_create {name!r}", lambda c, n=name: c.get_or_create_collection(n).name
        )
        database.apply("count", lambda c: c.count_collections())
        database.apply(f"delete {name!r}", lambda c, n=name: c.delete_collection(n))
        database.apply(f"delete {name!r} again", lambda c, n=name: c.delete_collection(n))
    database.apply("all", described)


def test_rename(database: Pair) -> None:
    for name in S.NAMES:
        make = lambda c: c.create_collection("subject", embedding_function=None)  # noqa: E731
        database.apply("create", lambda c, make=make: make(c).name)

        def rename(client: Any, name: Any = name) -> Any:
            collection = client.get_collection("subject")
            try:
                collection.modify(name=name)
            finally:
                left = sorted(c.name for c in client.list_collections())
            return left, collection.name

        database.apply(f"modify(name={name!r})", rename)
        database.apply("all", described)
        for side in (database.theirs, database.ours):
            for collection in side.list_collections():
                side.delete_collection(collection.name)
    for name in ("first", "second"):
        database.apply("create", lambda c, n=name: c.create_collection(n).name)
    database.apply("name taken", lambda c: c.get_collection("first").modify(name="second"))
    database.apply("own name", lambda c: c.get_collection("first").modify(name="first"))
    database.apply("all", described)


METADATA = [
    m
    for m in S.METADATA
    if not (isinstance(m, dict) and any(isinstance(v, list | tuple) for v in m.values()))
]  # a list makes chromadb's engine panic


def test_metadata(database: Pair) -> None:
    for at, metadata in enumerate(METADATA):
        name = f"metadata-{at}"
        database.apply(
            f"create(metadata={metadata!r})",
            lambda c, n=name, m=metadata: c.create_collection(n, metadata=m).metadata,
        )
        database.apply("stored", lambda c, n=name: c.get_collection(n).metadata)
        database.apply(
            "ignored", lambda c, n=name: c.get_or_create_collection(n, metadata={"z": 1}).metadata
        )
        database.apply(
            f"modify(metadata={metadata!r})",
            lambda c, n=name, m=metadata: c.get_collection(n).modify(metadata=m),
        )
        database.apply("stored", lambda c, n=name: c.get_collection(n).metadata)
    database.apply("all", described)


CONFIGURATIONS: list[Any] = [
    None, {}, {"hnsw": {}}, {"hnsw": {"space": "l2"}}, {"hnsw": {"space": "ip"}},
    {"hnsw": {"space": "cosine"}},
    {"hnsw": {"space": "foo"}}, {"hnsw": {"space": None}}, {"hnsw": {"ef_search": 50}},
    {"hnsw": {"ef_search": 0}},
    {"hnsw": {"ef_search": -1}}, {"hnsw": {"ef_search": "x"}},
    {"hnsw": {"ef_construction": 10, "max_neighbors": 4}},
    {"hnsw": {"num_threads": 2, "batch_size": 10, "sync_threshold": 20, "resize_factor": 1.5}},
    {"hnsw": {"foo": 1}},
    {"foo": {}}, {"spann": {}}, {"spann": {"space": "cosine"}},
    {"hnsw": {"space": "ip"}, "spann": {"space": "ip"}},
    {"hnsw": None}, {"embedding_function": None}, {"hnsw": []}, [], "x",
    {"hnsw": {"max_neighbors": 1 << 20}},
]  # fmt: skip

NO_TEXT: list[Any] = [{"hnsw": {"space": "a\ud800"}}, {"hnsw": {"é😀\ud800b": 1}}]


def test_configuration(database: Pair) -> None:
    for at, (configuration, function) in enumerate(
        itertools.product([*CONFIGURATIONS, *NO_TEXT], [{}, {"embedding_function": None}])
    ):
        name = f"configuration-{at}"
        database.apply(
            f"create(configuration={configuration!r}, {function})",
            lambda c, n=name, o=configuration, f=function: (
                c.create_collection(n, configuration=o, **f).configuration_json
            ),
        )
        database.apply("stored", lambda c, n=name: c.get_collection(n).configuration_json)
        database.apply(
            "get_or_create",
            lambda c, n=name: (
                c.get_or_create_collection(
                    n, configuration={"hnsw": {"space": "ip"}}
                ).configuration_json
            ),
        )
    database.apply("all", described)


def test_modify_configuration(database: Pair) -> None:
    for at, configuration in enumerate(CONFIGURATIONS):
        name = f"modify-{at}"

        def change(client: Any, name: str = name, configuration: Any = configuration) -> Any:
            collection = client.create_collection(name, embedding_function=None)
            collection.modify(configuration=configuration)
            return collection.configuration_json

        database.apply(f"modify(configuration={configuration!r})", change)
        database.apply("stored", lambda c, n=name: c.get_collection(n).configuration_json)


LEGACY: list[dict[str, Any]] = [
    {"hnsw:space": "cosine"}, {"hnsw:space": "ip", "x": 1}, {"hnsw:space": "foo"}, {"hnsw:M": 8},
    {"hnsw:M": "8"},
    {"hnsw:construction_ef": 20, "hnsw:search_ef": 30}, {"hnsw:num_threads": 1},
    {"hnsw:batch_size": 10},
    {"hnsw:sync_threshold": 100}, {"hnsw:resize_factor": 2.0}, {"hnsw:resize_factor": 2},
    {"hnsw:nothing": 1}, {"hnsw:": 1},
]  # fmt: skip


def test_legacy_configuration_in_metadata(database: Pair) -> None:
    for at, metadata in enumerate(LEGACY):
        name = f"legacy-{at}"
        database.apply(
            f"create(metadata={metadata!r})",
            lambda c, n=name, m=metadata: (
                described(c) if c.create_collection(n, metadata=m) else None
            ),
        )
        database.apply(
            f"create(metadata={metadata!r}, configuration)",
            lambda c, n=name, m=metadata: (
                c.create_collection(
                    n + "x", metadata=m, configuration={"hnsw": {"space": "l2"}}
                ).configuration_json
            ),
        )
        database.apply(
            f"modify(metadata={metadata!r})",
            lambda c, n=name, m=metadata: c.get_collection(n).modify(metadata=m),
        )
    database.apply("all", described)


def test_list_pages(database: Pair) -> None:
    for at in range(5):
        database.apply("create", lambda c, n=f"page-{at}": c.create_collection(n).name)
    for limit, offset in itertools.product(
        (None, 0, 1, 3, 5, 9, -1, 1.5, "1"), (None, 0, 1, 4, 5, 9, -1)
    ):
        database.apply(
            f"len(list_collections({limit!r}, {offset!r}))",
            lambda c, n=limit, o=offset: len(c.list_collections(limit=n, offset=o)),
        )


def test_deleted_collection(database: Pair) -> None:
    """What a Collection object says when its collection is gone."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("count", {}), ("get", {}), ("get", {"ids": ["a"]}), ("peek", {}),
        ("delete", {"ids": ["a"]}),
        ("delete", {"where": {"n": 1}}), ("add", {"ids": ["a"], "embeddings": [[1, 2]]}),
        ("update", {"ids": ["a"], "embeddings": [[1, 2]]}),
        ("upsert", {"ids": ["a"], "embeddings": [[1, 2]]}),
        ("query", {"query_embeddings": [[1, 2]]}), ("modify", {"name": "other"}),
        ("modify", {"metadata": {"a": 1}}), ("get_indexing_status", {}), ("fork_count", {}),
        ("fork", {"new_name": "other"}),
    ]  # fmt: skip
    sides = []
    for side in (database.theirs, database.ours):
        sides.append(side.create_collection("gone", embedding_function=None))
        sides[-1].add(ids=["a"], embeddings=[[1, 2]])
    living = Pair(*sides)
    for method in ("get_indexing_status", "fork_count", "count"):
        living.call(method)
    for side in (database.theirs, database.ours):
        side.delete_collection("gone")
    stale = Pair(*sides)
    for method, arguments in calls:
        stale.call(method, **arguments)


def test_tenants_and_databases(clients: Pair) -> None:
    admin = Pair(clients.theirs._admin_client, clients.ours._admin_client)
    mark = uuid.uuid4().hex[:6]
    for name in [f"tenant-{mark}", "ab", "", f"t {mark}", "t\ud800t"]:
        for method in ("create_tenant", "create_tenant", "get_tenant"):
            admin.apply(f"{method}({name!r})", lambda a, m=method, n=name: getattr(a, m)(n))
    tenant = f"tenant-{mark}"
    for name in ["one", "ab", "", "two", "one", "Three", "a b c", "d\ud800d"]:
        admin.apply(f"create_database({name!r})", lambda a, n=name: a.create_database(n, tenant))
        admin.apply(f"get_database({name!r})", lambda a, n=name: a.get_database(n, tenant)["name"])
    for limit, offset in itertools.product((None, 0, 1, 2, 9), (None, 0, 1, 9)):
        admin.apply(
            f"list_databases({limit}, {offset})",
            lambda a, n=limit, o=offset: [d["name"] for d in a.list_databases(n, o, tenant)],
        )
    for name in ["one", "one", "nothing", "", "two", "d\ud800d"]:
        admin.apply(f"delete_database({name!r})", lambda a, n=name: a.delete_database(n, tenant))
    admin.apply("get_database of no tenant", lambda a: a.get_database("x" * 3, "nobody"))
    admin.apply("list_databases of no tenant", lambda a: a.list_databases(tenant="nobody"))
    admin.apply("default database", lambda a: a.get_database("default_database"))


def test_set_tenant_and_database(clients: Pair) -> None:
    for arguments in ({"tenant": "nobody"}, {"tenant": "default_tenant", "database": "nothing"}):
        clients.apply(f"set_tenant({arguments})", lambda c, a=arguments: c.set_tenant(**a))
    clients.apply("set_database", lambda c: c.set_database("nothing"))
    for side in (clients.theirs, clients.ours):
        side.set_tenant("default_tenant", "default_database")


def test_small_things(clients: Pair) -> None:
    clients.apply("version", lambda c: c.get_version())
    clients.apply("heartbeat", lambda c: c.heartbeat() > 1e18)
    clients.apply("reset", lambda c: c.reset())
    clients.apply("identity", lambda c: c.get_user_identity().__class__.__name__)
    clients.apply("get by id", lambda c: c._server.get_collection_by_id(uuid.UUID(int=7)))
