"""Writes that the engine takes in parts: what is refused has done nothing."""

from __future__ import annotations

from typing import Any

import pytest
from server_kit import DEFAULT, Server

FAR = {"at": 4e9}


def everything(server: Server, path: str) -> Any:
    return server.call("POST", f"{path}/get", {"include": ["embeddings", "metadatas"]}).json


@pytest.mark.parametrize(
    ("op", "ids", "embeddings", "metadatas", "expected"),
    [
        ("upsert", ["a", "a"], [[9, 9]] * 2, [FAR, {"at": "soon"}], "'at' must be a number of sec"),
        ("update", ["a", "b"], [[9, 9], None], [FAR, {"at": True}], "'at' must be a number of sec"),
        (
            "upsert",
            ["a", "a", "x" * 70_000],
            [[9, 9]] * 3,
            None,
            "id of record 2 must have 1 to 65535",
        ),
        ("update", ["a", "a"], [None, [9, 1e39]], [FAR, FAR], "must not contain NaN or Infinity"),
        (
            "upsert",
            ["a", "a"],
            [[9, 9]] * 2,
            [FAR, {"s": {"indices": [1], "values": [1e39]}}],
            "the values of a sparse vector must be finite float32 numbers",
        ),
    ],
)
def test_what_is_refused_has_done_nothing(
    server: Server, op: str, ids: Any, embeddings: Any, metadatas: Any, expected: str
) -> None:
    server.call("DELETE", f"{DEFAULT}/collections/in-parts")
    about = {"name": "in-parts", "metadata": {"vexfs:ttl": "at"}}
    made = server.call("POST", f"{DEFAULT}/collections", about).json
    path = f"{DEFAULT}/collections/{made['id']}"
    first = {"ids": ["a", "b"], "embeddings": [[1, 2], [3, 4]], "metadatas": [{"n": 1}, {"n": 2}]}
    assert server.call("POST", f"{path}/add", first).status == 201
    before = everything(server, path)
    body = {"ids": ids, "embeddings": embeddings, "metadatas": metadatas}
    answer = server.call("POST", f"{path}/{op}", body)
    assert answer.status == 400
    assert expected in answer.json["message"]
    assert everything(server, path) == before
