"""What the examples share: real texts, and a console that shows times.

The texts are the documentation strings of Python's standard library, about ten thousand.  Every
Python has them, so nothing is downloaded, and every run sees the same.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sysconfig
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

console = Console()

# ---- the texts ---------------------------------------------------------------------------------


def source_files() -> list[Path]:
    files = []
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = set(folders) - {"site-packages", "dist-packages", "test"}
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(files)


def docstrings(file: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(id, text, metadata) of every docstring in a file.  Sources are parsed, never imported."""
    library = Path(sysconfig.get_path("stdlib"))
    module = ".".join(file.relative_to(library).with_suffix("").parts).removesuffix(".__init__")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):  # deliberate bad samples ship with the library
            return
    waiting: list[tuple[ast.AST, str]] = [(tree, module)]
    while waiting:
        node, name = waiting.pop()
        for inner in ast.iter_child_nodes(node):
            waiting += [(inner, f"{name}.{inner.name}" if hasattr(inner, "name") else name)]
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if text := ast.get_docstring(node):
            kind = {"Module": "module", "ClassDef": "class"}.get(type(node).__name__, "function")
            line = getattr(node, "lineno", 1)
            about = {"module": module, "kind": kind, "name": name, "line": line}
            yield f"{name}:{line}", text, about | {"length": len(text)}


def read_texts(limit: int | None) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Ids, texts and metadata of the first `limit` docstrings; of all, for None."""
    with timed("read the docstrings"), console.status("Reading"):
        found = (record for file in source_files() for record in docstrings(file))
        records = list(islice(found, limit))
    ids, texts, metadatas = map(list, zip(*records, strict=True))
    return ids, texts, metadatas


def best_sentences(
    question: str, texts: list[str], embed: Callable[[list[str]], Any], count: int = 2
) -> str:
    """The sentences nearest to the question: what answers here in the place of a language model."""
    sentences = {
        " ".join(s.split()) for text in texts for s in re.split(r"(?<=[.!?])\s|\n\n", text)
    }
    candidates = sorted(s for s in sentences if len(s.split()) > 3)
    vectors = np.asarray(embed([question, *candidates]))
    nearest = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[:count]
    return " ".join(candidates[i] for i in nearest)


# ---- the program -------------------------------------------------------------------------------


@contextmanager
def timed(what: str, rows: int | None = None) -> Iterator[None]:
    """Print how long the block took; with `rows`, also rows per second."""
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    amount = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
    rate = f" [green]{rows / seconds:>10,.0f} rows/s[/]" if rows else ""
    console.print(f"  {what:<44} [bold cyan]{amount:>9}[/]{rate}")


def arguments(about: str, folder: str, limit: int | None = None) -> ArgumentParser:
    """--path and --limit, which every example has."""
    parser = ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--path", type=Path, default=Path(folder), help=f"default: {folder}")
    parser.add_argument("--limit", type=int, default=limit, help="use only so many texts")
    return parser


def start_over(*folders: Path) -> None:
    """Remove what an earlier run left."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
