"""One server of ours and one of Chroma for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server_kit import API, DEFAULT, Server, run_chroma, run_server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("vexfs"), "--allow-reset") as server:
        yield server


@pytest.fixture(scope="session")
def shared_chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_chroma(tmp_path_factory.mktemp("chroma")) as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """Ours, empty."""
    assert shared_server.call("POST", API + "/reset").status == 200
    return shared_server


@pytest.fixture
def chroma(shared_chroma: Server) -> Server:
    """Chroma's, empty."""
    assert shared_chroma.call("POST", API + "/reset").status == 200
    return shared_chroma


@pytest.fixture
def collection(server: Server) -> str:
    """The path of a collection with three records."""
    made = server.call("POST", DEFAULT + "/collections", {"name": "things"})
    path = f"{DEFAULT}/collections/{made.json['id']}"
    body = {
        "ids": ["a", "b", "c"],
        "embeddings": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "documents": ["one", "two", None],
        "metadatas": [{"n": 1}, {"n": 2.5}, None],
    }
    assert server.call("POST", path + "/add", body).status == 201
    return path
