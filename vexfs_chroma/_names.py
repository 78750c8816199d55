"""Names and collection metadata: what Chroma accepts, and its words for what it does not."""

from __future__ import annotations

import ipaddress
import json
import operator
import re
from typing import Any

import numpy as np
from chromadb.api.types import ReadLevel
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._records import is_text, stored_integer

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")


def check_str(argument: str, value: Any) -> None:
    """Raise as Chroma's bindings do: TypeError when `value` is not a string, UnicodeEncodeError
    when it has no UTF-8 form.
    """
    if not isinstance(value, str):
        raise TypeError(
            f"argument '{argument}': '{type(value).__name__}' object cannot be converted to "
            "'PyString'"
        )
    value.encode()


def check_name(argument: str, name: str) -> None:
    """Raise InvalidArgumentError when `name` cannot name a collection."""
    parts = name.split("+")
    if len(parts) > 2:
        raise _invalid(
            argument, "Expected a name to contain at most one topology:  Got two `+` characters."
        )
    for part in parts:
        if not _NAME.fullmatch(part):
            raise _invalid(
                argument,
                "Expected a name containing 3-512 characters from [a-zA-Z0-9._-], starting and "
                f"ending with a character in [a-zA-Z0-9]. Got: {part}",
            )
        if ".." in part:
            raise _invalid(
                argument,
                f"Expected a name that does not contains two consecutive periods (..). Got {part}",
            )
        if is_ip_address(part):
            raise _invalid(argument, f"Expected a name that is not a valid ip address. Got {part}")


def as_integer(value: object) -> int | None:
    """An int for an int or an integer of numpy; None for everything else, bools included."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    return None


def as_read_level(value: Any) -> ReadLevel:
    """One of Chroma's read levels, given as such or as its word; raises InvalidArgumentError."""
    try:
        return ReadLevel(value)
    except ValueError as error:
        levels = ", ".join(repr(level.value) for level in ReadLevel)
        raise InvalidArgumentError(f"read_level must be one of {levels}, got {value!r}") from error


def check_tenant_name(name: Any) -> None:
    """Raise when `name` cannot name a tenant."""
    check_str("name", name)
    if len(name) < 3:
        value = json.dumps(name, ensure_ascii=False)
        raise _invalid(
            "name",
            f'Validation error: length [{{"min": Number(3), "value": String({value})}}]',
        )


def check_database_name(name: Any) -> None:
    """Raise when `name` cannot name a database."""
    check_str("name", name)
    if len(name) < 3:
        raise InvalidArgumentError("database name must be at least 3 characters")


def check_collection_metadata(argument: str, metadata: Any) -> dict[str, Any] | None:
    """The metadata of a collection, with built-in types; in "new_metadata" a value may be None."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise TypeError(
            f"argument '{argument}': '{type(metadata).__name__}' object cannot be converted to "
            "'PyDict'"
        )
    checked = {}
    for key, value in metadata.items():
        check_str(argument, key)
        checked[key] = _metadata_value(argument, value)
    if not checked:
        raise _invalid(argument, "Metadata cannot be empty")
    for key, value in checked.items():
        if not key:
            raise _invalid(argument, "Metadata key cannot be empty")
        if key.startswith(("#", "$")):
            raise _invalid(argument, f"Metadata key cannot start with '#' or '$': {key}")
        if isinstance(value, list):
            raise _invalid(argument, f"Metadata of a collection cannot hold a list: {key}")
    return checked


def _metadata_value(argument: str, value: Any) -> Any:
    """A value as a built-in type, by the protocols that Chroma's bindings accept."""
    update = argument == "new_metadata"
    kind = "UpdateMetadataValue" if update else "MetadataValue"
    error = f"argument '{argument}': Cannot convert Python object to {kind}"
    if (value is None and update) or (isinstance(value, list) and value):
        return value
    if isinstance(value, list):
        raise ValueError("Empty lists are not allowed as metadata values")  # noqa: TRY004
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) and is_text(value):
        return str.__str__(value)
    try:
        if hasattr(type(value), "__index__"):
            return stored_integer(operator.index(value), error)
        if hasattr(type(value), "__float__"):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(error)


def is_ip_address(text: str) -> bool:
    """Whether a name is the address of a machine."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _invalid(argument: str, text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Validation error: {argument}: {text}")
