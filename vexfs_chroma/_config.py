"""Collection configuration and schema: the part that Chroma does on its server.

A collection has one truth, its schema (JSON, as `chromadb.Schema` writes it, with every default
filled in).  The `configuration_json` that clients see is a view of it (`configuration_of`).  A
schema is made once (`build_schema`) from whatever the caller gave: a schema, a configuration, or
legacy "hnsw:*" metadata; and changed by `update_schema` only.

What callers give is read by `_config_document.py`, schemas by `_config_schema.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._config_document import SPACES, Document, Json
from vexfs_chroma._config_schema import (
    DOCUMENT_KEY,
    EMBEDDING_KEY,
    HNSW_DEFAULTS,
    LEAST,
    is_enabled,
    parse_schema,
    reconcile_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


_DEFAULT_PARAMETERS = ("l2", HNSW_DEFAULTS)
# Order of the fields in error texts.
_HNSW_FIELDS = (
    "space",
    "ef_construction",
    "ef_search",
    "max_neighbors",
    "num_threads",
    "resize_factor",
    "sync_threshold",
    "batch_size",
)
_SPANN_FIELDS = (
    "search_nprobe",
    "write_nprobe",
    "space",
    "ef_construction",
    "ef_search",
    "max_neighbors",
    "reassign_neighbor_count",
    "split_threshold",
    "merge_threshold",
)
_HNSW_UPDATE_FIELDS = (
    "ef_search",
    "max_neighbors",
    "num_threads",
    "resize_factor",
    "sync_threshold",
    "batch_size",
)
_SPANN_UPDATE_FIELDS = ("search_nprobe", "ef_search")
_LEGACY_METADATA = {
    "hnsw:space": "space",
    "hnsw:construction_ef": "ef_construction",
    "hnsw:search_ef": "ef_search",
    "hnsw:M": "max_neighbors",
    "hnsw:num_threads": "num_threads",
    "hnsw:resize_factor": "resize_factor",
    "hnsw:batch_size": "batch_size",
    "hnsw:sync_threshold": "sync_threshold",
}


# -- building ------------------------------------------------------------------------------------


def build_schema(configuration: Any, schema: Any, metadata: Mapping[str, Any] | None) -> Json:
    """The complete schema of a new collection.

    Raises InvalidArgumentError for what Chroma refuses.
    """
    parameters, embedding_function, is_spann = _DEFAULT_PARAMETERS, None, False
    if configuration is not None:
        parameters, embedding_function, is_spann = _parse_configuration(configuration)
    if not is_spann:
        legacy = _parse_legacy(metadata)
        if parameters == _DEFAULT_PARAMETERS:  # a configuration wins over legacy metadata
            parameters = legacy
    if schema is not None:
        schema = parse_schema(schema)
    config_is_default = parameters == _DEFAULT_PARAMETERS and _is_default_function(
        embedding_function
    )
    if schema is not None and not _is_default_schema(schema):
        if not config_is_default:
            raise reconcile_error("Cannot set both collection config and schema simultaneously")
        merged = _merge_with_defaults(schema)
        if not _is_default_schema(merged):  # what it says about SPANN is gone
            return merged
    # An embedding function of the configuration stays visible; that of a default schema does not.
    return _default_schema(*parameters, embedding_function)


def restored_schema(schema: Any) -> Json:
    """The complete schema of a collection that exists elsewhere: what it says, over the defaults.

    Raises InvalidArgumentError for what Chroma refuses.
    """
    return _merge_with_defaults(parse_schema(schema))


def _default_schema(space: str, hnsw: Json, embedding_function: Json | None) -> Json:
    def vector_index(enabled: bool, source_key: str | None) -> Json:
        config: Json = {"space": space}
        if embedding_function is not None:
            config["embedding_function"] = _copied(embedding_function)
        if source_key is not None:
            config["source_key"] = source_key
        config["hnsw"] = dict(hnsw)
        return {"vector_index": {"enabled": enabled, "config": config}}

    return {
        "defaults": {
            "string": {
                "fts_index": {"enabled": False, "config": {}},
                "string_inverted_index": {"enabled": True, "config": {}},
            },
            "float_list": vector_index(enabled=False, source_key=None),
            "sparse_vector": {
                "sparse_vector_index": {
                    "enabled": False,
                    "config": {"embedding_function": {"type": "unknown"}, "bm25": False},
                }
            },
            "int": {"int_inverted_index": {"enabled": True, "config": {}}},
            "float": {"float_inverted_index": {"enabled": True, "config": {}}},
            "bool": {"bool_inverted_index": {"enabled": True, "config": {}}},
        },
        "keys": {
            DOCUMENT_KEY: {
                "string": {
                    "fts_index": {"enabled": True, "config": {}},
                    "string_inverted_index": {"enabled": False, "config": {}},
                }
            },
            EMBEDDING_KEY: {"float_list": vector_index(enabled=True, source_key=DOCUMENT_KEY)},
        },
    }


def _merge_with_defaults(schema: Json) -> Json:
    """The user's schema over Chroma's defaults, field by field."""
    base = _default_schema("l2", dict(HNSW_DEFAULTS), None)
    merged: Json = {"defaults": _merge_types(base["defaults"], schema["defaults"])}
    merged["keys"] = {
        key: _merge_types(value_types, schema["keys"].get(key, {}))
        for key, value_types in base["keys"].items()
    }
    for key, value_types in schema["keys"].items():
        merged["keys"].setdefault(key, _copied(value_types))
    if "cmek" in schema:
        merged["cmek"] = schema["cmek"]
    return merged


def _merge_types(base: Json, over: Json) -> Json:
    merged: Json = _copied(base)
    for value_type, indexes in over.items():
        for name, index in indexes.items():
            mine = merged.setdefault(value_type, {}).setdefault(name, {"config": {}})
            mine["enabled"] = index["enabled"]
            config = _copied(index["config"])
            if name == "vector_index":
                config.pop("spann", None)  # local collections are always HNSW
                config["hnsw"] = {**mine["config"].get("hnsw", {}), **config.get("hnsw", {})}
            mine["config"] = {**mine["config"], **config}
    return merged


# -- views ---------------------------------------------------------------------------------------


def vector_config(schema: Mapping[str, Any]) -> Json:
    """The part of a complete schema that describes the vector index."""
    config: Json = schema["keys"][EMBEDDING_KEY]["float_list"]["vector_index"]["config"]
    return config


def configuration_of(schema: Mapping[str, Any]) -> Json:
    """The `configuration_json` that Chroma shows for a schema."""
    config = vector_config(schema)
    hnsw = config["hnsw"]
    return {
        "hnsw": {
            "space": config["space"],
            "ef_construction": hnsw["ef_construction"],
            "ef_search": hnsw["ef_search"],
            "max_neighbors": hnsw["max_neighbors"],
            "resize_factor": hnsw["resize_factor"],
            "sync_threshold": hnsw["sync_threshold"],
        },
        "spann": None,
        "embedding_function": _copied(config.get("embedding_function")),
    }


def index_parameters(schema: Mapping[str, Any]) -> dict[str, int]:
    """What a schema says about the graph, as Collection.set_index() takes it."""
    hnsw = vector_config(schema)["hnsw"]
    return {name: hnsw[name] for name in ("max_neighbors", "ef_construction", "ef_search")}


# Bits of the engine's type mask -> value type of a schema.  A list counts as its element type.
_TYPE_BITS = (
    (1 | 16, "bool"),
    (2 | 32, "int"),
    (4 | 64, "float"),
    (8 | 128, "string"),
    (256, "sparse_vector"),
)


def _copied(value: Any) -> Any:
    """A deep copy of JSON, ten times as fast as copy.deepcopy, which opening a database shows."""
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def grown_schema(schema: Json, keys_seen: Mapping[str, int]) -> Json:
    """The schema with an entry for every metadata key that was ever written."""
    if not keys_seen:
        return schema
    grown = {**schema, "keys": dict(schema["keys"])}
    defaults = schema["defaults"]
    for key, mask in keys_seen.items():
        if key.startswith("chroma:"):
            continue
        value_types = dict(grown["keys"].get(key, {}))
        for bits, value_type in _TYPE_BITS:
            if mask & bits and value_type not in value_types and value_type in defaults:
                value_types[value_type] = _copied(defaults[value_type])
        grown["keys"][key] = value_types
    return grown


# Which index lets a value type be compared; that of sparse vectors lets them be searched.
_INDEX_OF = {
    "string": "string_inverted_index",
    "int": "int_inverted_index",
    "float": "float_inverted_index",
    "bool": "bool_inverted_index",
    "sparse_vector": "sparse_vector_index",
}


_TYPE_NAMES = {
    "string": "Str",
    "int": "Int",
    "float": "Float",
    "bool": "Bool",
    "sparse_vector": "SparseVector",
}


class IndexView:
    """Which filters a schema allows; made once per open collection, asked on every filter."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.fts = is_enabled(schema["keys"].get(DOCUMENT_KEY, {}), "string", "fts_index")
        self._defaults = {
            value_type: is_enabled(schema["defaults"], value_type, index)
            for value_type, index in _INDEX_OF.items()
        }
        self._keys: dict[tuple[str, str], bool] = {
            (key, value_type): is_enabled(value_types, value_type, _INDEX_OF[value_type])
            for key, value_types in schema["keys"].items()
            for value_type in _INDEX_OF
            if value_type in value_types
        }
        self._with_idf = {
            key
            for key, value_types in schema["keys"].items()
            if value_types.get("sparse_vector", {})
            .get("sparse_vector_index", {})
            .get("config", {})
            .get("bm25")
        }

    def allows(self, key: str, value_type: str) -> bool:
        """Whether `key` may be compared with a value of this type, or searched by a sparse vector.

        Types: "string", "int", "float", "bool", "sparse_vector".
        """
        return self._keys.get((key, value_type), self._defaults[value_type])

    def check(self, key: str, value_type: str) -> None:
        """Raise InvalidArgumentError when the schema switched the index off."""
        if not self.allows(key, value_type):
            raise InvalidArgumentError(
                f"Cannot filter using metadata key '{key}' with type "
                f"'{_TYPE_NAMES[value_type]}' because indexing is disabled"
            )

    def check_fts(self) -> None:
        """The same for full text."""
        if not self.fts:
            raise InvalidArgumentError(
                "Cannot filter using full-text search because FTS indexing is disabled"
            )

    def uses_idf(self, key: str) -> bool:
        """Whether sparse queries of `key` are weighted by how rare their indices are."""
        return key in self._with_idf


