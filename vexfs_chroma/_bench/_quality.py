"""`vexctl bench quality`: what dense, full-text, sparse and fused searches find, on real text.

Queries and answers are those of _known_items.  Half of the queries choose the parameters of the
fusion, the other half is reported.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._bench import _data, _encoder, _evaluation, _fusion, _known_items, _sparse
from vexfs_chroma._bench._fusion import Weights
from vexfs_chroma._bench._results import HIGHER, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from vexfs_chroma._bench._encoder import Matrix
    from vexfs_chroma._bench._fusion import Ranking
    from vexfs_chroma._bench._known_items import Corpus, Item
    from vexfs_chroma._bench._progress import Progress

K = 10
DENSE, TEXT, SPARSE, OTHER_SPARSE = "dense", "BM25", "sparse", "sparse, lengths / 256"
FUSED, TUNED = "RRF, as it comes", "RRF, tuned"
SINGLE = (DENSE, TEXT, SPARSE, OTHER_SPARSE)
PARTS = (DENSE, TEXT, SPARSE)  # of the fusions
PLAIN = Weights(60, (1, 1, 0))
ALL = "all queries"
NDCG, MRR, RECALL = f"nDCG@{K}", f"MRR@{K}", f"recall@{K}"
_KEY = "words"
_BATCH = 5000
_SEARCHES = 50  # in a call
_CHECKED = 50  # documents whose vectors are known
_AGREE = 2e-3  # cosine distance of vectors that were stored as float16

NOTES = (
    "documents: lemmas and gloss of a synset each; queries, in equal numbers:",
    "  definition: one of several statements that define it; example: an example sentence; both",
    "  cut out of the document, which is encoded anew; answer: that synset",
    "  lemma: a lemma; answers: all synsets that have it",
    "dense: Knn, cosine, by the graph; BM25: Bm25(), k1 1.2, b 0.75, Lucene's variant, no stemming",
    "sparse: ChromaBm25EmbeddingFunction (stems, no stop words), weighted by idf in the engine;",
    "  avg_doc_length is the mean of the documents; lengths / 256: it is 256, as it comes",
    "RRF, as it comes: dense and BM25, k 60, weights 1:1; tuned: k and weights of dense, BM25 and",
    "  sparse with the best nDCG on the other half of the queries; what a part does not find among",
    "  its first 100 has the rank 100 there",
    "intervals: 95 %, percentile bootstrap over queries; differences are paired",
)


@dataclass(slots=True, frozen=True)
class Plan:
    """What is measured."""

    model: str | None = None  # folder of the encoder
    rows: int | None = None
    queries: int = 1000  # of each kind; half of them are reported
    depth: int = 100  # of every single search that is fused
    seed: int = _data.SEED
    resamples: int = _evaluation.RESAMPLES


def run(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    """Do the study on WordNet; fills `report`.

    Raises FileNotFoundError without an encoder or without data, ValueError when the encoder is not
    the one that the stored vectors come from.
    """
    encoder = _encoder.Encoder(_encoder.find_model(Path(plan.model) if plan.model else None))
    where = os.environ.get("VEXFS_DATA")
    if not where:
        raise FileNotFoundError("bench quality needs VEXFS_DATA, the directory of data sets")
    base, _, _, _, texts, _ = _data.loader(Path(where)).load(_data.WORDNET)
    vectors = np.ascontiguousarray(base[: plan.rows], dtype=np.float32)
    study(plan, texts[: plan.rows], vectors, encoder, folder, report, progress)


def study(
    plan: Plan,
    documents: Sequence[str],
    vectors: Matrix,
    encode: Callable[[Sequence[str]], Matrix],
    folder: Path,
    report: Report,
    progress: Progress,
) -> None:
    """The study on any documents; `vectors`, (n, dimension), are what `encode` makes of them."""
    progress.start(5)
    corpus = _known_items.make(documents, plan.queries, plan.seed)
    with progress.step(f"encode {len(corpus.items)} queries, {len(corpus.cut)} documents"):
        _check_encoder(corpus, documents, vectors, encode)
        vectors = vectors.copy()
        vectors[corpus.cut] = encode([corpus.documents[row] for row in corpus.cut])
        queries = encode([item.text for item in corpus.items])
    with progress.step("sparse vectors"):
        counts = _sparse.Counts(corpus.documents)
        asked = _sparse.Counts([item.text for item in corpus.items])
    with _Collections(folder, plan.depth) as searched:
        with progress.step(f"load {len(documents)} records"):
            searched.load(corpus.documents, vectors, counts)
        searched.ask([item.text for item in corpus.items], queries, asked.vectors(1.0, b=0.0))
        with progress.step("single searches"):
            rankings = {name: searched.single(name) for name in SINGLE}
        with progress.step("fused searches") as step:
            parts = [_half(rankings[name], 0) for name in PARTS]
            chosen, tuned = _fusion.tune(parts, _half(corpus.items, 0), K, plan.depth)
            step.outcome = f"{chosen}; {NDCG} {tuned:.4f} of the half that chose"
            rankings |= {FUSED: searched.fused(PLAIN), TUNED: searched.fused(chosen)}
    same = _agreement(plan, rankings, {FUSED: PLAIN, TUNED: chosen})
    report.notes += NOTES
    report.conditions |= dataclasses.asdict(plan) | {
        "documents": len(documents),
        "queries reported": len(_half(corpus.items, 1)),
        "queries that chose": len(_half(corpus.items, 0)),
        "tuned": dataclasses.asdict(chosen) | {"parts": PARTS, NDCG: tuned},
        "mean length of sparse": counts.mean_length,
    }
    evaluate(plan, _half(corpus.items, 1), {n: _half(r, 1) for n, r in rankings.items()}, report)
    report.check(ALL, "fused rankings, engine v numpy: same", same, 1.0, unit="")


def _half(of: Sequence[Any], which: int) -> list[Any]:
    """Kinds are in turn: triples of queries alternate between the halves."""
    kinds = len(_known_items.KINDS)
    return [one for i, one in enumerate(of) if i // kinds % 2 == which]


def _check_encoder(
    corpus: Corpus,
    documents: Sequence[str],
    vectors: Matrix,
    encode: Callable[[Sequence[str]], Matrix],
) -> None:
    known = [row for row in range(len(documents)) if row not in set(corpus.cut)][:_CHECKED]
    made = encode([documents[row] for row in known])
    if made.shape[1] != vectors.shape[1]:
        raise ValueError(f"the encoder has {made.shape[1]} dimensions, the data {vectors.shape[1]}")
    farthest = float((1 - np.einsum("ij,ij->i", made, vectors[known])).max())
    if farthest > _AGREE:
        raise ValueError(
            f"the encoder is not the one of the data: vectors differ by {farthest:.3g} (1 - cosine)"
        )


# ---- searching -----------------------------------------------------------------------------------


class _Collections:
    """A collection with everything, and one with the other sparse vectors; all queries on them."""

    def __init__(self, folder: Path, depth: int) -> None:
        import vexfs_chroma

        self._depth = depth
        self._client = vexfs_chroma.PersistentClient(folder / "database", durability="off")
        self._main = self._create("main", "cosine")
        self._other = self._create("other", "l2")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _create(self, name: str, space: Any) -> Any:
        from chromadb.api.types import VectorIndexConfig

        from vexfs_chroma import Schema, SparseVectorIndexConfig

        schema = Schema().create_index(config=VectorIndexConfig(space=space))
        schema.create_index(key=_KEY, config=SparseVectorIndexConfig(bm25=True))
        return self._client.create_collection(name, schema=schema, embedding_function=None)

    def load(self, documents: Sequence[str], vectors: Matrix, counts: _sparse.Counts) -> None:
        """Add all rows; their ids are their numbers."""
        main, other = counts.vectors(counts.mean_length), counts.vectors()
        for at in range(0, len(documents), _BATCH):
            end = min(at + _BATCH, len(documents))
            ids = [str(row) for row in range(at, end)]
            self._main.add(
                ids=ids,
                embeddings=vectors[at:end],
                documents=list(documents[at:end]),
                metadatas=[{_KEY: vector} for vector in main[at:end]],
            )
            self._other.add(
                ids=ids,
                embeddings=np.ones((end - at, 1), dtype=np.float32),
                metadatas=[{_KEY: vector} for vector in other[at:end]],
            )
        self._main.wait_for_index()

    def ask(self, texts: Sequence[str], vectors: Matrix, sparse: Sequence[Any]) -> None:
        """These are the queries from now on, each in three forms."""
        self._queries = list(zip(texts, vectors.tolist(), sparse, strict=True))

    def single(self, name: str) -> list[Ranking]:
        """The first rows of one of SINGLE, for all queries."""
        part = SPARSE if name == OTHER_SPARSE else name
        ranks = [self._part(part, query) for query in self._queries]
        return self._search(self._other if name == OTHER_SPARSE else self._main, ranks)

    def fused(self, weights: Weights) -> list[Ranking]:
        """The same of PARTS, fused by the engine."""
        from vexfs_chroma import Rrf

        used = [
            (name, weight) for name, weight in zip(PARTS, weights.weights, strict=True) if weight
        ]
        options = {"return_rank": True, "default": float(self._depth)}
        return self._search(
            self._main,
            [
                Rrf(
                    [self._part(name, query, **options) for name, _ in used],
                    k=weights.k,
                    weights=[float(weight) for _, weight in used],
                )
                for query in self._queries
            ],
        )

    def _part(self, name: str, query: tuple[str, list[float], Any], **options: Any) -> Any:
        from vexfs_chroma import Bm25, Knn

        text, vector, sparse = query
        if name == TEXT:
            return Bm25(text, limit=self._depth, **options)
        if name == SPARSE:
            return Knn(query=sparse, key=_KEY, limit=self._depth, **options)
        return Knn(query=vector, limit=self._depth, **options)

    def _search(self, collection: Any, ranks: Sequence[Any]) -> list[Ranking]:
        from vexfs_chroma import Search

        found: list[Ranking] = []
        for at in range(0, len(ranks), _SEARCHES):
            searches = [Search(rank=rank).limit(self._depth) for rank in ranks[at : at + _SEARCHES]]
            found += [[int(id) for id in ids] for ids in collection.search(searches)["ids"]]
        return found


# ---- figures -------------------------------------------------------------------------------------


def _agreement(plan: Plan, rankings: dict[str, list[Ranking]], fused: dict[str, Weights]) -> float:
    """The share of the fused rankings whose first rows are those that numpy fuses, in its order."""
    same = [
        _fusion.fuse(lists, weights, plan.depth)[:K] == ranking[:K]
        for name, weights in fused.items()
        for *lists, ranking in zip(*(rankings[part] for part in (*PARTS, name)), strict=True)
    ]
    return statistics.fmean(same)


def evaluate(
    plan: Plan, items: Sequence[Item], rankings: dict[str, list[Ranking]], report: Report
) -> None:
    """Figures of all rankings, over all queries and over each kind, and what they differ by."""
    for kind in (ALL, *_known_items.KINDS):
        chosen = [i for i, item in enumerate(items) if kind in (ALL, item.kind)]
        scores = {
            name: [_evaluation.ndcg(found[i], items[i].relevant, K) for i in chosen]
            for name, found in rankings.items()
        }
        for name, found in rankings.items():
            pairs = [(found[i], items[i].relevant) for i in chosen]
            interval = _evaluation.bootstrap(scores[name], plan.seed, plan.resamples)
            figures = {
                NDCG: interval.mean,
                f"{NDCG} from": interval.low,
                f"{NDCG} to": interval.high,
                MRR: statistics.fmean(_evaluation.reciprocal_rank(*pair, K) for pair in pairs),
                RECALL: statistics.fmean(_evaluation.recall(*pair, K) for pair in pairs),
            }
            for figure, value in figures.items():
                report.add(kind, figure, "", HIGHER, name, value)
        _compare(plan, kind, scores, report)


def _compare(plan: Plan, kind: str, scores: dict[str, list[float]], report: Report) -> None:
    """What the tuned fusion has more than each other ranking, in pairs."""
    group = f"{kind}: {NDCG} of {TUNED}, less that of"
    differences = {
        name: _evaluation.paired_bootstrap(scores[TUNED], values, plan.seed, plan.resamples)
        for name, values in scores.items()
        if name != TUNED
    }
    for name, interval in differences.items():
        for figure, value in (("", interval.mean), (" from", interval.low), (" to", interval.high)):
            report.add(group, f"difference{figure}", "", HIGHER, name, value)
    best = max(SINGLE, key=lambda name: statistics.fmean(scores[name]))
    if kind == ALL:
        name = f"{NDCG} of {TUNED}, less that of the best single search ({best})"
        report.check(kind, name, differences[best].mean, 0.0, unit="")
        report.check(kind, f"{name}, lower end of 95 %", differences[best].low, 0.0, unit="")
