"""What the writers of the hot test write: batch number i of seed s is always the same, so what a
collection must hold after n batches can be computed, and nothing but n has to be remembered.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Stored = dict[str, tuple[list[float], str, dict[str, int]]]
"""A collection, in order of insertion."""


@dataclass(frozen=True)
class Batch:
    method: str
    arguments: dict[str, Any]


def batch(seed: int, number: int) -> Batch:
    """Adds, upserts, updates and deletes over a few hundred ids; sizes from one row to 300."""
    chance = random.Random(f"{seed}:{number}")
    size = chance.choice([1, 1, 3, 10, 30, 300])
    ids = [f"id{n}" for n in chance.sample(range(500), size)]
    method = chance.choice(["add", "add", "upsert", "upsert", "update", "delete"])
    if method == "delete":
        return Batch(method, {"ids": ids[:60]})
    rows = [f"batch {number} row {row} " + "x" * chance.choice([0, 10, 200]) for row in range(size)]
    return Batch(
        method,
        {
            "ids": ids,
            "embeddings": [[float(number % 1000), float(row), *[0.5] * 6] for row in range(size)],
            "documents": rows,
            "metadatas": [{"batch": number, "row": row} for row in range(size)],
        },
    )


def apply(stored: Stored, write: Batch) -> None:
    """The batch on a dict."""
    if write.method == "delete":
        for one in write.arguments["ids"]:
            stored.pop(one, None)
        return
    columns = (write.arguments[name] for name in ("ids", "embeddings", "documents", "metadatas"))
    for one, vector, document, metadata in zip(*columns, strict=True):
        if write.method == "upsert" or (one in stored) == (write.method == "update"):
            stored[one] = (vector, document, metadata)
