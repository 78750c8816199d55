"""LocalClient: chromadb's Client, with what only a database of ours can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from chromadb.errors import InvalidArgumentError
from typing_extensions import override

from vexfs_chroma import _options
from vexfs_chroma._collection import Collection
from vexfs_chroma._collections_client import CollectionsClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from vexfs_chroma._api import VexfsAPI
    from vexfs_chroma._backup import BackupReport
    from vexfs_chroma._memory import MemoryReport
    from vexfs_chroma._observe._exporter import MetricsExporter
    from vexfs_chroma._stats import DatabaseStats


_PORT_MAX = 65535


class LocalClient(CollectionsClient[Collection]):
    """chromadb's Client, of a database of ours: its collections have our methods, too."""

    _collection_class = Collection

    @override
    def _submit_client_start_event(self) -> None:
        """Only where somebody is told: making the event looks for modules of Google's."""
        if self._system.settings.anonymized_telemetry:
            super()._submit_client_start_event()

    @override
    def _all_or_none(self) -> AbstractContextManager[None]:
        return cast("VexfsAPI", self._server).transaction()

    def vacuum(self) -> None:
        """Give back all space that deleted and replaced records hold, and merge small files.

        Works on every collection of the directory, of all tenants and databases.  The background
        does the same by and by, where it pays off.  Reads and writes go on meanwhile.  Graphs are
        then made anew for the new files, out of the old ones; until that is done, searches read all
        records.
        """
        cast("VexfsAPI", self._server).vacuum()

    def wait_idle(self, timeout: float | None = None) -> None:
        """Wait until no background work (flushes, merging of files, graphs) is wanted or running.

        Raises TimeoutError after `timeout` seconds; None waits as long as it takes.
        """
        if timeout is not None:
            _options.check_seconds("timeout", timeout)
        cast("VexfsAPI", self._server).wait_idle(timeout)

    def backup(
        self,
        target: str | Path,
        *,
        copy: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> BackupReport:
        """Back up the whole directory, of all tenants, while reads and writes go on.

        The new directory `target` becomes a database with everything that was acknowledged before
        the call; see vexfs_chroma.backup().
        """
        from vexfs_chroma._backup import backup_open

        return backup_open(cast("VexfsAPI", self._server), target, copy=copy, progress=progress)

    def stats(self) -> DatabaseStats:
        """What the directory consists of, of all tenants, and what this process holds of it."""
        from vexfs_chroma._stats import stats_open

        return stats_open(cast("VexfsAPI", self._server))

    def memory(self) -> MemoryReport:
        """What this process has in memory, by what it is: collections of this directory and all."""
        from vexfs_chroma._memory import memory_report

        return memory_report(cast("VexfsAPI", self._server))

    def metrics_text(self) -> str:
        """What was done and is there, in the text format of Prometheus.

        Counters are those of the process, sizes those of the directory.  Needs prometheus-client
        (the extra `metrics`).
        """
        from vexfs_chroma._observe._prometheus import metrics_text

        return metrics_text(self).decode("utf-8")

    def start_metrics_exporter(self, port: int = 9464, host: str = "127.0.0.1") -> MetricsExporter:
        """Answer `GET /metrics` at `http://HOST:PORT/` with what metrics_text() tells.

        A thread of this process does that until the result is closed; close it before the client.
        Port 0 is any free one: `exporter.url` tells.  Everybody who reaches the address may ask,
        so it is this machine's own unless another is given.  Needs prometheus-client (the extra
        `metrics`); raises OSError where the address cannot be had.
        """
        from vexfs_chroma._observe._exporter import MetricsExporter

        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _PORT_MAX:
            raise InvalidArgumentError(f"port must be an int from 0 to {_PORT_MAX}, got {port!r}")
        if not isinstance(host, str):
            raise InvalidArgumentError(f"host must be a str, got {host!r}")
        return MetricsExporter(self, host, port)

    def slow_operations(self) -> list[dict[str, Any]]:
        """The slowest operations of this process, slowest first: what they were about, not values.

        From VEXFS_SLOW_MS milliseconds on (100) an operation is slow.
        """
        from vexfs_chroma._observe._observer import observer

        return observer().slow.slowest()

    def on_slow_operation(self, listener: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
        """Call `listener` with every slow operation of this process, in the thread that did it.

        Calling what is returned ends that.  What the listener raises is dropped.
        """
        from vexfs_chroma._observe._observer import observer

        if not callable(listener):
            raise InvalidArgumentError(f"listener must be callable, got {listener!r}")
        return observer().slow.listen(listener)

    def unload(self) -> None:
        """Give back the memory of everything that can be loaded again: graphs, caches, open files.

        Nothing is lost and no answer changes; the next use of a collection opens it again.
        """
        cast("VexfsAPI", self._server).unload()
