"""Queries whose answer is known from the dictionary that the documents are, not from any vector.

A document is a synset of WordNet: its lemmas, statements that define it, examples.

    definition   query: one of several statements that define it; relevant: the synset they define
    example      query: an example sentence; relevant: the synset that it was taken from
    lemma        query: a lemma; relevant: all synsets that have it

What became a query is cut out of its document, so that no query is found by its own text; what is
left of the document has to be encoded anew.  A document is cut for one query at most.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFINITION, EXAMPLE, LEMMA = "definition", "example", "lemma"
KINDS = (DEFINITION, EXAMPLE, LEMMA)
_PART = re.compile(r'(?:"[^"]*"|[^;"])+')  # semicolons in quotes do not end a part
_EXAMPLE = re.compile(r'"([^"]*)"')
_WORDS_LEAST = 4


@dataclass(slots=True, frozen=True)
class Item:
    """A query, and the rows that answer it."""

    kind: str
    text: str
    relevant: frozenset[int]


@dataclass(slots=True)
class Corpus:
    """Documents, the rows of those that were cut, and queries, the kinds in turn."""

    documents: list[str]
    cut: list[int]
    items: list[Item]


@dataclass(slots=True)
class Synset:
    """The parts of a document."""

    lemmas: list[str]
    parts: list[str]

    def statements(self) -> list[int]:
        """Which parts define, in four words or more."""
        return [i for i, part in enumerate(self.parts) if '"' not in part and _is_long(part)]

    def examples(self) -> list[int]:
        """Which parts are quoted sentences of four words or more."""
        found = []
        for i, part in enumerate(self.parts):
            quoted = _EXAMPLE.match(part)
            if quoted is not None and _is_long(quoted[1]):
                found.append(i)
        return found

    def without(self, number: int) -> str:
        """The document that is left without one of the parts."""
        left = [part for i, part in enumerate(self.parts) if i != number]
        return f"{', '.join(self.lemmas)}: {'; '.join(left)}"


def _is_long(text: str) -> bool:
    return len(text.split()) >= _WORDS_LEAST


def read_synset(document: str) -> Synset:
    """Lemmas and the parts of the gloss; no parts where its quotation marks do not match."""
    lemmas, _, gloss = document.partition(": ")
    parts = [] if gloss.count('"') % 2 else [part.strip() for part in _PART.findall(gloss)]
    return Synset(lemmas.split(", "), [part for part in parts if part])


def make(documents: Sequence[str], n: int, seed: int) -> Corpus:
    """At most `n` queries of each kind, of random rows.

    As many of each kind, so that all of them count alike.  Raises ValueError when there are none.
    """
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    synsets = [read_synset(document) for document in documents]
    left = list(documents)
    made: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    cut = []
    for row in order:
        kind = _kind_of(synsets[row], {kind: len(made[kind]) for kind in (DEFINITION, EXAMPLE)})
        if kind is None or len(made[kind]) == n:
            continue
        text, left[row] = _cut(synsets[row], kind)
        made[kind].append(Item(kind, text, frozenset([row])))
        cut.append(row)
    made[LEMMA] = _ask_lemmas(synsets, order, n)
    fewest = min(map(len, made.values()))
    if not fewest:
        raise ValueError("the documents are no glosses: there are no queries of all kinds")
    items = [made[kind][i] for i in range(fewest) for kind in KINDS]
    asked = {row for item in items if item.kind != LEMMA for row in item.relevant}
    for row in set(cut) - asked:
        left[row] = documents[row]
    return Corpus(left, sorted(asked), items)


def _kind_of(synset: Synset, made: dict[str, int]) -> str | None:
    """What may be asked of it; where both kinds may, the one of which there are fewer."""
    statements = synset.statements()
    possible = []
    if len(statements) > 1:
        possible.append(DEFINITION)
    if statements and synset.examples():
        possible.append(EXAMPLE)
    return min(possible, key=made.__getitem__, default=None)


def _cut(synset: Synset, kind: str) -> tuple[str, str]:
    """A query, and the document without it."""
    if kind == DEFINITION:
        number = synset.statements()[-1]
        return synset.parts[number], synset.without(number)
    number = synset.examples()[0]
    quoted = _EXAMPLE.findall(synset.parts[number])
    return quoted[0], synset.without(number)


def _ask_lemmas(synsets: Sequence[Synset], order: Sequence[int], n: int) -> list[Item]:
    """The first lemmas of some rows, each once; case does not count."""
    rows: dict[str, set[int]] = {}
    for row, synset in enumerate(synsets):
        for lemma in synset.lemmas:
            rows.setdefault(lemma.casefold(), set()).add(row)
    asked = dict.fromkeys(synsets[row].lemmas[0].casefold() for row in order)
    return [Item(LEMMA, lemma, frozenset(rows[lemma])) for lemma in list(asked)[:n]]
