"""Rows, values and operands that the tables and the sequences draw from."""

from __future__ import annotations

from typing import Any

import numpy as np

NAN, INF = float("nan"), float("inf")

# Twelve records that between them hold every metadata type, absent things, and awkward text.
ROWS: dict[str, list[Any]] = {
    "ids": [f"r{i}" for i in range(12)],
    "embeddings": [
        [0, 0], [1, 0], [0, 2], [3, 1], [-1, 4], [5, 5], [1, 0], [7, -2], [0, 9], [8, 8], [2, 2],
        [-6, 1],
    ],
    "documents": [
        "the quick brown fox", "The Quick Brown Fox", "100% of a_b\\c", "line one\nline two", None,
        "naïve café ☕ 日本語", "aaa", "x", "fox.fox", "tab\tand  spaces", None, "Fox [1] (2)",
    ],
    "metadatas": [
        {"n": 0, "f": 0.0, "s": "a", "b": True},
        {"n": 1, "f": 0.5, "s": "b", "b": False},
        {"n": 2, "f": 1.0, "s": "A"},
        {"n": -1, "f": -2.5, "s": ""},
        None,
        {"n": 2.0, "s": "é", "extra": 1},
        {"n": 1 << 40, "f": 1e10, "s": "a b"},
        {"l": ["a", "b"], "s": "list"},
        {"l": [1, 2, 2], "n": 3},
        {"l": [1.5, 2.0], "f": 2.0},
        {"l": [True, False], "b": True},
        {"n": "1", "s": "1"},
    ],
}  # fmt: skip

SCALARS: list[Any] = [
    0, 1, 2, -1, 1.0, 2.0, 0.5, 2.5, -2.5, 1e10, 1 << 40, 1 << 62, 1 << 63, -(1 << 63), "a", "A",
    "",
    "1", "é", "zz", True, False, None, NAN, INF, -INF,
    (1 << 63) - 1, (1 << 64) - 1, 1 << 64, 1 << 70, -(1 << 63) - 1, -(1 << 70), 10**400, "\ud800",
]  # fmt: skip

LISTS: list[Any] = [
    [0], [1, 2], [1.0, 2.0], [0.5], ["a", "b"], ["zz"], [True], [True, False], [1, 1.0], [1, "a"],
    [True, 1], [None], [], [[1]], (1, 2),
    [1 << 63], [1 << 64], [1, 1 << 64], [1.0, 1 << 64], [-(1 << 70)], ["a", "\ud800"],
]  # fmt: skip

KEYS = ["n", "f", "s", "b", "l", "missing"]
COMPARE = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$contains", "$not_contains"]
MEMBER = ["$in", "$nin"]

ODD_WHERE: list[Any] = [
    {}, {"n": {}}, {"n": 1, "s": "a"}, {"n": {"$gt": 0, "$lt": 2}}, {"n": {"$foo": 1}}, {"n": [1]},
    {"$and": []}, {"$and": [{"n": 1}]}, {"$or": [{"n": 1}]}, {"$not": [{"n": 1}]}, {"$gt": 1}, [],
    "n", 5,
    {"$and": {"n": 1}}, {"$and": [{"n": 1}, {}]}, {"$or": [{"n": 1}, {"n": {"$foo": 1}}]}, {1: 2},
    {"": 1},
    {"$and": [{"n": 1}, {"s": "b"}]}, {"$or": [{"n": 1}, {"s": "a"}]},
    {"#document": {"$contains": "fox"}},
    {"$and": [{"n": {"$gte": 0}}, {"$or": [{"s": "a"}, {"s": "b"}, {"b": False}]}]},
    {"$or": [{"$and": [{"n": 1}, {"f": 0.5}]}, {"$and": [{"n": 2}, {"f": 1.0}]}]},
    {"$and": [{"n": {"$ne": 1}}, {"n": {"$ne": 2}}, {"l": {"$contains": "a"}}]},
    {"$and": [{"#document": {"$contains": "fox"}}, {"n": 0}]}, {"#document": "x"},
    {"#document": {"$regex": "f"}},
    {"#id": "r1"}, {"n": {"$eq": None}}, {"n": {"$in": 1}}, {"n": {"$in": "ab"}},
    {"n": {"$gt": [1]}},
    {"#document": {"$contains": ""}}, {"#document": {"$not_contains": ""}},
    {"#document": {"$regex": ""}}, {"#document": {"$not_regex": ""}},
    {"#document": {"$not_contains": "fox"}}, {"n": {"$eq": {"$eq": 1}}}, {"extra": {"$ne": 1}},
    {"\ud800": 1}, {"#document": {"$contains": "\ud800"}}, {"chroma:document": "\ud800"},
]  # fmt: skip

TEXTS = [
    "fox", "Fox", "FOX", "the", "x", "%", "_", "a_b\\c", "\\", "é", "☕", "日本", "\n", "\t", "  ",
    "aa", "100%",
    "fox.fox", "[1]", "nothing like it", "naïve", "e one\nline t",
]  # fmt: skip

