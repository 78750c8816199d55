"""An HTTP server for Prometheus in a program that has the database in process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from prometheus_client import CollectorRegistry, start_http_server
except ImportError as error:
    raise ImportError(
        "metrics need prometheus-client: pip install 'vexfs-chroma[metrics]'"
    ) from error

from vexfs_chroma._observe._prometheus import Collector

if TYPE_CHECKING:
    from typing_extensions import Self


class MetricsExporter:
    """Answers Prometheus until `close()`, or the end of a `with` block.

    Attributes:
        url: Where.
    """

    def __init__(self, client: Any, host: str, port: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collector(client))
        self._server, self._thread = start_http_server(port, host, registry)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Answer no more, and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
