"""Holds the house rules that no compiler checks; prints what breaks them and exits non-zero.

C       base < io < codec < wal < store < {index, filter < rank} < db: a file of csrc/ includes
        headers of its own or lower layers only.  Tests may include anything; everyone may include
        the public header.  Sources are ASCII and at most 600 lines long; the public header, which
        is the manual, 900.
Python  only vexfs_chroma/_engine touches ffi (imports cffi or the extension module), and
        _server, _cli and _migrate use the public client or _api, never the engine.  Files of the
        package are at most 600 lines long.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "vexfs_chroma"

LAYERS = {
    "base": {"base"},
    "io": {"io", "base"},
    "codec": {"codec", "io", "base"},
    "wal": {"wal", "codec", "io", "base"},
    "store": {"store", "wal", "codec", "io", "base"},
    "index": {"index", "store", "wal", "codec", "io", "base"},
    "filter": {"filter", "store", "wal", "codec", "io", "base"},
    "rank": {"rank", "filter", "store", "wal", "codec", "io", "base"},
    "db": {"db", "rank", "filter", "index", "store", "wal", "codec", "io", "base"},
}
LINES_MAX = 600
MANUAL = "vexfs.h"
MANUAL_LINES_MAX = 900
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
NO_ENGINE = ("_server", "_cli", "_migrate")


def check_c(path: Path) -> Iterator[str]:
    """What is wrong with one C file."""
    place = path.relative_to(CSRC)
    text = path.read_text(encoding="utf-8")
    if not text.isascii():
        yield f"{path}: not ASCII"
    lines, most = text.count("\n"), MANUAL_LINES_MAX if path.name == MANUAL else LINES_MAX
    if lines > most:
        yield f"{path}: {lines} lines, more than {most}"
    layer = place.parts[0]
    if layer in ("tests", "include"):
        return
    if layer not in LAYERS:
        yield f"{path}: {layer} is no layer"
        return
    for header in INCLUDE.findall(text):
        target = header.split("/")[0]
        if not (CSRC / header).is_file():
            yield f'{path}: "{header}" is not relative to csrc/'
        elif target != "include" and target not in LAYERS[layer]:
            yield f'{path}: layer {layer} must not include "{header}"'


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import statement, with the names taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def check_python(path: Path) -> Iterator[str]:
    """What is wrong with one Python file."""
    part = path.relative_to(PACKAGE).parts[0]
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > LINES_MAX:
        yield f"{path}: {lines} lines, more than {LINES_MAX}"
    if part == "_engine":
        return
    for name in imported(ast.parse(text)):
        if re.match(r"(cffi|vexfs_chroma\._engine\._vexfs)(\.|$)", name):
            yield f"{path}: imports {name}; only _engine touches ffi"
        elif name.startswith("vexfs_chroma._engine") and part.removesuffix(".py") in NO_ENGINE:
            yield f"{path}: imports {name}; use the client or _api"


def main() -> int:
    """Check every file."""
    c_files = sorted(path for path in CSRC.rglob("*") if path.suffix in {".c", ".h"})
    python_files = sorted(PACKAGE.rglob("*.py"))
    problems = [problem for path in c_files for problem in check_c(path)]
    problems += [problem for path in python_files for problem in check_python(path)]
    for problem in problems:
        print(problem)
    print(f"layers: {len(c_files) + len(python_files)} files, {len(problems)} problems")
    return 1 if problems or not c_files else 0


if __name__ == "__main__":
    sys.exit(main())
