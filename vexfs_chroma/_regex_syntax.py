r"""A parser of Rust's regular expressions (the regex crate), as far as RE2 can run them.

Patterns mean in Chroma what they mean in Rust; RE2 reads a similar language with other meanings
(ASCII-only \w and \b, octal escapes, no nested classes, ...).  So a pattern is parsed here by
Rust's grammar into the tree of `_regex_tree.py` and written out again for RE2 by `_regex.py`.  What
cannot be expressed is refused, with Chroma's error class and the text of Rust's parser.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _charsets
from vexfs_chroma._regex_properties import PERL, Property, find_property
from vexfs_chroma._regex_tree import (
    ANY,
    ANY_BUT_NEWLINE,
    Alternation,
    Assertion,
    Class,
    Concat,
    Literal,
    Node,
    Repeat,
)

if TYPE_CHECKING:
    from typing import NoReturn

    from vexfs_chroma._charsets import Ranges

_NEST_LIMIT = 100
_META = set("\\.+*?()|[]{}^$#&-~")
_ESCAPES = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_BOUNDARIES = {
    "start": "word_start",
    "end": "word_end",
    "start-half": "word_start_half",
    "end-half": "word_end_half",
}
_PATTERN_WHITE_SPACE = set("\t\n\v\f\r \x85\u200e\u200f\u2028\u2029")


@dataclass(slots=True)
class _Flags:
    i: bool = False
    m: bool = False
    s: bool = False
    x: bool = False
    u: bool = True
    U: bool = False


@dataclass(slots=True)
class _Group:
    """An open group: what was read of it, and the flags to go back to."""

    position: int
    flags: _Flags
    alternatives: list[Node] = field(default_factory=list)
    parts: list[Node] = field(default_factory=list)


def parse(pattern: str) -> Node:
    """The tree of a pattern.  Raises InvalidArgumentError."""
    return _Parser(pattern).parse()


def syntax_error(pattern: str, start: int, end: int, text: str) -> InvalidArgumentError:
    """The error that Chroma gives, with the place underlined."""
    if "\n" in pattern:
        underlined = "\n".join(f"    {line}" for line in pattern.split("\n"))
    else:
        underlined = f"    {pattern}\n    {' ' * start}{'^' * max(1, end - start)}"
    return InvalidArgumentError(
        f"Regex syntax errror: regex parse error:\n{underlined}\nerror: {text}"
    )


def unsupported(pattern: str, start: int, end: int, what: str) -> InvalidArgumentError:
    """The error for what Rust would accept and we cannot run."""
    return syntax_error(pattern, start, end, f"{what} not supported by vexfs_chroma")


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.flags = _Flags()
        self.names: set[str] = set()

    # -- errors and characters ---------------------------------------------------------------

    def fail(self, text: str, start: int, end: int | None = None) -> NoReturn:
        raise syntax_error(self.pattern, start, self.at if end is None else end, text)

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, text: str) -> bool:
        if self.pattern.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def skip_space(self) -> None:
        """Space and comments, where flag x says so."""
        while self.flags.x and self.at < len(self.pattern):
            char = self.peek()
            if char == "#":
                end = self.pattern.find("\n", self.at)
                self.at = len(self.pattern) if end < 0 else end + 1
            elif char in _PATTERN_WHITE_SPACE:
                self.at += 1
            else:
                return

    # -- groups, alternatives, sequences -----------------------------------------------------

    def parse(self) -> Node:
        stack = [_Group(0, self.flags)]
        while True:
            self.skip_space()
            group, start = stack[-1], self.at
            char = self.peek()
            if not char:
                if len(stack) > 1:
                    self.fail("unclosed group", group.position, group.position + 1)
                return _close(group)
            self.at += 1
            if char == "(":
                if self.open_group(start):
                    if len(stack) > _NEST_LIMIT:
                        raise unsupported(self.pattern, start, self.at, "groups so deep are")
                    outer, self.flags = self.flags, self.new_flags
                    stack.append(_Group(start, outer))
                else:
                    self.flags = self.new_flags
            elif char == ")":
                if len(stack) == 1:
                    self.fail("unopened group", start)
                stack.pop()
                self.flags = group.flags
                stack[-1].parts.append(_close(group))
            elif char == "|":
                group.alternatives.append(_sequence(group.parts))
                group.parts = []
            elif char in "?*+":
                self.repeat(group, start, *{"?": (0, 1), "*": (0, None), "+": (1, None)}[char])
            elif char == "{":
                self.repeat(group, start, *self.counts(start))
            else:
                group.parts.append(self.atom(char, start))

    def open_group(self, start: int) -> bool:
        """After "(": whether a group begins, or only flags change.  Sets new_flags."""
        self.new_flags = self.flags
        if self.pattern.startswith(("?=", "?!", "?<=", "?<!"), self.at):
            self.at += 2 + (self.pattern[self.at + 1] == "<")
            self.fail("look-around, including look-ahead and look-behind, is not supported", start)
        if self.take("?P<") or self.take("?<"):
            self.group_name()
            return True
        if not self.take("?"):
            return True
        if not self.peek():
            self.fail("unclosed group", start, start + 1)
        return self.read_flags()

    def group_name(self) -> None:
        start = self.at
        while True:
            char = self.peek()
            if not char:
                self.fail("unclosed capture group name", self.at)
            if char == ">":
                break
            letter = char == "_" or char.isalpha()
            if not letter and (self.at == start or not (char.isnumeric() or char in ".[]")):
                self.fail("invalid capture group character", self.at, self.at + 1)
            self.at += 1
        name = self.pattern[start : self.at]
        if not name:
            self.fail("empty capture group name", self.at)
        if name in self.names:
            self.fail("duplicate capture group name", start)
        self.names.add(name)
        self.at += 1

    def read_flags(self) -> bool:
        """After "(?": flags up to ")" or ":"; sets new_flags.  Whether a group begins."""
        flags = _Flags(*(getattr(self.flags, name) for name in _Flags.__slots__))
        seen: set[str] = set()
        on, dash = True, -1
        while True:
            start, char = self.at, self.peek()
            if not char:
                self.fail("expected flag but got end of regex", start)
            self.at += 1
            if char in ":)":
                if dash == start - 1:
                    self.fail("dangling flag negation operator", dash, start)
                if char == ")" and not seen:
                    self.fail("repetition operator missing expression", start - 1, start)
                self.new_flags = flags
                return char == ":"
            if char == "-":
                if not on:
                    self.fail("duplicate flag negation operator", start)
                on, dash = False, start
            elif char == "R":
                raise unsupported(self.pattern, start, self.at, "flag R is")
            elif char not in _Flags.__slots__:
                self.fail("unrecognized flag", start)
            else:
                if char in seen:
                    self.fail("duplicate flag", start)
                seen.add(char)
                setattr(flags, char, on)

    def repeat(self, group: _Group, start: int, least: int, most: int | None) -> None:
        if not group.parts:
            self.fail("repetition operator missing expression", start, start + 1)
        self.skip_space()
        self.take("?")  # lazy
        group.parts.append(Repeat(group.parts.pop(), least, most))

    def counts(self, start: int) -> tuple[int, int | None]:
        """After "{": what stands before "}"."""
        least = self.count(start)
        most: int | None = least
        self.skip_count_space()
        if self.take(","):
            self.skip_count_space()
            most = None if self.peek() == "}" else self.count(start)
            self.skip_count_space()
        if not self.take("}"):
            self.fail("unclosed counted repetition", start)
        if most is not None and most < least:
            self.fail("invalid repetition count range, the start must be <= the end", start)
        return least, most

    def skip_count_space(self) -> None:
        while self.peek() and self.peek() in _PATTERN_WHITE_SPACE:
            self.at += 1

    def count(self, start: int) -> int:
        self.skip_count_space()
        first = self.at
        if not self.peek():
            self.fail("unclosed counted repetition", start)
        while self.peek() and self.peek() in string.digits:
            self.at += 1
        if first == self.at:
            self.fail("repetition quantifier expects a valid decimal", first)
        value = int(self.pattern[first : self.at])
        if value > 0xFFFFFFFF:
            self.fail("decimal literal invalid", first)
        return value

    # -- atoms -------------------------------------------------------------------------------

    def atom(self, char: str, start: int) -> Node:
        if char == ".":
            if not self.flags.u:
                self.fail("pattern can match invalid UTF-8", start)
            return ANY if self.flags.s else ANY_BUT_NEWLINE
        if char == "^":
            return Assertion("line_start" if self.flags.m else "start")
        if char == "$":
            return Assertion("line_end" if self.flags.m else "end")
        if char == "[":
            return self.checked(self.bracket(start, 0), start)
        if char == "\\":
            return self.escape(start)
        return Literal(ord(char), self.flags.i)

    def checked(self, found: Class, start: int) -> Class:
        if not self.flags.u:
            if found.negated:
                self.fail("pattern can match invalid UTF-8", start)
            raise InvalidArgumentError("Byte pattern is not allowed")
        return found

    def escape(self, start: int) -> Node:
        """After a backslash, outside of brackets."""
        char = self.peek()
        is_ascii = not self.flags.u
        if char == "A":
            self.at += 1
            return Assertion("start")
        if char == "z":
            self.at += 1
            return Assertion("end")
        if char == "b":
            self.at += 1
            return Assertion(self.special_boundary(start), is_ascii)
        if char == "B":
            self.at += 1
            return Assertion("not_word", is_ascii)
        if char and char in "<>":
            self.at += 1
            return Assertion("word_start" if char == "<" else "word_end", is_ascii)
        item = self.escaped_item(start)
        if isinstance(item, int):
            if is_ascii and item > 0x7F:
                self.fail("pattern can match invalid UTF-8", start)
            return Literal(item, self.flags.i)
        found = Class((), (item,), fold=self.flags.i and not item.closed_under_case)
        return self.checked(found, start)

    def special_boundary(self, start: int) -> str:
        if self.peek() != "{":
            return "word"
        end = self.pattern.find("}", self.at)
        if end < 0:
            self.fail(
                "found either the beginning of a special word boundary or a bounded repetition on "
                "a \\b with an opening brace, but no closing brace",
                start,
                self.at + 1,
            )
        name = self.pattern[self.at + 1 : end].strip()
        if name and name[0] in string.digits:
            return "word"  # \b{2}: a counted repetition
        if name not in _BOUNDARIES:
            self.fail(
                "unrecognized special word boundary assertion, valid choices are: start, end, "
                "start-half or end-half",
                self.at + 1,
                end,
            )
        self.at = end + 1
        return _BOUNDARIES[name]

    def escaped_item(self, start: int) -> int | Property:
        """After a backslash: a character or a property."""
        char = self.peek()
        if not char:
            self.fail("incomplete escape sequence, reached end of pattern prematurely", start)
        self.at += 1
        if char in string.digits:
            self.fail("backreferences are not supported", start)
        if char in "dDsSwW":
            return PERL[char] if self.flags.u else self.ascii_class(start)
        if char in "pP":
            return self.property(start, negated=char == "P")
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char in "xuU":
            return self.hex_escape({"x": 2, "u": 4, "U": 8}[char])
        if char in _META or (char.isascii() and not char.isalnum() and char not in "<>"):
            return ord(char)
        return self.fail("unrecognized escape sequence", start)

    def ascii_class(self, start: int) -> NoReturn:
        if self.pattern[self.at - 1].isupper():
            self.fail("pattern can match invalid UTF-8", start)
        raise InvalidArgumentError("Byte pattern is not allowed")

    def hex_escape(self, digits: int) -> int:
        if self.take("{"):
            first, end = self.at, self.pattern.find("}", self.at)
            if end < 0:
                self.at = len(self.pattern)
                self.fail("incomplete escape sequence, reached end of pattern prematurely", self.at)
            if first == end:
                self.fail("hexadecimal literal empty", first - 1, end + 1)
        else:
            first, end = self.at, self.at + digits
        for i in range(first, end):
            if i >= len(self.pattern):
                self.fail("incomplete escape sequence, reached end of pattern prematurely", i, i)
            if self.pattern[i] not in string.hexdigits:
                self.fail("invalid hexadecimal digit", i, i + 1)
        code = int(self.pattern[first:end], 16)
        if code > _charsets.LAST or 0xD800 <= code <= 0xDFFF:
            self.fail("hexadecimal literal is not a Unicode scalar value", first, end)
        self.at = end + (self.pattern[first - 1] == "{")
        return code

    def property(self, start: int, *, negated: bool) -> Property:
        if self.take("{"):
            end = self.pattern.find("}", self.at)
            if end < 0:
                self.at = len(self.pattern)
                self.fail("incomplete escape sequence, reached end of pattern prematurely", self.at)
            name = self.pattern[self.at : end]
            self.at = end + 1
        else:
            name = self.peek()
            if not name:
                self.fail("incomplete escape sequence, reached end of pattern prematurely", self.at)
            self.at += 1
        if not self.flags.u:
            self.fail("Unicode not allowed here", start)
        found = find_property(name, negated=negated)
        if found is None:
            self.fail("Unicode property not found", start)
        return found

    # -- classes in brackets -----------------------------------------------------------------

    def bracket(self, start: int, depth: int) -> Class:
        """After "[": the class up to its "]"."""
        if depth > _NEST_LIMIT:
            raise unsupported(self.pattern, start, self.at, "classes nested so deep are")
        negated = self.take("^")
        operand = _Items(self.flags.i)
        self.skip_space()
        while self.take("-"):
            operand.add_range(0x2D, 0x2D)
            self.skip_space()
        if operand.is_empty and self.take("]"):
            operand.add_range(0x5D, 0x5D)
        pending: tuple[Ranges, str] | None = None  # the left side of an operator, and it
        while True:
            self.skip_space()
            item_start = self.at
            if not self.peek():
                self.fail("unclosed character class", start, max(start + 1, start))
            if self.take("]"):
                break
            operator = next((op for op in ("&&", "--", "~~") if self.take(op)), None)
            if operator is not None:
                pending = (operand.resolved(pending), operator)
                operand = _Items(self.flags.i)
            elif self.take("["):
                posix = self.posix_class(item_start)
                if posix is not None:
                    operand.add_set(posix)
                else:
                    inner = self.bracket(item_start, depth + 1)
                    if inner.negated:
                        operand.add_set(inner.resolve())
                    else:
                        operand.add_class(inner)
            else:
                self.range_or_item(operand)
        if pending is None:
            found = operand.to_class(negated=negated)
        else:
            ranges = operand.resolved(pending)
            found = Class(_charsets.complement(ranges) if negated else ranges)
        if not found.ranges and not found.properties and not found.negated:
            raise InvalidArgumentError("Byte pattern is not allowed")  # matches nothing
        return found

    def posix_class(self, start: int) -> Ranges | None:
        """After "[" inside of brackets: "[:alpha:]", if it is one; else nothing was read."""
        back = self.at
        if self.take(":"):
            negated = self.take("^")
            end = self.pattern.find(":]", self.at)
            ranges = _charsets.POSIX.get(self.pattern[self.at : end]) if end > 0 else None
            if ranges is not None:
                self.at = end + 2
                return _charsets.complement(ranges) if negated else ranges
        self.at = back
        return None

    def range_or_item(self, operand: _Items) -> None:
        start = self.at
        first = self.class_item()
        self.skip_space()
        rest = self.pattern[self.at + 1 : self.at + 2]
        if self.peek() != "-" or rest in {"]", "-"} or not rest:
            if isinstance(first, int):
                operand.add_range(first, first)
            else:
                operand.add_property(first)
            return
        if not isinstance(first, int):
            self.fail("invalid range boundary, must be a literal", start)
        self.at += 1
        self.skip_space()
        last_start = self.at
        last = self.class_item()
        if not isinstance(last, int):
            self.fail("invalid range boundary, must be a literal", last_start)
        if last < first:
            self.fail("invalid character class range, the start must be <= the end", start)
        operand.add_range(first, last)

    def class_item(self) -> int | Property:
        start, char = self.at, self.peek()
        self.at += 1
        if char != "\\":
            return ord(char)
        if self.peek() and self.peek() in "bBAz":
            self.at += 1
            self.fail("invalid escape sequence found in character class", start)
        return self.escaped_item(start)


class _Items:
    """What was read of one operand in brackets."""

    def __init__(self, fold: bool) -> None:
        self.fold = fold
        self.ranges: list[tuple[int, int]] = []
        self.properties: list[Property] = []
        self.fixed: list[Ranges] = []  # sets in which case was seen to already

    @property
    def is_empty(self) -> bool:
        return not (self.ranges or self.properties or self.fixed)

    def add_range(self, low: int, high: int) -> None:
        self.ranges.append((low, high))

    def add_property(self, found: Property) -> None:
        self.properties.append(found)

    def add_set(self, ranges: Ranges) -> None:
        self.fixed.append(_charsets.fold(ranges) if self.fold else ranges)

    def add_class(self, found: Class) -> None:
        self.ranges.extend(found.ranges)
        self.properties.extend(found.properties)

    def to_class(self, *, negated: bool) -> Class:
        ranges = _charsets.union(tuple(self.ranges), *self.fixed)
        return Class(ranges, tuple(self.properties), negated, self.fold)

    def resolved(self, pending: tuple[Ranges, str] | None) -> Ranges:
        mine = self.to_class(negated=False).resolve()
        if pending is None:
            return mine
        left, operator = pending
        if operator == "&&":
            return _charsets.intersection(left, mine)
        if operator == "--":
            return _charsets.difference(left, mine)
        return _charsets.union(_charsets.difference(left, mine), _charsets.difference(mine, left))


def _sequence(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))


def _close(group: _Group) -> Node:
    if not group.alternatives:
        return _sequence(group.parts)
    return Alternation((*group.alternatives, _sequence(group.parts)))