# -- updating ------------------------------------------------------------------------------------


def update_schema(schema: Json, update: Any) -> Json:
    """The schema after `collection.modify(configuration=...)`; `update` is its JSON."""
    document = Document(update, "UpdateCollectionConfiguration")
    hnsw = document.read_struct(("hnsw",), "UpdateHnswConfiguration", _HNSW_UPDATE_FIELDS)
    spann = document.read_struct(("spann",), "UpdateSpannConfiguration", _SPANN_UPDATE_FIELDS)
    embedding_function = document.read_embedding_function()
    if hnsw is not None and spann is not None:
        raise InvalidArgumentError("Multiple vector index configurations provided")
    updated: Json = _copied(schema)
    for value_types in (updated["defaults"], updated["keys"][EMBEDDING_KEY]):
        config = value_types["float_list"]["vector_index"]["config"]
        config["hnsw"].update(hnsw or {})
        if embedding_function is not None:
            config["embedding_function"] = _copied(embedding_function)
    return updated


def reindexed_schema(schema: Json, space: str | None, hnsw: Mapping[str, int | None]) -> Json:
    """The schema with another space and other parameters of the graph; None: as it is."""
    changed: Json = _copied(schema)
    for value_types in (changed["defaults"], changed["keys"][EMBEDDING_KEY]):
        config = value_types["float_list"]["vector_index"]["config"]
        config["space"] = space or config["space"]
        config["hnsw"].update({name: value for name, value in hnsw.items() if value is not None})
    return changed


