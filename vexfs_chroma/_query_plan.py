"""QueryPlan: how a query was answered, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vexfs_chroma import _engine

_REASONS = {
    "graph": "a walk meets far fewer records than there are",
    "nothing can be found": "there is no record to find: none is stored, or none is selected",
    "asked for": "exact search was asked for",
    "few rows": "so few records are selected that reading them is faster than a walk",
    "many results": "so many results are asked for that a walk would meet about all records",
    "query not finite": "a query vector has NaN or infinity in it",
}


@dataclass(slots=True, frozen=True, kw_only=True)
class QueryPlan:
    """How a query was answered.  Numbers of rows and distances are sums over all its vectors.

    `print()` shows it in a few lines.

    Attributes:
        strategy: "graph": approximate, by a walk through the graph, and records that are not in it
            were read; "exact": all records that may be found were read.
        reason: Why, in words.
        queries: Query vectors.
        rows: Records that may be found: those that `ids` and the filters select, or all.
        graph_rows: Of these, records in the graph; 0 where it was not looked at.
        ef: Candidates of a walk, the larger of `ef_search` and what `n_results` needs; None without
            a walk.
        quantization: What a walk reads: "sq8" (a byte per element), "f16" (two bytes), "none"
            (float32); None without a graph.
        walk_distances: Approximate distances that the walks computed ...
        walk_hops: ... and the records whose neighbours they looked at; 0 where so few records are
            selected that each of them was looked at instead, which is approximate, too.
        exact_distances: Exact distances of what the walks found, which decide the order.
        read_rows: Records that were read one after the other.
        abandoned_walks: Query vectors whose walk found too few records, or took too long, so that
            all records were read instead.
        select_ms: Time for the filters, in milliseconds.
        search_ms: Time for the search.
        fetch_ms: Time for the result.  A query that includes documents takes longer to fetch them:
            explain() does not include anything.
    """

    strategy: Literal["graph", "exact"]
    reason: str
    queries: int
    rows: int
    graph_rows: int
    ef: int | None
    quantization: str | None
    walk_distances: int
    walk_hops: int
    exact_distances: int
    read_rows: int
    abandoned_walks: int
    select_ms: float
    search_ms: float
    fetch_ms: float

    def __str__(self) -> str:
        graph = f" (ef {self.ef}, {self.quantization})" if self.strategy == "graph" else ""
        rows = f"{self.rows:,} may be found"
        if self.graph_rows:
            rows += f", {self.graph_rows:,} of them by the graph"
        work = []
        if self.walk_distances:
            work.append(
                f"{self.walk_distances:,} distances and {self.walk_hops:,} hops in the graph"
            )
        if self.exact_distances:
            work.append(f"{self.exact_distances:,} exact distances")
        if self.abandoned_walks:
            work.append(f"{self.abandoned_walks:,} walks given up")
        work.append(f"{self.read_rows:,} rows read")
        vectors = "1 query vector" if self.queries == 1 else f"{self.queries:,} query vectors"
        return (
            f"{self.strategy}{graph}: {self.reason}\n"
            f"  rows  {rows}\n"
            f"  work  {', '.join(work)}, for {vectors}\n"
            f"  time  {self.select_ms:.2f} ms selecting, {self.search_ms:.2f} ms searching, "
            f"{self.fetch_ms:.2f} ms fetching"
        )


def make_query_plan(plan: _engine.Plan, info: _engine.CollectionInfo, queries: int) -> QueryPlan:
    """The engine's account of a query of so many vectors, with its reason in words."""
    return QueryPlan(
        strategy="graph" if plan.why == "graph" else "exact",
        reason=_reason(plan, info),
        queries=queries,
        rows=plan.rows,
        graph_rows=plan.graph_rows,
        ef=plan.ef or None,
        quantization=plan.quantization,
        walk_distances=plan.walk_distances,
        walk_hops=plan.walk_hops,
        exact_distances=plan.exact_distances,
        read_rows=plan.read_rows,
        abandoned_walks=plan.read_again,
        select_ms=plan.select_us / 1000,
        search_ms=plan.search_us / 1000,
        fetch_ms=plan.fetch_us / 1000,
    )


def _reason(plan: _engine.Plan, info: _engine.CollectionInfo) -> str:
    if plan.why == "graph" and plan.walk_distances and not plan.walk_hops:
        return "so few records may be found that each is looked at by its short code"
    return _REASONS.get(plan.why) or _why_no_graph(info)


def _why_no_graph(info: _engine.CollectionInfo) -> str:
    if info.index_rows == _engine.NO_INDEX:
        return "no graph: this database builds none (VEXFS_INDEX_ROWS=0)"
    if info.rows < info.index_rows:
        return f"no graph: collections get one from {info.index_rows:,} records on"
    return "no graph yet: it is being loaded or built; see wait_for_index()"
