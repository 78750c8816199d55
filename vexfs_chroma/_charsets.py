"""Sets of characters, as sorted lists of ranges of code points.

Regular expressions need them where the syntax of RE2 cannot say what that of Rust says:
intersections, differences, negations of negated classes.  The Unicode tables come from Python's own
unicodedata and are made on first use (about 0.2 s).
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

import re2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Ranges = tuple[tuple[int, int], ...]
"""Inclusive, ascending, neither overlapping nor touching."""

LAST = sys.maxunicode
_SURROGATES = ((0xD800, 0xDFFF),)

DIGIT_CATEGORIES = ("Nd",)
WORD_CATEGORIES = ("L", "Nl", "M", "Nd", "Pc")
# White_Space; and what belongs to words beside the categories: ZWNJ, ZWJ, letters in circles.
SPACE: Ranges = (
    (0x09, 0x0D),
    (0x20, 0x20),
    (0x85, 0x85),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
)
WORD_EXTRA: Ranges = (
    (0x200C, 0x200D),
    (0x24B6, 0x24E9),
    (0x1F130, 0x1F149),
    (0x1F150, 0x1F169),
    (0x1F170, 0x1F189),
)
POSIX: dict[str, Ranges] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "ascii": ((0x00, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": ((0x30, 0x39),),
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": ((0x41, 0x5A),),
    "word": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}


def union(*sets: Ranges) -> Ranges:
    """What is in any of them."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(chain.from_iterable(sets)):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """Every other character.  Surrogates are no characters."""
    out, start = [], 0
    for low, high in union(ranges, _SURROGATES):
        if start < low:
            out.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        out.append((start, LAST))
    return tuple(out)


def intersection(a: Ranges, b: Ranges) -> Ranges:
    """What is in both."""
    return complement(union(complement(a), complement(b)))


def difference(a: Ranges, b: Ranges) -> Ranges:
    """What is in the first only."""
    return intersection(a, complement(b))


def of_categories(names: Iterable[str]) -> Ranges:
    """The characters of general categories, "L" being all of "Lu", "Ll", ..."""
    table = _categories()
    return union(
        *(ranges for name, ranges in table.items() for wanted in names if name.startswith(wanted))
    )


def is_word_category(char: str) -> bool:
    """Whether the general category of a character is one of words."""
    return unicodedata.category(char).startswith(WORD_CATEGORIES)


@functools.cache
def lowercase() -> Ranges:
    """The Lowercase property."""
    return _where(str.islower)


@functools.cache
def uppercase() -> Ranges:
    """The Uppercase property."""
    return _where(str.isupper)


@functools.cache
def of_script(name: str) -> Ranges:
    """The characters of a script, asked of RE2: Python has no table of scripts."""
    everything = "".join(chr(cp) for low, high in complement(()) for cp in range(low, high + 1))
    data = everything.encode()
    runs = (data[slice(*found.span())].decode() for found in re2.finditer(f"\\p{{{name}}}+", data))
    return union(tuple((ord(run[0]), ord(run[-1])) for run in runs))


def fold(ranges: Ranges) -> Ranges:
    """The set with the other cases of its characters, by Unicode's simple case folding."""
    groups = _case_groups()
    extra = [
        (other, other)
        for cp, others in groups.items()
        if any(low <= cp <= high for low, high in ranges)
        for other in others
    ]
    return union(ranges, tuple(extra))


@functools.cache
def _categories() -> dict[str, Ranges]:
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    start, current = 0, unicodedata.category(chr(0))
    for cp, name in enumerate(map(unicodedata.category, map(chr, range(1, LAST + 1))), 1):
        if name != current:
            found[current].append((start, cp - 1))
            start, current = cp, name
    found[current].append((start, LAST))
    return {name: tuple(ranges) for name, ranges in found.items()}


@functools.cache
def _case_groups() -> dict[int, tuple[int, ...]]:
    """Every cased character with the others that match it when case does not matter."""
    groups: defaultdict[str, set[int]] = defaultdict(set)
    for low, high in of_categories(("L", "Nl", "M", "So")):
        for cp in range(low, high + 1):
            char = chr(cp)
            key = char.casefold()
            if len(key) != 1:
                key = char.lower()  # simple folding: one character to one
            if len(key) == 1:
                groups[key].add(cp)
                if key != char:
                    groups[key].add(ord(key))
    return {cp: tuple(group) for group in groups.values() if len(group) > 1 for cp in group}


def _where(test: Callable[[str], bool]) -> Ranges:
    return union(tuple((cp, cp) for cp in range(LAST + 1) if test(chr(cp))))