PATTERNS = [
    "fox", "(?i)fox", "^the", "fox$", "^x$", "f.x", "one.line", "(?s)one.line", "(?m)^line two$",
    r"\bfox\b",
    r"\d+%", r"\w+", r"\s\s", "a{3}", "a{4}", "[[:upper:]]", r"\p{Lu}", "日.語", "(?P<a>f)ox",
    "fox|x", "f(o|0)x",
    r"\.", r"\[1\]", "", " ", "(", "[", "a{2,1}", "(?=x)", r"(a)\1", "*", "(?<!x)f", r"\pX", ".*?",
    "^$",
    r"[^\x00-\x7F]", r"\u00e9", "(?x) f o x", r"\Afox\.", r"x\z",
]  # fmt: skip

ODD_DOCUMENT: list[Any] = [
    {}, {"$contains": ""}, {"$contains": 1}, {"$contains": None}, {"$contains": ["a"]},
    {"$foo": "x"}, [], "fox",
    {"$contains": "a", "$not_contains": "b"}, {"$and": []}, {"$and": [{"$contains": "fox"}]},
    {"$not": 1},
    {"$and": [{"$contains": "fox"}, {"$not_contains": "the"}]},
    {"$or": [{"$contains": "aaa"}, {"$regex": "^x"}]},
    {"$or": [{"$and": [{"$contains": "o"}, {"$contains": "x"}]}, {"$not_regex": "a"}]},
    {"$and": {"$contains": "x"}},
    {"n": 1}, {"$eq": "x"}, {"$contains": "a\ud800"}, {"$not_regex": "a\ud800"},
]  # fmt: skip

IDS: list[Any] = [
    ["x"], "x", ["x", "y"], ["x", "x"], [], [""], [1], [None], None, ["r0"], ["r0", "x"], ["é☕"],
    ["a" * 1000],
    ["x\ny"], [" "], ("x",), [b"x"], ["r0", "r0"], ["a\ud800"], ["r0", "\udfff"],
]  # fmt: skip

EMBEDDINGS: list[Any] = [
    [[1, 2]], [1, 2], [1.5, -2.5], [[1, 2, 3]], [[1]], [[]], [], None, [[NAN, 1]], [[INF, 1]],
    [["a", "b"]], "ab", 5,
    [[1, None]], [[True, False]], [[1e39, 0]], [[1e-45, 0]], [[1, 2], [3, 4]], [[1, 2], [3]],
    [[[1, 2]]], [[1 << 70, 0]],
    np.array([[1, 2]], dtype=np.float32), np.array([[1, 2]], dtype=np.float64),
    np.array([1, 2], dtype=np.float32),
    np.array([[1, 2]], dtype=np.float16), np.array([[1, 2]], dtype=np.int32),
    np.array([[1, 2]], dtype=np.int64),
    np.array([[1, 2]], dtype=np.uint8), np.array([[1, 2]], dtype=bool),
    np.zeros((0, 2), dtype=np.float32),
    [np.array([1, 2], dtype=np.float32)], [np.array([1, 2, 3])], [np.array([NAN, 2])],
    [[np.float32(1), np.float32(2)]],
    [[np.float64(1), np.float64(2)]], np.array([[[1, 2]]], dtype=np.float32),
    np.asfortranarray([[1.0, 2.0]]),
    np.array(3), [np.array([[1, 2]])], [np.array([[1, 2]], dtype=np.float32)],
    [np.array([[1, 2], [3, 4]])],
]  # fmt: skip

METADATA: list[Any] = [
    {"n": 1}, {"n": 1.5}, {"n": 2.0}, {"n": True}, {"n": "x"}, {"n": ""}, {"n": None},
    {"n": [1, 2]}, {"n": ["a", "b", "a"]},
    {"n": [True]}, {"n": [1.5]}, {"n": []}, {"n": [1, "a"]}, {"n": [1, 1.5]}, {"n": [None]},
    {"n": [[1]]}, {"n": {"a": 1}},
    {"n": 1 << 62}, {"n": 1 << 63}, {"n": -(1 << 63)}, {"n": NAN}, {"n": INF}, {"n": (1, 2)},
    {"n": b"x"}, {"n": object},
    {"n": np.float64(1.5)}, {"n": np.float32(1.5)}, {"n": np.int64(1)}, {"n": np.bool_(True)}, {},
    None, [], "x", 5,
    {"": 1}, {"#x": 1}, {"$x": 1}, {1: 1}, {"chroma:x": "y"}, {"chroma:document": "y"}, {"é": "ü"},
    {"a b.c": "x"},
    {"n": 1, "m": 2, "o": None}, {"s": "new", "fresh": [1]}, {"n": "\x00"}, {"k" * 300: "long"},
    {"n": "a\ud800"}, {"n\udfff": 1}, {"n": ["a", "\ud800"]}, {"n": 1, "m": "\ud800", "\ud801": 2},
]  # fmt: skip

NAMES: list[Any] = [
    "abc", "ab", "", "a" * 512, "a" * 513, "a..b", "1.2.3.4", "::1", "-abc", "abc-", ".abc", "a_b",
    "a b", "é123", "ABC",
    "a.b", "a-b", "a+b", "abc+def", "abc+def+ghi", "+abc", 5, None, b"abc", "abc\n", "256.1.1.1",
    "a/b", "abc!", "abc\ud800", "\udfffabc",
]  # fmt: skip
