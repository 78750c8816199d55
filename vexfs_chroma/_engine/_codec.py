"""Registers zstandard's zstd with the engine.

Two providers write and read the same frames (RFC 8878):

``native``  addresses of libzstd's functions inside zstandard's cffi backend.  The engine calls
            them from its own threads, without the interpreter.  That backend is a private module,
            so its version and the C type of every function are checked first.
``python``  zstandard's public classes, called back by the engine.

The environment variable VEXFS_CODEC forces one of them, or ``store``: compress nothing.  A value
that cannot be had is no reason why the package could not be imported: it is told where a database
is opened, as wrong values of other variables are.
"""

from __future__ import annotations

import atexit
import importlib
import os
from typing import Any

import zstandard
from chromadb.errors import InvalidArgumentError

VARIABLE = "VEXFS_CODEC"
CDEF = """
extern "Python" {
    size_t vexfs_zstd_compress(void *, void *, size_t, const void *, size_t, const void *, size_t,
                               int);
    size_t vexfs_zstd_decompress(void *, void *, size_t, const void *, size_t, const void *,
                                 size_t);
    size_t vexfs_zstd_train(void *, void *, size_t, const void *, const size_t *, uint32_t);
}
"""

VERSION_MIN = 10400
FAILED = 2**64 - 1  # SIZE_MAX; every platform we run on has 64 bits


class CodecUnavailableError(ImportError):
    """A codec cannot be used here; the text says why."""


