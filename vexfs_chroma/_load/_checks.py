"""Whether answers are right: ids, order, distances, metadata, texts, filters, recall; and whether
everything that was acknowledged is there in the end.

Answers have Chroma's shape, as it comes over HTTP or from a Collection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vexfs_chroma._load._world import distances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vexfs_chroma._load._world import World

_OWN_ID = re.compile(r"v\d+-\d+\Z")
_DISTANCE_ERROR = 1e-4  # of a distance in float32, over which servers may sum in any order
_LAST_BIT = 2e-7  # of an element of a unit vector
_TIE = 1e-5  # distances nearer than this are equal, for recall


class WrongAnswerError(AssertionError):
    """An answer that is not what it must be."""


def require(condition: Any, complaint: str) -> None:
    """Raise WrongAnswerError unless `condition` holds."""
    if not condition:
        raise WrongAnswerError(complaint)


def _same(stored: Any, given: Any) -> bool:
    """Chroma's server normalises what is normalised already, which may change the last bit."""
    return stored.shape == given.shape and bool((abs(stored - given) <= _LAST_BIT).all())


class Ledger:
    """The rows that one user wrote: which versions may be there now.

    Normally that is one; a write that was not answered leaves a doubt, until it is repeated.
    """

    def __init__(self, world: World, user: int) -> None:
        self._world, self._user = world, user
        self._made = 0
        self.possible: dict[str, set[int | None]] = {}  # None: not there
        self._order: list[str] = []  # ids that are there for certain, for random choice
        self._place: dict[str, int] = {}
        self._vectors = np.zeros((16, world.scenario.dimension), dtype=np.float32)
        self._groups = np.zeros(16, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._order)

    def new_id(self) -> str:
        """An id that was never used."""
        self._made += 1
        return f"v{self._user}-{self._made}"

    def some_id(self, random: np.random.Generator) -> str | None:
        """A row that is there; None where there is none."""
        return self._order[int(random.integers(len(self._order)))] if self._order else None

    def next_version(self, id: str) -> int:
        """A version that the row never had."""
        return max((v for v in self.possible.get(id, ()) if v is not None), default=0) + 1

    def is_own(self, id: str) -> bool:
        """Whether this user wrote it."""
        return id.startswith(f"v{self._user}-")

    def doubt(self, id: str, version: int | None) -> None:
        """A write of that version (None: a deletion) was sent; nobody knows whether it happened."""
        self.possible.setdefault(id, {None}).add(version)
        self._forget(id)

    def wrote(self, id: str, version: int) -> None:
        """A version was acknowledged."""
        self.possible[id] = {version}
        place = self._place.get(id)
        if place is None:
            place = self._place[id] = len(self._order)
            self._order.append(id)
            if place == len(self._vectors):
                self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
                self._groups = np.concatenate([self._groups, np.zeros_like(self._groups)])
        row = self._world.own_row(id, version)
        self._vectors[place], self._groups[place] = row.vector, row.metadata["group"]

    def deleted(self, id: str) -> None:
        """A deletion was acknowledged."""
        self.possible[id] = {None}
        self._forget(id)

    def _forget(self, id: str) -> None:
        """The last row takes the place of this one."""
        place = self._place.pop(id, None)
        if place is None:
            return
        last = self._order.pop()
        if last != id:
            self._order[place], self._place[last] = last, place
            self._vectors[place] = self._vectors[len(self._order)]
            self._groups[place] = self._groups[len(self._order)]

    def distances_to(self, query: Any, group: int | None) -> np.ndarray[Any, Any]:
        """Of the rows that are there, in a group."""
        vectors = self._vectors[: len(self._order)]
        if group is not None:
            vectors = vectors[self._groups[: len(self._order)] == group]
        return distances(vectors, query)


@dataclass(slots=True)
class Row:
    """What an answer tells about a row; a column that was not asked for is None."""

    id: str
    distance: float | None = None
    metadata: Mapping[str, Any] | None = None
    text: str | None = None


@dataclass(slots=True)
class Found:
    """What is known of an answer that was right."""

    hits: int = 0
    wanted: int = 0
    rows: list[Row] = field(default_factory=list)


def rows_of(answer: Mapping[str, Any], at: int) -> list[Row]:
    """The rows of query `at` in an answer."""
    ids = answer["ids"][at]
    columns = [
        [None] * len(ids) if answer.get(name) is None else answer[name][at]
        for name in ("distances", "metadatas", "documents")
    ]
    require(all(len(column) == len(ids) for column in columns), "columns of unequal length")
    return [Row(*values) for values in zip(ids, *columns, strict=True)]


