"""Scenarios: how many rows, what is asked of them, how often, by how many users."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

# Kinds of operations.  Every answer of each is checked; see _checks.
QUERY = "query"  # one vector, the k nearest
FILTERED = "filtered"  # ... of a tenth of the rows
BATCH = "batch"  # 10, 50 or 100 vectors in one request
GET = "get"  # 20 rows by id, with their vectors
UPSERT = "upsert"  # a new row of the user's own, or a new version of one
OWN = "own"  # the query for what was just written: it must be there
DELETE = "delete"  # a row of the user's own
KINDS = (QUERY, FILTERED, BATCH, GET, UPSERT, OWN, DELETE)
WRITES = frozenset({UPSERT, DELETE})


@dataclass(slots=True, frozen=True)
class Scenario:
    """One workload."""

    name: str
    title: str
    rows: int
    dimension: int
    k: int
    mix: dict[str, float]
    """Kinds of operations, and how often each is chosen; OWN follows every UPSERT by itself."""
    users: int
    rate: float | None = None
    """Operations per second of all users together, come what may (open loop); None: each user asks
    again as soon as it was answered."""
    seconds: float = 60.0
    documents: bool = False
    """Rows have texts, and answers include them."""
    shape: str = "steady"
    """How the number of users goes: see _shapes."""
    kills: int = 0
    """How often the server is killed (kill -9) and started again meanwhile."""
    usual: bool = True
    """Part of `all`."""

    def scaled(self, scale: float) -> Scenario:
        """With a part of the rows (at least 500)."""
        return dataclasses.replace(self, rows=max(500, round(self.rows * scale)))


def _mix(name: str, title: str, mix: dict[str, float]) -> Scenario:
    return Scenario(name, title, 50_000, 384, 10, mix, users=8, documents=True)


_MIXED = {QUERY: 0.55, FILTERED: 0.15, UPSERT: 0.2, DELETE: 0.1}

SCENARIOS = {
    one.name: one
    for one in (
        Scenario(
            "rag",
            "RAG: 1,000 questions a minute, the 5 nearest passages with their texts",
            50_000,
            768,
            5,
            {QUERY: 1.0},
            users=4,
            rate=1000 / 60,
            documents=True,
        ),
        Scenario(
            "semantic",
            "semantic search: 8 users without a pause, a fifth of the queries filtered",
            100_000,
            384,
            10,
            {QUERY: 0.8, FILTERED: 0.2},
            users=8,
        ),
        Scenario(
            "similarity",
            "document similarity: requests of 10 to 100 vectors, and rows by id",
            25_000,
            1024,
            20,
            {BATCH: 0.9, GET: 0.1},
            users=2,
        ),
        Scenario(
            "recommendations",
            "recommendations: 100 operations a second, 5 % upserts, each read at once",
            200_000,
            256,
            10,
            {QUERY: 0.95, UPSERT: 0.05},
            users=8,
            rate=100.0,
        ),
        _mix("search-heavy", "mix: 95 % queries, 5 % upserts", {QUERY: 0.95, UPSERT: 0.05}),
        _mix("mixed", "mix: 70 % queries, 20 % upserts, 10 % deletes", _MIXED),
        _mix("insert-heavy", "mix: 30 % queries, 70 % upserts", {QUERY: 0.3, UPSERT: 0.7}),
        Scenario(
            "ramp",
            "semantic search by 1, 2, 4, ... 64 users, to where more users bring no more",
            100_000,
            384,
            10,
            {QUERY: 0.8, FILTERED: 0.2},
            users=64,
            seconds=140.0,
            shape="ramp",
            usual=False,
        ),
        dataclasses.replace(
            _mix("fault", "the server is killed (kill -9) twice under a mix of operations", _MIXED),
            kills=2,
            usual=False,
        ),
        dataclasses.replace(
            _mix("soak", "50 operations a second of a mix, for ten minutes or days", _MIXED),
            rate=50.0,
            seconds=600.0,
            usual=False,
        ),
        Scenario(
            "large",
            "semantic search in a million rows",
            1_000_000,
            384,
            10,
            {QUERY: 0.8, FILTERED: 0.2},
            users=8,
            usual=False,
        ),
    )
}


def chosen(names: str) -> list[Scenario]:
    """Scenarios by their names, separated by commas; `all` are the usual ones."""
    if names == "all":
        return [scenario for scenario in SCENARIOS.values() if scenario.usual]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown or not wanted:
        raise ValueError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in wanted]
