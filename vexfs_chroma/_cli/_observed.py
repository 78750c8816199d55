"""vexctl metrics, cache, memory, slow-log, profile, bottlenecks, performance: about a server."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer
from rich.filesize import decimal
from rich.table import Table

from vexfs_chroma._cli._exit import explained, finish, out
from vexfs_chroma._cli._shown import StepProgress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _group(text: str) -> typer.Typer:
    return typer.Typer(no_args_is_help=True, help=text)


metrics_app = _group("Counters of a server.")
cache_app = _group("What a server keeps in memory to read it again.")
memory_app = _group("The memory of a server.")
slow_app = _group("Slow operations.")
bottlenecks_app = _group("What costs a server its time.")
performance_app = _group("Figures of a server over some time, and two of them side by side.")

_URL = typer.Option("http://127.0.0.1:8000", "--url", envvar="VEXFS_URL", help="The server.")
_JSON = typer.Option(False, "--json", help="Print JSON.")
_TIME = typer.Option(10.0, "--time", min=0.1, help="Seconds to look at.")
_LOG = typer.Option(None, "--file", help="A log that VEXFS_SLOW_LOG named, not a server.")
_LIMIT = typer.Option(20, "--limit", min=1, help="So many of the slowest.")
_OUTPUT = typer.Option(None, "--output", help="Write it to this file, as JSON.")
_BEFORE = typer.Argument(..., help="What `report --output` wrote, earlier ...")
_AFTER = typer.Argument(..., help="... and later.")
_TOLERANCE = typer.Option(0.25, "--tolerance", min=0.0, help="A share that is noise.")
_TIMEOUT_S = 30.0


# ---- asking --------------------------------------------------------------------------------------


def ask(url: str, path: str) -> Any:
    """The JSON at a path of a server.  VEXFS_TOKEN is sent, if it is set.

    Raises ConnectionError when nobody answers, ValueError for any other answer.
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
    return json.loads(body)


def facts_of(url: str) -> dict[str, Any]:
    """What a server tells about itself."""
    found: dict[str, Any] = ask(url, "/vexfs/facts")
    return found


def window(url: str, seconds: float) -> tuple[dict[str, Any], dict[str, int], float]:
    """The facts, what was counted during so many seconds from now on, and how long that was."""
    from vexfs_chroma._observe import _figures

    before, started = facts_of(url), time.monotonic()
    with StepProgress() as progress:
        while (passed := time.monotonic() - started) < seconds:
            progress("counting", int(10 * passed), int(10 * seconds))
            time.sleep(min(0.1, seconds - passed))
    now = facts_of(url)
    return now, _figures.difference(before["counters"], now["counters"]), now["at"] - before["at"]


# ---- showing -------------------------------------------------------------------------------------


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(columns[0], box=None, pad_edge=False)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def _show_operations(operations: list[dict[str, Any]]) -> None:
    _table(
        ("operation", "count", "per second", "mean ms", "p50", "p95", "p99", "errors", "slow"),
        [
            (
                one["operation"],
                f"{one['count']:,}",
                "-" if one["per_second"] is None else f"{one['per_second']:,.1f}",
                *(_ms(one[name]) for name in ("mean_ms", "p50_ms", "p95_ms", "p99_ms")),
                str(one["errors"]),
                str(one["slow"]),
            )
            for one in operations
        ],
    )


def _show_queries(queries: dict[str, Any] | None) -> None:
    if queries is None:
        out.print("no queries")
        return
    _table(
        ("stage of queries", "ms per vector", "share"),
        [
            (stage, _ms(ms), f"{queries['stage_share'][stage]:.0%}")
            for stage, ms in queries["stage_ms"].items()
        ],
    )
    out.print(
        f"per query vector: {queries['walk_distances']:,.0f} distances and "
        f"{queries['walk_hops']:,.0f} hops in graphs, {queries['exact_distances']:,.0f} exact "
        f"distances, {queries['read_rows']:,.0f} rows read; {queries['by_graph']:.0%} by a graph"
    )


def _figures(counters: dict[str, int], seconds: float | None) -> dict[str, Any]:
    from vexfs_chroma._observe import _figures as figures

    return {
        "seconds": seconds,
        "operations": figures.operations(counters, seconds),
        "queries": figures.queries(counters),
    }


@metrics_app.command("show")
def show_metrics(url: str = _URL, as_json: bool = _JSON) -> None:
    """Show what a server did since it was started."""
    with explained():
        found = facts_of(url)
        figures = _figures(found["counters"], None)
        if as_json:
            typer.echo(json.dumps(figures | {"counters": found["counters"]}, indent=2))
            return
        _show_operations(figures["operations"])
        _show_queries(figures["queries"])
        database = found["database"]
        out.print(
            f"{len(database['collections'])} collections, {database['rows']:,} records, "
            f"{decimal(database['disk']['total'])}; {len(found['processes'])} processes"
        )


@memory_app.command("stats")
def show_memory(url: str = _URL, as_json: bool = _JSON) -> None:
    """Show the memory of a server: of its processes, and by what it is in the one that answers."""
    with explained():
        found = facts_of(url)
        if as_json:
            plain = {name: found[name] for name in ("processes", "memory")}
            typer.echo(json.dumps(plain, indent=2))
            return
        _table(
            ("process", "resident", "CPU seconds", "open files"),
            [
                (
                    str(one["pid"]),
                    "-" if one["resident_bytes"] is None else decimal(one["resident_bytes"]),
                    "-" if one["cpu_seconds"] is None else f"{one['cpu_seconds']:,.1f}",
                    str(one["open_files"] or "-"),
                )
                for one in found["processes"]
            ],
        )
        parts = {name: size for name, size in found["memory"].items() if size}
        _table(("memory", ""), [(k.replace("_", " "), decimal(v)) for k, v in parts.items()])


