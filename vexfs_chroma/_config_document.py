"""Configurations and schemas as callers give them: JSON, read with Chroma's error texts.

Errors repeat the texts that Chroma's JSON reader gives, with the column in the JSON document that
the client would have sent, because programs and people look for them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

SPACES = ("l2", "cosine", "ip")

_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Document:
    """JSON given by a caller, with errors that tell the column in the text as it was sent."""

    def __init__(self, root: Any, struct: str) -> None:
        self.root = root
        if not isinstance(root, dict):
            raise self.type_error((), f"struct {struct}")
        text = json.dumps(root, ensure_ascii=False)
        lone = _LONE_SURROGATE.search(text)
        if lone is not None:
            before = text[: lone.start()]  # where one character may be two escapes
            column = sum(1 if c.isascii() else 6 if c < "\U00010000" else 12 for c in before) + 7
            raise InvalidArgumentError(f"unexpected end of hex escape at line 1 column {column}")

    def value(self, path: Iterable[str]) -> Any:
        found = self.root
        for key in path:
            found = found[key]
        return found

    def expect_map(self, path: tuple[str, ...], expected: str) -> Json:
        found = self.value(path)
        if not isinstance(found, dict):
            raise self.type_error(path, expected)
        return found

    def check_field(self, path: tuple[str, ...], field: str, fields: tuple[str, ...]) -> None:
        """Raise for a field of the map at `path` that is none of these."""
        if field not in fields:
            there = f"expected {_one_of(fields)}" if fields else "there are no fields"
            raise self.error(f"unknown field `{field}`, {there}", (*path, field), at_key=True)

    def read_struct(self, path: tuple[str, ...], name: str, fields: tuple[str, ...]) -> Json | None:
        """The numbers and the space under `path`, without those that are null."""
        if self.value(path[:-1]).get(path[-1]) is None:
            return None
        if self.value(path) == []:
            text = f"invalid length 0, expected struct {name} with {len(fields)} elements"
            raise self.error(text, path)
        given = self.expect_map(path, f"struct {name}")
        parsed: Json = {}
        for field, value in given.items():
            self.check_field(path, field, fields)
            if value is None:
                continue
            if field == "space":
                parsed[field] = self.read_space((*path, field))
            elif field == "resize_factor":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise self.type_error((*path, field), "f64")
                parsed[field] = float(value)
            else:
                if type(value) is not int or value > _UINT64_MAX:
                    raise self.type_error((*path, field), "usize")
                if value < 0:
                    text = f"invalid value: integer `{value}`, expected usize"
                    raise self.error(text, (*path, field))
                parsed[field] = value
        return parsed

    def read_space(self, path: tuple[str, ...]) -> str:
        space = self.value(path)
        if not isinstance(space, str):
            raise self.error("expected value", path)
        if space not in SPACES:
            raise self.error(f"unknown variant `{space}`, expected {_one_of(SPACES)}", path)
        return space

    def read_embedding_function(self, parent: tuple[str, ...] = ()) -> Json | None:
        path = (*parent, "embedding_function")
        if self.value(parent).get("embedding_function") is None:
            return None
        given = self.expect_map(path, "an embedding function")
        if "type" not in given:
            raise self.error("missing field `type`", path)
        kinds = ("legacy", "known", "unknown")
        if given["type"] not in kinds:
            text = f"unknown variant `{given['type']}`, expected {_one_of(kinds)}"
            raise self.error(text, (*path, "type"))
        if given["type"] != "known":
            return {"type": given["type"]}
        for field in ("name", "config"):
            if field not in given:
                raise self.error(f"missing field `{field}`", ())
        if not isinstance(given["name"], str):
            text = f"invalid type: {_kind(given['name'])}, expected a string"
            raise self.error(text, path)
        return {"type": "known", "name": given["name"], "config": _as_stored(given["config"])}

    def type_error(self, path: tuple[str, ...], expected: str) -> InvalidArgumentError:
        return self.error(f"invalid type: {_kind(self.value(path))}, expected {expected}", path)

    def error(
        self, text: str, path: tuple[str, ...], *, at_key: bool = False
    ) -> InvalidArgumentError:
        """`text` with the place where the value at `path` (or its key) ends."""
        column, node = 0, self.root
        for depth, wanted in enumerate(path):
            column += 1  # the opening brace
            for key, value in node.items():
                column += len(json.dumps(key))
                if key == wanted:
                    break
                column += len(": ") + len(json.dumps(value)) + len(", ")
            if at_key and depth == len(path) - 1:
                return InvalidArgumentError(f"{text} at line 1 column {column}")
            column += len(": ")
            node = node[wanted]
        column += len(json.dumps(node))
        return InvalidArgumentError(f"{text} at line 1 column {column}")


def _as_stored(value: Any) -> Any:
    """JSON with a float for every integer that 64 bits do not hold, as Chroma reads it."""
    if isinstance(value, dict):
        return {key: _as_stored(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_as_stored(part) for part in value]
    if isinstance(value, int) and not _INT64_MIN <= value <= _UINT64_MAX:
        try:
            return float(value)
        except OverflowError as error:
            raise InvalidArgumentError("number out of range") from error
    return value


def _one_of(names: Iterable[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " or ".join(quoted) if len(quoted) == 2 else f"one of {', '.join(quoted)}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{json.dumps(value)}`"
    if isinstance(value, int) and value <= _UINT64_MAX:
        return f"integer `{value}`"
    if isinstance(value, int | float):
        return f"floating point `{float(value)!r}`"
    if isinstance(value, str):
        return f"string {json.dumps(value, ensure_ascii=False)}"
    return "sequence" if isinstance(value, list) else "map"
