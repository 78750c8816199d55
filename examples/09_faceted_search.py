"""A catalogue that is searched by meaning and narrowed down by facets.

The texts are the documentation of the standard library, the facets what is known of each: its
package, what it documents, its long words, when its file was changed.  The counts beside a search,
the values to choose from, the next page: each is one call, and the counts read no record.

    python examples/09_faceted_search.py "read lines of a file"
    python examples/09_faceted_search.py --limit 2000 --package asyncio "wait for a result"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.table import Table
from shared import arguments, console, read_texts, source_files, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb

FACETS = ["package", "kind", "words"]


def describe(metadatas: list[dict[str, Any]], texts: list[str]) -> None:
    """Add what the facets are: strings, lists, dates; not every record has all of them."""
    changed = {path.stem: path.stat().st_mtime for path in source_files()}
    for about, text in zip(metadatas, texts, strict=True):
        about["package"] = about["module"].split(".")[0]
        words = sorted(set(re.findall(r"\b[a-z]{8,}\b", text)))
        if words:
            about["words"] = words[:20]
        if about["module"] in changed:  # of modules outside of packages
            about["changed"] = datetime.fromtimestamp(changed[about["module"]], tz=timezone.utc)


def show_facets(title: str, facets: Mapping[str, Sequence[chromadb.ValueCount]]) -> None:
    """One column for each facet: its commonest values, and how many records have them."""
    table = Table(title=title, title_justify="left")
    for name in facets:
        table.add_column(name)
        table.add_column("", justify="right", style="green")
    for row in range(max(map(len, facets.values()))):
        cells = []
        for values in facets.values():
            one = values[row] if row < len(values) else None
            cells += [str(one.value), f"{one.records:,}"] if one else ["", ""]
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    parser = arguments(__doc__, "build/faceted")
    parser.add_argument("question", nargs="?", default="wait until a thread is done")
    parser.add_argument("--package", help="narrow down to one package from the start")
    options = parser.parse_args()
    start_over(options.path / "database")
    ids, texts, metadatas = read_texts(options.limit)
    describe(metadatas, texts)
    with timed("fit the embedding to every fourth"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts[::4], options.path / "embedding.npz")

    with chromadb.PersistentClient(path=options.path / "database") as client:
        catalogue = client.create_collection("catalogue", embedding_function=embedding)
        with timed("embed and store", len(ids)), console.status("Storing"):
            catalogue.add(ids=ids, documents=texts, metadatas=metadatas)

        with timed("keys of all records"):
            keys = catalogue.keys()
        for key, summary in keys.items():
            shown = f"    {key:8} {summary.records:6,} records, {', '.join(summary.types)}"
            console.print(shown, markup=False)
        with timed("facets of all records"):
            facets = catalogue.facets(FACETS, limit=8)
        show_facets("everything", facets)

        # The choice of a user: one value of a facet, long texts only.
        package = options.package or facets["package"][0].value
        chosen: dict[str, Any] = {"$and": [{"package": package}, {"length": {"$gt": 100}}]}
        with timed("count, facets and range of what was chosen"):
            n = catalogue.count(where=chosen)
            narrowed = catalogue.facets(FACETS, where=chosen, limit=8)
            shortest, longest = catalogue.min_max("length", where=chosen) or (0, 0)
        show_facets(f"{package}: {n:,} texts of {shortest} to {longest} characters", narrowed)
        assert narrowed["package"][0] == (package, n)

        with timed(f"search in it: {options.question}"):
            found = catalogue.query(query_texts=[options.question], n_results=3, where=chosen)
        for distance, id in zip(found["distances"][0], found["ids"][0], strict=True):
            console.print(f"    {distance:.3f}  {id}")

        # Two pages of a list in another order; the second goes on where the first ended.
        with timed("pages of five, the longest first"):
            page = catalogue.get(where=chosen, order_by="length", descending=True, limit=5)
            pages = [page]
            if page["next"] is not None:
                pages.append(catalogue.get(where=chosen, after=page["next"], limit=5))
        for page in pages:
            lengths = ", ".join(f"{about['length']:,}" for about in page["metadatas"])
            console.print(f"    {lengths}")

        # Whatever the case, by a part, by date, by what is missing.
        for where in (
            {"name": {"$icontains_text": "ERROR"}},
            {"name": {"$starts_with": "_"}},
            {"changed": {"$gte": datetime(2020, 1, 1, tzinfo=timezone.utc)}},
            {"words": {"$exists": False}},
        ):
            with timed(f"count of {next(iter(where))} {next(iter(next(iter(where.values()))))}"):
                n = catalogue.count(where=where)
            console.print(f"    {n:,}")


if __name__ == "__main__":
    main()
