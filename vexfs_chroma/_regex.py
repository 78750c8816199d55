r"""Regular expressions of `where_document`: Rust's meaning, run by RE2 in linear time.

`_regex_syntax.parse` gives a tree by Rust's grammar; here it is written out for RE2.  Two things
RE2 cannot say directly:

Classes that are intersections, or mix a negated property with other items, are written as plain
ranges (`_charsets`).

Boundaries.  RE2's \b looks at ASCII letters only, which is right in an ASCII text.  For any other
text a second form of the pattern exists that runs on a marked text: before every character and at
the end stand markers, which are noncharacters that tell the kinds of the characters on both sides
(edge, newline, letter, ...).  There every assertion (\b, \B, ^, $) is a class of markers and takes
one; every other atom first skips the markers left.  A position has as many markers as assertions
can meet there.  The second form is made when the first text that needs it turns up.  \< and its
like, which RE2 does not know at all, always run in it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import re2
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _charsets
from vexfs_chroma._charsets import Ranges
from vexfs_chroma._regex_properties import range_item
from vexfs_chroma._regex_syntax import parse, unsupported
from vexfs_chroma._regex_tree import (
    Alternation,
    Assertion,
    Class,
    Concat,
    Literal,
    Node,
    Repeat,
)

_MAX_MEMORY = 64 << 20  # of one compiled pattern; Rust allows 10 MB for a denser form
_MAX_REPEAT = 1000  # RE2's own limit for one count

# Kinds of neighbours.  Markers are _MARKER + 5 * (kind before) + (kind after), noncharacters all.
_EDGE, _NEWLINE, _OTHER, _WORD, _ASCII_WORD = range(5)
_MARKER, _LAST_MARKER = 0xFDD0, 0xFDD0 + 24
_MARKERS = range_item(_MARKER, _LAST_MARKER)
_STAND_IN = chr(0xFDEF)  # for a marker that occurs in a text: a noncharacter, too
_NO_CHARACTER = "[^\\x{0}-\\x{10ffff}]"
_MAX_MARKERS = 8


class Pattern:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._tree = parse(pattern)
        kinds = set(_kinds(self._tree))
        self._looks_at_words = any("word" in kind for kind, is_ascii in kinds if not is_ascii)
        self._always_marked = any(kind not in _DIRECT_ASSERTIONS for kind, _ in kinds)
        if self._always_marked:
            _ = self._marked  # a pattern that cannot run is refused here
        else:
            self._direct = self._compile(_Writer(pattern, marked=False).write(self._tree))

    def search(self, text: str | bytes) -> object | None:
        """Something if `text` (as bytes: UTF-8) contains a match, else None, as in `re`."""
        if self._always_marked or (self._looks_at_words and not text.isascii()):
            if isinstance(text, bytes):
                text = text.decode("utf-8", "replace")
            marked, copies = self._marked
            return _search(marked, _mark(text, copies))
        return _search(self._direct, text.encode() if isinstance(text, str) else text)

    @functools.cached_property
    def _marked(self) -> tuple[Any, int]:
        copies = _assertions(self._tree).most
        if copies > _MAX_MARKERS:
            raise unsupported(self._pattern, 0, len(self._pattern), "so many assertions are")
        return self._compile(_Writer(self._pattern, marked=True).write(self._tree)), copies

    def _compile(self, written: str) -> Any:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MAX_MEMORY
        options.never_capture = True
        try:
            return re2.compile(written, options)
        except re2.error as error:
            reason = error.args[0] if error.args else b""
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            raise unsupported(
                self._pattern, 0, len(self._pattern), f"this pattern ({text}) is"
            ) from error


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Pattern:
    """The compiled pattern.  Raises InvalidArgumentError as Chroma does."""
    try:
        pattern.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError("Regex syntax errror: the pattern is not Unicode") from error
    return Pattern(pattern)


def quote(text: str) -> str:
    """A pattern that matches `text` itself."""
    return "".join(char if char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text)


def _search(compiled: Any, text: bytes) -> object | None:
    found: object | None = compiled.search(text)
    return found


# -- writing for RE2 -----------------------------------------------------------------------------


class _Writer:
    def __init__(self, pattern: str, *, marked: bool) -> None:
        self.pattern = pattern
        self.marked = marked
        self.skip = f"[{_MARKERS}]*" if marked else ""

    def write(self, node: Node) -> str:
        if isinstance(node, Concat):
            return "".join(self.write(part) for part in node.parts)
        if isinstance(node, Alternation):
            return f"(?:{'|'.join(self.write(part) for part in node.parts)})"
        if isinstance(node, Repeat):
            return self.write_repeat(node)
        if isinstance(node, Assertion):
            return self.write_assertion(node)
        if isinstance(node, Literal):
            if self.marked and _MARKER <= node.code <= _LAST_MARKER:
                node = Literal(ord(_STAND_IN), fold=False)
            char = f"\\x{{{node.code:x}}}"
            return f"{self.skip}(?i:{char})" if node.fold else self.skip + char
        return self.skip + self.write_class(node)

    def write_repeat(self, node: Repeat) -> str:
        part = f"(?:{self.write(node.part)})"
        if node.most is None:
            if node.least <= 1:
                return f"(?:{part}{'+' if node.least else '*'})"
            return "".join(_counted(part, node.least)) + f"(?:{part}*)"
        if (node.least, node.most) == (0, 1):
            return f"(?:{part}?)"
        if node.least == node.most <= _MAX_REPEAT:
            return f"(?:{part}{{{node.least}}})"
        if node.most <= _MAX_REPEAT:
            return f"(?:{part}{{{node.least},{node.most}}})"
        optional = _counted(part, node.most - node.least, "0,")
        return "".join([*_counted(part, node.least), *optional])

    def write_class(self, node: Class) -> str:
        items: list[str] | None = [range_item(low, high) for low, high in node.ranges]
        for found in node.properties:
            native = found.native()
            items = None if items is None or native is None else items + native
            if items is None:
                break
        # A case that is folded by RE2 must not touch what was negated before; and a class must
        # not take markers for characters: negated ones can leave them out by name, properties of
        # assigned characters never hold them.
        holds_negated = any(found.negated for found in node.properties)
        if items is not None and not (node.fold and holds_negated):
            if not self.marked:
                return _bracket(items, negated=node.negated, fold=node.fold)
            if node.negated:
                return _bracket([*items, _MARKERS], negated=True, fold=node.fold)
            if not holds_negated and not _touches_markers(node.ranges):
                return _bracket(items, negated=False, fold=node.fold)
        ranges = node.resolve()
        if not ranges:
            raise InvalidArgumentError("Byte pattern is not allowed")
        if self.marked:
            ranges = _charsets.difference(ranges, ((_MARKER, _LAST_MARKER),))
        if not ranges:
            return _NO_CHARACTER
        return _bracket([range_item(low, high) for low, high in ranges], negated=False, fold=False)

    def write_assertion(self, node: Assertion) -> str:
        if self.marked:
            holds = [
                chr(_MARKER + 5 * before + after)
                for before in range(5)
                for after in range(5)
                if _holds(node, before, after)
            ]
            return f"[{''.join(range_item(ord(marker), ord(marker)) for marker in holds)}]"
        return _DIRECT_ASSERTIONS[node.kind]


_DIRECT_ASSERTIONS = {
    "start": "\\A",
    "end": "\\z",
    "line_start": "(?m:^)",
    "line_end": "(?m:$)",
    "word": "\\b",
    "not_word": "\\B",
}


def _counted(part: str, count: int, least: str = "") -> list[str]:
    """The part `count` times (or, with least "0,", up to that), in steps that RE2 accepts."""
    steps = [_MAX_REPEAT] * (count // _MAX_REPEAT) + [count % _MAX_REPEAT]
    return [f"(?:{part}{{{least}{step}}})" for step in steps if step]


def _bracket(items: Iterable[str], *, negated: bool, fold: bool) -> str:
    bracket = f"[{'^' if negated else ''}{''.join(items)}]"
    return f"(?i:{bracket})" if fold else bracket


def _touches_markers(ranges: Ranges) -> bool:
    return any(low <= _LAST_MARKER and high >= _MARKER for low, high in ranges)


# -- assertions ----------------------------------------------------------------------------------


def _kinds(node: Node) -> Iterator[tuple[str, bool]]:
    """Kind and ASCII-ness of every assertion."""
    if isinstance(node, Assertion):
        yield node.kind, node.ascii
    elif isinstance(node, Concat | Alternation):
        for part in node.parts:
            yield from _kinds(part)
    elif isinstance(node, Repeat):
        yield from _kinds(node.part)


def _holds(node: Assertion, before: int, after: int) -> bool:
    letters = {_ASCII_WORD} if node.ascii else {_ASCII_WORD, _WORD}
    word_before, word_after = before in letters, after in letters
    return {
        "start": before == _EDGE,
        "end": after == _EDGE,
        "line_start": before in {_EDGE, _NEWLINE},
        "line_end": after in {_EDGE, _NEWLINE},
        "word": word_before != word_after,
        "not_word": word_before == word_after,
        "word_start": not word_before and word_after,
        "word_end": word_before and not word_after,
        "word_start_half": not word_before,
        "word_end_half": not word_after,
    }[node.kind]


@dataclass(slots=True, frozen=True)
class _Met:
    """How many assertions can be met in a row in what a node matches."""

    before: int = 0  # before its first character
    after: int = 0  # after its last one
    through: int | None = None  # when it matches the empty text; None: it cannot
    inside: int = 0

    @property
    def most(self) -> int:
        return max(self.before, self.after, self.through or 0, self.inside)


def _assertions(node: Node) -> _Met:
    if isinstance(node, Assertion):
        return _Met(1, 1, 1)
    if isinstance(node, Concat):
        met = _Met(through=0)
        for part in node.parts:
            met = _then(met, _assertions(part))
        return met
    if isinstance(node, Alternation):
        options = [_assertions(part) for part in node.parts]
        through = [option.through for option in options if option.through is not None]
        return _Met(
            max(option.before for option in options),
            max(option.after for option in options),
            max(through) if through else None,
            max(option.inside for option in options),
        )
    if isinstance(node, Repeat):
        # More rounds than needed through the same assertions at the same place add nothing.
        once = _assertions(node.part)
        rounds = max(1, min(node.least, _MAX_MARKERS + 1))
        met = once
        for _ in range(rounds - 1):
            met = _then(met, once)
        if node.most is None or node.most > rounds:
            met = _then(met, once)
        if node.least == 0:
            met = _Met(met.before, met.after, met.through or 0, met.inside)
        return met
    return _Met()


def _then(a: _Met, b: _Met) -> _Met:
    return _Met(
        max(a.before, 0 if a.through is None else a.through + b.before),
        max(b.after, 0 if b.through is None else b.through + a.after),
        None if a.through is None or b.through is None else a.through + b.through,
        max(a.inside, b.inside, a.after + b.before),
    )


def _mark(text: str, copies: int) -> bytes:
    """The text with markers, as the second form of a pattern wants it."""
    if any(_MARKER <= ord(char) <= _LAST_MARKER for char in text):
        markers = dict.fromkeys(range(_MARKER, _LAST_MARKER + 1), _STAND_IN)
        text = text.translate(markers)
    pieces = []
    before = _EDGE
    for char in text:
        after = _kind(char)
        pieces.append(chr(_MARKER + 5 * before + after) * copies)
        pieces.append(char)
        before = after
    pieces.append(chr(_MARKER + 5 * before + _EDGE) * copies)
    return "".join(pieces).encode()


@functools.lru_cache(maxsize=4096)
def _kind(char: str) -> int:
    if char == "\n":
        return _NEWLINE
    if char.isascii():
        return _ASCII_WORD if char.isalnum() or char == "_" else _OTHER
    code = ord(char)
    if any(low <= code <= high for low, high in _charsets.WORD_EXTRA):
        return _WORD
    return _WORD if _charsets.is_word_category(char) else _OTHER
