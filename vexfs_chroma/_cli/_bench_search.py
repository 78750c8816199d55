"""vexctl bench quality and text: what searches find, and how fast."""

from __future__ import annotations

from pathlib import Path

import typer

from vexfs_chroma._cli._bench import Outputs, bench

_QUERIES = typer.Option(1000, min=2, help="Of each kind; half of them are reported.")
_ROWS = typer.Option(None, "--rows", min=1, help="At most so many documents.")
_MODEL = typer.Option(None, metavar="FOLDER", help="The sentence encoder, if none is installed.")
_SEED = typer.Option(None, help="Of the queries and of the bootstrap.")
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
