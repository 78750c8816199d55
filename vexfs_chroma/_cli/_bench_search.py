"""vexctl bench quality and text: what searches find, and how fast."""

from __future__ import annotations

from pathlib import Path

import typer

from vexfs_chroma._cli._bench import Outputs, bench, chosen
from vexfs_chroma._cli._exit import explained

_QUERIES = typer.Option(1000, min=2, help="Of each kind; half of them are reported.")
_ROWS = typer.Option(None, "--rows", min=1, help="At most so many documents.")
_MODEL = typer.Option(None, metavar="FOLDER", help="The sentence encoder, if none is installed.")
_SEED = typer.Option(None, help="Of the queries and of the bootstrap.")
_QUICK = typer.Option(False, "--quick", help="Few documents, one round.")
_RUNS = typer.Option(None, "--runs", min=1, help="Rounds, each of all queries.")
_PEERS = typer.Option(None, "--peers", metavar="NAMES", help="Some of the libraries, by commas.")
_JSON = typer.Option(None, "--json", metavar="FILE", help="Also write all figures to this file.")


def quality(
    queries: int = _QUERIES,
    rows: int | None = _ROWS,
    model: Path | None = _MODEL,
    seed: int | None = _SEED,
    json: Path | None = _JSON,
) -> None:
    """Compare what dense, full-text, sparse and fused searches find, with intervals.

    Known items of WordNet (VEXFS_DATA): nDCG, MRR, recall at 10.
    """
    from vexfs_chroma._bench import _quality

    given = {} if seed is None else {"seed": seed}
    plan = _quality.Plan(str(model) if model else None, rows, queries, **given)
    with bench("quality", Outputs(json)) as (report, folder, progress):
        _quality.run(plan, folder, report, progress)


def text(
    rows: int | None = _ROWS,
    quick: bool = _QUICK,
    runs: int | None = _RUNS,
    peers: str | None = _PEERS,
    json: Path | None = _JSON,
) -> None:
    """Compare full text, sparse and hybrid searches: latency, adding, size; one thread.

    Documents: WordNet's glosses (VEXFS_DATA), else generated ones.
    """
    from vexfs_chroma._bench import _text_bench, _texts

    with explained():
        known = list(_texts.LIBRARIES)
        plan = _text_bench.Plan(
            peers=chosen(peers, known, "libraries") or known,
            rows=rows or (3000 if quick else None),
            runs=runs or (1 if quick else 5),
            queries=50 if quick else 300,
            slow_queries=10 if quick else 50,
        )
    with bench("text", Outputs(json)) as (report, folder, progress):
        _text_bench.run(plan, folder, report, progress)
