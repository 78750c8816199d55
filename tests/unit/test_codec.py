"""The two zstd providers: chosen, checked, interchangeable, silent when they fail."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard
from chromadb.errors import InvalidArgumentError
from hypothesis import given
from hypothesis import strategies as st
from zstandard import _cffi as backend

import vexfs_chroma
from vexfs_chroma._engine import _codec
from vexfs_chroma._engine._vexfs import ffi, lib

WORDS = ["segment ", "block ", "of ", "the ", "dictionary ", "vector ", "column\n", "value, "]


def text(n: int, seed: int = 1) -> bytes:
    words = random.Random(seed)
    return "".join(words.choice(WORDS) for _ in range(n // 3)).encode()[:n]


@pytest.fixture(autouse=True)
def codec_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    _codec.register(ffi, lib)


def registered() -> str:
    return ffi.string(lib.vex_codec_name()).decode()


# ---- choice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["native", "python", "store"])
def test_environment_forces_a_codec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_CODEC", name)
    assert _codec.register(ffi, lib) == name
    assert registered() == name


def test_default_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXFS_CODEC", raising=False)
    assert _codec.register(ffi, lib) == "native"


def test_default_falls_back_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXFS_CODEC", raising=False)
    monkeypatch.setitem(sys.modules, "zstandard._cffi", None)
    assert _codec.register(ffi, lib) == "python"
    assert registered() == "python"
    monkeypatch.setenv("VEXFS_CODEC", "native")
    with pytest.raises(_codec.CodecUnavailableError, match="without its cffi backend"):
        _codec.register(ffi, lib)
    assert registered() == "python"


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXFS_CODEC", "lz4")
    with pytest.raises(InvalidArgumentError, match="VEXFS_CODEC=lz4 is no codec; set it to native"):
        _codec.register(ffi, lib)


@pytest.mark.parametrize(
    ("wanted", "backend", "expected"),
    [
        ("lz4", True, "VEXFS_CODEC=lz4 is no codec; set it to native, python or store, or unset"),
        ("native", False, "VEXFS_CODEC=native cannot be had: .*; VEXFS_CODEC=python works without"),
    ],
)
def test_a_codec_that_cannot_be_had_is_told_at_opening(
    wanted: str, backend: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the import, which cannot say it in one line; no database is written otherwise."""
    with monkeypatch.context() as patch:
        patch.setenv("VEXFS_CODEC", wanted)
        if not backend:
            patch.setitem(sys.modules, "zstandard._cffi", None)
        _codec.start(ffi, lib)
        assert registered() == ("native" if backend else "python")
        with pytest.raises(InvalidArgumentError, match=expected):
            vexfs_chroma.EphemeralClient()
    _codec.start(ffi, lib)
    vexfs_chroma.EphemeralClient().close()


class Backend:
    """zstandard's cffi module with something changed."""

    def __init__(self, **changed: Any) -> None:
        names = ["ZSTD_versionNumber", *(name for name, _ in _codec._SIGNATURES.values())]
        functions = {name: getattr(backend.lib, name) for name in names} | changed
        self.lib = SimpleNamespace(**{k: v for k, v in functions.items() if v is not None})
        self.ffi = SimpleNamespace(
            addressof=self.addressof, typeof=backend.ffi.typeof, cast=backend.ffi.cast
        )

    def addressof(self, library: Any, name: str) -> Any:
        function = getattr(library, name)
        return (
            function
            if isinstance(function, ffi.CData)
            else backend.ffi.addressof(backend.lib, name)
        )


def test_native_functions_are_checked() -> None:
    assert _codec._native_symbols(ffi, Backend()).keys() == {"version", *_codec._SIGNATURES}
    with pytest.raises(_codec.CodecUnavailableError, match="has no ZSTD_createDDict"):
        _codec._native_symbols(ffi, Backend(ZSTD_createDDict=None))
    other = backend.ffi.cast("int(*)(void)", 1)
    with pytest.raises(_codec.CodecUnavailableError, match="ZSTD_isError is int"):
        _codec._native_symbols(ffi, Backend(ZSTD_isError=other))
    with pytest.raises(_codec.CodecUnavailableError, match="libzstd 10399"):
        _codec._native_symbols(ffi, Backend(ZSTD_versionNumber=lambda: 10399))
    with pytest.raises(_codec.CodecUnavailableError, match="libzstd 0 "):
        _codec._native_symbols(ffi, Backend(ZSTD_versionNumber=None))


