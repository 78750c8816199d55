"""What the server of these tests holds: something to page through, a graph, hostile texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from server_kit import API, DEFAULT, Server

HOSTILE = [
    "<script>window.pwned = 1</script>",
    '<img src=x onerror="window.pwned = 2">',
    '"><svg onload=window.pwned=3>',
    "</textarea><iframe src=javascript:parent.pwned=4></iframe>",
    "javascript:window.pwned=5",
    "{{constructor.constructor('window.pwned=6')()}}",
    "\u202e<b>gnp.exe</b> \u0000-free & \"quoted\" 'text'",
]
ODD_IDS = ["a", "a, b", " a", "b", "two\nlines", "two"]
"""Ids that are parts of each other, with commas, blanks and a line break."""
TOPICS = ("travel", "home", "work")
ROWS = 60
GRAPH_ROWS = 3000
BIG = 2**53 + 1
"""An integer that no double holds."""


def vectors(n: int, dimension: int, seed: int) -> list[list[float]]:
    """Points around a few centres: some are nearer to each other than to the rest."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, dimension))
    found = centres[rng.integers(8, size=n)] + 0.3 * rng.normal(size=(n, dimension))
    return found.astype(np.float32).tolist()


def make(server: Server, name: str, path: str = DEFAULT, **body: Any) -> str:
    """A collection; returns its id."""
    made = server.call("POST", path + "/collections", {"name": name, **body})
    assert made.status == 200, made
    return made.json["id"]


def fill_server(server: Server) -> dict[str, str]:
    """Make the collections; returns their ids by name."""
    ids = {"notes": make(server, "notes", metadata={"owner": HOSTILE[0]})}
    add(server, ids["notes"], notes())
    ids["graphed"] = make(server, "graphed")
    rows = {"ids": [f"g{i}" for i in range(GRAPH_ROWS)], "embeddings": vectors(GRAPH_ROWS, 16, 3)}
    add(server, ids["graphed"], rows)
    ids["hostile"] = make(server, "hostile", metadata={HOSTILE[1]: HOSTILE[2]})
    hostile = {
        "ids": HOSTILE,
        "embeddings": vectors(len(HOSTILE), 4, 1),
        "documents": HOSTILE,
        "metadatas": [{text: text} for text in HOSTILE],
    }
    add(server, ids["hostile"], hostile)
    ids["odd"] = make(server, "odd")
    add(server, ids["odd"], {"ids": ODD_IDS, "embeddings": vectors(len(ODD_IDS), 4, 7)})
    ids["empty"] = make(server, "empty")
    assert server.call("POST", API + "/tenants", {"name": HOSTILE[1]}).status == 200
    assert server.call("POST", API + "/tenants", {"name": "acme"}).status == 200
    place = f"{API}/tenants/acme/databases"
    assert server.call("POST", place, {"name": "orders"}).status == 200
    ids["theirs"] = make(server, "theirs", f"{place}/orders")
    return ids


def add(server: Server, id: str, rows: dict[str, Any]) -> None:
    """Records of a collection of the default database."""
    answer = server.call("POST", f"{DEFAULT}/collections/{id}/add", rows)
    assert answer.status == 201, answer


def notes() -> dict[str, Any]:
    """Records with documents and metadata of every kind."""
    return {
        "ids": [f"note-{i:02}" for i in range(ROWS)],
        "embeddings": vectors(ROWS, 8, 2),
        "documents": [
            f"note number {i} about {TOPICS[i % 3]}" + (" and dragons" if i % 20 == 7 else "")
            for i in range(ROWS)
        ],
        "metadatas": [
            {"topic": TOPICS[i % 3], "stars": i % 5, "done": i % 2 == 0, "serial": BIG + i}
            for i in range(ROWS)
        ],
    }
