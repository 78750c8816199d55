"""Configuration and schema: what Chroma's server does, as recorded from Chroma 1.5.9."""

from __future__ import annotations

import copy

import pytest
from chromadb.api.types import (
    HnswIndexConfig,
    IntInvertedIndexConfig,
    Schema,
    SparseVectorIndexConfig,
    VectorIndexConfig,
)
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._config import (
    IndexView,
    build_schema,
    configuration_of,
    grown_schema,
    update_schema,
    vector_config,
)

KNOWN = {"type": "known", "name": "mine", "config": {"k": 1}}
DEFAULT = {"type": "known", "name": "default", "config": {}}


def configuration(conf=None, schema=None, metadata=None):
    return configuration_of(build_schema(conf, schema, metadata))


def refused(conf=None, schema=None, metadata=None):
    with pytest.raises(InvalidArgumentError) as raised:
        build_schema(conf, schema, metadata)
    return str(raised.value)


def serialized(*indexes):
    schema = Schema()
    for config, key in indexes:
        schema.create_index(config=config, key=key) if key else schema.create_index(config=config)
    return schema.serialize_to_json()


def test_defaults():
    assert configuration() == {
        "hnsw": {
            "space": "l2",
            "ef_construction": 100,
            "ef_search": 100,
            "max_neighbors": 16,
            "resize_factor": 1.2,
            "sync_threshold": 1000,
        },
        "spann": None,
        "embedding_function": None,
    }
    assert sorted(build_schema(None, None, None)["keys"]) == ["#document", "#embedding"]


def test_configuration():
    hnsw = {"space": "ip", "ef_search": 20, "batch_size": 10, "resize_factor": 2}
    schema = build_schema({"hnsw": hnsw, "embedding_function": KNOWN}, None, None)
    shown = configuration_of(schema)
    assert shown["hnsw"]["space"] == "ip"
    assert shown["hnsw"]["ef_search"] == 20
    assert shown["hnsw"]["resize_factor"] == 2.0
    assert "batch_size" not in shown["hnsw"]
    assert shown["embedding_function"] == KNOWN
    assert vector_config(schema)["hnsw"]["batch_size"] == 10
    default = schema["defaults"]["float_list"]["vector_index"]
    assert default["config"]["space"] == "ip"
    assert not default["enabled"]


def test_spann_is_stored_as_hnsw():
    shown = configuration({"spann": {"space": "cosine", "ef_search": 7}})
    assert (shown["hnsw"]["space"], shown["hnsw"]["ef_search"], shown["spann"]) == (
        "cosine",
        100,
        None,
    )


def test_legacy_metadata():
    metadata = {"hnsw:space": "cosine", "hnsw:M": 8, "hnsw:search_ef": 20, "x": 1}
    hnsw = configuration(metadata=metadata)["hnsw"]
    assert (hnsw["space"], hnsw["max_neighbors"], hnsw["ef_search"]) == ("cosine", 8, 20)
    # a configuration wins, but one that says nothing about the index does not
    assert configuration({"hnsw": {"space": "ip"}}, None, metadata)["hnsw"]["max_neighbors"] == 16
    assert configuration({"embedding_function": KNOWN}, None, metadata)["hnsw"]["space"] == "cosine"