def test_engine_refuses_a_foreign_function() -> None:
    fields = _codec._native_symbols(ffi, backend)
    fields["decompress_using_dict"] = fields["create_ddict"] = ffi.NULL
    status = lib.vex_set_codec_native(ffi.new("vex_zstd_symbols *", fields), b"broken")
    with pytest.raises(_codec.CodecUnavailableError, match="address is missing"):
        _codec._check(ffi, lib, "broken", status)


# ---- frames -----------------------------------------------------------------------------------

Compress = Callable[[bytes, bytes], "bytes | None"]
Decompress = Callable[[bytes, int, bytes], "bytes | None"]


def python_compress(data: bytes, dictionary: bytes) -> bytes | None:
    target = ffi.new("char[]", len(data) + 1000)
    source = ffi.from_buffer(data)
    digested = ffi.from_buffer(dictionary) if dictionary else ffi.NULL
    n = lib.vexfs_zstd_compress(
        ffi.NULL, target, len(target), source, len(data), digested, len(dictionary), 3
    )
    return None if n == _codec.FAILED else ffi.buffer(target, n)[:]


def python_decompress(data: bytes, length: int, dictionary: bytes) -> bytes | None:
    target = ffi.new("char[]", length + 1)
    target[length] = b"!"
    source = ffi.from_buffer(data)
    digested = ffi.from_buffer(dictionary) if dictionary else ffi.NULL
    n = lib.vexfs_zstd_decompress(
        ffi.NULL, target, length, source, len(data), digested, len(dictionary)
    )
    assert target[length] == b"!"
    return None if n == _codec.FAILED else ffi.buffer(target, n)[:]


def native_compress(data: bytes, dictionary: bytes) -> bytes | None:
    z, context = backend.lib, backend.lib.ZSTD_createCCtx()
    target = backend.ffi.new("char[]", z.ZSTD_compressBound(len(data)))
    n = z.ZSTD_compress_usingDict(
        context, target, len(target), data, len(data), dictionary, len(dictionary), 3
    )
    z.ZSTD_freeCCtx(context)
    return None if z.ZSTD_isError(n) else backend.ffi.buffer(target, n)[:]


def native_decompress(data: bytes, length: int, dictionary: bytes) -> bytes | None:
    z, context = backend.lib, backend.lib.ZSTD_createDCtx()
    target = backend.ffi.new("char[]", length + 1)
    n = z.ZSTD_decompress_usingDict(
        context, target, length, data, len(data), dictionary, len(dictionary)
    )
    z.ZSTD_freeDCtx(context)
    return None if z.ZSTD_isError(n) else backend.ffi.buffer(target, n)[:]


PAIRS = [
    pytest.param(write, read, id=f"{write.__name__}-{read.__name__}")
    for write in (native_compress, python_compress)
    for read in (native_decompress, python_decompress)
]


@pytest.fixture(scope="module", autouse=True)
def callbacks() -> None:
    if not _codec._callbacks:
        _codec._make_callbacks(ffi)


@pytest.fixture(scope="module")
def dictionary() -> bytes:
    samples = [text(500, seed) for seed in range(400)]
    joined = b"".join(samples)
    target = ffi.new("char[]", 4096)
    lengths = ffi.new("size_t[]", [len(sample) for sample in samples])
    n = lib.vexfs_zstd_train(ffi.NULL, target, 4096, ffi.from_buffer(joined), lengths, len(samples))
    assert 256 < n <= 4096
    return ffi.buffer(target, n)[:]


@pytest.mark.parametrize(("write", "read"), PAIRS)
def test_frames_are_interchangeable(write: Compress, read: Decompress, dictionary: bytes) -> None:
    for data in (b"x", b"x" * 100_000, text(4096, 7), os.urandom(5000)):
        frames = [write(data, with_dictionary) for with_dictionary in (b"", dictionary)]
        for frame, with_dictionary in zip(frames, (b"", dictionary), strict=True):
            assert frame is not None
            assert read(frame, len(data), with_dictionary) == data
    plain, smaller = (write(text(700, 9), d) for d in (b"", dictionary))
    assert plain is not None
    assert smaller is not None
    assert len(smaller) < len(plain)
    assert read(smaller, 700, b"") is None


