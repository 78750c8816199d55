"""Names and collection metadata: what Chroma accepts, and its words for what it does not."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from chromadb.errors import InvalidArgumentError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")


def check_str(argument: str, value: Any) -> None:
    """Raise TypeError when `value` is not a string, as Chroma's bindings do."""
    if not isinstance(value, str):
        raise TypeError(
            f"argument '{argument}': '{type(value).__name__}' object cannot be converted to "
            "'PyString'"
        )


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
        if _is_ip_address(part):
            raise _invalid(argument, f"Expected a name that is not a valid ip address. Got {part}")


def check_tenant_name(name: Any) -> None:
    """Raise when `name` cannot name a tenant."""
    check_str("name", name)
    if len(name) < 3:
        value = json.dumps(name, ensure_ascii=False)
        raise _invalid(
            "name",
            f'Validation error: length [{{"min": Number(3), "value": String({value})}}]',
        )


def check_collection_metadata(argument: str, metadata: Any) -> dict[str, Any] | None:
    """The metadata of a collection, checked; in an update ("new_metadata") a value may be None."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise TypeError(
            f"argument '{argument}': '{type(metadata).__name__}' object cannot be converted to "
            "'PyDict'"
        )
    update = argument == "new_metadata"
    kind = "UpdateMetadataValue" if update else "MetadataValue"
    for key, value in metadata.items():
        check_str(argument, key)
        if not isinstance(value, str | int | float | list) and not (update and value is None):
            raise TypeError(f"argument '{argument}': Cannot convert Python object to {kind}")
    if not metadata:
        raise _invalid(argument, "Metadata cannot be empty")
    for key, value in metadata.items():
        if not key:
            raise _invalid(argument, "Metadata key cannot be empty")
        if key.startswith(("#", "$")):
            raise _invalid(argument, f"Metadata key cannot start with '#' or '$': {key}")
        if isinstance(value, list):
            raise _invalid(argument, f"Metadata of a collection cannot hold a list: {key}")
    return metadata


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _invalid(argument: str, text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Validation error: {argument}: {text}")
