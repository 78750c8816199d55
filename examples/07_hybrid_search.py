"""Answer questions from documents by meaning and by words at once.

Dense vectors find what means the same, and miss names that no model knows; words find names, and
miss synonyms.  The same questions are asked of four ranks: dense vectors, sparse vectors that the
collection computes from each document, full text, and all three fused.

    python examples/07_hybrid_search.py                          all texts
    python examples/07_hybrid_search.py "parse an ISO 8601 date"
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from rich.table import Table
from shared import arguments, best_sentences, console, read_texts, start_over, timed
from sklearn.feature_extraction.text import CountVectorizer
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb
from vexfs_chroma import Bm25, K, Knn, Rrf, Schema, Search, SparseVector, SparseVectorIndexConfig
from vexfs_chroma.api.types import SparseEmbeddingFunction, VectorIndexConfig
from vexfs_chroma.utils.embedding_functions import register_sparse_embedding_function

QUESTIONS = ["What is a semaphore?", "asyncio.wait_for timeout", "the ROT13 cipher"]
FOUND = 3  # of each rank
EACH = 50  # that every rank may contribute


@register_sparse_embedding_function
class WordCounts(SparseEmbeddingFunction[list[str]]):
    """A sparse vector of a text: a number for each of its words, hashed to an index."""

    def __init__(self) -> None:
        self.words = CountVectorizer(stop_words="english").build_analyzer()

    def __call__(self, input: list[str]) -> list[SparseVector]:
        return [self.vector_of(text) for text in input]

    def vector_of(self, text: str) -> SparseVector:
        counts: Counter[int] = Counter()
        for word in self.words(text):
            digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
            counts[int.from_bytes(digest, "little")] += 1
        indices = sorted(counts)
        return SparseVector(indices, [counts[i] / (counts[i] + 1.2) for i in indices])

    @staticmethod
    def name() -> str:
        return "word_counts"

    def get_config(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> WordCounts:  # noqa: ARG004 - empty
        return WordCounts()


def ranks_of(question: str) -> dict[str, Any]:
    """The same question, four times.  Lower is better in all of them."""

    def ranked(**options: Any) -> list[Any]:
        return [
            Knn(query=question, limit=EACH, **options),
            Knn(query=question, key="words", limit=EACH, **options),
            Bm25(question, limit=EACH, **options),
        ]

    dense, sparse, text = ranked()
    # A text that one rank does not find counts there as if it were the thousandth.
    fused = Rrf(ranked(return_rank=True, default=1000.0), weights=[2.0, 1.0, 1.0])
    return {"dense": dense, "sparse": sparse, "text": text, "fused": fused}


def main() -> None:
    parser = arguments(__doc__, "build/hybrid")
    parser.add_argument("question", nargs="*", help="default: three of ours")
    options = parser.parse_args()
    start_over(options.path / "database")
    ids, texts, metadatas = read_texts(options.limit)
    with timed("fit the embedding to every fourth"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts[::4], options.path / "embedding.npz")

    schema = Schema()
    schema.create_index(config=VectorIndexConfig(space="cosine", embedding_function=embedding))
    schema.create_index(
        key="words",  # rare words count for more in queries (bm25)
        config=SparseVectorIndexConfig(
            source_key="#document", embedding_function=WordCounts(), bm25=True
        ),
    )
    with chromadb.PersistentClient(path=options.path / "database") as client:
        notes = client.create_collection("notes", schema=schema)
        with timed("embed twice and store", len(ids)), console.status("Storing"):
            notes.add(ids=ids, documents=texts, metadatas=metadatas)

        for question in [" ".join(options.question)] if options.question else QUESTIONS:
            ranks = ranks_of(question)
            searches = [
                Search(where=K("kind") != "module", rank=rank, limit=FOUND).select(K.DOCUMENT)
                for rank in ranks.values()
            ]
            with timed(f"four searches: {question}"):
                found = notes.search(searches)
            table = Table(*ranks, title=question, title_justify="left")
            for row in zip(*found["ids"], strict=False):
                table.add_row(*row)
            console.print(table)
            fused = [row["document"] for row in found.rows()[-1]]
            console.print(f"{best_sentences(question, fused, embedding)}\n", highlight=False)


if __name__ == "__main__":
    main()
