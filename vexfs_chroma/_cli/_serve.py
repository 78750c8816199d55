"""vexctl serve."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from vexfs_chroma._cli._exit import explained

_PATH = typer.Option(None, metavar="PATH", help="The database directory (default ./chroma).")
_HOST = typer.Option(None, help="The address to listen on (default 127.0.0.1).")
_PORT = typer.Option(None, min=0, max=65535, help="The port (default 8000); 0: any free one.")
_WORKERS = typer.Option(None, min=1, help="Processes that serve the database (default 1).")
_CONFIG = typer.Option(
    None, metavar="FILE", help="The configuration file (default ./vexfs.toml, if it exists)."
)
_RESET = typer.Option(None, "--allow-reset", help="Let clients delete everything at once.")
_OPEN = typer.Option(
    None, "--open-network", help="Listen beyond this machine although nobody need authenticate."
)
_PAGE = typer.Option(None, "--page/--no-page", help="The page at / (default: there).")


def serve(
    path: Path | None = _PATH,
    host: str | None = _HOST,
    port: int | None = _PORT,
    workers: int | None = _WORKERS,
    config: Path | None = _CONFIG,
    allow_reset: bool | None = _RESET,
    open_network: bool | None = _OPEN,
    page: bool | None = _PAGE,
) -> None:
    """Serve a database over HTTP, as `chroma run` does: every client of Chroma can use it.

    Stops on Ctrl-C, SIGTERM or SIGHUP: requests that run are answered, then the database is closed.
    """
    with explained():
        from vexfs_chroma._server._config import load

        given = {
            "path": None if path is None else str(path),
            "host": host,
            "port": port,
            "workers": workers,
            "allow_reset": allow_reset,
            "allow_open_network": open_network,
            "page": page,
        }
        chosen = load(config, {"server": given})
        try:
            from vexfs_chroma._server._log import set_up
            from vexfs_chroma._server._supervisor import serve as run
        except ImportError as error:
            raise ImportError(
                f"{error.name} is missing: pip install 'vexfs-chroma[server]'"
            ) from error
        set_up(chosen.log)
        run(chosen, lambda url: _announce(f"serving {chosen.server.path} at {url}"))


def _announce(text: str) -> None:
    """Tell who started the server.  That one may be gone, which is no reason not to serve."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - what is left to be written goes there
