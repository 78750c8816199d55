"""The command `vexctl`: its groups, and what applies to all of them."""

from __future__ import annotations

import typer

from vexfs_chroma._cli import (
    _backup,
    _bench,
    _bench_search,
    _bottlenecks,
    _cache,
    _config,
    _contention,
    _export,
    _import,
    _integrity,
    _load_test,
    _memory,
    _metrics,
    _performance,
    _profile,
    _regression_test,
    _serve,
    _slow_log,
    _stats,
    _storage,
    _stress_test,
    _system,
)
from vexfs_chroma._version import __version__

app = typer.Typer(
    name="vexctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(_import.app, name="import")
app.add_typer(_export.app, name="export")
app.add_typer(_bench.app, name="bench")
_bench.app.command("quality")(_bench_search.quality)
_bench.app.command("text")(_bench_search.text)
app.add_typer(_load_test.app, name="load-test")
app.add_typer(_stress_test.app, name="stress-test")
app.add_typer(_regression_test.app, name="regression-test")
app.add_typer(_config.app, name="config")
app.add_typer(_metrics.app, name="metrics")
app.add_typer(_cache.app, name="cache")
app.add_typer(_memory.app, name="memory")
app.add_typer(_slow_log.app, name="slow-log")
app.add_typer(_bottlenecks.app, name="bottlenecks")
app.add_typer(_contention.app, name="contention")
app.add_typer(_performance.app, name="performance")
app.add_typer(_storage.app, name="storage")
app.add_typer(_system.app, name="system")
app.command("profile")(_profile.profile)
app.command("serve")(_serve.serve)
app.command("backup")(_backup.backup)
app.command("restore")(_backup.restore)
app.command("stats")(_stats.stats)
app.command("check")(_integrity.check)
app.command("repair")(_integrity.repair)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vexctl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_show_version,
        is_eager=True,
        help="Show the version and exit.",
    ),
) -> None:
    """Work on vexfs_chroma databases.

    Exit codes: 0 fine; 1 the job was done and found a problem; 2 wrong usage; 3 the job could not
    be done; 4 the server cannot be reached; 130 interrupted.
    """


def main() -> None:
    """Run vexctl, which calls itself so also as a module."""
    app(prog_name="vexctl")
