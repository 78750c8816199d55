"""Describes the extension module ``vexfs_chroma._engine._vexfs`` to cffi.

``setup.py`` runs this file through cffi's setuptools hook.  The declarations come from the marked
part of ``csrc/include/vexfs.h``, so the header is their only source.  The callbacks written in
Python (``extern "Python"``) are the ``CDEF`` texts of the modules that implement them; they are
read without importing those modules, because nothing but cffi is installed during a build.

Environment, for test builds:
    VEXFS_CFLAGS      further compiler flags
    VEXFS_SANITIZE    a list for -fsanitize=, as in "address,undefined"
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from pathlib import Path

import cffi

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "vexfs_chroma" / "_engine"
CSRC = ROOT / "csrc"
HEADER = CSRC / "include" / "vexfs.h"
CALLBACK_MODULES = ("_codec.py", "_regex_provider.py")
TEST_ONLY_SOURCES = frozenset({"io/vfs_fault.c", "io/vfs_trace.c"})

# Test builds keep the engine's asserts; a release carries none.  Strict
# floating point keeps one meaning of a distance for every kernel and compiler.
COMPILE_FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-g0",
    "-DNDEBUG",
]
SANITIZER_FLAGS = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fno-omit-frame-pointer",
    "-UNDEBUG",
]


def header_declarations() -> str:
    """The part of vexfs.h between the cffi markers, without comments."""
    text = HEADER.read_text(encoding="ascii")
    begin = text.index("/* cffi:begin")
    end = text.index("/* cffi:end")
    return re.sub(r"/\*.*?\*/", "", text[begin:end], flags=re.DOTALL)


def callback_declarations(module: str) -> str:
    """The constant ``CDEF`` of a module of this package, read from its source."""
    tree = ast.parse((ENGINE / module).read_text(encoding="utf-8"))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "CDEF" for target in targets):
            return str(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    raise SystemExit(f"{ENGINE / module}: no constant CDEF")


def engine_sources() -> list[str]:
    """Every C file of the engine but tests, relative to the folder of setup.py."""
    sources = sorted(path.relative_to(CSRC).as_posix() for path in CSRC.rglob("*.c"))
    return [
        f"csrc/{source}"
        for source in sources
        if not source.startswith("tests/") and source not in TEST_ONLY_SOURCES
    ]


def engine_headers() -> list[str]:
    """Every header, so that a change in one rebuilds the extension."""
    return sorted(path.relative_to(ROOT).as_posix() for path in CSRC.rglob("*.h"))


def make_builder() -> cffi.FFI:
    """The cffi builder that setup.py asks for."""
    sanitize = os.environ.get("VEXFS_SANITIZE", "")
    compile_flags = SANITIZER_FLAGS if sanitize else COMPILE_FLAGS
    link_flags = [] if sys.platform == "darwin" else ["-pthread"]
    if sanitize:
        compile_flags = [*compile_flags, f"-fsanitize={sanitize}"]
        link_flags.append(f"-fsanitize={sanitize}")
    builder = cffi.FFI()
    builder.cdef(header_declarations())
    for module in CALLBACK_MODULES:
        builder.cdef(callback_declarations(module))
    builder.set_source(
        "vexfs_chroma._engine._vexfs",
        '#include "include/vexfs.h"',
        sources=engine_sources(),
        depends=engine_headers(),
        include_dirs=["csrc"],
        define_macros=[("Py_LIMITED_API", "0x030A0000")],
        extra_compile_args=compile_flags + shlex.split(os.environ.get("VEXFS_CFLAGS", "")),
        extra_link_args=link_flags,
        libraries=["m"],
        py_limited_api=True,
    )
    return builder


ffibuilder = make_builder()
