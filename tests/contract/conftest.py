"""Fixtures of the contract suite: a client of each system, collections made on both."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import chromadb
from compare import Pair, collected

import vexfs_chroma


@pytest.fixture(scope="module", params=["ephemeral", "persistent"])
def clients(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """chromadb in memory (it behaves the same on disk) and each way of opening ours."""
    theirs = chromadb.EphemeralClient()
    if request.param == "ephemeral":
        ours = vexfs_chroma.EphemeralClient()
    else:
        # Thousands of writes, none of which has to survive: they need not wait for the disk.
        path = tmp_path_factory.mktemp("contract")
        ours = vexfs_chroma.PersistentClient(path=path, durability="off")
    yield Pair(theirs, ours)
    theirs.close()
    ours.close()


MakePair = Callable[..., Pair]


@pytest.fixture(scope="module")
def make(clients: Pair) -> MakePair:
    """make(**create_collection arguments) -> Pair of new, equal, empty collections."""

    def create(**kwargs: Any) -> Pair:
        name = f"contract-{uuid.uuid4().hex[:12]}"
        kwargs.setdefault("embedding_function", None)
        return Pair(
            clients.theirs.create_collection(name, **kwargs),
            clients.ours.create_collection(name, **kwargs),
        )

    return create


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Tables show every difference; a random program stops at its first, to be shrunk."""
    if pyfuncitem.path.stem == "test_sequences":
        return (yield)
    with collected():
        return (yield)
