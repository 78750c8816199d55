"""The tree of a regular expression: what the parser makes and the writer for RE2 reads.

Whether a quantifier is lazy or a group captures plays no part in *whether* a text matches, so the
tree does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vexfs_chroma import _charsets

if TYPE_CHECKING:
    from vexfs_chroma._charsets import Ranges
    from vexfs_chroma._regex_properties import Property


@dataclass(slots=True, frozen=True)
class Literal:
    """One character."""

    code: int
    fold: bool  # case does not matter


@dataclass(slots=True, frozen=True)
class Class:
    """One character of a set: ranges and properties together, or everything else."""

    ranges: Ranges
    properties: tuple[Property, ...] = ()
    negated: bool = False
    fold: bool = False

    def resolve(self) -> Ranges:
        """The set, as ranges."""
        found = _charsets.union(self.ranges, *(p.resolve() for p in self.properties))
        if self.fold:
            found = _charsets.fold(found)
        return _charsets.complement(found) if self.negated else found


@dataclass(slots=True, frozen=True)
class Assertion:
    """A condition on the characters on both sides of a position."""

    kind: str  # start, end, line_start, line_end, word, not_word, word_start, ...
    ascii: bool = False  # what a word is


@dataclass(slots=True, frozen=True)
class Concat:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(slots=True, frozen=True)
class Alternation:
    """One of several."""

    parts: tuple[Node, ...]


@dataclass(slots=True, frozen=True)
class Repeat:
    """The same again, at least `least` and at most `most` (None: any number of) times."""

    part: Node
    least: int
    most: int | None


Node = Literal | Class | Assertion | Concat | Alternation | Repeat
ANY = Class(((0, _charsets.LAST),))
ANY_BUT_NEWLINE = Class(((0x0A, 0x0A),), negated=True)
