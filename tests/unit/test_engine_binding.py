"""The binding: marshalling both ways, errors, regular expressions."""

from __future__ import annotations

import enum
import uuid
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from chromadb.base_types import SparseVector
from chromadb.errors import (
    ChromaError,
    InvalidArgumentError,
    NotFoundError,
    UniqueConstraintError,
)
from hypothesis import given
from hypothesis import strategies as st

import vexfs_chroma
from vexfs_chroma import _engine, _errors
from vexfs_chroma._engine import _ffi_build, _wire
from vexfs_chroma._engine._status import ERROR_CLASSES, error_of
from vexfs_chroma._engine._vexfs import ffi, lib


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Color(str, enum.Enum):
    RED = "red"


def floats(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def write_one(collection: _engine.Collection, metadata: dict | None) -> None:
    collection.write("upsert", ["a"], floats([[1, 2]]), None, [metadata], None)


# ---- marshalling ----------------------------------------------------------------------------


def test_every_kind_of_value_comes_back(collection: _engine.Collection) -> None:
    metadata = {
        "bool": True,
        "int": -(2**63),
        "large": 2**63 - 1,
        "float": 1e300,
        "whole float": 2.0,
        "text": "zażółć 🐍 \0 end",
        "bools": [True, False],
        "ints": [1, -2],
        "floats": [0.5, 2.0],
        "texts": ["a", ""],
        "sparse": SparseVector([0, 7, 2**32 - 1], [0.5, -2.0, 3.0]),
        "labelled": SparseVector([3], [1.0], ["tok"]),
    }
    vectors = floats([[1, 2], [3, 4], [5, 6]])
    documents = ["first", None, ""]
    uris = [None, "file:///x", None]
    changed = collection.write(
        "add", ["a", "b", "c"], vectors, documents, [metadata, None, {}], uris
    )
    assert changed == 3
    rows = collection.get(documents=True, metadatas=True, uris=True, vectors=True)
    assert rows.counts == [3]
    assert rows.ids == ["a", "b", "c"]
    assert rows.documents == documents
    assert rows.uris == uris
    assert rows.metadatas == [metadata, None, {}]
    types = {key: type(value) for key, value in rows.metadatas[0].items()}
    assert types == {key: type(value) for key, value in metadata.items()}
    assert rows.vectors.dtype == np.float32
    assert np.array_equal(rows.vectors, vectors)
    assert rows.distances is None


def test_what_is_not_asked_for_is_none(collection: _engine.Collection) -> None:
    collection.write("add", ["a"], floats([[1, 2]]), ["d"], [{"k": 1}], ["u"])
    rows = collection.get()
    assert (rows.documents, rows.metadatas, rows.uris, rows.vectors) == (None, None, None, None)
    assert collection.query(floats([[1, 2]]), 1).vectors is None


def test_scalars_and_subclasses_that_the_front_end_lets_pass(
    collection: _engine.Collection,
) -> None:
    odd = {
        Text("text"): Text("x"),
        np.str_("numpy text"): np.str_("y"),
        "enum": Color.RED,
        "int": Number(5),
        "int64": np.int64(-6),
        "float32": np.float32(0.5),
        "float64": np.float64(0.25),
        "bool": np.bool_(True),
        "list": [np.int32(1), Number(2)],
        "array": np.array([1.5, 2.5]),
        "tuple": ("p", "q"),
    }
    plain = {
        "text": "x",
        "numpy text": "y",
        "enum": "red",
        "int": 5,
        "int64": -6,
        "float32": 0.5,
        "float64": 0.25,
        "bool": True,
        "list": [1, 2],
        "array": [1.5, 2.5],
        "tuple": ["p", "q"],
    }
    for form in (odd, OrderedDict(odd), MappingProxyType(odd)):
        collection.write("upsert", (Text("a"),), floats([[1, 2]]), (Text("d"),), (form,), None)
    rows = collection.get(np.array(["a"]), documents=True, metadatas=True)
    assert rows.documents == ["d"]
    assert rows.metadatas == [plain]
    assert type(rows.metadatas[0]["bool"]) is bool
    assert collection.count(filter=[_engine.F_EQ, Text("int"), np.int64(5)]) == 1


def test_vectors_of_any_array_form(collection: _engine.Collection) -> None:
    wide = np.arange(8, dtype=np.float64).reshape(2, 4)
    for index, form in enumerate(
        [
            wide,
            wide.astype(np.float32),
            np.asfortranarray(wide),
            wide.astype(np.int64),
            wide[::-1],
        ]
    ):
        form.flags.writeable = False
        collection.write("add", [f"{index}a", f"{index}b"], form, None, None, None)
        rows = collection.get([f"{index}a", f"{index}b"], vectors=True)
        assert np.array_equal(rows.vectors, form)
    every_other = np.zeros((2, 8), dtype=np.float32)[:, ::2]
    assert collection.query(every_other, 1).counts == [1, 1]


def test_vectors_returned_belong_to_the_caller(collection: _engine.Collection) -> None:
    collection.write("add", ["a"], floats([[1, 2]]), None, None, None)
    vectors = collection.get(vectors=True).vectors
    vectors[:] = 9
    assert collection.get(vectors=True).vectors.tolist() == [[1, 2]]
    collection.close()
    assert vectors.tolist() == [[9, 9]]


def test_query_is_flat_over_queries(collection: _engine.Collection) -> None:
    collection.write("add", ["a", "b", "c"], floats([[0], [1], [3]]), None, None, None)
    rows = collection.query(floats([[0], [3]]), 2, vectors=True)
    assert rows.counts == [2, 2]
    assert rows.ids == ["a", "b", "c", "b"]
    assert rows.distances.tolist() == [0, 1, 0, 4]
    assert rows.vectors.tolist() == [[0], [1], [3], [1]]
    assert collection.query(floats([[0]]), 2**70).counts == [3]


def test_empty_results(collection: _engine.Collection) -> None:
    rows = collection.get(documents=True, metadatas=True, vectors=True)
    assert (rows.counts, rows.ids, rows.documents, rows.metadatas) == ([0], [], [], [])
    assert len(rows.vectors) == 0
    rows = collection.query(floats([[0, 0], [1, 1]]), 3)
    assert (rows.counts, rows.ids, rows.distances.tolist()) == ([0, 0], [], [])
    assert collection.get([]).ids == []
    assert collection.delete([], None) == 0


def test_offset_limit_and_delete(collection: _engine.Collection) -> None:
    ids = [str(i) for i in range(10)]
    collection.write("add", ids, np.zeros((10, 2), np.float32), None, None, None)
    assert collection.get(offset=3, limit=2).ids == ["3", "4"]
    assert collection.get(offset=2**80).ids == []
    assert collection.get(limit=np.int64(0)).ids == []
    assert collection.delete(None, [_engine.F_ID_NOT_IN, ["1"]], limit=2) == 2
    assert collection.count() == 8
    assert collection.count(["1", "0"]) == 1
    with pytest.raises(InvalidArgumentError, match="limit must not be negative"):
        collection.get(limit=-1)
    with pytest.raises(InvalidArgumentError, match="k must be an integer, got str"):
        collection.query(floats([[0, 0]]), "3")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        collection.delete(None, None)


def test_info_and_keys(collection: _engine.Collection) -> None:
    write_one(collection, {"i": 1, "s": "x"})
    write_one(collection, {"i": 1.5})
    info = collection.info()
    assert (info.rows, info.dimension, info.space, info.lsn) == (1, 2, "l2", 2)
    assert collection.metadata_keys() == {"i": 2 | 4, "s": 8}
    collection.flush()
    assert collection.info().memtable_rows == 0
    assert _engine.stats()["heap_bytes"] > 0
    assert set(_engine.stats()) == {name for name, _ in ffi.typeof("vex_stats").fields}


def test_versions_agree() -> None:
    assert _engine.version() == vexfs_chroma.__version__
    assert _engine.format_version() >= (1, 0)
    assert _engine.simd_level() in {"scalar", "avx2", "avx512", "neon"}
    assert _engine.codec_name() != "store"


def shortest(value: float) -> float:
    """What comes back of a value of a sparse vector: the shortest decimal of the float32."""
    return float(str(np.float32(value)))


METADATA = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(),
        st.lists(st.text(), min_size=1, max_size=4),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
        st.dictionaries(
            st.integers(0, 2**32 - 1), st.floats(width=32, allow_nan=False, allow_infinity=False)
        ).map(lambda d: SparseVector(sorted(d), [shortest(d[i]) for i in sorted(d)])),
    ),
    max_size=6,
)


