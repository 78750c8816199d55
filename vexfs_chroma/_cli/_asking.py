"""What commands about a running server have in common: asking it, and showing figures."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table

from vexfs_chroma._cli._exit import out
from vexfs_chroma._cli._shown import StepProgress, busy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

URL = typer.Option("http://127.0.0.1:8000", "--url", envvar="VEXFS_URL", help="The server.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
TIME = typer.Option(10.0, "--time", min=0.1, help="Seconds to look at.")
_TIMEOUT_S = 30.0


def group(text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(no_args_is_help=True, help=text)


# ---- asking --------------------------------------------------------------------------------------


def fetch(url: str, path: str) -> bytes:
    """What a server answers at a path.  VEXFS_TOKEN is sent, if it is set.

    Raises ConnectionError when nobody answers, ValueError for another answer than 200.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"--url must be http://HOST:PORT, not {url!r}")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    token = os.environ.get("VEXFS_TOKEN")
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers={"x-chroma-token": token} if token else {})
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(f"no server answers at {url}: {error}") from error
    if status in (401, 403):
        raise PermissionError(f"{url} wants a token with the role read: set VEXFS_TOKEN")
    if status != 200:
        raise ValueError(f"{url}{path} answers {status}: is it a server of vexfs_chroma?")
    return body


def ask(url: str, path: str) -> Any:
    """The JSON at a path of a server; raises as fetch() does."""
    return json.loads(fetch(url, path))


def facts_of(url: str) -> dict[str, Any]:
    """What a server tells about itself."""
    with busy(f"asking {url}"):
        found: dict[str, Any] = ask(url, "/vexfs/facts")
    return found


def window(
    url: str, seconds: float
) -> tuple[dict[str, Any], dict[str, Any], dict[str, int], float]:
    """The facts now and in so many seconds, what is counted meanwhile, and how long that was."""
    from vexfs_chroma._observe import _figures

    before, started = facts_of(url), time.monotonic()
    with StepProgress() as progress:
        while (passed := time.monotonic() - started) < seconds:
            progress("counting", int(10 * passed), int(10 * seconds))
            time.sleep(min(0.1, seconds - passed))
    now = facts_of(url)
    counted = _figures.difference(before["counters"], now["counters"])
    return before, now, counted, now["at"] - before["at"]


# ---- showing -------------------------------------------------------------------------------------


def made_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column has names, and the others numbers."""
    table = Table(columns[0], box=None, pad_edge=False)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print such a table."""
    out.print(made_table(columns, rows))


def as_ms(value: float | None) -> str:
    """Milliseconds, with as many digits as mean something."""
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def operations_table(operations: list[dict[str, Any]]) -> Table:
    """A row for each kind of operation."""
    return made_table(
        ("operation", "count", "per second", "mean ms", "p50", "p95", "p99", "errors", "slow"),
        [
            (
                one["operation"],
                f"{one['count']:,}",
                "-" if one["per_second"] is None else f"{one['per_second']:,.1f}",
                *(as_ms(one[name]) for name in ("mean_ms", "p50_ms", "p95_ms", "p99_ms")),
                str(one["errors"]),
                str(one["slow"]),
            )
            for one in operations
        ],
    )


def show_operations(operations: list[dict[str, Any]]) -> None:
    """Print a row for each kind of operation."""
    out.print(operations_table(operations))


def show_queries(queries: dict[str, Any] | None) -> None:
    """Print the stages of queries, and their work."""
    if queries is None:
        out.print("no queries")
        return
    show_table(
        ("stage of queries", "ms per vector", "share"),
        [
            (stage, as_ms(ms), f"{queries['stage_share'][stage]:.0%}")
            for stage, ms in queries["stage_ms"].items()
        ],
    )
    out.print(
        f"per query vector: {queries['walk_distances']:,.0f} distances and "
        f"{queries['walk_hops']:,.0f} hops in graphs, {queries['exact_distances']:,.0f} exact "
        f"distances, {queries['read_rows']:,.0f} rows read; {queries['by_graph']:.0%} by a graph"
    )
    if queries["recall"] is not None:
        out.print(f"recall: {queries['recall']:.3f}, of {queries['recall_samples']:,} samples")


def figures_of(counters: dict[str, int], seconds: float | None) -> dict[str, Any]:
    """What the counters of so many seconds mean; None: since the start."""
    from vexfs_chroma._observe import _figures as figures

    return {
        "seconds": seconds,
        "operations": figures.operations(counters, seconds),
        "queries": figures.queries(counters),
    }
