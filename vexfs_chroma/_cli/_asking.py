"""What commands about a running server have in common: asking it, and showing figures."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
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

    Raises ConnectionError when nobody answers, PermissionError when whoever asks may not know,
    ValueError for another answer than 200, typer.BadParameter for what is no URL.
    """
    connection, base = _connection(url)
    token = _token()
    headers = {} if token is None else {"x-chroma-token": token}
    with contextlib.closing(connection):
        try:
            connection.request("GET", base + path, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except ssl.SSLCertVerificationError as error:
            raise ConnectionError(
                f"the certificate of {url} is not trusted: {error.verify_message}; name the "
                "certificates to trust by SSL_CERT_FILE"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error  # without the number
            raise ConnectionError(f"no server answers at {url}: {reason}") from error
    if status in (401, 403):
        raise PermissionError(_refusal(url, path, status, _message(body), token))
    if status != 200:
        told = _message(body)
        raise ValueError(
            f"{url}{path} answers {status}: {told}"
            if told
            else f"{url}{path} answers {status}: is it a server of vexfs_chroma?"
        )
    return body


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to a server, and the path below which it is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # the port is no number, or too large
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https"):
        raise typer.BadParameter(f"--url must be http://HOST:PORT or https://..., not {url!r}")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return kind(host, port, timeout=_TIMEOUT_S), parts.path.rstrip("/")


def _token() -> str | None:
    token = os.environ.get("VEXFS_TOKEN", "").strip()
    if not token.isascii() or not token.isprintable():  # http.client would show it
        raise ValueError("VEXFS_TOKEN is no token: it has characters that cannot be sent")
    return token or None


def _message(body: bytes) -> str | None:
    """What our server says about an error; None where it says nothing."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _refusal(url: str, path: str, status: int, told: str | None, token: str | None) -> str:
    """Why a server does not tell: no token, a wrong one, or one without the right."""
    because = "" if told is None else f" ({told})"
    if status == 401 and token is None:
        return f"{url} wants a token: set VEXFS_TOKEN to one of its [[auth.tokens]]{because}"
    if status == 401:
        return f"{url} does not know the token in VEXFS_TOKEN{because}; see its [[auth.tokens]]"
    if token is None:
        return f"{url} refuses{because or ' to answer'}"
    return (
        f"the token in VEXFS_TOKEN has no right to {path} of {url}{because}; it takes one with the "
        "role read that is not limited to a tenant or to databases"
    )


def ask(url: str, path: str) -> Any:
    """The JSON at a path of a server; raises as fetch() does."""
    try:
        return json.loads(fetch(url, path))
    except json.JSONDecodeError as error:
        raise _no_server_of_ours(url, path) from error


def _no_server_of_ours(url: str, path: str) -> ValueError:
    return ValueError(f"{url}{path} tells something else: is it a server of vexfs_chroma?")


def facts_of(url: str) -> dict[str, Any]:
    """What a server tells about itself."""
    with busy(f"asking {url}"):
        found = ask(url, "/vexfs/facts")
    if not isinstance(found, dict) or not {"counters", "database", "processes"} <= found.keys():
        raise _no_server_of_ours(url, "/vexfs/facts")
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
