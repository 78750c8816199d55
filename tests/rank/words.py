# ruff: noqa: E501, RUF001, SIM905 - texts of many scripts, a line each
"""Full text in plain Python: the tokens of csrc/rank/tokens.h.

    python tests/rank/words.py    writes csrc/tests/tokens_golden.h, texts and their tokens

Written from that page alone, with unicodedata in the place of the engine's tables.
"""

from __future__ import annotations

import functools
import random
import unicodedata
from itertools import pairwise
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[2] / "csrc" / "tests" / "tokens_golden.h"
SEED = 20260711
BYTES_MAX = 64
MARKS = (range(0x300, 0x370), range(0x1AB0, 0x1B00), range(0x1DC0, 0x1E00), range(0x20D0, 0x2100), range(0xFE20, 0xFE30))  # fmt: skip
UNSPACED = {"CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "BOPOMOFO", "HENTAIGANA", "IDEOGRAPHIC", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI"}  # fmt: skip
SEVERAL = {"ß": "ss", "ẞ": "ss", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}  # fmt: skip


def is_mark(char: str) -> bool:
    """A combining diacritical mark?"""
    return any(ord(char) in marks for marks in MARKS)


@functools.cache
def kind(char: str) -> str:
    """Class of a character: mark, word, single or separator."""
    if is_mark(char):
        return "mark"
    if unicodedata.category(char)[0] not in "LNM":
        return "separator"
    name = unicodedata.name(char)
    if name.startswith("HALFWIDTH HANGUL"):
        return "word"
    return "single" if name.split()[0].split("-")[0] in UNSPACED else "word"


@functools.cache
def fold(char: str) -> str:
    """Case, diacritics and width taken off one character."""
    if char in SEVERAL:
        return SEVERAL[char]
    if unicodedata.name(char).startswith("CJK COMPATIBILITY"):
        return char
    text = unicodedata.normalize("NFKC", char) if 0xFF01 <= ord(char) <= 0xFFEF else char
    for _ in range(3):
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not is_mark(c)).casefold()
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not is_mark(c))
    text = unicodedata.normalize("NFC", text)
    return text if len(text) == 1 else char


def cut(word: list[str]) -> bytes:
    """As many of the folded characters as fit."""
    out = b""
    for char in word:
        piece = char.encode()
        if len(out) + len(piece) > BYTES_MAX:
            break
        out += piece
    return out


def tokens(text: bytes) -> list[bytes]:
    """The tokens of a text, in order."""
    out: list[bytes] = []
    run: list[str] = []
    run_kind = "separator"
    for char in [*text.decode("utf-8", errors="replace"), " "]:
        now = kind(char)
        if now == "mark":
            continue
        if now != run_kind:
            if run_kind == "word":
                out.append(cut(run))
            elif run_kind == "single":
                pairs = [a + b for a, b in pairwise(run)] or run
                out.extend(pair.encode() for pair in pairs)
            run, run_kind = [], now
        if now != "separator":
            run.append(fold(char))
    return out


# ---- golden texts ----

PIECES = [
    *"the quick Brown FOX's co-operate snake_case 3.14 x86_64 a\u0000b e-mail@example.com".split(),
    *"café cafe\u0301 ÀÉÎÕÜ naïve Ångström ÆØÅ œuvre ŁÓDŹ İstanbul ıI Straße GROẞE ﬁnance oﬃce".split(),
    *"Ελληνικά ΣΊΣΥΦΟΣ ἀρχή Русский Ёлка Йод Україна հայերեն თბილისი ΐ ᾳ".split(),
    *"日本語 日 本 中文字符 漢字かな ひらがな カタカナ ｶﾀｶﾅ ﾊﾞ ＦＵＬＬ１２３ 々 ㄅㄆ ꀀꀁ 〇 𠀀𠀁".split(),
    *"한국어 대한민국 ㄱㄴ ｡ไทย ภาษาไทย ລາວ ខ្មែរ မြန်မာ བོད".split(),
    *"हिन्दी क़लम العربية مُحَمَّد עִבְרִית ﬠ தமிழ் 12٣٤ ½ ² Ⅷ ① ﷺ 😀 👩‍🚀 — ' \u0301 \u0301\u0302 a\u200db".split(),
    "x" * 64, "x" * 65, "é" * 70, "я" * 32 + "ab", "я" * 31 + "abc" + "яя", "a" * 63 + "é", "a" * 63 + "яb",
    "\u20d0", "日\u0301本", "か\u3099き", "ab\u0301日", "\ufe20",
]  # fmt: skip
JUNK = [b"\xff", b"\xc3", b"\xe6\x97", b"\xf4\x90\x80\x80", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe0\x80\x80", b"\xf0\x82\x82\xac", b"\xa9"]  # fmt: skip


def golden_texts() -> list[bytes]:
    """Every piece by itself, and pieces put together."""
    rng = random.Random(SEED)
    out = [b"", *(piece.encode() for piece in PIECES), *JUNK]
    for _ in range(100):
        text = b""
        for _ in range(rng.randrange(1, 12)):
            piece = rng.choice(PIECES).encode() if rng.random() < 0.9 else rng.choice(JUNK)
            text += piece + rng.choice([b"", b" ", b" ", b"-", b"\t", "、".encode()])
        out.append(text)
    return out


def literal(text: bytes) -> str:
    """A C string of escapes, in pieces where it would be read on."""
    return '"' + "".join(chr(b) if 35 <= b < 127 and b not in b"\\?" else f"\\{b:03o}" for b in text) + '"'  # fmt: skip


def golden() -> str:
    """The header: {text, its length, tokens with a line feed behind each}."""
    rows = []
    for text in golden_texts():
        found = b"".join(token + b"\n" for token in tokens(text))
        rows.append(f"    {{{literal(text)},\n     {len(text)}, {literal(found)}}},")
    head = (
        "/*\n * tokens_golden.h - texts and their tokens.  Written by tests/rank/words.py.\n */\n"
    )
    return head + "static const struct golden {\n    const char *text;\n    size_t len;\n    const char *tokens;\n} golden[] = {\n" + "\n".join(rows) + "\n};\n"  # fmt: skip


if __name__ == "__main__":
    GOLDEN.write_text(golden(), encoding="ascii")
