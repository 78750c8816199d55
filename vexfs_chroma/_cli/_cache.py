"""vexctl cache: what a server keeps in memory to read it again."""

from __future__ import annotations

import json

import typer
from rich.filesize import decimal

from vexfs_chroma._cli._asking import AS_JSON, URL, facts_of, group, show_table
from vexfs_chroma._cli._exit import explained

_ASKED = ("hits", "misses")
_SHOWN = {"blocks": "decoded documents and metadata", "filters": "matches of filters"}

app = group("What a server keeps in memory to read it again.")


@app.command("stats")
def show_cache(url: str = URL, as_json: bool = AS_JSON) -> None:
    """Show what is kept to be read again, and what had to be read or was given back."""
    with explained():
        found = facts_of(url)
        kept = ("caches", "code_rows", "links", "vectors", "documents", "columns", "text_index")
        done = ("blocks_read", "rows_fetched", "graphs_unloaded", "given_back_bytes")
        rates = {}
        for name in ("block", "filter"):
            hits, misses = (found["counters"].get(f"engine.{name}_{n}", 0) for n in _ASKED)
            rates[f"{name}s"] = {
                "hits": hits,
                "misses": misses,
                "hit_rate": hits / (hits + misses) if hits + misses else None,
            }
        plain = {
            "hit_rates": rates,
            "kept_bytes": {name: found["memory"][name] for name in kept},
            "since_the_start": {n: found["counters"].get(f"engine.{n}", 0) for n in done},
        }
        if as_json:
            typer.echo(json.dumps(plain, indent=2))
            return
        show_table(
            ("asked for", "hits", "misses", "hit rate"),
            [
                (
                    _SHOWN[name],
                    f"{one['hits']:,}",
                    f"{one['misses']:,}",
                    "" if one["hit_rate"] is None else f"{one['hit_rate']:.1%}",
                )
                for name, one in rates.items()
            ],
        )
        rows = [(k.replace("_", " "), decimal(v)) for k, v in plain["kept_bytes"].items()]
        show_table(("kept", ""), rows)
        rows = [(k.replace("_", " "), f"{v:,}") for k, v in plain["since_the_start"].items()]
        show_table(("since the start", ""), rows)
