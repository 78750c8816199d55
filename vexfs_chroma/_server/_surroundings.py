"""What a configuration needs of its surroundings: packages, files, the engine.

`vexctl config validate` and `vexctl serve` both ask here, before anything is opened.  What only
the start can tell is not asked: whether the port is free, and the database sound.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from chromadb.errors import ChromaError

from vexfs_chroma import _storage
from vexfs_chroma._errors import ForeignDatabaseError
from vexfs_chroma._observe import _cells, _facts, _slow
from vexfs_chroma._server import _tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vexfs_chroma._server._config import ServerConfig

_OTLP = "opentelemetry.exporter.otlp.proto.http"


def problems_around(config: ServerConfig, environment: Mapping[str, str]) -> Iterator[str]:
    """Every reason why a server with this configuration would not start, or do less than it says.

    Args:
        config: The configuration; what its values alone can tell is not looked at again.
        environment: The variables; those of the engine, which reads them by itself, are those of
            the process.
    """
    yield from _missing_packages(config)
    yield from _wrong_path(Path(config.server.path))
    yield from _tls.context_of(config.tls)[1]
    yield from _wrong_variables(environment)
    yield from _refused_by_the_engine()


def _missing_packages(config: ServerConfig) -> Iterator[str]:
    if not _is_there("httptools"):
        yield "httptools is missing: pip install 'vexfs-chroma[server]'"
    if config.otel.endpoint is not None and not _is_there(_OTLP):
        yield (
            "[otel] endpoint needs OpenTelemetry's SDK and OTLP exporter: "
            "pip install 'vexfs-chroma[otel]'"
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # not even what it is in
        return False


def _wrong_path(path: Path) -> Iterator[str]:
    """The database directory is made, with those above it, if it does not exist."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        what = "is a file" if there == path else f"cannot be made, as {there} is a file"
        yield f"[server] path = {str(path)!r} {what}; it must be a directory"
    elif not os.access(there, os.R_OK | os.X_OK if there == path else os.W_OK | os.X_OK):
        what = "be read" if there == path else f"be made in {there}"
        yield f"[server] path = {str(path)!r} cannot {what}: permission denied"
    else:
        try:
            _storage.check_directory(path, read_only=False)
        except ForeignDatabaseError as error:  # Chroma's
            yield str(error)


def _wrong_variables(environment: Mapping[str, str]) -> Iterator[str]:
    try:
        _slow.threshold_ns(environment)
    except ChromaError as error:
        yield str(error)
    log = environment.get(_slow.LOG)
    if log and not _takes_lines(Path(log)):
        yield f"{_slow.LOG}={log!r}: no file that can be written"
    directory = environment.get(_cells.VARIABLE)
    if directory and not (Path(directory).is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        yield f"{_cells.VARIABLE}={directory!r}: no directory that can be written"


def _takes_lines(file: Path) -> bool:
    if file.exists():
        return not file.is_dir() and os.access(file, os.W_OK)
    return file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK)


def _refused_by_the_engine() -> Iterator[str]:
    """What it says of VEXFS_SIMD, VEXFS_THREADS and VEXFS_CODEC, in its own words."""
    yield from _refusal(_facts.kernels)
    yield from _refusal(_facts.try_engine)


def _refusal(ask: Callable[[], object]) -> list[str]:
    try:
        ask()
    except ChromaError as error:
        return [str(error)]
    return []
