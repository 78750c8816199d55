"""The tokenizer's tables and golden texts are those that the rules and unicodedata give."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import words

ROOT = Path(__file__).resolve().parents[2]


def test_golden_texts_are_those_of_the_rules() -> None:
    assert words.GOLDEN.read_text(encoding="ascii") == words.golden()


@pytest.mark.skipif(
    unicodedata.unidata_version != "14.0.0", reason="the tables are of Unicode 14, Python 3.11's"
)
def test_tables_are_those_of_unicode() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "make_token_tables.py", "--check"], check=True)


def test_tokens_of_known_texts() -> None:
    assert words.tokens("Crème brûlée, ＳＴＲＡẞＥ!".encode()) == [b"creme", b"brulee", b"strasse"]
    assert [t.decode() for t in words.tokens("東京都は日".encode())] == [
        "東京",
        "京都",
        "都は",
        "は日",
    ]
    assert words.tokens(b"a\xffb c") == [b"a", b"b", b"c"]
    assert words.tokens(("я" * 40).encode()) == [("я" * 32).encode()]
