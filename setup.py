"""Builds the extension, one compiler per processor; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if sys.platform == "win32":
    raise SystemExit(
        "vexfs_chroma runs on Linux and macOS. On Windows, install it inside WSL 2:\n"
        "https://learn.microsoft.com/windows/wsl/install"
    )


class ParallelBuild(build_ext):
    """setuptools compiles the files of an extension one after the other; this, side by side."""

    def build_extension(self, extension: Extension) -> None:
        """Build one extension."""
        compile_all = self.compiler.compile

        def compile_side_by_side(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_all([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_side_by_side
        super().build_extension(extension)


setup(
    cmdclass={"build_ext": ParallelBuild},
    cffi_modules=["vexfs_chroma/_engine/_ffi_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
