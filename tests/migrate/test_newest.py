"""Which entry of the log has a record's newest vector."""

from __future__ import annotations

import pytest

from vexfs_chroma._migrate._newest import Newest
from vexfs_chroma._migrate._queue import ADD, DELETE, UPDATE, UPSERT, Operation
from vexfs_chroma._migrate._rows import Row

SAW_NOTHING, SAW_ALL = 0, 1000


def newest(
    operations: list[tuple[int, int, str]],
    rows: list[tuple[str, int, int]],
    *,
    index_max: int = SAW_ALL,
    labels: str = "",
    all_labels: bool = True,
    rows_max: int = SAW_ALL,
) -> Newest:
    return Newest(
        [Operation(seq, kind, id, True) for seq, kind, id in operations],
        {id: Row(id, number, seq) for id, number, seq in rows},
        rows_max,
        dict.fromkeys(labels, 1),
        index_max,
        all_labels=all_labels,
    )


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_add_that_is_the_last_operation_inserted_the_record(order: str) -> None:
    """Then an earlier update found nothing."""
    index_max = SAW_ALL if order == "before" else SAW_NOTHING
    found = newest([(15, UPDATE, "a"), (47, ADD, "a")], [("a", 1, 47)], index_max=index_max)
    assert (found.seqs, found.uncertain) == ({"a": 47}, set())


def test_an_add_after_the_last_operation_was_ignored() -> None:
    found = newest([(15, UPDATE, "a"), (47, ADD, "a")], [("a", 1, 15)])
    assert (found.seqs, found.uncertain) == ({"a": 15}, set())
    assert newest([(47, ADD, "a")], [("a", 1, 15)]).seqs == {}


def test_an_add_before_a_later_update_is_uncertain() -> None:
    """It may have inserted the record, or been ignored."""
    found = newest([(47, ADD, "a")], [("a", 1, 60)])
    assert (found.seqs, found.uncertain) == ({"a": 47}, {"a"})
    assert newest([(15, UPDATE, "a"), (47, ADD, "a")], [("a", 1, 60)]).uncertain == {"a"}


def test_younger_records_tell_that_an_add_was_ignored() -> None:
    """`b` was inserted after `a`, and not after 40."""
    found = newest([(47, ADD, "a")], [("a", 1, 60), ("b", 2, 40)])
    assert (found.seqs, found.uncertain) == ({}, set())


def test_older_records_tell_that_an_add_was_carried_out() -> None:
    """`a` was inserted after `b`, which 45 did; so by 47, or by an entry after it."""
    operations = [(45, ADD, "b"), (47, ADD, "a"), (50, ADD, "a")]
    found = newest(operations, [("b", 1, 45), ("a", 2, 60)])
    assert (found.seqs, found.uncertain) == ({"a": 47, "b": 45}, set())


def test_the_index_tells_about_what_it_had_not_seen() -> None:
    rows = [("a", 1, 60)]
    assert newest([(47, ADD, "a")], rows, index_max=46, labels="a").seqs == {}
    assert newest([(47, ADD, "a")], rows, index_max=46).seqs == {"a": 47}
    part = newest([(47, ADD, "a")], rows, index_max=46, all_labels=False)
    assert part.uncertain == {"a"}


def test_what_no_segment_had_seen() -> None:
    operations = [(5, ADD, "a"), (6, ADD, "b"), (7, UPDATE, "c"), (8, UPSERT, "c")]
    found = newest(operations, [("a", 1, 1)], rows_max=4, index_max=4, labels="a")
    assert found.seqs == {"b": 6, "c": 8}


def test_deleted_and_back() -> None:
    operations = [
        (5, UPSERT, "a"),
        (6, DELETE, "a"),
        (7, UPDATE, "a"),
        (8, ADD, "a"),
        (9, ADD, "a"),
    ]
    found = newest(operations, [("a", 1, 8)], index_max=4, labels="a")
    assert (found.seqs, found.gone, found.uncertain) == ({"a": 8}, {"a"}, set())
