"""Regular expressions mean what they mean in Rust, which is what Chroma runs them in."""

from __future__ import annotations

import pytest
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._regex import compile_pattern, quote


def matches(pattern: str, text: str) -> bool:
    compiled = compile_pattern(pattern)
    found = compiled.search(text) is not None
    assert found == (compiled.search(text.encode()) is not None)
    return found


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"^apple", ["apple pie"], ["an apple", "Apple"]),
        (r"^a$", ["a"], ["a\n", "b\na"]),
        (r"(?m)^b$", ["a\nb\nc"], ["ab"]),
        (r"a.b", ["axb", "a\u00e9b"], ["a\nb"]),
        (r"(?s)a.b", ["a\nb"], ["ab"]),
        (r"(?i)STRASSE|\u00c4", ["strasse", "\u00e4"], ["stra\u00dfe"]),
        (r"(?i)k", ["K", "\u212a"], ["x"]),
        (r"(?x) a \  b # comment", ["a b"], ["ab"]),
        (r"\d", ["7", "\u0663"], ["\u00b2"]),
        (r"^\w+$", ["na\u00efve_1", "\u0301", "\u4e2d"], ["a b", "\u00b2"]),
        (r"\s", ["\u00a0", "\u2028"], ["\u200b"]),
        (r"\bfoo\b", ["a foo b", "\u4e2d foo"], ["\u00e9foo", "foo\u0301"]),
        (r"\Boo", ["foo"], ["oo", " oo"]),
        (r"\b\w+\b\s\b", ["ab cd", "\u00e9 b"], ["ab  ", "\u00e9"]),
        (r"\<\u00e9", ["a \u00e9"], ["a\u00e9"]),
        (r"a\b{end}", ["ba b"], ["ab"]),
        (r"[^\W_]", ["a", "\u00e9"], ["_", " "]),
        (r"[\w&&[^\d_]]", ["a"], ["1", "_"]),
        (r"[a-z--m]", ["a"], ["m"]),
        (r"[a-m~~h-z]", ["a", "z"], ["k"]),
        (r"[[:alpha:]]", ["a"], ["\u00e9", "1"]),
        (r"[]a]", ["]", "a"], ["b"]),
        (r"\p{Greek}\p{Lu}", ["\u03b1A"], ["aA", "\u03b1a"]),
        (r"[\p{Greek}&&\p{Lu}]", ["\u0391"], ["\u03b1", "A"]),
        (r"(?i)[^\P{Greek}\u03b1]", ["\u03b2"], ["\u03b1", "\u0391", "a"]),
        (r"\p{Lowercase_Letter}\P{L}", ["a1"], ["A1", "ab"]),
        (r"\x41\u{42}\U00000043", ["ABC"], ["abc"]),
        (r"(?P<x>a)(?<y>b)", ["ab"], ["ba"]),
        (r"^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
        (r"^a{1500}$", ["a" * 1500], ["a" * 1499, "a" * 1501]),
        (r"^(?:ab){0,1200}$", ["", "ab" * 1200], ["ab" * 1201]),
        (r"a**", ["", "b"], []),
        (r"(?-i)a(?i:b)c", ["aBc"], ["ABc", "aBC"]),
    ],
)
def test_meaning(pattern, yes, no):
    for text in yes:
        assert matches(pattern, text), text
    for text in no:
        assert not matches(pattern, text), text


def test_noncharacters_in_a_text_are_characters():
    assert matches(r"^\W\bfoo\b\W$", "\ufdd0foo\ufdd1")
    assert not matches(r"\bfoo\b\ufdd0", "\u00e9 foo\u00e9")


@pytest.mark.parametrize(
    ("pattern", "place", "text"),
    [
        ("a(?=b)", " ^^^", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "   ^^", "backreferences are not supported"),
        ("(", "^", "unclosed group"),
        ("a)", " ^", "unopened group"),
        ("[", "^", "unclosed character class"),
        ("*a", "^", "repetition operator missing expression"),
        ("a{2,1}", " ^^^^^", "invalid repetition count range, the start must be <= the end"),
        ("a{", " ^", "unclosed counted repetition"),
        ("[b-a]", " ^^^", "invalid character class range, the start must be <= the end"),
        (r"[a-\d]", "   ^^", "invalid range boundary, must be a literal"),
        (r"\q", "^^", "unrecognized escape sequence"),
        (r"\Q", "^^", "unrecognized escape sequence"),
        ("(?z)a", "  ^", "unrecognized flag"),
        (r"\p{Foo}", "^^^^^^^", "Unicode property not found"),
        (r"\x{110000}", "   ^^^^^^", "hexadecimal literal is not a Unicode scalar value"),
    ],
)
def test_errors_are_rusts(pattern, place, text):
    with pytest.raises(InvalidArgumentError) as raised:
        compile_pattern(pattern)
    assert str(raised.value) == (
        f"Regex syntax errror: regex parse error:\n    {pattern}\n    {place}\nerror: {text}"
    )


@pytest.mark.parametrize("pattern", [r"(?-u)\w", r"[^\s\S]", "[a&&b]"])
def test_byte_patterns_are_refused(pattern):
    with pytest.raises(InvalidArgumentError, match=r"^Byte pattern is not allowed$"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(" * 200 + "a" + ")" * 200, "(?R)a", "(?:a{1000}){1000}"])
def test_what_cannot_run_is_refused_with_chromas_class(pattern):
    with pytest.raises(InvalidArgumentError, match=r"^Regex syntax errror: .*(?s:.)*not supported"):
        compile_pattern(pattern)


def test_time_is_linear():
    assert not matches(r"^(a+)+$", "a" * 20_000 + "!")
    assert not matches(r"\b(\w+\s?)+\b$", "\u00e9" * 20_000 + "!")


def test_quote():
    text = "a.b*(c)\n\u00e9\u4e2d\\"
    assert matches(f"^{quote(text)}$", text)
    assert not matches(f"^{quote('a.b')}$", "axb")