@given(st.lists(st.tuples(METADATA, st.none() | st.text()), min_size=1, max_size=5))
def test_records_survive_the_wire(records: list[tuple[dict, str | None]]) -> None:
    ids = [str(i) for i in range(len(records))]
    metadatas = [metadata for metadata, _ in records]
    documents = [document for _, document in records]
    decoded = _wire.decode_records(_wire.encode_records(ids, documents, metadatas, None))
    assert list(decoded) == [ids, documents, metadatas, None]


@given(METADATA, st.none() | st.text())
def test_records_survive_the_engine(metadata: dict, document: str | None) -> None:
    database = _engine.Database(None)
    name = uuid.uuid4()
    database.create_collection(name, "l2")
    collection = database.open_collection(name)
    collection.write("add", ["a"], floats([[1]]), [document], [metadata], None)
    rows = collection.get(documents=True, metadatas=True)
    database.close()
    assert rows.documents == [document]
    assert rows.metadatas == [metadata]


# ---- errors ---------------------------------------------------------------------------------


def test_every_status_has_its_class() -> None:
    names = [name for name in dir(lib) if name.startswith("VEX_ERR_")]
    header = _ffi_build.header_declarations()
    assert len(names) == header.count("#define VEX_ERR_") > 15
    assert {getattr(lib, name) for name in names} == set(ERROR_CLASSES)
    for status, error_class in ERROR_CLASSES.items():
        assert isinstance(error_of(status), error_class)
        assert issubclass(error_class, (ChromaError, MemoryError))
        assert ffi.string(lib.vex_status_name(status)).decode() in names