@cache_app.command("stats")
def show_cache(url: str = _URL, as_json: bool = _JSON) -> None:
    """Show what is kept to be read again, and what had to be read or was given back."""
    with explained():
        found = facts_of(url)
        kept = ("caches", "code_rows", "links", "vectors", "documents", "columns", "text_index")
        done = ("blocks_read", "rows_fetched", "graphs_unloaded", "given_back_bytes")
        plain = {
            "kept_bytes": {name: found["memory"][name] for name in kept},
            "since_the_start": {n: found["counters"].get(f"engine.{n}", 0) for n in done},
        }
        if as_json:
            typer.echo(json.dumps(plain, indent=2))
            return
        rows = [(k.replace("_", " "), decimal(v)) for k, v in plain["kept_bytes"].items()]
        _table(("kept", ""), rows)
        rows = [(k.replace("_", " "), f"{v:,}") for k, v in plain["since_the_start"].items()]
        _table(("since the start", ""), rows)


@slow_app.command("analyze")
def analyze_slow(
    url: str = _URL,
    file: Path | None = _LOG,
    limit: int = _LIMIT,
    as_json: bool = _JSON,
) -> None:
    """Show the slowest operations, each kind of them once, with what took the time."""
    from vexfs_chroma._observe._slow import slowest_in

    with explained():
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"{file} is no file")
        found = ask(url, "/vexfs/slow-log") if file is None else slowest_in([file])
        if as_json:
            typer.echo(json.dumps(found[:limit], indent=2, default=str))
            return
        hidden = ("at", "pid", "operation", "ms", "repeats", "collection", "plan")
        for one in found[:limit]:
            about = {name: value for name, value in one.items() if name not in hidden and value}
            out.print(
                f"{one['ms']:,.1f} ms  {one['operation']} of {one.get('collection')}, "
                f"{one.get('repeats', 1)} times: {json.dumps(about, default=str)}",
                markup=False,
            )
            plan = one.get("plan")
            if plan:
                out.print(
                    f"    {plan['why']}: {plan['select_us'] / 1000:.2f} ms selecting, "
                    f"{plan['search_us'] / 1000:.2f} searching, {plan['fetch_us'] / 1000:.2f} "
                    f"fetching; {plan['read_rows']:,} rows read of {plan['rows']:,}",
                    markup=False,
                )
        if not found:
            out.print("nothing was slow")


def profile(url: str = _URL, seconds: float = _TIME, as_json: bool = _JSON) -> None:
    """Show what a server does in the next seconds: operations, and the stages of queries."""
    with explained():
        _, counters, passed = window(url, seconds)
        figures = _figures(counters, passed)
        if as_json:
            typer.echo(json.dumps(figures, indent=2))
            return
        _show_operations(figures["operations"])
        _show_queries(figures["queries"])


@bottlenecks_app.command("identify")
def identify(url: str = _URL, seconds: float = _TIME, as_json: bool = _JSON) -> None:
    """Tell what costs time and space, with the figures that speak for it.

    Exit code 1 when there is something.
    """
    from vexfs_chroma._observe._rules import bottlenecks

    with explained():
        facts, counters, _ = window(url, seconds)
        found = bottlenecks(facts, counters)
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        for one in () if as_json else found:
            out.print(f"{one.name}: {one.evidence}\n    {one.advice}", markup=False)
        if not found and not as_json:
            out.print("nothing stands out")
    finish(ok=not found)


# ---- performance ---------------------------------------------------------------------------------

_FORMAT = "vexctl performance 1"


@performance_app.command("report")
def report(
    url: str = _URL,
    seconds: float = _TIME,
    output: Path | None = _OUTPUT,
    as_json: bool = _JSON,
) -> None:
    """Tell what a server does in the next seconds, for people or for `compare`."""
    with explained():
        facts, counters, passed = window(url, seconds)
        found = {"format": _FORMAT, "version": facts["version"], **_figures(counters, passed)}
        if output is not None:
            output.write_text(json.dumps(found, indent=2), "utf-8")
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        _show_operations(found["operations"])
        _show_queries(found["queries"])


@performance_app.command("compare")
def compare(
    before: Path = _BEFORE,
    after: Path = _AFTER,
    tolerance: float = _TOLERANCE,
    as_json: bool = _JSON,
) -> None:
    """Compare two reports.  Exit code 1 when an operation takes longer than before."""
    with explained():
        old, new = _operations_of(before), _operations_of(after)
        changes = [
            {
                "operation": name,
                "figure": figure,
                "before": old[name][figure],
                "after": new[name][figure],
                "worse": new[name][figure] > old[name][figure] * (1 + tolerance),
            }
            for name in old
            if name in new
            for figure in ("mean_ms", "p50_ms", "p95_ms")
        ]
        if not changes:
            raise ValueError("the two reports have no operation in common")
        if as_json:
            typer.echo(json.dumps(changes, indent=2))
        else:
            _table(
                ("operation", "figure", "before", "after", ""),
                [
                    (
                        one["operation"],
                        one["figure"],
                        _ms(one["before"]),
                        _ms(one["after"]),
                        "worse" if one["worse"] else "",
                    )
                    for one in changes
                ],
            )
    finish(ok=not any(one["worse"] for one in changes))


def _operations_of(file: Path) -> dict[str, dict[str, Any]]:
    try:
        plain = json.loads(file.read_text("utf-8"))
        if plain["format"] != _FORMAT:
            raise ValueError(f"{file} has the format {plain['format']!r}, not {_FORMAT!r}")
        return {one["operation"]: one for one in plain["operations"]}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is no report of vexctl performance: {error!r}") from error
