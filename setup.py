"""Builds the extension; everything else is in pyproject.toml."""

import sys

from setuptools import setup

if sys.platform == "win32":
    raise SystemExit(
        "vexfs_chroma runs on Linux and macOS. On Windows, install it inside WSL 2:\n"
        "https://learn.microsoft.com/windows/wsl/install"
    )

setup(
    cffi_modules=["vexfs_chroma/_engine/_ffi_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