@pytest.mark.parametrize(
    "metadata",
    [
        {"k": "\ud800"},
        {"\udfff": 1},
        {"k": ["\ud800"]},
        {"k": 2**63},
        {"k": -(2**63) - 1},
        {"k": 2**70},
        {"k": object()},
        {"k": 1j},
        {"k": b"bytes"},
        {"k": {"nested": 1}},
        {"k": [1, "mixed"]},
        {1: "key"},
        {"k": SparseVector([2**32], [1.0])},
    ],
)
def test_metadata_that_cannot_be_stored(collection: _engine.Collection, metadata: dict) -> None:
    with pytest.raises((InvalidArgumentError, UnicodeEncodeError)):
        write_one(collection, metadata)
    assert collection.count() == 0


def test_lone_surrogates_are_named(collection: _engine.Collection) -> None:
    with pytest.raises(
        UnicodeEncodeError, match=r"'\\ud800' in position 2: surrogates not allowed"
    ):
        collection.get(["ab\ud800"])
    with pytest.raises(UnicodeEncodeError, match="surrogates"):
        collection.count(filter=[_engine.F_DOC_CONTAINS, "\udc00"])


def test_a_bottomless_value_is_refused(collection: _engine.Collection) -> None:
    bottomless: list = []
    bottomless.append(bottomless)
    with pytest.raises(InvalidArgumentError):
        write_one(collection, {"k": bottomless})
    with pytest.raises(InvalidArgumentError):
        collection.count(filter=bottomless)


@pytest.mark.parametrize(
    "vectors",
    [
        floats([[1, 2], [3, 4]]),
        np.zeros(2, np.float32),
        np.zeros((1, 2, 1), np.float32),
        np.array([["x", "y"]]),
        floats([[np.nan, 0]]),
        floats([[np.inf, 0]]),
        np.array([[1e300, 0]]),
    ],
)
def test_vectors_that_cannot_be_stored(collection: _engine.Collection, vectors: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError):
        collection.write("add", ["a"], vectors, None, None, None)
    assert collection.count() == 0