@pytest.mark.parametrize(
    "metadata",
    [
        {"hnsw:foo": 1},
        {"hnsw:space": "foo"},
        {"hnsw:M": "x"},
        {"hnsw:M": -1},
        {"hnsw:M": True},
        {"hnsw:M": 8.0},
        {"hnsw:batch_size": 1},
        {"hnsw:sync_threshold": 1},
    ],
)
def test_bad_legacy_metadata(metadata):
    expected = "Failed to parse hnsw parameters from segment metadata"
    assert refused(metadata=metadata) == expected
    assert refused({"hnsw": {"space": "ip"}}, None, metadata) == expected


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        (
            {"hnsw": {"space": "foo"}},
            "unknown variant `foo`, expected one of `l2`, `cosine`, `ip` at line 1 column 24",
        ),
        (
            {"hnsw": {"foo": 1}},
            (
                "unknown field `foo`, expected one of `space`, `ef_construction`, `ef_search`, "
                "`max_neighbors`, `num_threads`, `resize_factor`, `sync_threshold`, `batch_size` "
                "at line 1 column 15"
            ),
        ),
        (
            {"hnsw": {"ef_search": -1}},
            "invalid value: integer `-1`, expected usize at line 1 column 25",
        ),
        (
            {"hnsw": {"ef_search": "x"}},
            'invalid type: string "x", expected usize at line 1 column 26',
        ),
        (
            {"hnsw": {"ef_search": 1.5}},
            "invalid type: floating point `1.5`, expected usize at line 1 column 26",
        ),
        (
            {"hnsw": {"ef_search": True}},
            "invalid type: boolean `true`, expected usize at line 1 column 27",
        ),
        (
            {"hnsw": {"ef_search": 2**64}},
            (
                "invalid type: floating point `1.8446744073709552e+19`, expected usize "
                "at line 1 column 43"
            ),
        ),
        (
            {"hnsw": "x"},
            'invalid type: string "x", expected struct HnswConfiguration at line 1 column 12',
        ),
        (
            {"hnsw": None, "spann": {"foo": 1}},
            (
                "unknown field `foo`, expected one of `search_nprobe`, `write_nprobe`, `space`, "
                "`ef_construction`, `ef_search`, `max_neighbors`, `reassign_neighbor_count`, "
                "`split_threshold`, `merge_threshold` at line 1 column 30"
            ),
        ),
        ({"hnsw": {}, "spann": {}}, "Multiple vector index configurations provided"),
        ({"embedding_function": {}}, "missing field `type` at line 1 column 25"),
        (
            {"embedding_function": {"type": "x"}},
            "unknown variant `x`, expected one of `legacy`, `known`, `unknown` at line 1 column 35",
        ),
        (
            {"embedding_function": {"type": "known", "name": 5, "config": {}}},
            "invalid type: integer `5`, expected a string at line 1 column 65",
        ),
        (
            {"embedding_function": {"type": "known", "name": "x", "config": 10**400}},
            "number out of range",
        ),
        (
            5,
            "invalid type: integer `5`, expected struct CollectionConfiguration at line 1 column 1",
        ),
    ],
)
def test_bad_configuration(conf, text):
    assert refused(conf) == text


def test_zero_and_null_are_accepted():
    hnsw = configuration({"hnsw": {"max_neighbors": 0, "ef_search": None, "space": None}})["hnsw"]
    assert (hnsw["max_neighbors"], hnsw["ef_search"], hnsw["space"]) == (0, 100, "l2")


def test_schema():
    vector = VectorIndexConfig(
        space="cosine", embedding_function=None, hnsw=HnswIndexConfig(ef_search=33)
    )
    schema = build_schema(None, serialized((vector, None)), None)
    hnsw = configuration_of(schema)["hnsw"]
    assert (hnsw["space"], hnsw["ef_search"], hnsw["max_neighbors"]) == ("cosine", 33, 16)


def test_default_schema_says_nothing():
    plain = Schema().serialize_to_json()
    assert build_schema(None, plain, None) == build_schema(None, None, None)
    assert configuration({"hnsw": {"space": "ip"}}, plain)["hnsw"]["space"] == "ip"
    assert configuration(None, plain, {"hnsw:space": "cosine"})["hnsw"]["space"] == "cosine"


def test_schema_and_configuration_exclude_each_other():
    schema = Schema().delete_index(config=IntInvertedIndexConfig()).serialize_to_json()
    expected = (
        "Failed to reconcile schema: Cannot set both collection config and schema simultaneously"
    )
    assert refused({"hnsw": {"space": "ip"}}, schema) == expected
    assert refused({"embedding_function": KNOWN}, schema) == expected
    assert refused(None, schema, {"hnsw:space": "ip"}) == expected
    assert configuration({"embedding_function": DEFAULT}, schema)["hnsw"]["space"] == "l2"


