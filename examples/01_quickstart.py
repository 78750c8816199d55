"""Search the documentation of Python's standard library, by meaning.

Every Python comes with about ten thousand documentation strings.  This script embeds them,
stores them in a database on disk, opens the database again, and asks it questions: nearest
texts, filters on metadata, filters on the text itself.  Nothing is downloaded.

    python examples/01_quickstart.py                     build (the first time), then search
    python examples/01_quickstart.py "parse a date"      ask your own question
    python examples/01_quickstart.py --fresh             build again from nothing
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import shutil
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb  # <- the whole migration

COLLECTION = "standard-library"
BATCH = 500

QUESTIONS = [
    "compress and decompress data",
    "run a function in another process",
    "parse command line options",
]

console = Console()


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    amount = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
    console.print(f"  {what:<44} [bold cyan]{amount:>9}[/]")


# ---- the texts ---------------------------------------------------------------------------------


def source_files() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    leave_out = {"site-packages", "dist-packages", "test"}
    files = sorted(library.rglob("*.py"))
    return [f for f in files if not leave_out.intersection(f.relative_to(library).parts)]


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


def fingerprint(files: list[Path], limit: int | None) -> str:
    """Changes whenever the index would: another Python, other sources, another limit."""
    facts = [sys.version, str(limit)]
    facts += [f"{file}:{file.stat().st_size}" for file in files]
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=16).hexdigest()


# ---- the database ------------------------------------------------------------------------------


def already_built(client: chromadb.ClientAPI, mark: str) -> bool:
    """An earlier run finished, and nothing changed since."""
    try:
        collection = client.get_collection(COLLECTION)
    except chromadb.errors.NotFoundError:
        return False
    about = collection.metadata or {}
    return about.get("fingerprint") == mark and about.get("rows") == collection.count()


def build(client: chromadb.ClientAPI, path: Path, files: list[Path], limit: int | None,
          mark: str) -> None:  # fmt: skip
    with timed("read the docstrings"):
        found = (r for file in track(files, "Reading", console=console) for r in docstrings(file))
        records = list(islice(found, limit))
    ids, texts, metadatas = map(list, zip(*records, strict=True))
    with timed(f"fit the embedding to {len(texts):,} texts"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts, path / "embedding.npz")

    if COLLECTION in [c.name for c in client.list_collections()]:
        client.delete_collection(COLLECTION)
    about = {"fingerprint": mark, "rows": len(ids)}
    collection = client.create_collection(COLLECTION, embedding_function=embedding, metadata=about)
    with timed(f"embed and store {len(texts):,} texts"):
        for i in track(range(0, len(ids), BATCH), "Storing", console=console):
            part = slice(i, i + BATCH)
            collection.add(ids=ids[part], documents=texts[part], metadatas=metadatas[part])


# ---- the questions -----------------------------------------------------------------------------


def show(title: str, collection: chromadb.Collection, question: str, **filters: Any) -> None:
    started = time.perf_counter()
    found = collection.query(query_texts=[question], n_results=5, **filters)
    milliseconds = (time.perf_counter() - started) * 1000
    table = Table(title=title, title_justify="left", expand=True)
    table.add_column("distance", justify="right", style="cyan", no_wrap=True)
    table.add_column("name", style="green", no_wrap=True, ratio=3)
    table.add_column("kind", no_wrap=True)
    table.add_column("first line", no_wrap=True, ratio=4)
    rows = zip(found["distances"][0], found["metadatas"][0], found["documents"][0], strict=True)
    for distance, about, text in rows:
        table.add_row(f"{distance:.3f}", about["name"], about["kind"], text.splitlines()[0])
    console.print(table, f"  {milliseconds:.1f} ms, embedding the question included\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", nargs="*", help="your own question")
    parser.add_argument(
        "--path", type=Path, default=Path("build/quickstart"), help="where to store"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run built")
    parser.add_argument("--limit", type=int, help="index only so many texts")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.path, ignore_errors=True)

    files = source_files()
    mark = fingerprint(files, options.limit)
    path = options.path / "database"
    with chromadb.PersistentClient(path=path) as client:
        if already_built(client, mark):
            console.print(f"Using what an earlier run built in {options.path} (--fresh rebuilds)")
        else:
            build(client, options.path, files, options.limit, mark)

    # Everything is on disk now.  Open it as any later program would.
    with chromadb.PersistentClient(path=path) as client:
        with timed("open the database again, get the collection"):
            collection = client.get_collection(COLLECTION)
        with timed("count it"):
            rows = collection.count()
        console.print(f"  {rows:,} texts in {path}\n")
        if options.question:
            question = " ".join(options.question)
            show(question, collection, question)
            return
        for question in QUESTIONS:
            show(question, collection, question)
        show("the same question, classes only", collection, QUESTIONS[1], where={"kind": "class"})
        show("functions whose longer text says gzip", collection, QUESTIONS[0],
             where={"$and": [{"kind": "function"}, {"length": {"$gt": 80}}]},
             where_document={"$contains": "gzip"})  # fmt: skip


if __name__ == "__main__":
    main()