def test_arguments_are_checked(collection: _engine.Collection, database: _engine.Database) -> None:
    one = floats([[1, 2]])
    with pytest.raises(InvalidArgumentError, match="op must be one of add, update, upsert"):
        collection.write("insert", ["a"], one, None, None, None)
    for arguments in [(["a", "b"], None, None), (None, [{}, {}], None), (None, None, ["u", "v"])]:
        with pytest.raises(InvalidArgumentError):
            collection.write("add", ["a"], one, *arguments)
    with pytest.raises(InvalidArgumentError):
        collection.write("add", ["a", "a"], np.zeros((2, 2)), None, None, None)
    write_one(collection, None)
    with pytest.raises(InvalidArgumentError):
        collection.write("add", ["b"], floats([[1, 2, 3]]), None, None, None)
    with pytest.raises(InvalidArgumentError, match="space must be one of"):
        database.create_collection(uuid.uuid4(), "hamming")
    with pytest.raises(InvalidArgumentError, match="durability must be one of"):
        _engine.Database(None, durability="some")
    with pytest.raises(InvalidArgumentError, match="busy_timeout"):
        _engine.Database(None, busy_timeout=float("nan"))
    with pytest.raises(InvalidArgumentError, match="path"):
        _engine.Database("a\0b")


def test_collections_exist_once(database: _engine.Database) -> None:
    names = sorted(uuid.uuid4() for _ in range(3))
    for name in reversed(names):
        database.create_collection(name, "cosine")
    assert database.list_collections() == names
    with pytest.raises(UniqueConstraintError):
        database.create_collection(names[0], "l2")
    collection = database.open_collection(names[0])
    database.drop_collection(names[0])
    assert database.list_collections() == names[1:]
    for call in (collection.count, lambda: database.open_collection(names[0])):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(NotFoundError):
        database.drop_collection(names[0])


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        _engine.Database(str(tmp_path / "none"), create=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "chroma.sqlite3").write_text("another database")
    with pytest.raises(_errors.ForeignDatabaseError, match="other"):
        _engine.Database(str(tmp_path / "other"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ChromaError):
        _engine.Database(str(tmp_path / "file" / "below"))


def test_read_only(tmp_path: Path) -> None:
    path = str(tmp_path / "database")
    name = uuid.uuid4()
    writer = _engine.Database(path)
    writer.create_collection(name, "l2")
    write_one(writer.open_collection(name), {"k": 1})
    writer.close()
    reader = _engine.Database(path, read_only=True)
    collection = reader.open_collection(name)
    assert collection.get(metadatas=True).metadatas == [{"k": 1}]
    with pytest.raises(_errors.ReadOnlyError):
        write_one(collection, {"k": 2})
    reader.close()


# ---- regular expressions ----------------------------------------------------------------------


def test_regex_filters(collection: _engine.Collection) -> None:
    documents = ["cat", "dog", None, "scatter", ""]
    ids = list("abcde")
    collection.write("add", ids, np.zeros((5, 1)), documents, None, None)
    matching = [_engine.F_DOC_REGEX, "^c.t"]
    assert collection.get(filter=matching).ids == ["a"]
    assert collection.get(filter=[_engine.F_DOC_REGEX, "c.t"]).ids == ["a", "d"]
    assert collection.get(filter=[_engine.F_DOC_NOT_REGEX, "c.t"]).ids == ["b", "c", "e"]


def test_a_refused_pattern_raises_what_compile_raised(
    collection: _engine.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RefusedError(InvalidArgumentError):
        pass

    def refuse(pattern: str) -> object:
        raise RefusedError(f"no {pattern}")

    monkeypatch.setattr("vexfs_chroma._regex.compile_pattern", refuse)
    collection.write("add", ["a"], floats([[1]]), ["text"], None, None)
    with pytest.raises(RefusedError, match="no secret"):
        collection.get(filter=[_engine.F_DOC_REGEX, "secret"])
    monkeypatch.undo()
    with pytest.raises(ChromaError):
        collection.get(filter=[_engine.F_DOC_REGEX, "(unclosed"])
    assert collection.get(filter=[_engine.F_DOC_REGEX, "t.xt"]).ids == ["a"]
