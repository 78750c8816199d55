"""collection.reembed(): another embedding function for records that are there."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb import EmbeddingFunction
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError
from chromadb.utils.embedding_functions import register_embedding_function

import vexfs_chroma
from vexfs_chroma import DatabaseLockedError, ReadOnlyError, StorageFullError, _expiry
from vexfs_chroma._catalog import Catalog

N = 2500


def vector_of(text: str, dimension: int) -> Any:
    digest = hashlib.blake2b(text.encode(), digest_size=dimension).digest()
    return np.frombuffer(digest, np.uint8).astype(np.float32)


@register_embedding_function
class Digests(EmbeddingFunction[Any]):
    """Tells equal texts from others by as many numbers as it is to give."""

    def __init__(self, dimension: int = 8) -> None:
        self.dimension = dimension
        self.texts: list[str] = []
        self.sizes: list[int] = []

    def __call__(self, input: Any) -> Any:
        self.texts += input
        self.sizes.append(len(input))
        return [vector_of(text, self.dimension) for text in input]

    @staticmethod
    def name() -> str:
        return "digests-of-a-test"

    def get_config(self) -> dict[str, Any]:
        return {"dimension": self.dimension}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> Digests:
        return Digests(config["dimension"])


class Calls(Digests):
    """Does something else before it embeds."""

    def __init__(self, dimension: int, does: Any) -> None:
        super().__init__(dimension)
        self.does = does

    def __call__(self, input: Any) -> Any:
        self.does()
        return super().__call__(input)


@pytest.fixture(params=["memory", "disk"])
def client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.setenv("VEXFS_INDEX_ROWS", "500")
    settings = vexfs_chroma.Settings(allow_reset=True, anonymized_telemetry=False)
    with (
        vexfs_chroma.EphemeralClient(settings)
        if request.param == "memory"
        else vexfs_chroma.PersistentClient(tmp_path / "database", settings)
    ) as made:
        made.reset()
        yield made
        made.reset()


def fill(client: Any) -> Any:
    """Some documents are there twice."""
    collection = client.create_collection("source", embedding_function=Digests(8))
    collection.add(
        ids=[str(i) for i in range(N)],
        documents=[f"document {i % 2000}" for i in range(N)],
        metadatas=[{"n": i} for i in range(N)],
    )
    return collection


def check_all(collection: Any, dimension: int) -> None:
    found = collection.get(include=["documents", "embeddings"])
    expected = np.array([vector_of(text, dimension) for text in found["documents"]])
    np.testing.assert_array_equal(found["embeddings"], expected)
    assert collection.stats()["dimension"] == dimension
    assert collection.configuration["embedding_function"].get_config() == {"dimension": dimension}


def test_all_records(client: Any) -> None:
    collection = fill(client)
    collection.wait_for_index()
    collection.delete(ids=["7", "30"])
    collection.upsert(ids=["9", "new"], documents=["changed", "added"])
    fn, told = Digests(13), []
    n = collection.reembed(fn, batch_size=64, progress=lambda done, of: told.append((done, of)))
    assert n == N - 1
    assert len(fn.texts) == len(set(fn.texts))  # equal ones once
    assert max(fn.sizes) <= 64
    assert told == sorted(told)
    assert told[-1] == (n, n)
    check_all(collection, 13)
    assert collection.query(query_texts=["document 77"], n_results=2)["ids"] == [["77", "2077"]]
    assert collection.get(ids=["77"])["metadatas"] == [{"n": 77}]
    assert collection.count(where={"n": {"$gte": 100}}) == N - 100
    collection.wait_for_index()
    assert collection.explain(query_texts=["document 77"]).strategy == "graph"
    collection.add(ids=["later"], documents=["later"])
    collection.update(ids=["77"], documents=["no longer 77"])
    check_all(client.get_collection("source"), 13)
    collection.reembed(Digests(5))
    check_all(collection, 5)


def test_what_is_written_meanwhile(client: Any) -> None:
    collection, left = fill(client), [3, 2, 1]

    def write() -> None:
        if left:
            n = left.pop()
            collection.add(ids=[f"added {n}"], documents=[f"added {n}"])
            collection.update(ids=[str(n)], documents=[f"changed {n}"])
            collection.delete(ids=[str(100 + n)])
            check_all(collection, 8)  # read meanwhile

    fn = Calls(13, write)
    assert collection.reembed(fn) == N
    assert not left
    assert len(fn.texts) == len(set(fn.texts)) <= N + 10
    check_all(collection, 13)
    assert collection.get(ids=["added 1"])["documents"] == ["added 1"]


def test_written_all_the_time(client: Any) -> None:
    collection = fill(client)

    def write(done: int, of: int) -> None:
        collection.update(ids=["5"], metadatas=[{"n": -done}])

    with pytest.raises(DatabaseLockedError, match="written to all the time"):
        collection.reembed(Digests(13), progress=write)
    check_all(collection, 8)


def test_records_that_expire_meanwhile(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = client.create_collection(
        "brief", metadata={"vexfs:ttl": "expires_at"}, embedding_function=Digests(8)
    )
    start = time.time()
    clock = [start - 1]
    monkeypatch.setattr(_expiry, "now", lambda: clock[0])
    collection.add(ids=["no document"], embeddings=[[0.0] * 8], metadatas=[{"expires_at": start}])
    ids = [str(i) for i in range(2000)]
    metadatas = [{"expires_at": start + 100 * (i % 3)} for i in range(2000)]
    collection.add(ids=ids, documents=ids, metadatas=metadatas)
    clock[0] = start + 1
    n = collection.reembed(Calls(13, lambda: clock.__setitem__(0, start + 150)))
    assert n in (1333, 666)  # they may have been deleted in the background meanwhile
    assert collection.count() == 666
    check_all(collection, 13)


def test_no_room_for_what_is_embedded(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = fill(client)

    class Full(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryFile", lambda **_: Full())
        with pytest.raises(StorageFullError, match="no room for new embeddings"):
            collection.reembed(Digests(13))
    check_all(collection, 8)


def test_a_failure_changes_nothing(client: Any) -> None:
    collection = fill(client)

    def fail() -> None:
        raise OSError("no answer")

    with pytest.raises(OSError, match="no answer"):
        collection.reembed(Calls(13, fail))
    check_all(collection, 8)

    class Wrong(Digests):
        made: Any = None

        def __call__(self, input: Any) -> Any:
            return self.made(input)

    for made, says in (
        (lambda texts: [np.ones(3, np.float32)] * (len(texts) - 1), "for 100 documents"),
        (lambda texts: [np.ones(3 + (i == 5), np.float32) for i in range(len(texts))], "matrix"),
        (lambda texts: [np.full(3, np.nan, np.float32)] * len(texts), "not finite"),
        (lambda texts: [np.ones(3 + ("199" in texts[-1]), np.float32)] * len(texts), "dimension"),
    ):
        fn = Wrong(13)
        fn.made = made
        with pytest.raises((InvalidArgumentError, ValueError), match=says):
            collection.reembed(fn)
    check_all(collection, 8)


def test_mistakes(client: Any) -> None:
    collection = client.create_collection("empty", embedding_function=Digests(8))
    for size in (0, -1, True, 1.5, "2"):
        with pytest.raises(InvalidArgumentError, match="batch_size must be"):
            collection.reembed(Digests(13), batch_size=size)
    for wrong in (None, "digests", lambda texts: texts):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            collection.reembed(wrong)
    assert collection.reembed(Digests(13)) == 0
    collection.add(ids=["a", "b"], documents=["a", "b"])
    check_all(collection, 13)
    collection.add(ids=["c"], embeddings=[[0.0] * 13])
    with pytest.raises(InvalidArgumentError, match="record 'c' has no document"):
        collection.reembed(Digests(8))
    collection.delete(ids=["c"])
    assert collection.reembed(Digests(8)) == 2
    client.delete_collection("empty")
    with pytest.raises(NotFoundError):
        collection.reembed(Digests(13))


def test_a_fork_has_embeddings_of_its_own(client: Any) -> None:
    collection = fill(client)
    fork = collection.fork("copy")
    fork.reembed(Digests(13))
    check_all(fork, 13)
    check_all(collection, 8)
    collection.reembed(Digests(5))
    client.delete_collection("source")
    check_all(fork, 13)


def test_it_lasts_and_other_processes_see_it(tmp_path: Path) -> None:
    script = """if True:
        import sys, vexfs_chroma
        sys.path.insert(0, sys.argv[2])
        from test_reembed import Digests, check_all
        with vexfs_chroma.PersistentClient(sys.argv[1]) as client:
            collection = client.get_collection("source")
            check_all(collection, 8)
            collection.reembed(Digests(13))
            check_all(collection, 13)
    """
    here = str(Path(__file__).parent)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = fill(client)
        subprocess.run([sys.executable, "-c", script, str(tmp_path), here], check=True, timeout=120)
        check_all(client.get_collection("source"), 13)
        with pytest.raises(InvalidArgumentError, match="dimension"):
            collection.add(ids=["x"], documents=["embedded by the old function"])
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True) as client:
        collection = client.get_collection("source")
        check_all(collection, 13)
        fn = Digests(5)
        with pytest.raises(ReadOnlyError):
            collection.reembed(fn)
        assert not fn.texts
    assert vexfs_chroma.check(tmp_path, deep=True).ok


def test_killed_meanwhile(tmp_path: Path) -> None:
    """Nothing is left of what was embedded by then."""
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        fill(client)
    child = os.fork()
    if child == 0:
        left = [1, 1]
        client = vexfs_chroma.PersistentClient(tmp_path)
        client.get_collection("source").reembed(
            Calls(13, lambda: left.pop() if left else os._exit(7))
        )
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    known = {"LOCK", "MAINT", "VEXFS", "catalog.sqlite3", "catalog.sqlite3-journal", "collections"}
    assert {path.name for path in tmp_path.iterdir()} <= known
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        check_all(client.get_collection("source"), 8)
        client.get_collection("source").reembed(Digests(13))
        check_all(client.get_collection("source"), 13)
    assert vexfs_chroma.check(tmp_path, deep=True).ok


def test_a_catalog_that_cannot_be_changed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = fill(client)
    original = Catalog.update_collection

    def fails(self: Any, id: Any, **changes: Any) -> None:
        def late(schema: Any) -> Any:
            changes["change_schema"](schema)
            raise OSError("late")

        original(self, id, **(changes | {"change_schema": late}))

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "update_collection", fails)
        with pytest.raises(InternalError, match=r"new embeddings.* late; call modify"):
            collection.reembed(Digests(13))
    collection.modify(configuration={"embedding_function": Digests(13)})
    check_all(collection, 13)


def test_in_asyncio(tmp_path: Path) -> None:
    async def run() -> None:
        async with await vexfs_chroma.AsyncClient(path=tmp_path) as client:
            collection = await client.create_collection("some", embedding_function=Digests(8))
            await collection.add(ids=["a"], documents=["a"])
            assert await collection.reembed(Digests(13)) == 1
            check_all(collection.local, 13)

    asyncio.run(run())