@given(st.binary(min_size=1, max_size=3000), st.binary(min_size=8, max_size=300))
def test_any_bytes(data: bytes, dictionary: bytes) -> None:
    for used in (b"", dictionary):
        frame = python_compress(data, used)
        assert frame is not None
        assert native_decompress(frame, len(data), used) == data
        assert python_decompress(frame, len(data), used) == data


def test_failures_are_silent(dictionary: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    data = text(2000)
    frame = python_compress(data, b"")
    assert frame is not None
    for length in (0, 1, len(data) - 1, len(data) + 1, 2**20):
        assert python_decompress(frame, length, b"") is None
    for damaged in (b"", b"garbage", frame[:-1], frame[:5], frame + b"!", frame + frame):
        assert python_decompress(damaged, len(data), b"") is None
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    assert python_decompress(bomb, 2000, b"") is None
    target = ffi.new("char[]", 10)
    source = ffi.from_buffer(data)
    compress, train = lib.vexfs_zstd_compress, lib.vexfs_zstd_train
    assert compress(ffi.NULL, target, 10, source, 2000, ffi.NULL, 0, 3) == _codec.FAILED
    lengths = ffi.new("size_t[]", [1000, 1000])
    assert train(ffi.NULL, target, 10, source, lengths, 2) == 0
    assert train(ffi.NULL, target, 10, source, lengths, 0) == 0
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


def test_address_of_a_dictionary_is_reused(dictionary: bytes) -> None:
    first, second = dictionary, text(len(dictionary), 3)
    place = ffi.new("char[]", first)
    data = text(600, 4)
    source, target = ffi.from_buffer(data), ffi.new("char[]", 2000)
    frames = []
    for content in (first, second, first):
        ffi.memmove(place, content, len(content))
        n = lib.vexfs_zstd_compress(ffi.NULL, target, 2000, source, 600, place, len(content), 3)
        frames.append(ffi.buffer(target, n)[:])
        assert native_decompress(frames[-1], 600, content) == data
    assert frames[0] == frames[2] != frames[1]


def test_many_dictionaries() -> None:
    data = text(600)
    contents = [text(200, seed) for seed in range(3 * _codec._CoderCache.MAX)]
    for content in contents:
        frame = python_compress(data, content)
        assert frame is not None
        assert python_decompress(frame, 600, content) == data


def test_threads_do_not_share_coders(dictionary: bytes) -> None:
    wrong = []

    def work(seed: int) -> None:
        for turn in range(100):
            data = text(3000, seed * 1000 + turn)
            used = dictionary if turn % 2 else b""
            frame = python_compress(data, used)
            if frame is None or python_decompress(frame, 3000, used) != data:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- files ------------------------------------------------------------------------------------

PROGRAM = """
import json, sys, uuid
import numpy as np
from vexfs_chroma import _engine

path, verb = sys.argv[1:3]
ids = [str(i) for i in range(3000)]
documents = [f"document number {i} of a collection of documents" * (i % 20) for i in range(3000)]
metadatas = [{"page": i, "author": f"author {i % 7}"} for i in range(3000)]
database = _engine.Database(path)
name = uuid.UUID(int=7)
if verb == "write":
    database.create_collection(name, "l2")
collection = database.open_collection(name)
if verb == "write":
    vectors = np.arange(3000, dtype=np.float32).reshape(-1, 1)
    collection.write("upsert", ids, vectors, documents, metadatas, None)
    collection.flush()
else:
    rows = collection.get(documents=True, metadatas=True)
    assert list(rows.documents) == documents and list(rows.metadatas) == metadatas
info = collection.info()
print(json.dumps([_engine.codec_name(), info.raw_document_bytes, info.stored_document_bytes]))
database.close()
"""


def run_program(codec: str, path: Path, verb: str) -> tuple[str, int, int]:
    environment = os.environ | {"VEXFS_CODEC": codec}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), verb],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    name, raw, stored = json.loads(result.stdout)
    return name, raw, stored


@pytest.mark.parametrize("writer", ["native", "python", "store"])
def test_databases_are_interchangeable(writer: str, tmp_path: Path) -> None:
    path = tmp_path / str(uuid.uuid4())
    name, raw, stored = run_program(writer, path, "write")
    assert name == writer
    assert stored * 2 < raw if writer != "store" else stored >= raw
    for reader in ("native", "python"):
        assert run_program(reader, path, "read") == (reader, raw, stored)
