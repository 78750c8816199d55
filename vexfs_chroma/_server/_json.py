"""JSON of results.  Arrays of float32 are written as the shortest decimals that read back equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from chromadb.base_types import SparseVector

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS


def encode(value: Any) -> bytes:
    """`value` as JSON; NaN and infinity are null, as in Chroma."""
    return orjson.dumps(value, default=_other, option=_OPTIONS)


def _other(value: Any) -> Any:
    if isinstance(value, SparseVector):
        return value.to_dict()
    if isinstance(value, memoryview):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def nested(flat: Any, counts: Sequence[int]) -> Any:
    """A column over all queries as one part for each; None stays None."""
    if flat is None:
        return None
    if len(counts) == 1:
        return (flat,)
    parts, start = [], 0
    for count in counts:
        parts.append(flat[start : start + count])
        start += count
    return parts
