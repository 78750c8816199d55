"""Writes csrc/base/fold_table.h: case folding of Unicode, from this Python's own tables.

`str.casefold` is the full folding of the Unicode Character Database (CaseFolding.txt, status C and
F).  Where a character folds to one other, neighbours that do so at the same distance are one range
with a step; where it folds to several, it is listed.  ASCII is left out: it is done by arithmetic.

    python tools/make_fold_table.py            write the file
    python tools/make_fold_table.py --check    exit 1 where the file is not what would be written
"""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "csrc" / "base" / "fold_table.h"
STEPS = (1, 2)


def foldings() -> tuple[list[tuple[int, int]], list[tuple[int, list[int]]]]:
    """(character, distance to its folding), and (character, its several)."""
    single, several = [], []
    for code in range(0x80, sys.maxunicode + 1):
        folded = chr(code).casefold()
        if folded == chr(code):
            continue
        if len(folded) == 1:
            single.append((code, ord(folded) - code))
        else:
            several.append((code, [ord(character) for character in folded]))
    return single, several


def ranges(single: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """First and last character, step, distance."""
    out: list[tuple[int, int, int, int]] = []
    for code, distance in single:
        if out:
            first, last, step, same = out[-1]
            gap = code - last
            if same == distance and gap in STEPS and (first == last or gap == step):
                out[-1] = (first, code, gap, distance)
                continue
        out.append((code, code, 1, distance))
    return out


def text() -> str:
    """The whole file."""
    single, several = foldings()
    lines = [
        "/*",
        " * fold_table.h - case folding beyond ASCII, of Unicode",
        f" * {unicodedata.unidata_version}; written by tools/make_fold_table.py, not by hand.",
        " */",
        "",
        "/* Characters first, first + step, ... last fold to themselves + distance.  Ascending. */",
        "static const fold_range fold_ranges[] = {",
        *(
            f"    {{0x{first:04X}, 0x{last:04X}, {step}, {distance}}},"
            for first, last, step, distance in ranges(single)
        ),
        "};",
        "",
        "/* Characters that fold to two or three; 0: no third.  Ascending. */",
        "static const fold_several fold_severals[] = {",
        *(
            f"    {{0x{code:04X}, {{{', '.join(f'0x{c:04X}' for c in [*codes, 0][:3])}}}}},"
            for code, codes in several
        ),
        "};",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """See the module's text."""
    if "--check" in sys.argv[1:]:
        sys.exit(TABLE.read_text(encoding="ascii") != text())
    TABLE.write_text(text(), encoding="ascii")


if __name__ == "__main__":
    main()
