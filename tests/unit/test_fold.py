"""Case folding in the engine is what str.casefold does."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import vexfs_chroma

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "csrc" / "base" / "fold_table.h"


@pytest.fixture(autouse=True)
def same_unicode():
    version = re.search(r"of Unicode\s[*\s]*([\d.]+);", TABLE.read_text())
    if version is None or version[1] != unicodedata.unidata_version:
        pytest.skip("this Python has another Unicode than the table")


def test_the_table_is_what_its_tool_writes():
    tool = ROOT / "tools" / "make_fold_table.py"
    subprocess.run([sys.executable, tool, "--check"], check=True)


def test_every_character_folds_as_in_python():
    characters = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    text = "".join(characters)
    with vexfs_chroma.EphemeralClient() as client:
        name = "every-character"
        collection = client.create_collection(name, embedding_function=None)
        collection.add(ids=["a"], embeddings=[[1, 1]], metadatas=[{"text": text}])
        assert collection.count(where={"text": {"$ieq": text.casefold()}}) == 1
        assert collection.count(where={"text": {"$ieq": text.casefold()[:-1]}}) == 0
        assert collection.count(where={"text": {"$icontains_text": text[70000:].casefold()}}) == 1
        client.delete_collection(name)
