"""Bm25: full text as a part of rank expressions, which Chroma does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chromadb.execution.expression.operator import Rank


@dataclass
class Bm25(Rank):
    """Search documents for words: a rank expression beside chromadb's Knn, used in the same ways.

    The best `limit` of the selected records whose document has a word of the query, each with
    1 - score: as for distances, less is better.  Scores are those of BM25 (Robertson and Zaragoza
    2009), in Lucene's variant:

        sum over words of  ln(1 + (N - df + .5) / (df + .5)) tf / (tf + k1 (1 - b + b dl / avgdl))

    N and avgdl are over all records that have a document, whichever are selected.  Words are
    compared without regard to case and accents.

        Search().rank(Bm25("stack overflow"))
        Search().rank(Rrf([Knn(query="...", return_rank=True), Bm25("...", return_rank=True)]))

    Args:
        query: Text whose words are searched for.
        limit: At most so many records.
        default: The value of all other records; None: they are no part of the result.
        return_rank: Give 0, 1, 2, ... in the place of 1 - score, as Rrf needs it.
        k1: How much repeating a word counts; 0: not at all.
        b: How much long documents are held back, from 0 to 1.
    """

    query: str
    limit: int = 16
    default: float | None = None
    return_rank: bool = False
    k1: float = 1.2
    b: float = 0.75

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; what is as usual is left out."""
        fields: dict[str, Any] = {"query": self.query, "limit": self.limit}
        if self.default is not None:
            fields["default"] = self.default
        if self.return_rank is not False:
            fields["return_rank"] = self.return_rank
        if not isinstance(self.k1, float) or self.k1 != 1.2:
            fields["k1"] = self.k1
        if not isinstance(self.b, float) or self.b != 0.75:
            fields["b"] = self.b
        return {"$bm25": fields}
