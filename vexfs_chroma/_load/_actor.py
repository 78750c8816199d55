"""What one user does: chooses operations, times them, checks the answers, keeps the ledger.

A user with a rate has a timetable.  Times then count from when an operation was due: a server that
falls behind is charged for the waiting, not only for the answering (else the load test would itself
hide the delay, "coordinated omission").
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from vexfs_chroma._load import _scenarios
from vexfs_chroma._load._checks import Checker, Ledger, WrongAnswerError, require, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vexfs_chroma._load._recorder import Recorder
    from vexfs_chroma._load._world import OwnRow, World

    Answer = Mapping[str, Any]
    Timed = tuple[Any, int]  # an answer, and when it was there (perf_counter_ns)
    Reporter = Callable[[str, float, int, Exception | None], None]

BATCHES = (10, 50, 100)
GET_ROWS = 20
UNAVAILABLE, WRONG, ERROR = "unavailable", "wrong", "error"
_RETRY_S = 0.1
_VERIFY_ROWS = 100
_VERIFY_TRIES = 300


class UnavailableError(Exception):
    """Nobody answered: the server is not there, or says that it is too busy."""


class Store(Protocol):
    """The collection, however it is reached.  Calls return the answer and when it was there."""

    def query(self, numbers: Sequence[int], group: int | None) -> Timed:
        """The k nearest rows of some queries of the world."""

    def query_own(self, row: OwnRow) -> Timed:
        """The k nearest rows of the vector of a row."""

    def get(self, ids: Sequence[str]) -> Timed:
        """Rows by id: metadata and vectors."""

    def upsert(self, id: str, row: OwnRow) -> Timed:
        """Write a row."""

    def delete(self, id: str) -> Timed:
        """Delete a row."""


class Actor:
    """One user."""

    def __init__(
        self,
        world: World,
        store: Store,
        recorder: Recorder,
        number: int,
        *,
        interval: float | None = None,
        report: Reporter = lambda *_: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.world, self.store, self.recorder = world, store, recorder
        self.ledger = Ledger(world, number)
        self.checker = Checker(world, self.ledger)
        self._report, self._sleep = report, sleep
        self._random = np.random.default_rng([world.seed, number])
        self._kinds = list(world.scenario.mix)
        shares = np.array(list(world.scenario.mix.values()))
        self._shares = shares / shares.sum()
        self._interval_ns = None if interval is None else int(interval * 1e9)
        self._due: int | None = None  # None: at once

    # -- the timetable -----------------------------------------------------------------------------

    def pause(self) -> float:
        """How long to wait for the next operation, in seconds."""
        if self._interval_ns is None:
            return 0.0
        now = time.perf_counter_ns()
        if self._due is None:  # the first one: users are spread over the interval
            self._due = now + int(self._random.random() * self._interval_ns)
        else:
            self._due += self._interval_ns
        return max(0, self._due - now) / 1e9

    # -- operations --------------------------------------------------------------------------------

    def step(self) -> None:
        """The next operation."""
        kind = self._kinds[int(self._random.choice(len(self._kinds), p=self._shares))]
        if kind == _scenarios.UPSERT or (kind == _scenarios.DELETE and not len(self.ledger)):
            self._upsert()
        elif kind == _scenarios.DELETE:
            self._delete()
        elif kind == _scenarios.GET:
            self._get()
        elif kind == _scenarios.BATCH:
            self._query(kind, int(self._random.choice(BATCHES)))
        else:
            self._query(kind, 1)

    def _query(self, kind: str, count: int) -> None:
        numbers = self._random.integers(len(self.world.queries), size=count).tolist()
        group = None
        if kind == _scenarios.FILTERED:
            group = self.world.group_of_query(numbers[0])

        def check(answer: Any) -> None:
            require(len(answer["ids"]) == count, f"{len(answer['ids'])} answers to {count} queries")
            found = [rows_of(answer, at) for at in range(count)]
            hits, wanted = self.checker.neighbours(found, numbers, group)
            slot = self.recorder.slot(kind)
            slot.hits += hits
            slot.wanted += wanted

        self._do(kind, lambda: self.store.query(numbers, group), check, vectors=count)

    def _get(self) -> None:
        rows = self.world.scenario.rows
        numbers = self._random.choice(rows, min(GET_ROWS, rows), replace=False).tolist()
        self._do(
            _scenarios.GET,
            lambda: self.store.get([f"b{number}" for number in numbers]),
            lambda answer: self.checker.base_rows(answer, numbers),
            vectors=len(numbers),
        )

    def _upsert(self) -> None:
        id = self.ledger.some_id(self._random) if self._random.random() < 0.5 else None
        id = id or self.ledger.new_id()
        version = self.ledger.next_version(id)
        row = self.world.own_row(id, version)
        self.ledger.doubt(id, version)
        if self._do(_scenarios.UPSERT, lambda: self.store.upsert(id, row)):
            self.ledger.wrote(id, version)
            self._do(
                _scenarios.OWN,
                lambda: self.store.query_own(row),
                lambda answer: self.checker.own(rows_of(answer, 0), id),
                follows=True,
            )

    def _delete(self) -> None:
        id = self.ledger.some_id(self._random)
        assert id is not None
        self.ledger.doubt(id, None)
        if self._do(_scenarios.DELETE, lambda: self.store.delete(id)):
            self.ledger.deleted(id)
            self._do(
                _scenarios.OWN,
                lambda: self.store.get([id]),
                lambda answer: require(answer["ids"] == [], f"{id} was deleted and is there"),
                follows=True,
            )

    def _do(
        self,
        kind: str,
        call: Callable[[], Timed],
        check: Callable[[Any], None] = lambda _: None,
        *,
        vectors: int = 1,
        follows: bool = False,
    ) -> bool:
        """One operation; whether it was answered (rightly or not)."""
        sent = time.perf_counter_ns()
        start = sent if self._due is None or follows else min(sent, self._due)
        failure, ended = "", sent
        problem: Exception | None = None
        try:
            answer, ended = call()
        except UnavailableError as error:
            failure, problem = UNAVAILABLE, error
        except Exception as error:  # noqa: BLE001 - whatever a server may answer
            failure, problem = ERROR, error
        answered = problem is None
        if answered:
            try:
                check(answer)
            except (WrongAnswerError, KeyError, TypeError, IndexError, ValueError) as error:
                failure, problem = WRONG, error  # the latter: columns missing, or of a wrong shape
        if problem is None:
            slot = self.recorder.slot(kind)
            slot.times.add(ended - start)
            slot.vectors += vectors
        else:
            self.recorder.failed(kind, failure, f"{type(problem).__name__}: {problem}")
        self._report(kind, (ended - start) / 1e6, vectors, problem)
        if failure == UNAVAILABLE:
            self._sleep(_RETRY_S)
            self._due = None if self._due is None else time.perf_counter_ns()
        return answered

    # -- the end -----------------------------------------------------------------------------------

    def verify(self) -> None:
        """Look for everything that was acknowledged; counts what is lost."""
        ids = list(self.ledger.possible)
        for at in range(0, len(ids), _VERIFY_ROWS):
            part = ids[at : at + _VERIFY_ROWS]
            losses = self.checker.losses(part, self._get_surely(part))
            self.recorder.counters["verified"] += len(part)
            self.recorder.counters["lost"] += len(losses)
            for loss in losses[:1]:
                self.recorder.examples.setdefault("lost", loss)

    def _get_surely(self, ids: Sequence[str]) -> Answer:
        for _ in range(_VERIFY_TRIES - 1):
            with contextlib.suppress(UnavailableError):
                return cast("Answer", self.store.get(ids)[0])
            self._sleep(_RETRY_S)
        return cast("Answer", self.store.get(ids)[0])
