"""What was measured, as tables for people and as JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from vexfs_chroma._bench._data import SEED
from vexfs_chroma._bench._peers import EPHEMERAL, HNSW, Peer
from vexfs_chroma._bench._truth import RECALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vexfs_chroma._bench._data import Rows
    from vexfs_chroma._bench._run import Findings
    from vexfs_chroma._bench._steps import Sizes

_RATE = re.compile(r"rows/s|QPS|per CPU second|recall@")
_COST = re.compile(r", (p\d+ )?(ms|s|MB)$")


def better(figure: str) -> str:
    """Tell "higher" or "lower" by the unit in the name of the figure; "": neither."""
    if _RATE.search(figure):
        return "higher"
    return "lower" if _COST.search(figure) else ""


def factor(figure: str, ours: float, theirs: float) -> float | None:
    """How many times better ours is; None where a quotient would say nothing."""
    direction = better(figure)
    if not direction or figure.endswith(RECALL) or min(ours, theirs) <= 0:
        return None
    return ours / theirs if direction == "higher" else theirs / ours


def medians(values: dict[str, list[float]]) -> dict[str, float]:
    """Of every figure."""
    return {name: statistics.median(runs) for name, runs in values.items()}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def _names(tables: Iterable[dict[str, float]]) -> list[str]:
    """Every figure once, as measured one after the other; recall has columns of its own."""
    names = dict.fromkeys(name for table in tables for name in table)
    return [name for name in names if not name.endswith(RECALL)]


def _recall(figures: dict[str, float], name: str) -> str:
    """What the queries of figure `name` found, for the row of their median time."""
    asked, _, unit = name.rpartition(", ")
    found = figures.get(asked + RECALL)
    return f"{found:.4f}" if found is not None and unit.startswith("p50") else ""


def compare_table(
    title: str, figures: dict[str, dict[str, list[float]]], ours: str, theirs: str
) -> Table | None:
    """Two libraries side by side; None where one was not measured."""
    if ours not in figures or theirs not in figures:
        return None
    left, right = medians(figures[ours]), medians(figures[theirs])
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("better")
    scored = any(name.endswith(RECALL) for name in left)
    heads = [ours.removesuffix(f"-{EPHEMERAL}"), theirs.removesuffix(f"-{EPHEMERAL}"), "x better"]
    for head in [*heads, *(["recall", "theirs"] if scored else [])]:
        table.add_column(head, justify="right")
    for name in _names((left, right)):
        a, b = left.get(name), right.get(name)
        times = factor(name, a, b) if a is not None and b is not None else None
        style = "" if times is None or times >= 1 else "yellow"
        cells = (name, better(name), _number(a), _number(b))
        recalls = (_recall(left, name), _recall(right, name)) if scored else ()
        table.add_row(*cells, "" if times is None else f"{times:,.2f}x", *recalls, style=style)
    return table


def sweep_table(findings: Findings) -> Table | None:
    """Recall and QPS by ef, of all indexes."""
    if not findings.sweeps:
        return None
    table = Table(title="Queries per second and recall@10 by ef (medians)", title_justify="left")
    table.add_column("ef", justify="right")
    for peer in findings.sweeps:
        table.add_column(f"{peer} QPS", justify="right")
        table.add_column("recall", justify="right")
    for number, point in enumerate(next(iter(findings.sweeps.values()))[0]):
        cells = [str(point.ef)]
        for runs in findings.sweeps.values():
            cells.append(f"{statistics.median(run[number].rate for run in runs):,.0f}")
            cells.append(f"{statistics.median(run[number].recall for run in runs):.4f}")
        table.add_row(*cells)
    return table


def tables(findings: Findings) -> list[Table]:
    """All there is to show."""
    figures, graph = findings.figures, findings.graph
    kept: list[Table | None] = [
        compare_table("On disk", figures, "vexfs_chroma", "chromadb"),
        compare_table("In memory", figures, "vexfs_chroma-ephemeral", "chromadb-ephemeral"),
        *(
            compare_table(f"Index, vectors only: {ours}", graph, ours, "hnswlib")
            for ours in ("vexfs_chroma", "vexfs_chroma-ephemeral")
        ),
        sweep_table(findings),
    ]
    return [table for table in kept if table is not None]


def machine() -> dict[str, Any]:
    """Where this is measured, and how busy it is now."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load average": os.getloadavg(),
    }


def as_json(
    findings: Findings, facts: dict[str, Any], rows: Rows, sizes: Sizes, peers: Sequence[Peer]
) -> dict[str, Any]:
    """All that was measured and under which conditions."""
    return {
        "machine": facts,
        "versions": {peer.module: peer.version() for peer in peers},
        "data": {
            "name": rows.name,
            "rows": len(rows.ids),
            "dimension": int(rows.vectors.shape[1]),
            "seed": SEED,
            "filters": [dataclasses.asdict(filter) for filter in rows.filters],
        },
        "hnsw": HNSW,
        "sizes": dataclasses.asdict(sizes),
        "runs": 1 + max((job.run for job in findings.jobs), default=-1),
        "better": {
            name: better(name)
            for table in (findings.figures, findings.graph)
            for values in table.values()
            for name in values
        },
        "medians": {peer: medians(values) for peer, values in findings.figures.items()},
        "graph medians": {peer: medians(values) for peer, values in findings.graph.items()},
        **dataclasses.asdict(findings),
    }
