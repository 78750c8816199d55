"""Bottlenecks: rules over what was counted, each with the figures that speak for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vexfs_chroma._observe import _figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LEAST_QUERIES = 20  # of which anything can be said
_LEAST_RECALL = 0.9


@dataclass(slots=True, frozen=True)
class Bottleneck:
    """Something that costs time or space."""

    name: str
    evidence: str
    advice: str


def bottlenecks(facts: Mapping[str, Any], counters: Mapping[str, int]) -> list[Bottleneck]:
    """What stands out: in `counters` of some time, and in what is there now."""
    found = [*_of_queries(counters), *_of_operations(counters), *_of_collections(facts)]
    processes = [one for one in facts["processes"] if one["resident_bytes"]]
    resident = sum(one["resident_bytes"] for one in processes)
    if facts.get("waiting", 0) > 0 and processes:
        found.append(
            Bottleneck(
                "requests wait",
                f"{facts['waiting']} requests wait for a thread; "
                f"{len(processes)} processes with {resident / 1e6:,.0f} MB",
                "more workers (vexctl serve --workers), or fewer at once",
            )
        )
    return found


def _of_queries(counters: Mapping[str, int]) -> Iterable[Bottleneck]:
    queries = _figures.queries(counters)
    if queries is None or queries["vectors"] < _LEAST_QUERIES:
        return
    share, ms = queries["stage_share"], queries["stage_ms"]
    if queries["recall_samples"] >= _LEAST_QUERIES and queries["recall"] < _LEAST_RECALL:
        yield Bottleneck(
            "recall",
            f"{queries['recall']:.3f}, of {queries['recall_samples']:,} samples",
            "a larger ef_search; the page at / measures what it costs and brings (Tuning)",
        )
    if queries["read_rows"] > 2000:
        yield Bottleneck(
            "rows are read one after the other",
            f"{queries['read_rows']:,.0f} rows for each query vector; "
            f"{queries['by_graph']:.0%} of the queries walked a graph",
            "collection.wait_for_index(); collection.explain() tells why a query reads",
        )
    if share["select"] > 0.5:
        yield Bottleneck(
            "filters",
            f"{share['select']:.0%} of the time of queries, {ms['select']:.2f} ms for each vector",
            "fewer conditions on documents; `vexctl slow-log analyze` tells the shapes",
        )
    if share["fetch"] > 0.5:
        yield Bottleneck(
            "results",
            f"{share['fetch']:.0%} of the time of queries, {ms['fetch']:.2f} ms for each vector",
            "ask for less: a smaller n_results, `include` without documents or embeddings",
        )
    if share["around"] > 0.6:
        yield Bottleneck(
            "Python around the engine",
            f"{share['around']:.0%} of the time of queries",
            "several query vectors in one call; more workers",
        )


def _of_operations(counters: Mapping[str, int]) -> Iterable[Bottleneck]:
    for entry in _figures.operations(counters):
        name, count = entry["operation"], entry["count"]
        if count >= _LEAST_QUERIES and entry["errors"] > 0.01 * count:
            yield Bottleneck(
                f"errors of {name}", f"{entry['errors']} of {count}", "look at the callers' logs"
            )
        if count >= _LEAST_QUERIES and entry["slow"] > 0.01 * count:
            yield Bottleneck(
                f"slow {name}",
                f"{entry['slow']} of {count} slow, p99 {entry['p99_ms']:.1f} ms",
                "vexctl slow-log analyze",
            )
    writes = sum(counters.get(f"op.{op}.count", 0) for op in ("add", "update", "upsert", "delete"))
    syncs = counters.get("engine.wal_syncs", 0)
    if writes >= _LEAST_QUERIES and syncs > 0.9 * writes:
        yield Bottleneck(
            "syncs of logs",
            f"{syncs} syncs for {writes} writes",
            "larger batches, or several writers at once: they share syncs",
        )


def _of_collections(facts: Mapping[str, Any]) -> Iterable[Bottleneck]:
    for one in facts["database"]["collections"]:
        if one["dead_rows"] > 10_000 and one["dead_rows"] > 0.3 * one["file_rows"]:
            yield Bottleneck(
                f"dead rows in {one['name']}",
                f"{one['dead_rows']:,} of {one['file_rows']:,} rows of files",
                "client.vacuum() gives the space back at once",
            )
        outside = one["file_rows"] - one["graph_rows"]
        if one["file_rows"] >= 20_000 and outside > 0.2 * one["file_rows"]:
            yield Bottleneck(
                f"no graph over {one['name']}",
                f"{outside:,} of {one['file_rows']:,} rows of files are not in the stored graph",
                "wait until it is built: collection.wait_for_index()",
            )
