"""The examples run, as their users run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytest.importorskip("sklearn", reason="needs the extra 'examples'")
pytest.importorskip("rich", reason="needs the extra 'examples'")


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    # No wrapped lines; no threads of BLAS, which wait for each other on busy machines.
    settings = {"COLUMNS": "200", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, env=os.environ | settings
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_builds_then_reuses(tmp_path: Path) -> None:
    first = run("01_quickstart.py", "--path", tmp_path, "--limit", "300")
    assert "embed and store 300 texts" in first
    assert "300 texts in" in first
    again = run("01_quickstart.py", "--path", tmp_path, "--limit", "300", "who knows")
    assert "Using what an earlier run built" in again
    assert "embed and store" not in again
    assert "who knows" in again
    fewer = run("01_quickstart.py", "--path", tmp_path, "--limit", "200", "who knows")
    assert "embed and store 200 texts" in fewer


def test_migrate_copies_everything(tmp_path: Path) -> None:
    shown = run("02_migrate.py", "--path", tmp_path, "--limit", "1200")  # more than a page
    assert re.search(r"│ notes +│ 1200 +│ 1200 +│ 200 +│ 0 +│", shown)
    assert "import vexfs_chroma as chromadb              9 of 9 answers the same" in shown
    assert "install(), and the import unchanged          9 of 9 answers the same" in shown
    assert (tmp_path / "chroma" / "chroma.sqlite3").exists()
    assert not (tmp_path / "vexfs" / "chroma.sqlite3").exists()


def test_filters_and_their_opposites_cover_all_records(tmp_path: Path) -> None:
    shown = run("03_filters.py", "--path", tmp_path, "--limit", "1500")
    rows = re.findall(r"│ (where.+?) +│ +([\d,]+) │ +[\d.]+ │", shown)
    count = {filter: int(matches.replace(",", "")) for filter, matches in rows}
    assert len(count) == 20
    for one, other in [
        ("where={'kind': 'class'}", "where={'kind': {'$ne': 'class'}}"),
        ("where={'length': {'$gt': 500}}", "where={'length': {'$lte': 500}}"),
        (
            "where={'kind': {'$in': ['class', 'module']}}",
            "where={'kind': {'$nin': ['class', 'module']}}",
        ),
        (
            "where={'path': {'$contains': 'asyncio'}}",
            "where={'path': {'$not_contains': 'asyncio'}}",
        ),
        ("where_document={'$contains': 'file'}", "where_document={'$not_contains': 'file'}"),
    ]:
        assert count[one] > 0
        assert count[one] + count[other] == 1500


def test_bulk_load_generates_then_reuses(tmp_path: Path) -> None:
    first = run("04_bulk_load.py", "--path", tmp_path, "--limit", "25000")
    assert "generate vectors.npy" in first
    assert "25,000 vectors in batches of 10,000" in first
    assert "nearest to the last row: row-24999," in first
    assert "graph (ef 100, sq8): a walk meets far fewer records than there are" in first
    assert "exact: exact search was asked for" in first
    assert 'durability="off"' in first
    again = run("04_bulk_load.py", "--path", tmp_path, "--limit", "6000")
    assert "generate" not in again
    assert "nearest to the last row: row-5999," in again
    assert "exact: no graph: collections get one from 10,000 records on" in again


def test_forks_for_experiments(tmp_path: Path) -> None:
    shown = run("08_fork_experiments.py", "--path", tmp_path, "--limit", "1200")
    assert "forks in the line: 3" in shown
    records = dict(re.findall(r"(\S+) +([\d,]+) records +[\d.]+% found", shown))
    assert records["notes"] == records["names-in-front"] == "1,200"
    for fewer in ("leave-out-short", "leave-out-private"):
        assert 0 < int(records[fewer].replace(",", "")) < 1200
    more = re.search(r"KiB before, ([\d,]+) KiB more for all forks", shown)
    assert more is not None
    assert int(more[1].replace(",", "")) < 512
    assert "after a mistake: 0 records" in shown
    back = re.search(r"gone back: (\S+) records of (\S+)", shown)
    assert back is not None
    assert back[1] == back[2] != "0"


@pytest.mark.parametrize(
    ("script", "package"),
    [
        ("05_langchain_rag.py", "langchain_chroma"),
        ("06_llamaindex_rag.py", "llama_index.vector_stores.chroma"),
    ],
)
def test_answers_from_documents(tmp_path: Path, script: str, package: str) -> None:
    pytest.importorskip(package, reason="needs the extra 'rag'")
    shown = run(script, "--path", tmp_path, "--limit", "500", "round a decimal number")
    lines = shown.splitlines()
    answer = lines.index("round a decimal number") + 1
    assert "decimal" in lines[answer].lower()
    assert lines[answer + 1].startswith("from _pydecimal.")
    if script.startswith("05"):
        fused = lines[lines.index("By meaning and words, fused") :]
        answer = fused.index("round a decimal number") + 1
        assert "decimal" in fused[answer].lower()
        assert fused[answer + 1].startswith("from _pydecimal.")
        assert lines.index("After install(), three documents that differ from each other") == (
            len(lines) - 4
        )


def test_hybrid_search_fuses_what_each_rank_finds(tmp_path: Path) -> None:
    shown = run("07_hybrid_search.py", "--path", tmp_path, "--limit", "500", "round a decimal")
    assert re.search(r"embed twice and store +.+ rows/s", shown)
    assert re.search(r"┃ dense +┃ sparse +┃ text +┃ fused +┃", shown)
    rows = re.findall(r"│ (\S+) +│ (\S+) +│ (\S+) +│ (\S+) +│", shown)
    assert len(rows) == 3
    assert rows[0][3].startswith("_pydecimal.")
    assert rows[0][3] in {id for row in rows for id in row[:3]}


def test_facets_narrow_a_search_down(tmp_path: Path) -> None:
    shown = run(
        "09_faceted_search.py", "--path", tmp_path, "--limit", "900", "--package", "_pydecimal"
    )
    assert re.search(r"package +900 records, str", shown)
    chosen = re.search(r"_pydecimal: (\d+) texts of (\d+) to ([\d,]+) characters", shown)
    assert chosen
    n, shortest, longest = (int(number.replace(",", "")) for number in chosen.groups())
    assert 0 < n < 900
    assert 100 < shortest < longest
    assert re.search(rf"_pydecimal +│ +{n} │", shown)
    lines = shown.splitlines()
    first = next(i for i, line in enumerate(lines) if "pages of five" in line) + 1
    lengths = [int(part.replace(",", "")) for i in (0, 1) for part in lines[first + i].split(", ")]
    assert lengths[0] == longest
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) == 10
