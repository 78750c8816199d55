"""What a text must contain so that a pattern can match it.

The engine shows a pattern only to documents that meet such a condition (vexfs.h, DOC_REGEX): it is
made of substrings, which the text index finds.  A condition may ask for less than the pattern,
never for more; None asks for nothing.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vexfs_chroma import _charsets, _engine
from vexfs_chroma._regex_syntax import parse
from vexfs_chroma._regex_tree import Alternation, Assertion, Class, Concat, Literal, Repeat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vexfs_chroma._engine import Filter
    from vexfs_chroma._regex_tree import Node

_MAX_STRINGS = 16  # one of so many at most; (?i) makes up to 16 of four letters
_MAX_LENGTH = 128
_MAX_ROUNDS = 8  # of a repetition that are looked at
_MAX_LITERALS = 64  # in a whole condition: each is looked for in all terms
_MAX_DEPTH = 8  # the engine's limit
# Noncharacters that stand for each other in the marked form of a pattern (_regex.py).
_ALIKE = range(0xFDD0, 0xFDF0)


@dataclass(slots=True, frozen=True)
class _Found:
    """What is known of the texts that a node matches."""

    strings: frozenset[str] | None  # all of them, if they are few
    required: Filter | None = None  # what each contains; only without `strings`

    def condition(self) -> Filter | None:
        return self.required if self.strings is None else _one_of(self.strings)


_UNKNOWN = _Found(None)
_NOTHING = _Found(frozenset({""}))


@functools.lru_cache(maxsize=256)
def required(pattern: str) -> Filter | None:
    """The condition as a filter of DOC_CONTAINS, AND and OR.  The pattern must be a good one."""
    found = _analyze(parse(pattern)).condition()
    if found is None or _count(found) > _MAX_LITERALS or _depth(found) > _MAX_DEPTH:
        return None
    return found


def _analyze(node: Node) -> _Found:
    if isinstance(node, Literal):
        return _of_codes(((node.code, node.code),), fold=node.fold)
    if isinstance(node, Class):
        if node.negated or node.properties:
            return _UNKNOWN
        return _of_codes(node.ranges, fold=node.fold)
    if isinstance(node, Assertion):
        return _NOTHING
    if isinstance(node, Concat):
        return _sequence(_analyze(part) for part in node.parts)
    if isinstance(node, Alternation):
        return _choice([_analyze(part) for part in node.parts])
    return _repeated(node)


def _of_codes(ranges: _charsets.Ranges, *, fold: bool) -> _Found:
    if sum(high - low + 1 for low, high in ranges) > _MAX_STRINGS:
        return _UNKNOWN
    if fold:
        ranges = _charsets.fold(ranges)
    codes = [code for low, high in ranges for code in range(low, high + 1)]
    if len(codes) > _MAX_STRINGS or any(
        code in _ALIKE or 0xD800 <= code <= 0xDFFF for code in codes
    ):
        return _UNKNOWN
    return _Found(frozenset(map(chr, codes)))


def _sequence(parts: Iterable[_Found]) -> _Found:
    """Neighbours are joined while their combinations are few."""
    conditions: list[Filter | None] = []
    strings: frozenset[str] | None = frozenset({""})  # of the parts since the last break
    whole = True
    for part in parts:
        joined = _joined(strings, part.strings)
        if joined is None:
            whole = False
            conditions.append(_Found(strings).condition() if strings is not None else None)
            conditions.append(part.required)
            joined = part.strings if part.strings is not None else frozenset({""})
        strings = joined
    if whole:
        return _Found(strings)
    conditions.append(_Found(strings).condition() if strings is not None else None)
    return _Found(None, _all_of([found for found in conditions if found is not None]))


def _joined(left: frozenset[str] | None, right: frozenset[str] | None) -> frozenset[str] | None:
    if left is None or right is None or len(left) * len(right) > _MAX_STRINGS:
        return None
    if max(map(len, left), default=0) + max(map(len, right), default=0) > _MAX_LENGTH:
        return None
    return frozenset(a + b for a, b in itertools.product(left, right))


def _choice(options: list[_Found]) -> _Found:
    strings: set[str] = set()
    for option in options:
        strings.update(option.strings or ())
    if all(option.strings is not None for option in options) and len(strings) <= _MAX_STRINGS:
        return _Found(frozenset(strings))
    conditions = [option.condition() for option in options]
    return _Found(None, _any_of(conditions))


def _repeated(node: Repeat) -> _Found:
    once = _analyze(node.part)
    if node.least == 0:
        if once.strings is not None and node.most in {0, 1}:
            return _Found(frozenset({""}) | (once.strings if node.most else frozenset()))
        return _UNKNOWN
    rounds = min(node.least, _MAX_ROUNDS)
    least = _sequence(itertools.repeat(once, rounds))
    if node.most == rounds:
        return least
    return _Found(None, least.condition())


# -- conditions ----------------------------------------------------------------------------------


def _one_of(strings: frozenset[str]) -> Filter | None:
    """A text contains one of the strings; those that contain another one of them add nothing."""
    kept: list[str] = []
    for text in sorted(strings, key=lambda text: (len(text), text)):
        if not any(shorter in text for shorter in kept):
            kept.append(text)
    if not kept or not kept[0]:
        return None
    return _any_of([[_engine.F_DOC_CONTAINS, text] for text in kept])


def _any_of(conditions: list[Filter | None]) -> Filter | None:
    flat: list[Filter] = []
    for found in conditions:
        if found is None:
            return None
        flat.extend(found[1] if found[0] == _engine.F_OR else [found])
    return _joined_by(_engine.F_OR, flat)


def _all_of(conditions: list[Filter]) -> Filter | None:
    flat: list[Filter] = []
    for found in conditions:
        flat.extend(found[1] if found[0] == _engine.F_AND else [found])
    if any(_is_selective(found) for found in flat):
        flat = [found for found in flat if _is_selective(found)]
    return _joined_by(_engine.F_AND, flat) if flat else None


def _joined_by(op: int, conditions: list[Filter]) -> Filter:
    unique = [found for i, found in enumerate(conditions) if found not in conditions[:i]]
    return unique[0] if len(unique) == 1 else [op, unique]


def _is_selective(found: Filter) -> bool:
    """More than one common character."""
    if found[0] == _engine.F_DOC_CONTAINS:
        return len(found[1].encode()) > 1
    return all(_is_selective(child) for child in found[1])


def _count(found: Filter) -> int:
    if found[0] == _engine.F_DOC_CONTAINS:
        return 1
    return sum(_count(child) for child in found[1])


def _depth(found: Filter) -> int:
    if found[0] == _engine.F_DOC_CONTAINS:
        return 0
    return 1 + max(_depth(child) for child in found[1])