class Checker:
    """Checks what one user was answered."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world, self.ledger = world, ledger

    def neighbours(
        self, found: Sequence[Sequence[Row]], numbers: Sequence[int], group: int | None
    ) -> tuple[int, int]:
        """The answers to some queries, of a group or not; how many of how many nearest are there.

        Nearest are base rows, the user's own rows, and rows of other users as far as they are in
        the answer.
        """
        world, k = self.world, self.world.scenario.k
        for rows in found:
            different = len({row.id for row in rows})
            if not different == len(rows) == k:
                raise WrongAnswerError(f"{different} different ids instead of {k}")
        every = [row for rows in found for row in rows]
        queries = world.queries[list(numbers)]
        vectors = self._vectors_of(every).reshape(len(found), k, -1)
        true = 1 - np.matmul(vectors, queries[:, :, None])[:, :, 0]
        told = np.array([row.distance for row in every], dtype=np.float64).reshape(true.shape)
        # Messages with arrays are only made when they are needed.
        if not np.isfinite(told).all():
            raise WrongAnswerError(f"distances {told}")
        if not (np.diff(told) >= -1e-9).all():
            raise WrongAnswerError(f"not nearest first: {told}")
        if not (abs(told - true) <= _DISTANCE_ERROR).all():
            raise WrongAnswerError(f"distances {told}, which are {true}")
        for row in every:
            self.contents(row, group)
        near = (world.near if group is None else world.near_in_group)[list(numbers)]
        kth = near[:, -1]
        if len(self.ledger) or any(row.id[0] == "v" for row in every):
            kth = np.array(
                [
                    self._farthest(rows, queries[at], true[at], near[at], group)
                    for at, rows in enumerate(found)
                ]
            )
        return int((true <= kth[:, None] + _TIE).sum()), k * len(found)

    def _farthest(
        self, rows: Sequence[Row], query: Any, true: Any, near: Any, group: int | None
    ) -> float:
        """The distance of the k-th nearest row to a query."""
        own = self.ledger.distances_to(query, group) if len(self.ledger) else near[:0]
        others = [
            distance
            for row, distance in zip(rows, true, strict=True)
            if row.id[0] == "v" and not (self.ledger.is_own(row.id) and self.is_certain(row.id))
        ]
        return float(np.sort(np.concatenate([near, own, others]))[len(rows) - 1])

    def _vectors_of(self, rows: Sequence[Row]) -> Any:
        """The vectors that rows must have, as a matrix."""
        numbers = [self.number_of(row.id) for row in rows]
        found = self.world.vectors[[number or 0 for number in numbers]]
        for at, (row, number) in enumerate(zip(rows, numbers, strict=True)):
            if number is None:
                found[at] = self.world.own_row(row.id, self.version_of(row)).vector
        return found

    def is_certain(self, id: str) -> bool:
        """Whether the ledger knows the row, and no doubt about it."""
        return len(self.ledger.possible.get(id, ())) == 1

    def number_of(self, id: str) -> int | None:
        """Of a base row; None for a row of some user; anything else was never stored."""
        if id[:1] == "b" and id[1:].isdecimal() and int(id[1:]) < self.world.scenario.rows:
            return int(id[1:])
        require(_OWN_ID.match(id), f"{id!r} was never stored")
        return None

    def version_of(self, row: Row) -> int:
        """Of a row that some user wrote: one that may be there, if it is our own."""
        version = (row.metadata or {}).get("version")
        require(type(version) is int and version > 0, f"{row.id} has metadata {row.metadata}")
        assert isinstance(version, int)
        if self.ledger.is_own(row.id):
            possible = self.ledger.possible.get(row.id, {None})
            require(version in possible, f"{row.id} in version {version}, not in {possible}")
        return version

    def contents(self, row: Row, group: int | None) -> None:
        """Metadata, and the text where there is one."""
        number = self.number_of(row.id)
        if number is not None:
            metadata, text = self.world.metadata(number), None
            if row.text is not None:
                text = self.world.text(number)
        else:
            own = self.world.own_row(row.id, self.version_of(row))
            metadata, text = own.metadata, own.text
        if row.metadata != metadata:
            raise WrongAnswerError(f"{row.id} has metadata {row.metadata}")
        if group is not None and metadata["group"] != group:
            raise WrongAnswerError(f"{row.id} is not of group {group}")
        if self.world.scenario.documents and (row.text is None or row.text != text):
            raise WrongAnswerError(f"{row.id} has text {row.text!r}")

    def own(self, rows: Sequence[Row], id: str) -> None:
        """The answer to a query with the vector of a row that was just written."""
        nearest = rows[0].id if rows else None
        require(nearest == id, f"{id} was written, and {nearest} is the nearest to its vector")
        distance = rows[0].distance
        require(distance is not None and abs(distance) <= _DISTANCE_ERROR, f"at {distance}, not 0")
        self.contents(rows[0], None)

    def base_rows(self, answer: Mapping[str, Any], numbers: Sequence[int]) -> None:
        """Rows by id, with their vectors."""
        require(set(answer["ids"]) == {f"b{n}" for n in numbers}, f"wrong ids {answer['ids']}")
        for id, vector in zip(answer["ids"], answer["embeddings"], strict=True):
            stored = np.asarray(vector, dtype=np.float32)
            require(_same(stored, self.world.vectors[int(id[1:])]), f"{id} has another vector")

    def losses(self, ids: Sequence[str], answer: Mapping[str, Any]) -> list[str]:
        """What is not as it was acknowledged, of these rows; `answer` has them by id."""
        there: dict[str, tuple[Any, Any]] = {
            id: (metadata, vector)
            for id, metadata, vector in zip(
                answer["ids"], answer["metadatas"], answer["embeddings"], strict=True
            )
        }
        found = []
        for id in ids:
            metadata, vector = there.get(id, (None, None))
            version = metadata.get("version") if metadata else None
            possible = self.ledger.possible[id]
            if version not in possible:
                found.append(f"{id} is there in version {version}, must be in one of {possible}")
            elif version is not None:
                true = self.world.own_row(id, version).vector
                if not _same(np.asarray(vector, dtype=np.float32), true):
                    found.append(f"{id} in version {version} has another vector")
        return found
