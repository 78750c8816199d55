"""The names by which an open server may be called.

A page can have the name of its own site lead to this machine ("DNS rebinding"); its requests then
come from here, and are of one origin with the server, as far as a browser knows.  What gives them
away is that name in the header `Host`.
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether this name or address is of this machine wherever it is looked up."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class LocalNames:
    """The values of `Host` that name this machine."""

    _MOST = 64  # there are few; whoever sends others gets an error

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def have(self, header: bytes | None) -> bool:
        """Whether a request with this header may be answered; browsers send one always."""
        if header is None or header in self._known:
            return True
        text = header.decode("latin-1").strip()
        name = text[1:].partition("]")[0] if text[:1] == "[" else text.partition(":")[0]
        if not is_loopback(name):
            return False
        if len(self._known) < self._MOST:
            self._known.add(header)
        return True
