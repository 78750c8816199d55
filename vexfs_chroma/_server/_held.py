"""What a process holds of requests and answers, and how much that may be.

The body of a request is counted when it is announced, so that whoever is refused need not send it.
Of those whose password is not checked yet, each byte is counted when it comes, and they have a
share for themselves: a few connections that announce much, and send little, are no harm to others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vexfs_chroma._server._errors import HttpError, unavailable

if TYPE_CHECKING:
    from vexfs_chroma._server._config import LimitsSection
    from vexfs_chroma._server._request import Request

_STRANGERS_PART = 4
_BODILESS = frozenset({"GET", "HEAD"})


class Held:
    """Counts bytes."""

    def __init__(self, limits: LimitsSection) -> None:
        self._most_of_one = limits.body_bytes
        self._most = limits.buffered_bytes
        self._most_of_strangers = max(limits.body_bytes, limits.buffered_bytes // _STRANGERS_PART)
        self.bytes = 0
        """Of bodies that arrive or wait for their answer, and of answers that nobody reads."""
        self.of_strangers = 0
        """The part of whom nobody knows yet."""

    def announce(self, request: Request, n: int) -> None:
        """A body of so many bytes is to come.  Raises HttpError (413, 503)."""
        if n > self._most_of_one:
            raise self._too_large()
        if request.method not in _BODILESS and not request.is_stranger:
            self.take(request, n)
            request.is_counted = True

    def keeps(self, request: Request, n: int) -> bool:
        """Whether so many bytes of its body, which came, are kept.  Raises HttpError (413, 503)."""
        if request.method in _BODILESS:
            return False
        if not request.is_counted:
            self.take(request, n)
        return True

    def take(self, request: Request, n: int) -> None:
        """Count so many bytes more.  Raises HttpError (413, 503)."""
        if request.size + n > self._most_of_one:
            raise self._too_large()
        strange = n if request.is_stranger else 0
        if self.bytes + n > self._most or self.of_strangers + strange > self._most_of_strangers:
            raise unavailable("the server holds as much as it may; try again")
        request.size += n
        self.bytes += n
        self.of_strangers += strange

    def give_back(self, request: Request) -> None:
        """Its body is not held any more."""
        self.bytes -= request.size
        if request.is_stranger:
            self.of_strangers -= request.size
        request.size = 0

    def _too_large(self) -> HttpError:
        text = f"Payload too large: more than {self._most_of_one} bytes"
        return HttpError(413, "InvalidArgumentError", text)
