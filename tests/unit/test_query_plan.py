"""QueryPlan: what it says of an answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vexfs_chroma import _engine
from vexfs_chroma._query_plan import make_query_plan


@pytest.mark.parametrize(
    ("hops", "distances", "reason"),
    [
        (118, 1437, "a walk meets far fewer records than there are"),
        (0, 8005, "so few records may be found that each is looked at by its short code"),
    ],
)
def test_the_reason_is_what_was_done(hops: int, distances: int, reason: str) -> None:
    done = dict.fromkeys(_engine.Plan.__struct_fields__, 0)
    done |= {"walk_hops": hops, "walk_distances": distances, "ef": 100}
    plan = _engine.Plan(**{**done, "why": "graph", "quantization": "sq8"})  # type: ignore[arg-type]
    made = make_query_plan(plan, SimpleNamespace(), queries=1)  # type: ignore[arg-type]
    assert made.reason == reason
    assert str(made).startswith(f"graph (ef 100, sq8): {reason}\n")