def register(ffi: Any, lib: Any) -> str:
    """Register the process's codec and return its name.

    Raises InvalidArgumentError for a variable that names none, CodecUnavailableError for one that
    cannot be had.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "store":
        _check(ffi, lib, "store", lib.vex_set_codec(ffi.NULL))
        return "store"
    if wanted == "native":
        _register_native(ffi, lib)
        return "native"
    if wanted == "python":
        _register_python(ffi, lib)
        return "python"
    if wanted:
        raise InvalidArgumentError(
            f"{VARIABLE}={wanted} is no codec; set it to native, python or store, or unset it"
        )
    return _register_usual(ffi, lib)


def _register_usual(ffi: Any, lib: Any) -> str:
    try:
        _register_native(ffi, lib)
    except CodecUnavailableError:
        _register_python(ffi, lib)
        return "python"
    return "native"


_refusals: list[str] = []
"""Why the codec of the variable is not the registered one."""


def start(ffi: Any, lib: Any) -> None:
    """register(), and where it refuses, the usual codec, with which databases can be read."""
    _refusals.clear()
    try:
        register(ffi, lib)
    except InvalidArgumentError as error:
        _refusals.append(str(error))
        _register_usual(ffi, lib)
    except CodecUnavailableError as error:
        if not os.environ.get(VARIABLE):
            raise
        _refusals.append(f"{VARIABLE}={os.environ[VARIABLE]} cannot be had: {error}")
        _register_usual(ffi, lib)


def check_started() -> None:
    """Raise InvalidArgumentError when the codec is not the one that the variable asks for."""
    for refusal in _refusals:
        raise InvalidArgumentError(refusal)


def _check(ffi: Any, lib: Any, name: str, status: int) -> None:
    if status != lib.VEX_OK:
        reason = ffi.string(lib.vex_last_error().message).decode("utf-8", "replace")
        raise CodecUnavailableError(f"the engine refused the codec {name!r}: {reason}")


# ---- native -----------------------------------------------------------------------------------

# Field of vex_zstd_symbols -> function, result and parameters as cffi prints them
# (it drops const).
_CCTX, _DCTX = "struct ZSTD_CCtx_s *", "struct ZSTD_DCtx_s *"
_CDICT, _DDICT = "struct ZSTD_CDict_s *", "struct ZSTD_DDict_s *"
_COPY = "void *, size_t, void *, size_t"  # destination, source
_SIGNATURES = {
    "create_cctx": ("ZSTD_createCCtx", f"{_CCTX}(*)()"),
    "free_cctx": ("ZSTD_freeCCtx", f"size_t(*)({_CCTX})"),
    "compress_using_dict": (
        "ZSTD_compress_usingDict",
        f"size_t(*)({_CCTX}, {_COPY}, void *, size_t, int)",
    ),
    "create_dctx": ("ZSTD_createDCtx", f"{_DCTX}(*)()"),
    "free_dctx": ("ZSTD_freeDCtx", f"size_t(*)({_DCTX})"),
    "decompress_using_dict": (
        "ZSTD_decompress_usingDict",
        f"size_t(*)({_DCTX}, {_COPY}, void *, size_t)",
    ),
    "create_cdict": ("ZSTD_createCDict", f"{_CDICT}(*)(void *, size_t, int)"),
    "free_cdict": ("ZSTD_freeCDict", f"size_t(*)({_CDICT})"),
    "compress_using_cdict": (
        "ZSTD_compress_usingCDict",
        f"size_t(*)({_CCTX}, {_COPY}, {_CDICT})",
    ),
    "create_ddict": ("ZSTD_createDDict", f"{_DDICT}(*)(void *, size_t)"),
    "free_ddict": ("ZSTD_freeDDict", f"size_t(*)({_DDICT})"),
    "decompress_using_ddict": (
        "ZSTD_decompress_usingDDict",
        f"size_t(*)({_DCTX}, {_COPY}, {_DDICT})",
    ),
    "compress_bound": ("ZSTD_compressBound", "size_t(*)(size_t)"),
    "is_error": ("ZSTD_isError", "unsigned int(*)(size_t)"),
    "train_from_buffer": (
        "ZDICT_trainFromBuffer",
        "size_t(*)(void *, size_t, void *, size_t *, unsigned int)",
    ),
    "train_is_error": ("ZDICT_isError", "unsigned int(*)(size_t)"),
}

_loaded: list[Any] = []  # the library whose addresses the engine holds must stay loaded


def _register_native(ffi: Any, lib: Any) -> None:
    try:
        backend = importlib.import_module("zstandard._cffi")
    except ImportError as error:
        raise CodecUnavailableError(
            f"zstandard {zstandard.__version__} was built without its cffi backend; "
            "VEXFS_CODEC=python works without it"
        ) from error
    symbols = ffi.new("vex_zstd_symbols *", _native_symbols(ffi, backend))
    _check(ffi, lib, "native", lib.vex_set_codec_native(symbols, b"native"))
    _loaded.append(backend)


def _native_symbols(ffi: Any, backend: Any) -> dict[str, Any]:
    """The fields of vex_zstd_symbols, each function checked by its C type."""
    version = int(getattr(backend.lib, "ZSTD_versionNumber", int)())
    if version < VERSION_MIN:
        raise CodecUnavailableError(f"libzstd {version} in zstandard is older than {VERSION_MIN}")
    fields: dict[str, Any] = {"version": version}
    for field, (name, expected) in _SIGNATURES.items():
        try:
            function = backend.ffi.addressof(backend.lib, name)
        except AttributeError as error:
            raise CodecUnavailableError(f"zstandard's cffi backend has no {name}") from error
        found = backend.ffi.typeof(function).cname
        if found != expected:
            raise CodecUnavailableError(f"zstandard's {name} is {found}, expected {expected}")
        fields[field] = ffi.cast("void *", int(backend.ffi.cast("uintptr_t", function)))
    return fields


# ---- python -----------------------------------------------------------------------------------


class _Coders:
    """Compressors (by level) and decompressors for one dictionary, or for none.

    zstandard's objects serve one thread at a time, and a C thread may be a new Python thread in
    every callback, so they are not kept per thread: whoever needs one takes it out of a list and
    puts it back.  Taking and putting are atomic.
    """

    def __init__(self, dictionary: bytes) -> None:
        self.dictionary = dictionary
        self._compressors: dict[int, list[zstandard.ZstdCompressor]] = {}
        self._decompressors: list[zstandard.ZstdDecompressor] = []
        self._digests: dict[int, zstandard.ZstdCompressionDict] = {}  # shared, read-only
        self._digest = zstandard.ZstdCompressionDict(dictionary) if dictionary else None

    def compress(self, data: Any, level: int) -> bytes:
        idle = self._compressors.setdefault(level, [])
        try:
            compressor = idle.pop()
        except IndexError:
            compressor = zstandard.ZstdCompressor(level=level, dict_data=self._digest_for(level))
        result = compressor.compress(data)
        idle.append(compressor)
        return result

    def decompress(self, data: Any, length: int) -> bytes:
        """Decompress to `length` bytes; ZstdError when the frame says otherwise."""
        # A frame's own size decides what zstandard allocates, so it is compared before.
        size = zstandard.frame_content_size(data)
        if size not in (-1, length) or length == 0:
            raise zstandard.ZstdError("the frame has another length")
        try:
            decompressor = self._decompressors.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor(dict_data=self._digest)
        result = decompressor.decompress(data, max_output_size=length, allow_extra_data=False)
        self._decompressors.append(decompressor)
        return result

    def _digest_for(self, level: int) -> zstandard.ZstdCompressionDict | None:
        if self._digest is None:
            return None
        digest = self._digests.get(level)
        if digest is None:
            digest = zstandard.ZstdCompressionDict(self.dictionary)
            digest.precompute_compress(level=level)
            self._digests[level] = digest
        return digest


class _CoderCache:
    """Finds the coders of the dictionary that comes with a call."""

    MAX = 64  # dictionaries kept; about 200 KB each

    def __init__(self, ffi: Any) -> None:
        self._ffi = ffi
        self._without = _Coders(b"")
        self._by_place: dict[tuple[int, int], _Coders] = {}

    def find(self, dictionary: Any, length: int) -> _Coders:
        if length == 0:
            return self._without
        content = self._ffi.buffer(dictionary, length)
        place = (int(self._ffi.cast("uintptr_t", dictionary)), length)
        coders = self._by_place.get(place)
        # Addresses are reused; comparing 64 KiB costs less than hashing or loading them.
        if coders is None or content != coders.dictionary:
            coders = _Coders(content[:])
            if len(self._by_place) >= self.MAX:
                self._by_place.clear()
            self._by_place[place] = coders
        return coders


def _ignore(*_error: object) -> None:
    """A callback that fails returns its error value; the engine reports what that means."""


_callbacks: list[Any] = []


def _make_callbacks(ffi: Any) -> None:
    cache = _CoderCache(ffi)

    def deliver(result: bytes, target: Any, room: int) -> int:
        if len(result) > room:
            return FAILED
        ffi.memmove(target, result, len(result))
        return len(result)

    def compress(
        _context: Any,
        target: Any,
        room: int,
        source: Any,
        length: int,
        dictionary: Any,
        dictionary_length: int,
        level: int,
    ) -> int:
        coders = cache.find(dictionary, dictionary_length)
        return deliver(coders.compress(ffi.buffer(source, length), level), target, room)

    def decompress(
        _context: Any,
        target: Any,
        room: int,
        source: Any,
        length: int,
        dictionary: Any,
        dictionary_length: int,
    ) -> int:
        coders = cache.find(dictionary, dictionary_length)
        return deliver(coders.decompress(ffi.buffer(source, length), room), target, room)

    def train(_context: Any, target: Any, room: int, samples: Any, lengths: Any, count: int) -> int:
        sizes = ffi.unpack(lengths, count)
        data = memoryview(ffi.buffer(samples, sum(sizes)))
        pieces: list[bytes | bytearray | memoryview] = []
        start = 0
        for size in sizes:
            pieces.append(bytes(data[start : start + size]))
            start += size
        trained = zstandard.train_dictionary(room, pieces).as_bytes()
        return deliver(trained, target, room) if len(trained) <= room else 0

    for name, function, error in (
        ("vexfs_zstd_compress", compress, FAILED),
        ("vexfs_zstd_decompress", decompress, FAILED),
        ("vexfs_zstd_train", train, 0),
    ):
        ffi.def_extern(name=name, error=error, onerror=_ignore)(function)
        _callbacks.append(function)


def _register_python(ffi: Any, lib: Any) -> None:
    if not _callbacks:
        _make_callbacks(ffi)
    name = ffi.new("char[]", b"python")  # the engine copies it
    major, minor, patch = zstandard.ZSTD_VERSION
    provider = ffi.new(
        "vex_codec_provider *",
        {
            "name": name,
            "version": major * 10000 + minor * 100 + patch,
            "compress": lib.vexfs_zstd_compress,
            "decompress": lib.vexfs_zstd_decompress,
            "train": lib.vexfs_zstd_train,
        },
    )
    _check(ffi, lib, "python", lib.vex_set_codec(provider))
    # A thread of the engine must not call into an interpreter that is gone; what it still
    # writes then is stored as it is.
    atexit.unregister(lib.vex_set_codec)
    atexit.register(lib.vex_set_codec, ffi.NULL)
