"""How many of the nearest records a collection's graph finds: `Collection.recall_check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._names import as_integer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from vexfs_chroma._api_records import RecordOperations
    from vexfs_chroma._extensions import Extensions

_BLOCK = 1000
_MOST = 2**32 - 1
_TIE = 1e-5
"""Relative; kernels for one query and for many add up in another order."""


class RecallReport(msgspec.Struct, frozen=True):
    """What a recall check found; recall is the share of the k nearest that a query finds."""

    queries: int
    """Records that were searched for, each by its own embedding."""
    k: int
    seed: int
    expected: int
    """Nearest records over all queries: queries * k, or fewer in a small collection."""
    found: int
    """... of which the queries found so many.  What is equally near counts as found."""
    perfect: int
    """Queries that found all of theirs."""
    worst: float
    """The recall of the query that found the least."""
    found_themselves: int
    """Queries whose record, or one with the same embedding, was among the results."""
    answered_by: str
    """How a query is answered now: "graph", or why it is not; then recall is 1."""

    @property
    def recall(self) -> float:
        """The share of the nearest that was found, 0 to 1; 1 when there is nothing to find."""
        return self.found / self.expected if self.expected else 1.0


def check_arguments(n: object, k: object, seed: object) -> None:
    """Raise InvalidArgumentError for what no recall check can be made with."""
    for name, value, least in (("n", n, 1), ("k", k, 1), ("seed", seed, 0)):
        number = as_integer(value)
        if number is None or number < least:
            raise InvalidArgumentError(f"{name} must be an int of at least {least}, got {value!r}")
        if number > _MOST:
            raise InvalidArgumentError(f"{name} must be an int of at most {_MOST}, got {value!r}")


def check_recall(api: RecordOperations, id: UUID, n: int, k: int, seed: int) -> RecallReport:
    """Search for n records of the collection as queries do, and exactly, and compare."""
    check_arguments(n, k, seed)
    queries, searched_for = _sample(api, id, n, seed)
    if not searched_for:
        return RecallReport(0, k, seed, 0, 0, 0, 1.0, 0, "nothing can be found")
    hits, sizes, themselves = [], [], 0
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        found, exact = (
            api.query_records(id, block, None, k, None, None, ["distances"], exact=is_exact)
            for is_exact in (False, True)
        )
        for row, name in enumerate(searched_for[start : start + _BLOCK]):
            ids, distances = found["ids"][row], np.asarray(found["distances"][row])  # type: ignore[index]
            nearest, limits = exact["ids"][row], np.asarray(exact["distances"][row])  # type: ignore[index]
            hits.append(count_hits(ids, distances, nearest, limits))
            sizes.append(len(nearest))
            itself = limits[0] + _TIE * abs(limits[0]) if len(limits) else 0.0
            themselves += name in ids or bool(len(distances) and distances[0] <= itself)
    plan, _ = api.explain_query(id, queries[:1], None, k, None, None)
    shares = [hit / size for hit, size in zip(hits, sizes, strict=True) if size]
    return RecallReport(
        queries=len(queries),
        k=k,
        seed=seed,
        expected=sum(sizes),
        found=sum(hits),
        perfect=sum(share == 1 for share in shares),
        worst=min(shares, default=1.0),
        found_themselves=themselves,
        answered_by=plan.why,
    )


def count_hits(
    ids: Sequence[str], distances: Any, nearest: Sequence[str], limits: NDArray[np.float32]
) -> int:
    """How many of the `nearest`, at the distances `limits`, are among `ids`.

    What is as near as the last of them counts, too.
    """
    limit = limits[-1] + _TIE * abs(limits[-1]) if len(limits) else 0.0
    near = set(nearest)
    hits = sum(id in near or bool(far <= limit) for id, far in zip(ids, distances, strict=True))
    return min(hits, len(nearest))


def _sample(
    api: RecordOperations, id: UUID, n: int, seed: int
) -> tuple[NDArray[np.float32], list[str]]:
    """Embeddings and ids of n records, or of all; those deleted meanwhile are passed over."""
    rows = api._count(id)
    picked = np.random.default_rng(seed).permutation(rows)[:n]
    vectors: list[Any] = []
    ids: list[str] = []
    for offset in sorted(picked.tolist()):
        found = api._get(id, limit=1, offset=offset, include=["embeddings"])
        ids += found["ids"]
        vectors += list(np.asarray(found["embeddings"], np.float32))
    return np.asarray(vectors, np.float32), ids


class RecallChecks(ChromaCollection):
    """Measuring a collection's graph on its own records."""

    if TYPE_CHECKING:

        @property
        def _api(self) -> Extensions: ...

    def recall_check(self, n: int = 100, k: int = 10, seed: int = 0) -> RecallReport:
        """How much the graph finds of what there is to find, on records of the collection.

        Samples n records at random, searches for the k nearest of each as query() does and exactly,
        and compares.  That takes as long as n exact searches.

        Args:
            n: How many records to search for; all when there are fewer.
            k: How many of the nearest.
            seed: Of the sample: the same gives the same records of the same collection.

        Raises:
            InvalidArgumentError: n or k is less than 1, seed less than 0, or one above 2^32 - 1.
        """
        check_arguments(n, k, seed)
        return self._api.recall_check(self.id, int(n), int(k), int(seed))