# -- reading what the caller gave ----------------------------------------------------------------


def _parse_legacy(metadata: Mapping[str, Any] | None) -> tuple[str, Json]:
    space, hnsw = "l2", dict(HNSW_DEFAULTS)
    for key, value in (metadata or {}).items():
        if not key.startswith("hnsw:"):
            continue
        field = _LEGACY_METADATA.get(key)
        if field == "space" and value in SPACES:
            space = value
        elif field == "resize_factor" and type(value) in {int, float}:
            hnsw[field] = float(value)
        elif field in hnsw and type(value) is int and value >= LEAST.get(field, 0):
            hnsw[field] = value
        else:
            raise InvalidArgumentError("Failed to parse hnsw parameters from segment metadata")
    return space, hnsw


def _parse_configuration(configuration: Any) -> tuple[tuple[str, Json], Json | None, bool]:
    """Space and HNSW parameters, embedding function, and whether it asked for SPANN."""
    document = Document(configuration, "CollectionConfiguration")
    hnsw = document.read_struct(("hnsw",), "HnswConfiguration", _HNSW_FIELDS)
    spann = document.read_struct(("spann",), "SpannConfiguration", _SPANN_FIELDS)
    embedding_function = document.read_embedding_function()
    if hnsw is not None and spann is not None:
        raise InvalidArgumentError("Multiple vector index configurations provided")
    if spann is not None:  # local collections are always HNSW; the space is all that carries over
        hnsw = {"space": spann["space"]} if "space" in spann else {}
    hnsw = dict(hnsw or {})
    space = hnsw.pop("space", "l2")
    return (space, {**HNSW_DEFAULTS, **hnsw}), embedding_function, spann is not None


def _is_default_schema(schema: Json) -> bool:
    """Whether a parsed schema asks for nothing but defaults."""
    base = _default_schema("l2", HNSW_DEFAULTS, None)
    if "cmek" in schema or any(key not in base["keys"] for key in schema["keys"]):
        return False
    pairs = [(schema["defaults"], base["defaults"])]
    pairs += [(value_types, base["keys"][key]) for key, value_types in schema["keys"].items()]
    return all(
        _is_default_index(index, default[value_type][name])
        for value_types, default in pairs
        for value_type, indexes in value_types.items()
        for name, index in indexes.items()
    )


def _is_default_index(index: Json, default: Json) -> bool:
    if index["enabled"] != default["enabled"]:
        return False
    for field, value in index["config"].items():
        if field == "embedding_function":
            if not _is_default_function(value):
                return False
        elif field == "hnsw":
            # the number of threads does not count
            tuned = {name: value[name] for name in value if name != "num_threads"}
            if any(tuned[name] != HNSW_DEFAULTS[name] for name in tuned):
                return False
        elif value is not None and value != default["config"].get(field):
            return False
    return True


def _is_default_function(function: Any) -> bool:
    """None, an unknown function and Chroma's own default count as "not configured"."""
    if not isinstance(function, dict):
        return function is None
    kind = function.get("type")
    return kind == "unknown" or (kind == "known" and function.get("name") == "default")
