"""Errors on the wire: status, Chroma's name for the error, message.

Clients of Chroma choose the class to raise by the name (Python) or by the status (JavaScript).
"""

from __future__ import annotations

import logging
import os
import re

import orjson
from chromadb.errors import (
    AuthorizationError,
    ChromaError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)

from vexfs_chroma._errors import DatabaseLockedError, ReadOnlyError, StorageFullError

# Embedded, Chroma has no class of its own for these.
_EXISTS = re.compile(r"(Tenant|Database|Collection) \[.*\] already exists", re.DOTALL)

logger = logging.getLogger("vexfs_chroma.server")


class HttpError(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, name: str, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status, self.name, self.message, self.headers = status, name, message, headers


def invalid(message: str) -> HttpError:
    """400: the request cannot mean anything."""
    return HttpError(400, "InvalidArgumentError", message)


def busy(message: str, seconds: int = 1) -> HttpError:
    """429: too much at once; nothing was done."""
    return HttpError(429, "RateLimitError", message, (("retry-after", str(seconds)),))


def unavailable(message: str, seconds: int = 1) -> HttpError:
    """503: not now; nothing was done."""
    return HttpError(503, "InternalError", message, (("retry-after", str(seconds)),))


def as_http(error: BaseException) -> HttpError:
    """What a client is told about an exception of a handler."""
    if isinstance(error, HttpError):
        return error
    text = str(error)
    if isinstance(error, NotFoundError):
        return HttpError(404, "NotFoundError", text.removeprefix("Error getting collection: "))
    if isinstance(error, InvalidArgumentError):
        return invalid(text)
    if isinstance(error, AuthorizationError):  # reset, where it is not allowed
        return HttpError(403, "ChromaError", text)
    if isinstance(error, DatabaseLockedError):
        return unavailable(text)
    if isinstance(error, StorageFullError):
        return HttpError(507, "InternalError", text)
    if isinstance(error, ReadOnlyError):  # no fault of the server's, and none that goes away
        return HttpError(403, "InternalError", text)
    if isinstance(error, InternalError):
        if _EXISTS.fullmatch(text):
            return HttpError(409, "ChromaError", text)
        return HttpError(500, "InternalError", text)
    if isinstance(error, ChromaError):
        return HttpError(error.code(), error.name(), text)
    if isinstance(error, NotImplementedError):
        return HttpError(501, "ChromaError", text)
    if isinstance(error, OverflowError):  # an integer of hundreds of digits
        return invalid(f"Failed to parse the request body as JSON: {text}")
    # What the API says of a value that no column can hold.
    if isinstance(error, TypeError) and text.startswith("argument '"):
        return HttpError(422, "ChromaError", text)
    return HttpError(500, "InternalError", "internal error; the server's log has the details")


def new_trace_id() -> str:
    """An id under which the log has what an answer does not say."""
    return os.urandom(16).hex()


def error_response(
    error: BaseException,
    request_id: str = "",
    trace_id: str | None = None,
    step: int | None = None,
) -> tuple[HttpError, bytes, str]:
    """The error, its JSON, and its trace id: a new one, unless the request is traced.

    `step`: of a transaction, which the message tells for people, too.
    """
    trace_id = trace_id or new_trace_id()
    known = as_http(error)
    if known.status == 500 and not isinstance(error, ChromaError | HttpError):
        fields = {"request_id": request_id, "trace_id": trace_id}
        logger.error(
            "an error that nobody expected",
            exc_info=error,
            extra={"event": "internal_error", "fields": fields},
        )
    told: dict[str, str | int] = {"error": known.name, "message": known.message}
    if step is not None:
        told |= {"message": f"steps[{step}]: {known.message}", "step": step}
    return known, orjson.dumps(told), trace_id
