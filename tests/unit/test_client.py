"""Clients: opening, sharing, closing; options; install()."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import chromadb
import numpy as np
import pytest
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.errors import InternalError, InvalidArgumentError, NotFoundError

import vexfs_chroma
from vexfs_chroma import ForeignDatabaseError, ReadOnlyError
from vexfs_chroma.api import VexfsAPI


@pytest.fixture(autouse=True)
def no_system_survives():
    yield
    for system in list(SharedSystemClient._identifier_to_system.values()):
        system.stop()
    SharedSystemClient.clear_system_cache()


def fill(client, name="abc"):
    collection = client.get_or_create_collection(name, embedding_function=None)
    collection.upsert(ids=["a", "b"], embeddings=[[1, 0], [0, 1]], documents=["x", "y"])
    return collection


def test_ephemeral_clients_share_one_database():
    one, two = vexfs_chroma.EphemeralClient(), vexfs_chroma.Client()
    assert isinstance(one._server, VexfsAPI)
    fill(one)
    assert two.get_collection("abc", embedding_function=None).count() == 2
    one.close()
    assert two.count_collections() == 1
    two.close()
    assert vexfs_chroma.EphemeralClient().count_collections() == 0


def test_persistent_client(tmp_path):
    with vexfs_chroma.PersistentClient(tmp_path / "db") as client:
        fill(client)
    with vexfs_chroma.PersistentClient(path=str(tmp_path / "db")) as client:
        collection = client.get_collection("abc", embedding_function=None)
        assert collection.get()["documents"] == ["x", "y"]


def test_rust_client_is_ours():
    assert isinstance(vexfs_chroma.RustClient()._server, VexfsAPI)


def test_settings_choose_us():
    settings = chromadb.Settings(chroma_api_impl="vexfs_chroma.api.VexfsAPI")
    client = chromadb.Client(settings)
    assert isinstance(client._server, VexfsAPI)
    admin = vexfs_chroma.AdminClient(client.get_settings())
    admin.create_database("made")
    client.set_database("made")


def test_passed_settings_are_used_and_not_broken(tmp_path):
    settings = chromadb.Settings(allow_reset=True)
    client = vexfs_chroma.PersistentClient(tmp_path, settings=settings)
    assert settings.persist_directory == str(tmp_path)  # as chromadb does
    fill(client)
    assert client.reset()
    plain = chromadb.Settings()
    vexfs_chroma.Client(plain)
    assert plain.chroma_api_impl == "chromadb.api.rust.RustBindingsAPI"


def test_closing_twice_and_using_after_close(tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client)
    api = client._server
    client.close()
    client.close()
    api.stop()
    for use in (collection.count, client.heartbeat and client.count_collections):
        with pytest.raises((InternalError, RuntimeError, ValueError), match="closed"):
            use()


def test_memory_is_given_back_when_the_last_client_closes():
    client = vexfs_chroma.EphemeralClient()
    fill(client)
    database = weakref.ref(client._server._database)
    client.close()
    gc.collect()
    assert database() is None


def test_cleared_cache_reopens_the_same_directory(tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path)
    fill(client)
    client.clear_system_cache()
    again = vexfs_chroma.PersistentClient(tmp_path)
    assert again._server is not client._server
    collection = again.get_collection("abc", embedding_function=None)
    assert collection.count() == 2
    collection.add(ids=["c"], embeddings=[[1, 1]])
    assert client.get_collection("abc", embedding_function=None).count() == 3
    client._server.stop()
    assert collection.count() == 3
    again._server.stop()


def test_a_relative_path_is_where_it_was_opened(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    first = vexfs_chroma.PersistentClient("data")
    fill(first)
    monkeypatch.chdir(tmp_path / "two")
    second = vexfs_chroma.PersistentClient("data")
    assert second.count_collections() == 0
    assert first.get_collection("abc", embedding_function=None).count() == 2


def test_two_spellings_of_one_directory_see_each_other(tmp_path):
    one = vexfs_chroma.PersistentClient(tmp_path)
    two = vexfs_chroma.PersistentClient(f"{tmp_path}/x/..")
    fill(one)
    assert two.get_collection("abc", embedding_function=None).count() == 2


def test_real_chroma_in_the_same_process_is_another_system():
    ours, theirs = vexfs_chroma.EphemeralClient(), chromadb.EphemeralClient()
    fill(ours)
    assert type(theirs._server).__name__ == "RustBindingsAPI"
    assert theirs.count_collections() == 0


# -- options -------------------------------------------------------------------------------------


def options(client):
    return client._server.options


def test_options(tmp_path, monkeypatch):
    client = vexfs_chroma.PersistentClient(tmp_path / "a", durability="off", busy_timeout=5)
    assert (options(client).durability, options(client).busy_timeout) == ("off", 5)
    monkeypatch.setenv("VEXFS_DURABILITY", "normal")
    monkeypatch.setenv("VEXFS_BUSY_TIMEOUT", "2.5")
    client = vexfs_chroma.PersistentClient(tmp_path / "b")
    assert (options(client).durability, options(client).busy_timeout) == ("normal", 2.5)
    client = vexfs_chroma.PersistentClient(tmp_path / "c", durability="full")
    assert options(client).durability == "full"
    settings = chromadb.Settings(is_persistent=True, persist_directory=str(tmp_path / "d"))
    client = vexfs_chroma.Client(settings, durability="off")
    assert options(client).durability == "off"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("VEXFS_DURABILITY", "fast", "VEXFS_DURABILITY: durability must be one of full, normal"),
        ("VEXFS_QUANTIZATION", "16", "VEXFS_QUANTIZATION: quantization must be one of auto, sq8"),
        ("VEXFS_BUSY_TIMEOUT", "-1", "VEXFS_BUSY_TIMEOUT: busy_timeout must be a number of sec"),
        ("VEXFS_READ_ONLY", "maybe", "VEXFS_READ_ONLY must be 0 or 1, got 'maybe'"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, monkeypatch, variable, value, expected):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidArgumentError, match=expected):
        vexfs_chroma.PersistentClient(tmp_path)


def test_options_of_an_open_database_cannot_change(tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path, durability="normal")
    with pytest.raises(ValueError, match="already open in this process with durability='normal'"):
        vexfs_chroma.PersistentClient(tmp_path, durability="off")
    vexfs_chroma.PersistentClient(tmp_path, durability="normal").close()
    vexfs_chroma.PersistentClient(tmp_path).close()
    client.close()
    vexfs_chroma.PersistentClient(tmp_path, durability="off")


def test_options_that_are_not_given_are_inherited(tmp_path, monkeypatch):
    vexfs_chroma.PersistentClient(tmp_path).close()
    first = vexfs_chroma.PersistentClient(tmp_path, read_only=True, durability="normal")
    monkeypatch.setenv("VEXFS_DURABILITY", "off")  # the environment is not asked again
    settings = chromadb.Settings(is_persistent=True, persist_directory=str(tmp_path))
    for second in (
        vexfs_chroma.PersistentClient(tmp_path),
        vexfs_chroma.PersistentClient(tmp_path, durability="normal"),
        vexfs_chroma.PersistentClient(f"{tmp_path}/x/.."),
        vexfs_chroma.PersistentClient(f"{tmp_path}/y/..", read_only=True),
        vexfs_chroma.Client(settings),
    ):
        assert options(second) == options(first)
        with pytest.raises(ReadOnlyError):
            second.create_collection("abc")
    for path in (tmp_path, f"{tmp_path}/x/..", f"{tmp_path}/z/.."):
        with pytest.raises(ValueError, match="with read_only=True, not False"):
            vexfs_chroma.PersistentClient(path, read_only=False)
        with pytest.raises(ValueError, match="with durability='normal', not 'full'"):
            vexfs_chroma.PersistentClient(path, durability="full")
    vexfs_chroma.install()
    try:
        assert options(chromadb.PersistentClient(f"{tmp_path}/w/..")) == options(first)
    finally:
        vexfs_chroma.uninstall()


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        {"durability": "x"},
        {"durability": 3},
        {"durability": ["full"]},
        {"durability": True},
        {"durability": b"full"},
        {"durability": np.array(["full", "off"])},
        {"quantization": np.array(["auto", "sq8"])},
        {"read_only": "yes"},
        {"read_only": 1},
        {"read_only": 0},
        {"read_only": []},
        {"busy_timeout": -1},
        {"busy_timeout": float("nan")},
        {"busy_timeout": "3"},
        {"busy_timeout": 10**400},
        {"busy_timeout": True},
    ],
)
def test_bad_options(tmp_path, bad, is_open):
    if is_open:
        vexfs_chroma.PersistentClient(tmp_path)
    for path in (tmp_path, f"{tmp_path}/x/.."):
        with pytest.raises(InvalidArgumentError, match=f"{next(iter(bad))} must be"):
            vexfs_chroma.PersistentClient(path, **bad)
    assert is_open or list(tmp_path.iterdir()) == []
    vexfs_chroma.PersistentClient(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("READ_ONLY", "maybe"), ("BUSY_TIMEOUT", "x"), ("DURABILITY", "x")]
)
def test_bad_environment(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(f"VEXFS_{name}", value)
    with pytest.raises(InvalidArgumentError, match=name.lower() + "|" + name):
        vexfs_chroma.PersistentClient(tmp_path)


def test_options_are_for_local_databases():
    settings = chromadb.Settings(chroma_api_impl="chromadb.api.fastapi.FastAPI")
    with pytest.raises(ValueError, match="durability is an option of local vexfs databases"):
        vexfs_chroma.Client(settings, durability="off")


def test_read_only(tmp_path):
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        fill(client)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    contents = [path.read_bytes() for path in files]
    with vexfs_chroma.PersistentClient(tmp_path, read_only=True) as client:
        collection = client.get_collection("abc", embedding_function=None)
        assert collection.query(query_embeddings=[[1, 0]], n_results=1)["ids"] == [["a"]]
        with pytest.raises(ReadOnlyError):
            client.create_collection("new", embedding_function=None)
        with pytest.raises(ReadOnlyError):
            client.delete_collection("abc")
    assert [path.read_bytes() for path in files] == contents


def test_read_only_makes_nothing(tmp_path):
    with pytest.raises(NotFoundError, match="does not exist, and none is made"):
        vexfs_chroma.PersistentClient(tmp_path / "new", read_only=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(NotFoundError, match="holds no database, and none is made"):
        vexfs_chroma.PersistentClient(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


# -- directories that are none of ours -----------------------------------------------------------


def test_a_directory_of_chroma_is_refused_and_left_alone(tmp_path):
    chromadb.PersistentClient(str(tmp_path)).close()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ForeignDatabaseError, match=r"a Chroma database .*vexctl import chroma"):
        vexfs_chroma.PersistentClient(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ForeignDatabaseError, match="is a file; a database is a directory"):
        vexfs_chroma.PersistentClient(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_directory_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InternalError):
            vexfs_chroma.PersistentClient(tmp_path / "db")
    finally:
        tmp_path.chmod(0o700)


def test_a_failed_open_leaves_nothing_behind(tmp_path):
    (tmp_path / "chroma.sqlite3").write_text("")
    with pytest.raises(ForeignDatabaseError):
        vexfs_chroma.PersistentClient(tmp_path)
    (tmp_path / "chroma.sqlite3").unlink()
    assert vexfs_chroma.PersistentClient(tmp_path).count_collections() == 0


# -- threads and processes -----------------------------------------------------------------------


def test_threads_that_get_or_create_get_one_collection():
    client = vexfs_chroma.EphemeralClient()
    found, barrier = [], threading.Barrier(8)

    def work():
        barrier.wait()
        found.append(client.get_or_create_collection("same", embedding_function=None).id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def in_another_process(code: str, path: Path) -> str:
    program = f"import sys, vexfs_chroma\npath = sys.argv[1]\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_process_sees_and_changes_everything(tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client)
    code = """
