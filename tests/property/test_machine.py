"""A collection under random operations, against the model: every read must be exactly right,
after every kind of write, flush, reopening, and from another process.

    VEXFS_PROPERTY_EXAMPLES=500 pytest tests/property      a longer run
    VEXFS_PROPERTY_RANDOM=1 pytest tests/property          other examples each time
    VEXFS_MEMTABLE_ROWS=...                                is set low here, so that records live in
                                                           many small segments as well as in memory
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

sys.path.insert(0, str(Path(__file__).parent))

import forced
from model import ApproximateModel, Model
from reader import Reader

import vexfs_chroma
from vexfs_chroma import _engine

EXAMPLES = int(os.environ.get("VEXFS_PROPERTY_EXAMPLES", "40"))
EVERYTHING = ["documents", "metadatas", "uris", "embeddings"]

DIMENSION = 5
ids = st.integers(0, 39).map(lambda n: f"id{n}")
batches = st.lists(ids, min_size=1, max_size=12, unique=True)
vectors = st.lists(st.integers(-3, 3), min_size=DIMENSION, max_size=DIMENSION)
queries = st.lists(vectors, min_size=1, max_size=3)
texts = st.one_of(st.none(), st.text("ab ☕\n", max_size=8), st.just("long " * 300))
metadata = st.fixed_dictionaries(
    {},
    optional={
        "n": st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2.0, 2.5, 1 << 60])),
        "s": st.sampled_from(["a", "b", ""]),
        "b": st.booleans(),
        "l": st.one_of(
            st.lists(st.integers(0, 3), min_size=1, max_size=3),
            st.lists(st.sampled_from("ab"), min_size=1, max_size=2),
        ),
    },
).map(lambda m: m or None)
changes = st.fixed_dictionaries(
    {}, optional={k: st.one_of(st.none(), st.integers(0, 3)) for k in "nsbl"}
).map(lambda m: m or None)

scalars = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2.0, 2.5, "a", "b", "", True, False]))
leaves = st.one_of(
    st.tuples(st.sampled_from("nsbl"), scalars).map(lambda p: {p[0]: p[1]}),
    st.tuples(
        st.sampled_from("nsbl"),
        st.sampled_from(["$eq", "$ne", "$contains", "$not_contains"]),
        scalars,
    ).map(lambda p: {p[0]: {p[1]: p[2]}}),
    st.tuples(
        st.sampled_from("nsbl"),
        st.sampled_from(["$gt", "$gte", "$lt", "$lte"]),
        st.sampled_from([-1, 0, 1, 2, 0.5, 2.5, 1e18]),
    ).map(lambda p: {p[0]: {p[1]: p[2]}}),
    st.tuples(
        st.sampled_from("nsbl"),
        st.sampled_from(["$in", "$nin"]),
        st.sampled_from([[1, 2], [0], [0.5, 2.0], ["a"], ["", "b"], [True], [True, False]]),
    ).map(lambda p: {p[0]: {p[1]: p[2]}}),
)


def combined(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        both = st.tuples(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=2, max_size=3))
        return both.map(lambda p: {p[0]: p[1]})

    return st.recursive(leaf, extend, max_leaves=4)


text_leaves = st.one_of(
    st.tuples(st.sampled_from(["$contains", "$not_contains"]),
    st.sampled_from(["a", "ab", "☕", "\n", "ng lo"])),
    st.tuples(st.sampled_from(["$regex", "$not_regex"]),
    st.sampled_from(["a+b", "^ ", "[ab]{3}", "☕.?a"])),
).map(lambda p: {p[0]: p[1]})  # fmt: skip
selections = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(ids, min_size=1, max_size=8, unique=True),
        "where": combined(leaves),
        "where_document": combined(text_leaves),
    },
)


class CollectionMachine(RuleBasedStateMachine):
    """Common to both kinds of client; a subclass opens and reopens."""

    reader: ClassVar[Reader | None] = None
    model_class: ClassVar[type[Model]] = Model

    def open(self) -> Any:
        return vexfs_chroma.EphemeralClient()

    @initialize(space=st.sampled_from(["l2", "ip", "cosine"]))
    def create(self, space: str) -> None:
        self.client = self.open()
        self.name = "machine"
        if self.name in [c.name for c in self.client.list_collections()]:
            self.client.delete_collection(self.name)
        self.collection = self.client.create_collection(
            self.name, configuration={"hnsw": {"space": space}}, embedding_function=None
        )
        self.model = self.model_class(space)

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()

    # ---- writes ------------------------------------------------------------------------------

    @rule(data=st.data(), chosen=batches, method=st.sampled_from(["add", "upsert"]))
    def insert(self, data: Any, chosen: list[str], method: str) -> None:
        count = {"min_size": len(chosen), "max_size": len(chosen)}
        fields = {"embeddings": data.draw(st.lists(vectors, **count))}
        for name, values in (("documents", texts), ("metadatas", metadata), ("uris", texts)):
            if data.draw(st.booleans(), label=f"with {name}"):
                fields[name] = data.draw(st.lists(values, **count))
        getattr(self.collection, method)(ids=chosen, **fields)
        self.model.write(method, chosen, **fields)

    @rule(data=st.data(), chosen=batches)
    def update(self, data: Any, chosen: list[str]) -> None:
        count = {"min_size": len(chosen), "max_size": len(chosen)}
        fields: dict[str, Any] = {"metadatas": data.draw(st.lists(changes, **count))}
        if data.draw(st.booleans(), label="with embeddings"):
            fields["embeddings"] = data.draw(st.lists(vectors, **count))
            fields["documents"] = data.draw(st.lists(texts, **count))
        self.collection.update(ids=chosen, **fields)
        self.model.write("update", chosen, **fields)

    @rule(selection=selections.filter(bool), limit=st.sampled_from([None, None, 1, 3]))
    def delete(self, selection: dict[str, Any], limit: int | None) -> None:
        if "ids" in selection and len(selection) == 1:
            limit = None
        deleted = self.collection.delete(**selection, **({} if limit is None else {"limit": limit}))
        expected = self.model.delete(limit=limit, **selection)
        if set(selection) != {"ids"}:  # by ids alone, chromadb counts the ids that were given
            assert deleted["deleted"] == expected

    # ---- maintenance -------------------------------------------------------------------------

    @rule()
    def vacuum(self) -> None:
        self.client.vacuum()
        self.model.check_get(self.collection.get(include=EVERYTHING))

    @rule()
    def wait_idle(self) -> None:
        self.client.wait_idle(timeout=60)
        self.model.check_get(self.collection.get(include=EVERYTHING))

    # ---- reads -------------------------------------------------------------------------------

    @rule(
        selection=selections, limit=st.sampled_from([None, 0, 3]), offset=st.sampled_from([None, 2])
    )
    def get(self, selection: dict[str, Any], limit: int | None, offset: int | None) -> None:
        found = self.collection.get(**selection, limit=limit, offset=offset, include=EVERYTHING)
        self.model.check_get(found, limit=limit, offset=offset, **selection)

    @rule(selection=selections, queries=queries, n=st.sampled_from([1, 3, 10, 100]))
    def query(self, selection: dict[str, Any], queries: list[list[int]], n: int) -> None:
        if "ids" in selection:  # an id that does not exist is an error when there is no filter
            known = [one for one in selection["ids"] if one in self.model.records]
            selection = {**selection, "ids": known or ["id0"]}
            if not known and len(selection) == 1:
                return
        found = self.collection.query(
            query_embeddings=queries, n_results=n, **selection, include=[*EVERYTHING, "distances"]
        )
        self.model.check_query(found, queries, n, **selection)

    @invariant()
    def count(self) -> None:
        if hasattr(self, "collection"):
            assert self.collection.count() == len(self.model.records)


class PersistentMachine(CollectionMachine):
    """The same on disk, with reopening, flushing and other processes."""

    def open(self) -> Any:
        if not hasattr(self, "path"):
            self.path = tempfile.mkdtemp(prefix="vexfs-machine-")
        return vexfs_chroma.PersistentClient(path=self.path)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "path"):
            if self.reader is not None and self.name_seen:
                self.reader.ask(self.path, self.name, "forget")
            shutil.rmtree(self.path, ignore_errors=True)

    name_seen = False

    @rule()
    def reopen(self) -> None:
        self.client.close()
        self.client = self.open()
        self.collection = self.client.get_collection(self.name)
        self.model.check_get(self.collection.get(include=EVERYTHING))

    @rule()
    def second_client(self) -> None:
        """The same path opened again beside the first."""
        with self.open() as other:
            found = other.get_collection(self.name).get(include=EVERYTHING)
            self.model.check_get(found)

    @rule(queries=queries)
    def read_in_second_process(self, queries: list[list[int]]) -> None:
        assert self.reader is not None
        self.name_seen = True
        found = self.reader.ask(self.path, self.name, "get", include=EVERYTHING)
        self.model.check_get(found)
        arguments = {"query_embeddings": queries, "n_results": 4}
        include = [*EVERYTHING, "distances"]
        found = self.reader.ask(self.path, self.name, "query", **arguments, include=include)
        self.model.check_query(found, queries, 4)

    @rule(queries=queries)
    def read_in_forked_child(self, queries: list[list[int]]) -> None:
        def child(pipe: Any) -> None:
            include = [*EVERYTHING, "distances"]
            pipe.send((
                self.collection.get(include=EVERYTHING),
                self.collection.query(query_embeddings=queries, n_results=4, include=include),
            ))  # fmt: skip

        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        process.start()
        assert ours.poll(30), "the forked child did not answer"
        found, near = ours.recv()
        process.join(30)
        assert process.exitcode == 0
        self.model.check_get(found)
        self.model.check_query(near, queries, 4)


@pytest.fixture(autouse=True)
def small_memtable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_MEMTABLE_ROWS", "7")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    PersistentMachine.reader = Reader()
    yield
    PersistentMachine.reader.close()


RUN = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize=not os.environ.get("VEXFS_PROPERTY_RANDOM"),
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def test_ephemeral() -> None:
    run_state_machine_as_test(CollectionMachine, settings=RUN)


def test_persistent(reader: None) -> None:
    run_state_machine_as_test(PersistentMachine, settings=RUN)


# ---- the same with a graph of every collection, which every query walks --------------------------


class EphemeralGraphMachine(CollectionMachine):
    model_class = ApproximateModel


class PersistentGraphMachine(PersistentMachine):
    model_class = ApproximateModel


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch, small_memtable: None) -> Iterator[None]:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "1")
    monkeypatch.setenv(forced.VARIABLE, "1")
    original = forced.force_graph()
    ApproximateModel.answers = ApproximateModel.exact = 0
    yield
    _engine.Collection.query = original  # type: ignore[method-assign]


def check_share_of_exact_answers() -> None:
    share = ApproximateModel.exact / ApproximateModel.answers
    print(f"{ApproximateModel.exact} of {ApproximateModel.answers} answers were exact")
    assert share >= 0.99


def test_ephemeral_with_a_graph(walks: None) -> None:
    run_state_machine_as_test(EphemeralGraphMachine, settings=RUN)
    check_share_of_exact_answers()


def test_persistent_with_a_graph(walks: None, reader: None) -> None:
    run_state_machine_as_test(PersistentGraphMachine, settings=RUN)
    check_share_of_exact_answers()
