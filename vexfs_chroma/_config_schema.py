"""A schema that a caller gave: read, and checked as Chroma's server checks it."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._config_document import Document, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDING_KEY = "#embedding"
DOCUMENT_KEY = "#document"

HNSW_DEFAULTS: Json = {
    "ef_construction": 100,
    "max_neighbors": 16,
    "ef_search": 100,
    "num_threads": os.cpu_count() or 1,
    "batch_size": 100,
    "sync_threshold": 1000,
    "resize_factor": 1.2,
}
# Below this the old configuration reader refused a value; only legacy metadata and schemas care.
LEAST = {"batch_size": 2, "sync_threshold": 2}
# Value types of a schema and the indexes that each may have, in Chroma's order.
INDEXES = {
    "string": ("fts_index", "string_inverted_index"),
    "float_list": ("vector_index",),
    "sparse_vector": ("sparse_vector_index",),
    "int": ("int_inverted_index",),
    "float": ("float_inverted_index",),
    "bool": ("bool_inverted_index",),
}
_CONFIG_FIELDS = {
    "vector_index": ("space", "embedding_function", "source_key", "hnsw", "spann"),
    "sparse_vector_index": ("embedding_function", "source_key", "bm25", "algorithm"),
}
"""What the configuration of an index may say; that of any other index nothing."""
_CMEK_GCP = re.compile(r"projects/.+/locations/.+/keyRings/.+/cryptoKeys/.+", re.DOTALL)


def parse_schema(schema: Any) -> Json:
    """A schema reduced to the known fields, checked as Chroma checks it."""
    document = Document(schema, "Schema")
    for field in ("defaults", "keys"):
        if field not in schema:
            raise document.error(f"missing field `{field}`", ())
        document.expect_map((field,), "struct ValueTypes" if field == "defaults" else "a map")
    if schema.get("source_attached_function_id") is not None:
        raise schema_error(
            "Cannot set source_attached_function_id. This field is reserved for system use."
        )
    parsed: Json = {
        "defaults": _parse_value_types(document, ("defaults",)),
        "keys": {key: _parse_value_types(document, ("keys", key)) for key in schema["keys"]},
    }
    _check_schema(parsed)
    if schema.get("cmek") is not None:
        cmek = schema["cmek"]
        resource = cmek.get("gcp") if isinstance(cmek, dict) else None
        if not isinstance(resource, str):
            raise document.error("expected a customer-managed encryption key", ("cmek",))
        if not _CMEK_GCP.fullmatch(resource):
            raise schema_error(f"CMEK does not match expected pattern: Gcp({json.dumps(resource)})")
        parsed["cmek"] = {"gcp": resource}
    return parsed


def _parse_value_types(document: Document, path: tuple[str, ...]) -> Json:
    value_types = document.expect_map(path, "struct ValueTypes")
    parsed: Json = {}
    for value_type, names in INDEXES.items():
        given = value_types.get(value_type)
        if given is None:
            continue
        document.expect_map((*path, value_type), "a struct")
        parsed[value_type] = {}
        for name in names:
            if given.get(name) is None:
                continue
            where = (*path, value_type, name)
            index = document.expect_map(where, "a struct")
            for field in ("enabled", "config"):
                if field not in index:
                    raise document.error(f"missing field `{field}`", where)
            if not isinstance(index["enabled"], bool):
                raise document.type_error((*where, "enabled"), "a boolean")
            config = dict(document.expect_map((*where, "config"), "a struct"))
            for field in config:
                document.check_field((*where, "config"), field, _CONFIG_FIELDS.get(name, ()))
            if name == "vector_index":
                config = _parse_vector_config(document, (*where, "config"))
            elif name == "sparse_vector_index":
                config = _parse_sparse_config(document, (*where, "config"))
            parsed[value_type][name] = {"enabled": index["enabled"], "config": config}
    return parsed


def _parse_vector_config(document: Document, path: tuple[str, ...]) -> Json:
    config = document.value(path)
    parsed: Json = {}
    if config.get("space") is not None:
        parsed["space"] = document.read_space((*path, "space"))
    if config.get("embedding_function") is not None:
        parsed["embedding_function"] = document.read_embedding_function(path)
    if config.get("source_key") is not None:
        parsed["source_key"] = config["source_key"]
    if config.get("spann"):
        parsed["spann"] = document.expect_map((*path, "spann"), "struct SpannIndexConfig")
    hnsw = document.read_struct((*path, "hnsw"), "HnswIndexConfig", tuple(HNSW_DEFAULTS))
    if hnsw is not None:
        for field, least in LEAST.items():
            if hnsw.get(field, least) < least:
                raise reconcile_error(
                    f"Invalid HNSW configuration: {field}: Validation error: "
                    f'range [{{"min": Number({least}), "value": Number({hnsw[field]})}}]'
                )
        parsed["hnsw"] = hnsw
    return parsed


def _parse_sparse_config(document: Document, path: tuple[str, ...]) -> Json:
    config = document.value(path)
    parsed: Json = {}
    if config.get("embedding_function") is not None:
        parsed["embedding_function"] = document.read_embedding_function(path)
    for field, kind, expected in (
        ("source_key", str, "a string"),
        ("bm25", bool, "a boolean"),
        ("algorithm", str, "a string"),
    ):
        if config.get(field) is not None:
            if not isinstance(config[field], kind):
                raise document.type_error((*path, field), expected)
            parsed[field] = config[field]
    if parsed.get("algorithm", "wand") not in ("wand", "max_score"):
        text = f"unknown variant `{parsed['algorithm']}`, expected `wand` or `max_score`"
        raise document.error(text, (*path, "algorithm"))
    return parsed


def _check_schema(schema: Json) -> None:
    defaults = schema["defaults"]
    if is_enabled(defaults, "string", "fts_index"):
        raise schema_error(
            "Full text search / regular expression index cannot be enabled by default. "
            "It can only be enabled on #document field."
        )
    if is_enabled(defaults, "float_list", "vector_index"):
        raise schema_error(
            "Vector index cannot be enabled by default. It can only be enabled on #embedding field."
        )
    if is_enabled(defaults, "sparse_vector", "sparse_vector_index"):
        raise schema_error(
            "Sparse vector index cannot be enabled by default. Please enable sparse vector index "
            "on specific keys. At most one sparse vector index is allowed for the collection."
        )
    for key, value_types in schema["keys"].items():
        if key == DOCUMENT_KEY:
            _check_only(key, value_types, "string", "Document")
            if is_enabled(value_types, "string", "string_inverted_index"):
                raise schema_error(
                    f"String inverted index can not be enabled on #document key: {key}"
                )
        elif key == EMBEDDING_KEY:
            _check_only(key, value_types, "float_list", "Embedding")
            vector_index = value_types.get("float_list", {}).get("vector_index", {"config": {}})
            if vector_index["config"].get("source_key", DOCUMENT_KEY) != DOCUMENT_KEY:
                raise schema_error("Vector index can only source from #document")
        elif key.startswith("#"):
            raise schema_error(
                "key cannot begin with '#'. "
                f"Keys starting with '#' are reserved for system use: {key}"
            )
        elif is_enabled(value_types, "float_list", "vector_index"):
            raise schema_error(f"Vector index can only be enabled on #embedding field: {key}")
        elif is_enabled(value_types, "string", "fts_index"):
            raise schema_error(
                "Full text search / regular expression index can only be enabled on "
                f"#document field: {key}"
            )
    _check_sparse_indexes(schema)


def _check_sparse_indexes(schema: Json) -> None:
    enabled: list[str] = []
    for key, value_types in schema["keys"].items():
        index = value_types.get("sparse_vector", {}).get("sparse_vector_index")
        if index is None:
            continue
        source_key = index["config"].get("source_key")
        if index["enabled"]:
            enabled.append(key)
            if len(enabled) > 1:
                raise schema_error(
                    "At most one sparse vector index is allowed for the collection: "
                    f"{json.dumps(enabled)}"
                )
            if source_key is not None and "embedding_function" not in index["config"]:
                raise schema_error(
                    "If source_key is provided then embedding_function must also be provided "
                    "since there is no default embedding function."
                )
        if source_key is not None and source_key.startswith("#") and source_key != DOCUMENT_KEY:
            raise schema_error(
                "source_key cannot begin with '#'. The only valid key starting with '#' is "
                "Key.DOCUMENT or '#document'."
            )


def _check_only(key: str, value_types: Json, allowed: str, label: str) -> None:
    if any(value_type != allowed for value_type in value_types):
        raise schema_error(f"{label} field cannot have any value types other than {allowed}: {key}")


def is_enabled(value_types: Mapping[str, Any], value_type: str, index: str) -> bool:
    found = value_types.get(value_type, {}).get(index)
    return bool(found and found["enabled"])


def schema_error(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Validation error: schema: {text}")


def reconcile_error(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Failed to reconcile schema: {text}")
