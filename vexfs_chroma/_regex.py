"""temporary"""
from __future__ import annotations
import functools
from typing import Any
import re2
from chromadb.errors import InvalidArgumentError

class Pattern:
    def __init__(self, p: Any) -> None:
        self._p = p
    def search(self, text: str | bytes) -> bool | None:
        return True if self._p.search(text) else None

@functools.lru_cache(256)
def compile_pattern(pattern: str) -> Pattern:
    o = re2.Options(); o.log_errors = False
    try:
        return Pattern(re2.compile(pattern, o))
    except re2.error as e:
        raise InvalidArgumentError(f"Regex syntax errror: regex parse error:\n    {pattern}\nerror: {e}") from e

def quote(text: str) -> str:
    return str(re2.escape(text))
