"""Writes csrc/rank/tokens_tables.h: what the tokenizer of full text knows of Unicode.

    python tools/make_token_tables.py          writes the file
    python tools/make_token_tables.py --check  exits with 1 when the file is another

The rules are those of csrc/rank/tokens.h; the data is Python's unicodedata.  Another version of
Unicode gives other tables, and terms in files that were made with them, so a change of the tables
is a change of the file format: see docs/format.md, WORDS.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

TABLES = Path(__file__).resolve().parents[1] / "csrc" / "rank" / "tokens_tables.h"
UNICODE = "14.0.0"

SEPARATOR, WORD, SINGLE, MARK = range(4)
# Combining diacritical marks of all scripts that are "simple": Latin, Greek, Cyrillic and symbols.
DIACRITICS = (
    (0x300, 0x36F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
# Scripts without spaces between words, by the first words of their characters' names.
UNSPACED = (
    "CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO", "HENTAIGANA", "IDEOGRAPHIC",
    "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI ",
)  # fmt: skip
COMPATIBLE = ((0xFF01, 0xFFEF), (0xFB00, 0xFB06))
# Characters that are folded to several; all others are folded to one or not at all.
SEVERAL = {
    "ß": "ss", "ẞ": "ss", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st",
    "ﬆ": "st",
}  # fmt: skip
LINE = 96


def within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Tell whether it is in one of the ranges."""
    return any(first <= code <= last for first, last in ranges)


def class_of(code: int) -> int | None:
    """The class of a character; None when it is none (yet)."""
    char = chr(code)
    category = unicodedata.category(char)
    if category == "Cn":
        return None
    if within(code, DIACRITICS):
        return MARK
    if category[0] not in "LNM":
        return SEPARATOR
    return SINGLE if unicodedata.name(char, "").startswith(UNSPACED) else WORD


def without_marks(text: str) -> str:
    """The text with its diacritics taken off."""
    apart = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in apart if not within(ord(c), DIACRITICS)))


def fold(char: str) -> str:
    """What a character is folded to: itself, or another, or those of SEVERAL."""
    if char in SEVERAL:
        return SEVERAL[char]
    text = unicodedata.normalize("NFKC", char) if within(ord(char), COMPATIBLE) else char
    while (folded := without_marks(without_marks(text).casefold())) != text:
        text = folded
    is_ideograph = unicodedata.name(char, "").startswith("CJK COMPATIBILITY")
    return char if len(text) != 1 or is_ideograph else text


def class_ranges() -> Iterator[int]:
    """First character * 4 + class, where the class changes; unassigned ones change nothing."""
    now = None
    for code in range(0x80, 0x110000):
        cls = class_of(code)
        if cls is not None and cls != now:
            now = cls
            yield code * 4 + cls


def fold_runs() -> Iterator[tuple[int, int, int, int]]:
    """(first, last, step, difference): characters at every step are folded by one difference."""
    folds = {
        code: ord(fold(chr(code))) - code
        for code in range(0x80, 0x110000)
        if class_of(code) in (WORD, SINGLE) and chr(code) not in SEVERAL
    }
    left = {code: difference for code, difference in folds.items() if difference}
    while left:
        first = next(iter(left))
        step = max((1, 2), key=lambda s: run_length(left, first, s))
        last = first + (run_length(left, first, step) - 1) * step
        yield first, last, step, left[first]
        for code in range(first, last + 1, step):
            del left[code]


def run_length(left: dict[int, int], first: int, step: int) -> int:
    """How many characters from the first on, at every step, are folded as it is."""
    n = 1
    while left.get(first + n * step) == left[first]:
        n += 1
    return n


def lines(items: list[str]) -> str:
    """Items of an array, as many in a line as fit."""
    out, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > LINE:
            out.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*out, line])


def tables() -> str:
    """The whole file."""
    runs = list(fold_runs())
    longer = [run for run in runs if run[1] - run[0] >= 3 * run[2] or run[1] > 0xFFFF]
    single = sorted(
        (code, code + run[3])
        for run in runs
        if run not in longer
        for code in range(run[0], run[1] + 1, run[2])
    )
    return f"""\
/*
 * tokens_tables.h - Unicode {UNICODE} as tokens.c needs it.  Written by tools/make_token_tables.py;
 * part of the file format.
 */

/* Where the class changes: first character * 4 + class. */
static const uint32_t class_starts[] = {{
{lines([f"0x{start:x}" for start in class_ranges()])}
}};

/* Characters that are folded to another, each on its own. */
static const uint16_t single_folds[][2] = {{
{lines([f"{{0x{a:x}, 0x{b:x}}}" for a, b in single])}
}};

/* And in runs: first, last, step, difference. */
static const int32_t run_folds[][4] = {{
{lines([f"{{0x{a:x}, 0x{b:x}, {step}, {d}}}" for a, b, step, d in longer])}
}};

/* Characters that are folded to several. */
static const several_fold several_folds[] = {{
{lines([f'{{0x{ord(a):x}, "{b}"}}' for a, b in sorted(SEVERAL.items())])}
}};
"""


def main() -> int:
    """Write the tables, or compare them."""
    if unicodedata.unidata_version != UNICODE:
        print(f"this Python has Unicode {unicodedata.unidata_version}, the tables are of {UNICODE}")
        return 1
    if "--check" in sys.argv[1:]:
        return int(TABLES.read_text(encoding="utf-8") != tables())
    TABLES.write_text(tables(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