client = vexfs_chroma.PersistentClient(path)
collection = client.get_collection("abc", embedding_function=None)
print(collection.count())
collection.add(ids=["c"], embeddings=[[1, 1]])
client.create_collection("other", embedding_function=None)
"""
    assert in_another_process(code, tmp_path) == "2"
    assert collection.count() == 3
    assert client.count_collections() == 2
    code = "vexfs_chroma.PersistentClient(path).delete_collection('abc')"
    in_another_process(code, tmp_path)
    for use in (collection.count, lambda: client.get_collection("abc")):
        with pytest.raises(NotFoundError, match="does not exist"):
            use()
    assert fill(client).count() == 2


# -- install -------------------------------------------------------------------------------------


def test_install_redirects_plain_chromadb(tmp_path):
    vexfs_chroma.install()
    try:
        client = chromadb.PersistentClient(str(tmp_path))
        assert isinstance(client._server, VexfsAPI)
        fill(client)
        default = chromadb.Client()  # its settings are chromadb's own default object
        assert isinstance(default._server, VexfsAPI)
        default.close()
        client.close()
    finally:
        vexfs_chroma.uninstall()
    theirs = chromadb.Client()
    assert type(theirs._server).__name__ == "RustBindingsAPI"
    theirs.close()
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        assert client.count_collections() == 1


def clients_by_plain_chromadb(path):
    settings = chromadb.Settings(is_persistent=True, persist_directory=str(path))
    return {
        "persistent": lambda: chromadb.PersistentClient(str(path)),
        "ephemeral": chromadb.EphemeralClient,
        "default": chromadb.Client,
        "settings": lambda: chromadb.Client(settings),
    }


@pytest.mark.parametrize("how", ["persistent", "ephemeral", "default", "settings"])
def test_clients_outlive_uninstall(tmp_path, how):
    make = clients_by_plain_chromadb(tmp_path / "db")[how]
    vexfs_chroma.install()
    try:
        one, two = make(), make()
        collection = fill(one)
    finally:
        vexfs_chroma.uninstall()
    collection.add(ids=["c"], embeddings=[[1, 1]])
    one.create_collection("more", embedding_function=None)
    one.set_database("default_database")
    admin = chromadb.AdminClient(one.get_settings())
    admin.create_database("made")
    again = type(one).from_system(one._system)
    assert again._server is one._server
    again.close()
    one.close()
    assert two.get_collection("abc", embedding_function=None).count() == 3
    assert two.count_collections() == 2
    theirs = clients_by_plain_chromadb(tmp_path / "other")[how]()
    assert type(theirs._server).__name__ == "RustBindingsAPI"
    assert theirs.count_collections() == 0
    theirs.close()
    two.close()
    two.close()


@pytest.mark.parametrize("change", ["remove", "rename", "replace"])
def test_a_directory_that_goes_away_under_a_client(tmp_path, change):
    path = tmp_path / "db"
    with vexfs_chroma.PersistentClient(tmp_path / "new") as client:
        client.create_collection("replaced", embedding_function=None)
    client = vexfs_chroma.PersistentClient(path)
    collection = fill(client)
    if change == "remove":
        shutil.rmtree(path)
    else:
        path.rename(tmp_path / "old")
    if change == "replace":
        (tmp_path / "new").rename(path)
    before = sorted(tmp_path.rglob("*"))
    for call in (
        lambda: collection.add(ids=["c"], embeddings=[[1, 1]]),
        lambda: collection.delete(ids=["a"]),
        client.list_collections,
        lambda: client.get_collection("abc"),
        lambda: client.create_collection("more", embedding_function=None),
        lambda: client.delete_collection("abc"),
    ):
        with pytest.raises(InternalError, match=r"was removed or replaced while .* close all"):
            call()
    with pytest.raises(InternalError, match="was removed or replaced"):
        vexfs_chroma.PersistentClient(path)  # the same System
    assert sorted(tmp_path.rglob("*")) == before
    client.close()
    client.close()
    with vexfs_chroma.PersistentClient(path) as client:
        names = [found.name for found in client.list_collections()]
        assert names == (["replaced"] if change == "replace" else [])
        fill(client)


@pytest.mark.parametrize("written", [True, False])
def test_a_directory_that_is_replaced_by_a_copy(tmp_path, written):
    """Nothing is written into either, whether the client had written before or had only read."""
    path, old, copy = tmp_path / "db", tmp_path / "old", tmp_path / "copy"
    client = vexfs_chroma.PersistentClient(path)
    collection = fill(client)
    if not written:
        client.close()
        client = vexfs_chroma.PersistentClient(path)
        collection = client.get_collection("abc")
    rows = collection.count()
    shutil.copytree(path, copy)
    path.rename(old)
    copy.rename(path)
    for call in (
        lambda: collection.add(ids=["c"], embeddings=[[1, 1]]),
        lambda: collection.delete(ids=["a"]),
        client.vacuum,
    ):
        with pytest.raises(InternalError, match=r"removed or replaced.* close all"):
            call()
    client.close()
    for place in (path, old):
        assert vexfs_chroma.check(place, deep=True).ok
        with vexfs_chroma.PersistentClient(place) as found:
            assert found.get_collection("abc").count() == rows


@pytest.mark.parametrize("name", ["LOCK", "MAINT"])
def test_a_lock_that_somebody_removed(tmp_path, name):
    """Two processes would have it at once."""
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client)
    (tmp_path / name).unlink()
    call = client.vacuum
    if name == "LOCK":
        call = lambda: collection.add(ids=["c"], embeddings=[[1, 1]])  # noqa: E731
    with pytest.raises(InternalError, match=rf"removed or replaced.*{name}"):
        call()
    client.close()
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        client.get_collection("abc").add(ids=["c"], embeddings=[[1, 1]])
        client.vacuum()
    assert vexfs_chroma.check(tmp_path, deep=True).ok


def test_the_batch_ceiling_is_advice():
    client = vexfs_chroma.EphemeralClient()
    assert client.get_max_batch_size() == 2**20
    collection = client.create_collection("many", embedding_function=None)
    n = 20_000  # Chroma stops at 5,461
    ids = [str(i) for i in range(n)]
    collection.add(ids=ids, embeddings=np.zeros((n, 2), dtype=np.float32))
    assert collection.count() == n
    assert collection.delete(ids=ids) == {"deleted": n}


def test_clients_made_at_once_by_threads_all_work(tmp_path):
    errors, barrier = [], threading.Barrier(6)

    def work():
        barrier.wait()
        try:
            vexfs_chroma.PersistentClient(tmp_path).count_collections()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_more_collections_than_are_kept_open(tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path, durability="off")
    api = client._server
    assert 16 <= api._most_open <= 1024
    api._most_open = 8
    collections = [fill(client, f"name-{i}") for i in range(30)]
    for i, collection in enumerate(collections):
        collection.add(ids=["c"], embeddings=[[i, 1]])
        assert len(api._collections) <= 8
    favourite = collections[0]
    for i, collection in enumerate(collections):
        found = collection.get(ids=["c"], include=["embeddings"])
        assert found["embeddings"].tolist() == [[float(i), 1.0]]
        assert favourite.count() == 3
        assert favourite.id in api._collections
    assert [c.name for c in client.list_collections()] == [c.name for c in collections]


def test_many_collections_in_memory_keep_their_records():
    client = vexfs_chroma.EphemeralClient()
    collections = [fill(client, f"name-{i}") for i in range(1100)]
    assert all(collection.count() == 2 for collection in collections)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_goes_on(tmp_path):
    client = vexfs_chroma.PersistentClient(tmp_path)
    collection = fill(client)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            collection.add(ids=["child"], embeddings=[[5, 5]])
            made = client.create_collection("made-by-child", embedding_function=None)
            code = 0 if (collection.count(), made.count()) == (3, 0) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    collection.add(ids=["parent"], embeddings=[[6, 6]])
    assert collection.get()["ids"] == ["a", "b", "child", "parent"]
    assert client.count_collections() == 2
