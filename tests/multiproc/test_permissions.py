"""A user who may not do something: what is there is not taken for lost, and errors name the file.

Root is refused nothing, so a process without its rights does the work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vexfs_chroma

WITHOUT_RIGHTS = [
    "setpriv",
    "--bounding-set",
    "-dac_override,-dac_read_search,-fowner,-chown",
    "--inh-caps",
    "-all",
]
COMMAND = WITHOUT_RIGHTS if os.geteuid() == 0 else []

pytestmark = pytest.mark.skipif(
    bool(COMMAND)
    and (
        shutil.which("setpriv") is None
        or subprocess.run([*COMMAND, "true"], capture_output=True, check=False).returncode != 0
    ),
    reason="cannot give up the rights of root",
)

OPEN = """
import sys
import vexfs_chroma
from pathlib import Path
path = Path(sys.argv[1])
def attempt(what):
    try:
        what()
    except Exception as error:
        print(type(error).__name__, error)
def collection(client, name):
    return client.get_collection(name, embedding_function=None)
"""


def run(path: Path, code: str) -> str:
    """What a process without rights prints."""
    done = subprocess.run(
        [*COMMAND, sys.executable, "-c", OPEN + code, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small database: collections aaa and bbb."""
    path = tmp_path / "db"
    with vexfs_chroma.PersistentClient(path) as client:
        for name in ("aaa", "bbb"):
            made = client.create_collection(name, embedding_function=None)
            made.add(ids=["x", "y"], embeddings=[[1, 2], [3, 4]])
        client.vacuum()
    return path


def names(path: Path) -> list[str]:
    with vexfs_chroma.PersistentClient(path) as client:
        found = client.list_collections()
        assert [client.get_collection(c.name, embedding_function=None).count() for c in found] == [
            2
        ] * len(found)
        return [collection.name for collection in found]


def test_what_may_not_be_listed_is_not_lost(path: Path) -> None:
    (path / "collections").chmod(0o444)
    said = run(path, "attempt(lambda: vexfs_chroma.PersistentClient(path))")
    (path / "collections").chmod(0o755)
    assert said.startswith("StoragePermissionError")
    assert str(path / "collections") in said
    assert "backup" not in said
    assert names(path) == ["aaa", "bbb"]


@pytest.mark.parametrize("mode", [0o444, 0o555, 0o000])
@pytest.mark.parametrize("what", ["client.delete_collection('aaa')", "client.reset()"])
def test_a_deletion_that_raised_does_not_happen_later(path: Path, mode: int, what: str) -> None:
    said = run(
        path,
        f"""
from chromadb.config import Settings
client = vexfs_chroma.PersistentClient(path, settings=Settings(allow_reset=True))
(path / "collections").chmod({mode:#o})
attempt(lambda: {what})
(path / "collections").chmod(0o755)
print(collection(client, "aaa").count())
""",
    )
    assert said.startswith("StoragePermissionError")
    assert said.endswith("\n2\n")
    assert names(path) == ["aaa", "bbb"]


@pytest.mark.parametrize("name", ["LOCK", "MAINT"])
def test_a_lock_file_that_may_not_be_written(path: Path, name: str) -> None:
    (path / name).chmod(0o444)
    said = run(
        path,
        """
client = vexfs_chroma.PersistentClient(path)
print("opened", flush=True)
found = collection(client, "aaa")
print(found.get()["ids"])
attempt(lambda: found.add(ids=["z"], embeddings=[[5, 6]]))
attempt(lambda: client.create_collection("ccc", embedding_function=None))
attempt(lambda: client.delete_collection("aaa"))
""",
    )
    (path / name).chmod(0o644)
    lines = said.splitlines()
    assert lines[:2] == ["opened", "['x', 'y']"]
    assert len(lines) == 6  # the last is the warning on stderr
    for line in lines[2:]:
        assert line.startswith("ReadOnlyError") == (line != lines[5])
        assert f"may not write the file {name}" in line
        assert str(path / name) in line
    assert names(path) == ["aaa", "bbb"]


def test_a_lock_file_that_is_missing_where_none_may_be_made(path: Path) -> None:
    (path / "MAINT").unlink()
    path.chmod(0o555)
    said = run(
        path,
        """
client = vexfs_chroma.PersistentClient(path)
attempt(lambda: collection(client, "aaa").add(ids=["z"], embeddings=[[5, 6]]))
""",
    )
    path.chmod(0o755)
    assert said.startswith("ReadOnlyError")
    assert "MAINT" in said
    assert names(path) == ["aaa", "bbb"]


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_directory_that_may_not_be_entered(path: Path, mode: int) -> None:
    path.chmod(mode)
    said = run(
        path,
        """
from vexfs_chroma import check, repair
attempt(lambda: vexfs_chroma.PersistentClient(path))
attempt(lambda: vexfs_chroma.PersistentClient(path, read_only=True))
attempt(lambda: check(path))
attempt(lambda: repair(path))
""",
    )
    path.chmod(0o755)
    assert len(said.splitlines()) == 4
    for line in said.splitlines():
        assert line.startswith("StoragePermissionError")
        assert str(path) in line
    assert names(path) == ["aaa", "bbb"]


def vexctl(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, sys.executable, "-m", "vexfs_chroma._cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_commands_that_are_not_permitted_exit_with_3(path: Path, tmp_path: Path) -> None:
    path.chmod(0o000)
    for command in (["check", path], ["repair", path], ["stats", path]):
        code, said = vexctl(*command)
        assert code == 3, said
        assert "ermission denied" in said
    path.chmod(0o755)
    (path / "MAINT").chmod(0o444)
    code, said = vexctl("repair", path)
    assert (code, "MAINT" in said, "run this as the user" in said) == (3, True, True)
    (path / "MAINT").chmod(0o644)
    vectors = next(path.glob("collections/*/vec-*"))
    vectors.chmod(0o000)
    code, said = vexctl("backup", path, tmp_path / "copy")
    assert code == 3
    assert str(vectors) in said
    assert ".partial" not in said
