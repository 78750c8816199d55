"""What a pattern requires holds for every text that it matches, and is worth looking for."""

from __future__ import annotations

import random

import pytest
from chromadb.errors import InvalidArgumentError

from vexfs_chroma import _engine
from vexfs_chroma._regex import compile_pattern, quote
from vexfs_chroma._regex_literals import required


def shown(condition):
    if condition is None:
        return None
    op, operand = condition
    if op == _engine.F_DOC_CONTAINS:
        return operand
    return ("and" if op == _engine.F_AND else "or", *map(shown, operand))


def holds(condition, text):
    op, operand = condition
    if op == _engine.F_DOC_CONTAINS:
        return operand in text
    return (all if op == _engine.F_AND else any)(holds(child, text) for child in operand)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("zebra", "zebra"),
        ("^the ", "the "),
        (r"\bfoo\b bar$", "foo bar"),
        ("(red|white) wine", ("or", "red wine", "white wine")),
        ("[Ww]ine", ("or", "Wine", "wine")),
        ("genus [A-Z]", "genus "),
        ("person.*who", ("and", "person", "who")),
        ("x.*who", "who"),
        ("ab?c", ("or", "ac", "abc")),
        ("ab*c", ("and", "a", "c")),
        ("(?:ab)+", "ab"),
        ("(?:ab){3}", "ababab"),
        ("(?:ab){2,}c", "abab"),
        ("foo|foobar", "foo"),
        ("foo|.*", None),
        ("foo|.*bar", ("or", "foo", "bar")),
        (r"\d{4}", None),
        (r"\d+ years", " years"),
        ("(?i)ok", ("or", *sorted(a + b for a in "oO" for b in "kK\u212a"))),
        (r"(?i)\u65e5\u672c", "\u65e5\u672c"),
        ("a{0}", None),
        ("", None),
        ("x*", None),
        ("[a-z]oo", "oo"),
        ("[^a]bc", "bc"),
        (r"\x{fdd1}ab", "ab"),  # the marked form takes all of them for the same
        ("(?s)\\A(?:one|two)\\z", ("or", "one", "two")),
    ],
)
def test_known(pattern, expected):
    compile_pattern(pattern)
    found = shown(required(pattern))
    if isinstance(found, tuple) and isinstance(expected, tuple):
        assert (found[0], set(found[1:])) == (expected[0], set(expected[1:]))
    else:
        assert found == expected


def test_case_is_folded():
    condition = required("(?i)quantum leap")
    for text in ("Quantum Leap", "a QUANTUM LEAP!", "quantum leap"):
        assert holds(condition, text)
    for text in ("quantum lea", "quant leap", "uantum leap"):
        assert not holds(condition, text)


def test_bounds():
    assert required("|".join(f"word{i:03}.x{i}" for i in range(40))) is None
    long = required("a" * 1000)
    assert holds(long, "a" * 1000)
    assert holds(required("(?:(?:(?:a{8}){8}){8}){8}"), "a" * 4096)
    assert required("(?:a|b){1000}") is None or holds(required("(?:a|b){1000}"), "ab" * 500)


def random_pattern(rng, depth):
    kind = rng.randrange(12) if depth else rng.randrange(5)
    if kind < 3:
        return quote("".join(rng.choices("abcK\u00e9\u017f", k=rng.randrange(1, 4))))
    if kind == 3:
        return rng.choice([".", "[ab]", "[^a]", r"\w", r"\b", "^", "(?:)", "[a-c]"])
    if kind == 4:
        return f"(?i:{quote(''.join(rng.choices('abks', k=rng.randrange(1, 4))))})"
    parts = [random_pattern(rng, depth - 1) for _ in range(rng.randrange(1, 4))]
    if kind < 8:
        return "".join(parts)
    if kind < 10:
        return f"(?:{'|'.join(parts)})"
    return f"(?:{parts[0]}){rng.choice(['?', '*', '+', '{2}', '{0,2}', '{1,}', '{0}', '{2,3}'])}"


def test_no_match_is_lost():
    rng = random.Random(20261121)
    matches = conditions = rejected = 0
    for _ in range(3000):
        pattern = random_pattern(rng, 3)
        try:
            compiled = compile_pattern(pattern)
        except InvalidArgumentError:
            continue
        condition = required(pattern)
        conditions += condition is not None
        for _ in range(12):
            text = "".join(rng.choices("abcAkK\u212as\u00e9\u017f ", k=rng.randrange(9)))
            matched = compiled.search(text) is not None
            matches += matched
            if condition is not None:
                assert not matched or holds(condition, text), (pattern, text, condition)
                rejected += not holds(condition, text)
    assert matches > 3000
    assert conditions > 1000
    assert rejected > 3000
