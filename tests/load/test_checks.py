"""Every kind of wrong answer is noticed, and nothing else; what was acknowledged is looked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from load_kit import RightStore, make_world

from vexfs_chroma._load import _scenarios
from vexfs_chroma._load._actor import ERROR, UNAVAILABLE, WRONG, Actor, UnavailableError
from vexfs_chroma._load._checks import Ledger
from vexfs_chroma._load._recorder import Recorder
from vexfs_chroma._load._world import World

USER = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def actor_on(store: Any, world: World, **options: Any) -> Actor:
    return Actor(world, store, Recorder(), USER, sleep=lambda _: None, **options)


def failures(recorder: Recorder) -> dict[str, int]:
    return dict(recorder.between(*recorder.span()).failed)


def test_right_answers_pass(world: World) -> None:
    actor = actor_on(RightStore(world), world)
    for _ in range(400):
        actor.step()
    actor.verify()
    assert failures(actor.recorder) == {}, actor.recorder.examples
    assert set(actor.recorder.kinds()) == set(_scenarios.KINDS)
    for kind in (_scenarios.QUERY, _scenarios.FILTERED, _scenarios.BATCH):
        found = actor.recorder.between(*actor.recorder.span(), [kind]).summary(1.0)
        assert found["recall"] == 1.0
    assert actor.recorder.counters["verified"] > 20
    assert actor.recorder.counters["lost"] == 0


def test_operations_follow_from_the_seed(world: World) -> None:
    calls = []
    for _ in range(2):
        store = RightStore(world)
        actor = actor_on(store, world)
        for _ in range(60):
            actor.step()
        calls.append(store.calls)
    assert calls[0] == calls[1]


class Spoilt(RightStore):
    """Answers that are wrong in one way."""

    def __init__(self, world: World, spoil: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(world)
        self.spoil = spoil

    def _query(self, vectors: Any, group: int | None) -> tuple[dict[str, Any], int]:
        answer, at = super()._query(vectors, group)
        self.spoil(answer)
        return answer, at


def drop_last(answer: dict[str, Any]) -> None:
    for column in answer.values():
        column[0].pop()


def swap(answer: dict[str, Any]) -> None:
    for column in answer.values():
        column[0][0], column[0][-1] = column[0][-1], column[0][0]


def set_in(column: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(answer: dict[str, Any]) -> None:
        answer[column][0][1] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (drop_last, "4 different ids instead of 5"),
        (swap, "not nearest first"),
        (lambda answer: answer["ids"][0].__setitem__(1, answer["ids"][0][0]), "4 different ids"),
        (set_in("ids", "b100000"), "never stored"),
        (set_in("ids", "stranger"), "never stored"),
        (set_in("distances", float("nan")), "distances"),
        (set_in("distances", None), "distances"),
        (set_in("metadatas", {"group": 77, "kind": "base"}), "has metadata"),
        (set_in("metadatas", None), "has metadata"),
        (set_in("documents", "another text"), "has text"),
        (set_in("documents", None), "has text"),
        (lambda answer: answer["documents"][0].pop(), "unequal length"),
        (lambda answer: answer.pop("distances"), "distances"),
        (lambda answer: answer["ids"].append([]), "2 answers to 1 queries"),
        (lambda answer: answer.update(ids=None), "TypeError"),
    ],
)
def test_wrong_answers_to_queries(
    world: World, spoil: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    actor = actor_on(Spoilt(world, spoil), world)
    actor._query(_scenarios.QUERY, 1)
    assert failures(actor.recorder) == {WRONG: 1}
    assert complaint in actor.recorder.examples[WRONG]


def test_a_distance_of_another_row(world: World) -> None:
    def shift(answer: dict[str, Any]) -> None:
        answer["distances"][0] = [one + 0.01 for one in answer["distances"][0]]

    actor = actor_on(Spoilt(world, shift), world)
    actor._query(_scenarios.QUERY, 1)
    assert "which are" in actor.recorder.examples[WRONG]


def test_a_filter_that_lets_others_through(world: World) -> None:
    store = RightStore(world)
    find = store._query
    store._query = lambda vectors, group: find(vectors, None)  # type: ignore[method-assign]
    actor = actor_on(store, world)
    actor._query(_scenarios.FILTERED, 1)
    assert "is not of group" in actor.recorder.examples[WRONG]


def test_far_rows_are_no_error_but_cost_recall(world: World) -> None:
    class Lazy(RightStore):
        def _query(self, vectors: Any, group: int | None) -> tuple[dict[str, Any], int]:
            k = self.world.scenario.k
            object.__setattr__(self.world.scenario, "k", 2 * k)
            answer, at = super()._query(vectors, group)
            object.__setattr__(self.world.scenario, "k", k)
            for column in answer.values():
                column[:] = [row[::2] for row in column]  # every other one
            return answer, at

    actor = actor_on(Lazy(world), world)
    for _ in range(20):
        actor._query(_scenarios.QUERY, 1)
    assert failures(actor.recorder) == {}
    recall = actor.recorder.between(*actor.recorder.span()).summary(1.0)["recall"]
    assert recall == pytest.approx(0.6)  # ranks 1, 3 and 5 of five


def test_rows_of_the_user_belong_to_the_nearest(world: World) -> None:
    """A query that misses what the user wrote is less than whole."""
    store = RightStore(world)
    actor = actor_on(store, world)
    number = 7
    query = world.queries[number]
    # The id whose first version is nearest to the query, of many: surely among the five nearest.
    ids = [f"v{USER}-{n}" for n in range(1, 3000)]
    near = [float(world.own_row(id, 1).vector @ query) for id in ids]
    id = ids[int(np.argmax(near))]
    assert 1 - max(near) < world.near[number][-1]
    actor.ledger.wrote(id, 1)
    missing, wanted = actor.checker.neighbours([_rows(store, query)], [number], None)
    assert (missing, wanted) == (world.scenario.k - 1, world.scenario.k)
    store.upsert(id, world.own_row(id, 1))
    assert actor.checker.neighbours([_rows(store, query)], [number], None) == (wanted, wanted)


def _rows(store: RightStore, query: Any) -> Any:
    from vexfs_chroma._load._checks import rows_of

    return rows_of(store._query([query], None)[0], 0)


def test_old_versions_and_missing_rows_of_the_user(world: World) -> None:
    class Deaf(RightStore):
        """Acknowledges, and forgets every second write."""

        def upsert(self, id: str, row: Any) -> tuple[None, int]:
            if row.metadata["version"] == 1 and id.endswith("1"):
                return super().upsert(id, row)
            return None, self._now()

    actor = actor_on(Deaf(world), world)
    for _ in range(30):
        actor._upsert()
    actor.verify()
    assert failures(actor.recorder)[WRONG] > 0
    assert actor.recorder.counters["lost"] > 0
    assert "must be in one of" in actor.recorder.examples["lost"]


def test_deleted_rows_that_are_there(world: World) -> None:
    store = RightStore(world)
    actor = actor_on(store, world)
    actor._upsert()
    store.delete = lambda _: (None, store._now())  # type: ignore[method-assign]
    actor._delete()
    assert "was deleted and is there" in actor.recorder.examples[WRONG]
    actor.verify()
    assert actor.recorder.counters["lost"] == 1


def test_another_vector_by_id(world: World) -> None:
    store = RightStore(world)
    find = store.get

    def get(ids: Any) -> tuple[dict[str, Any], int]:
        answer, at = find(ids)
        answer["embeddings"][-1] = answer["embeddings"][-1] + np.float32(1e-5)
        return answer, at

    store.get = get  # type: ignore[method-assign]
    actor = actor_on(store, world)
    actor._get()
    assert "has another vector" in actor.recorder.examples[WRONG]


# ---- servers that fail ---------------------------------------------------------------------------


def test_a_write_without_an_answer_is_in_doubt(world: World) -> None:
    """After it, both the old and the new version are right; a third one is not."""
    store = RightStore(world)
    actor = actor_on(store, world)
    actor._upsert()
    (id,) = actor.ledger.possible
    old = store.own[id]

    def unavailable(*_: Any) -> Any:
        raise UnavailableError("connection refused")

    store.upsert = unavailable  # type: ignore[method-assign]
    while actor.ledger.possible[id] == {1}:  # until it tries a new version of that row
        actor._upsert()
    assert actor.ledger.possible[id] == {1, 2}
    assert set(failures(actor.recorder)) == {UNAVAILABLE}
    for version, lost in ((1, 0), (2, 0), (3, 1)):
        store.own = {id: world.own_row(id, version) if version > 1 else old}
        actor.recorder.counters.clear()
        actor.verify()
        assert actor.recorder.counters["lost"] == lost
    store.own = {}
    actor.verify()
    assert actor.recorder.counters["lost"] == 2  # acknowledged once, and gone


def test_verifying_waits_for_the_server(world: World) -> None:
    store = RightStore(world)
    actor = actor_on(store, world)
    actor._upsert()
    answers, find = iter([False, False, True]), store.get

    def get(ids: Any) -> Any:
        if not next(answers):
            raise UnavailableError("not yet")
        return find(ids)

    store.get = get  # type: ignore[method-assign]
    actor.verify()
    assert actor.recorder.counters["lost"] == 0

    def never(_: Any) -> Any:
        raise UnavailableError("gone")

    store.get = never  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        actor.verify()


def test_errors_are_counted_as_such(world: World) -> None:
    store = RightStore(world)

    def refuse(*_: Any) -> Any:
        raise RuntimeError("status 500")

    store.query = refuse  # type: ignore[method-assign]
    actor = actor_on(store, world)
    actor._query(_scenarios.QUERY, 1)
    assert failures(actor.recorder) == {ERROR: 1}
    assert "status 500" in actor.recorder.examples[ERROR]


# ---- the timetable -------------------------------------------------------------------------------


def test_times_count_from_when_an_operation_was_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second one is due; the server takes 3 s for each: the delays add up."""
    now = 0

    def clock() -> int:
        return now

    monkeypatch.setattr("time.perf_counter_ns", clock)

    class Slow(RightStore):
        def query(self, numbers: Any, group: int | None) -> Any:
            nonlocal now
            answer, _ = super().query(numbers, group)
            now += 3_000_000_000
            return answer, now

    actor = actor_on(Slow(world), world, interval=1.0)
    wait = actor.pause()
    assert 0 <= wait < 1
    now += round(wait * 1e9)
    for _ in range(4):
        actor._query(_scenarios.QUERY, 1)
        assert actor.pause() == 0  # already late
    times = actor.recorder.between(*actor.recorder.span()).times
    assert times.longest_ns == pytest.approx(9e9, abs=1000)  # the fourth: 3 + 2 * 3
    assert times.total_ns == pytest.approx((3 + 5 + 7 + 9) * 1e9, abs=1000)


def test_without_a_rate_there_is_no_pause(world: World) -> None:
    assert actor_on(RightStore(world), world).pause() == 0


# ---- the ledger ----------------------------------------------------------------------------------


def test_ledger_against_a_plain_model(world: World) -> None:
    random = np.random.default_rng(5)
    ledger, model = Ledger(world, USER), {}
    for _ in range(300):
        id = ledger.some_id(random) if random.random() < 0.6 else None
        action = random.random()
        if id is None or action < 0.5:
            id = id or ledger.new_id()
            version = ledger.next_version(id)
            ledger.doubt(id, version)
            ledger.wrote(id, version)
            model[id] = version
        elif action < 0.9:
            ledger.deleted(id)
            del model[id]
        else:
            ledger.doubt(id, None)
            del model[id]
        assert len(ledger) == len(model)
    query = world.queries[0]
    for group in (None, 3):
        rows = [world.own_row(id, version) for id, version in model.items()]
        rows = [row for row in rows if group is None or row.metadata["group"] == group]
        true = sorted(1 - float(row.vector.astype(np.float64) @ query) for row in rows)
        assert np.allclose(np.sort(ledger.distances_to(query, group)), true, atol=1e-6)
