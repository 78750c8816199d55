"""where_document over many documents in several languages, before and after they are stored in a
file with its text index: substrings and patterns of every length, and their negations."""

from __future__ import annotations

import random
from typing import Any

import pytest
from compare import Pair

from vexfs_chroma._regex import quote

WORDS = {
    "latin": "the quick brown fox jumps over a lazy dog don't e-mail 3.14 naïve café Ärger I O_o",
    "cyrillic": "быстрая лиса ёлка и в на не что",
    "greek": "ταχύς λύκος ἀρχή σοφός",
    "hindi": "नमस्ते दुनिया हिन्दी में",
    "korean": "빠른 여우 안녕하세요 세계",
}
CHARACTERS = {
    "chinese": "天地玄黄宇宙洪荒日月盈昃辰宿列张用户",
    "japanese": "すばやい茶色の狐がのろまな犬を飛び越える日本語",
    "thai": "สวัสดีชาวโลกภาษาไทย",
    "emoji": "😀🎉👩‍💻☕é",
}
DOCUMENTS = 240
NEEDLES = 260


def make_document(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randrange(1, 5)):
        language = rng.choice([*WORDS, *CHARACTERS])
        if language in WORDS:
            parts.append(" ".join(rng.choices(WORDS[language].split(), k=rng.randrange(1, 9))))
        else:
            parts.append("".join(rng.choices(CHARACTERS[language], k=rng.randrange(1, 16))))
    text = rng.choice([" ", ", ", "。", "\n", ""]).join(parts)
    if rng.randrange(20) == 0:  # a word without an end
        text += "".join(rng.choices("0123456789abcdef", k=rng.randrange(50, 400)))
    return text


def make_needle(rng: random.Random, documents: list[str | None]) -> str:
    text = rng.choice([document for document in documents if document])
    length = rng.choice([1, 1, 2, 2, 3, 4, 6, 10, 25, 70])
    start = rng.randrange(max(1, len(text) - length + 1))
    needle = text[start : start + length]
    if rng.randrange(6) == 0:
        needle = rng.choice([needle.swapcase(), needle[::-1], needle + "x", needle * 2])
    return needle


def make_pattern(rng: random.Random, needle: str) -> str:
    part = quote(needle[:12])
    half = quote(needle[: len(needle) // 2 + 1])
    shapes = [part, f"(?i){part}", f"^{part}", f"{part}$", f"{half}.*o", f"(?:{part}|狐)"]
    shapes += [rf"\b{half}", f"(?:{half})?{part}", f"(?:{half}){{2}}", f"{half}\\w+ [a-z]"]
    return rng.choice([*shapes, f"[a-c]{half}"])


@pytest.fixture(scope="module")
def texts(make: Any) -> tuple[Pair, list[str | None]]:
    rng = random.Random(20261121)
    documents = [make_document(rng) if i % 12 else None for i in range(DOCUMENTS)]
    documents[5] = "longest " * 4000
    pair = make()
    pair.call(
        "add",
        ids=[f"t{i}" for i in range(DOCUMENTS)],
        embeddings=[[i % 7, i % 11] for i in range(DOCUMENTS)],
        documents=documents,
        metadatas=[{"n": i % 5} for i in range(DOCUMENTS)],
    )
    return pair, documents


def into_a_file(pair: Pair) -> None:
    pair.ours._client._open(pair.ours.id).engine.flush()


@pytest.mark.parametrize("where", ["memory", "file"])
def test_documents(texts: tuple[Pair, list[str | None]], where: str) -> None:
    pair, documents = texts
    if where == "file":
        into_a_file(pair)
    rng = random.Random(where)
    for _ in range(NEEDLES):
        needle = make_needle(rng, documents)
        test = {rng.choice(["$contains", "$not_contains"]): needle}
        pattern = {rng.choice(["$regex", "$not_regex"]): make_pattern(rng, needle)}
        pair.call("get", where_document=test, include=[])
        pair.call("get", where_document=pattern, include=[])
        both = {rng.choice(["$and", "$or"]): [test, pattern]}
        pair.call("get", where_document=both, where={"n": rng.randrange(5)}, include=[])


def test_after_changes(texts: tuple[Pair, list[str | None]]) -> None:
    """Documents of a file that were replaced or deleted are not found by what they were."""
    pair, documents = texts
    rng = random.Random(3)
    into_a_file(pair)
    changed = rng.sample(range(DOCUMENTS), 60)
    for i in changed[:30]:
        documents[i] = make_document(rng)
    pair.call(
        "update",
        ids=[f"t{i}" for i in changed[:30]],
        documents=[documents[i] for i in changed[:30]],
    )
    pair.call("delete", ids=[f"t{i}" for i in changed[30:]])
    for _ in range(60):
        needle = make_needle(rng, documents)
        for operator in ("$contains", "$not_contains"):
            pair.call("get", where_document={operator: needle}, include=[])
    pair.call("delete", where_document={"$contains": "fox"})
    pair.same_state()
