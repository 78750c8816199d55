"""Nested dicts as metadata, for collections that ask for it: flat while they are stored.

A collection whose own metadata has `NESTED` true takes dicts in dicts: each value is stored under
its path, names joined by dots, where filters find it; reading makes dicts of paths again.  Other
collections refuse a dict, as Chroma does.
"""

from __future__ import annotations

from typing import Any

NESTED = "vexfs:nested"
"""The key of a collection's metadata that says so."""

_DEPTH_MAX = 32


def flatten(metadatas: Any) -> Any:
    """Metadata of a write with one level; what has no dict in it is passed on as it is."""
    if isinstance(metadatas, dict):
        return _flat_metadata(metadatas)
    return list(map(_flat_metadata, metadatas)) if isinstance(metadatas, list) else metadatas


def _flat_metadata(metadata: Any) -> Any:
    if not isinstance(metadata, dict) or not any(isinstance(v, dict) for v in metadata.values()):
        return metadata
    flat: dict[str, Any] = {}
    _add_flat(flat, metadata, "", 0)
    return flat


def _add_flat(flat: dict[str, Any], metadata: dict[str, Any], prefix: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError(f"Expected metadata to have at most {_DEPTH_MAX} levels")
    for name, value in metadata.items():
        if not isinstance(name, str):
            raise TypeError(
                f"Expected metadata key to be a str, got {name} which is a {type(name).__name__}"
            )
        if not isinstance(value, dict):
            if prefix + name in flat:
                raise ValueError(
                    f"Expected metadata to have one value for {prefix + name}, got two"
                )
            flat[prefix + name] = value
        elif value:
            _add_flat(flat, value, f"{prefix}{name}.", depth + 1)
        else:
            raise ValueError(
                f"Expected metadata to be a non-empty dict, got {{}} for {prefix}{name}"
            )


def check_where(where: Any) -> None:
    """Raise ValueError for a filter that is nested as metadata is; what else is wrong stays."""
    if not isinstance(where, dict) or len(where) != 1:
        return
    ((key, condition),) = where.items()
    if key in {"$and", "$or"} and isinstance(condition, list):
        for part in condition:
            check_where(part)
    elif isinstance(key, str) and isinstance(condition, dict) and len(condition) == 1:
        (name,) = condition
        if isinstance(name, str) and not name.startswith("$"):
            raise ValueError(
                f"Expected where operator, got {name}: nested metadata is filtered by its path, "
                f"as {{{f'{key}.{name}'!r}: ...}}"
            )


def nest(metadatas: Any) -> None:
    """Make dicts of paths, in the metadata of a result: a list of metadata, or of such lists."""
    for i, metadata in enumerate(metadatas or ()):
        if isinstance(metadata, list):
            nest(metadata)
        elif metadata and any("." in key for key in metadata):
            metadatas[i] = _nested_metadata(metadata)


def _nested_metadata(flat: dict[str, Any]) -> dict[str, Any]:
    """A path below a value (both can be there after an update) stays as it is."""
    nested: dict[str, Any] = {}
    for path in sorted(flat):  # a value comes before what is below it
        *parents, name = path.split(".")
        place: Any = nested
        for parent in parents if all(parents) and name else ():
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                break
        else:
            if place is not nested or not parents:
                place[name] = flat[path]
                continue
        nested[path] = flat[path]
    return nested