def with_key(key, value_types):
    schema = Schema().serialize_to_json()
    schema["keys"][key] = value_types
    return schema


VECTOR = {"float_list": {"vector_index": {"enabled": True, "config": {}}}}
FTS = {"string": {"fts_index": {"enabled": True, "config": {}}}}
INT = {"int": {"int_inverted_index": {"enabled": True, "config": {}}}}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "missing field `defaults` at line 1 column 2"),
        (with_key("#foo", {}), "Validation error: schema: key cannot begin with '#'"),
        (with_key("k", VECTOR), "Vector index can only be enabled on #embedding field: k"),
        (with_key("k", FTS), "index can only be enabled on #document field: k"),
        (with_key("#document", INT), "Document field cannot have any value types other than"),
        (with_key("#embedding", INT), "Embedding field cannot have any value types other than"),
        ({**Schema().serialize_to_json(), "cmek": {"gcp": "x"}}, 'expected pattern: Gcp("x")'),
    ],
)
def test_bad_schema(schema, text):
    assert text in refused(None, schema)


def test_sparse_index_is_kept_as_it_was_given():
    schema = build_schema(None, serialized((SparseVectorIndexConfig(bm25=True), "sp")), None)
    index = schema["keys"]["sp"]["sparse_vector"]["sparse_vector_index"]
    assert index == {
        "enabled": True,
        "config": {"embedding_function": {"type": "unknown"}, "bm25": True},
    }
    indexes = IndexView(schema)
    assert indexes.allows("sp", "sparse_vector")
    assert indexes.uses_idf("sp")
    assert not indexes.allows("other", "sparse_vector")
    assert not indexes.uses_idf("other")


def sparse(**config):
    return {"sparse_vector": {"sparse_vector_index": {"enabled": True, "config": config}}}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"a": sparse(), "b": sparse()},
            'At most one sparse vector index is allowed for the collection: ["a", "b"]',
        ),
        ({"a": sparse(source_key="t")}, "then embedding_function must also be provided"),
        ({"a": sparse(source_key="#x", embedding_function=KNOWN)}, "cannot begin with '#'"),
        ({"a": sparse(source_key=1)}, "invalid type: integer `1`, expected a string"),
        ({"a": sparse(bm25="yes")}, "expected a boolean"),
        ({"a": sparse(embedding_function=3)}, "expected an embedding function"),
    ],
)
def test_bad_sparse_index(keys, text):
    schema = Schema().serialize_to_json()
    schema["keys"].update(keys)
    assert text in refused(None, schema)


def test_update():
    schema = build_schema({"hnsw": {"space": "ip"}}, None, None)
    before = copy.deepcopy(schema)
    updated = update_schema(schema, {"hnsw": {"ef_search": 5, "batch_size": 7}})
    assert schema == before
    assert configuration_of(updated)["hnsw"]["ef_search"] == 5
    assert configuration_of(updated)["hnsw"]["space"] == "ip"
    assert updated["defaults"]["float_list"]["vector_index"]["config"]["hnsw"]["batch_size"] == 7
    known = update_schema(schema, {"hnsw": None, "spann": None, "embedding_function": KNOWN})
    assert configuration_of(known)["embedding_function"] == KNOWN
    with pytest.raises(InvalidArgumentError, match="unknown field `space`, expected one of `ef_"):
        update_schema(schema, {"hnsw": {"space": "ip"}})
    with pytest.raises(InvalidArgumentError, match="expected `search_nprobe` or `ef_search`"):
        update_schema(schema, {"spann": {"foo": 1}})


def test_schema_grows_with_data():
    schema = build_schema(None, None, None)
    grown = grown_schema(schema, {"n": 2, "both": 2 | 8, "tags": 128, "chroma:x": 2})
    assert sorted(grown["keys"]) == ["#document", "#embedding", "both", "n", "tags"]
    assert sorted(grown["keys"]["both"]) == ["int", "string"]
    assert grown["keys"]["tags"] == {"string": schema["defaults"]["string"]}
    assert "n" not in schema["keys"]
    assert Schema.deserialize_from_json(grown).serialize_to_json()
