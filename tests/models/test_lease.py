"""The lease protocol keeps its promises in every state (lease.py), and needs each of its rules.

VEXFS_MODEL=1 visits millions of states instead of thousands, for an hour.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from explore import explore
from lease import Lease, Rules, Size

NORMAL = Rules(normal=True)
MIXED = Rules(mixed=True)
DROPPING = Rules(mixed=True, drops_pages=True)

SIZES = {
    "a sync fails, a process is killed": (Rules(), Size(power_failures=0)),
    "the power fails": (Rules(), Size(writes=1, kills=0)),
    "threads share syncs": (Rules(), Size(together=2, kills=0)),
    "a flush, a kill": (Rules(), Size(writes=1, flushes=1, failing_syncs=0, power_failures=0)),
    "a flush, a failing sync": (Rules(), Size(writes=1, flushes=1, kills=0)),
    "a clean close": (Rules(), Size(writes=1, closes=1, failing_syncs=0)),
    "reading settles, too": (Rules(settles_reading=True), Size(writes=1, power_failures=0)),
    "durability normal": (NORMAL, Size(before=1, writes=1)),
    "one syncs later": (MIXED, Size(kills=0, failing_syncs=0)),
    "one syncs later, and pages are dropped": (DROPPING, Size(kills=0, power_failures=0)),
    "... and one is killed": (DROPPING, Size(before=1, writes=1, power_failures=0)),
}
LARGE = {
    "everything, one process": (
        Rules(),
        Size(1, writes=3, together=2, flushes=2, kills=2, closes=1),
    ),
    "kills and power failures": (Rules(), Size(kills=2)),
    "kills and flushes": (Rules(), Size(flushes=2, failing_syncs=0, power_failures=0)),
    "a flush and everything": (Rules(), Size(writes=1, flushes=1, closes=1)),
    "three processes": (Rules(), Size(3, power_failures=0)),
    "three processes and a flush": (
        Rules(),
        Size(3, before=1, writes=1, flushes=1, failing_syncs=0, power_failures=0),
    ),
    "reading settles, too": (Rules(settles_reading=True), Size(kills=2)),
    "durability normal": (NORMAL, Size(writes=2, kills=2, failing_syncs=1)),
    "durability normal and flushes": (NORMAL, Size(writes=2, flushes=1, kills=0)),
    "one syncs later": (MIXED, Size(before=1)),
    "one syncs later, and pages are dropped": (DROPPING, Size(power_failures=0)),
    "... twice": (DROPPING, Size(failing_syncs=2, power_failures=0)),
    "... and the power fails": (DROPPING, Size(before=1, writes=1)),
    "... and a flush": (DROPPING, Size(before=1, writes=1, flushes=1, power_failures=0)),
    "... and a third": (DROPPING, Size(3, kills=0, power_failures=0)),
}
CHOSEN = LARGE if os.environ.get("VEXFS_MODEL") else SIZES


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", CHOSEN)
def test_the_protocol_keeps_its_promises(name: str) -> None:
    rules, size = CHOSEN[name]
    found = explore(Lease(rules, size))
    print(f"{name}: {found}")
    assert found.violation is None, str(found)
    assert found.states > 1000, "too few states to mean anything"


# ---- without one of its rules --------------------------------------------------------------------

QUIET = Size(kills=0, failing_syncs=0, power_failures=0)
FAULTY = Size(power_failures=0)
CONTROLS = [
    ("takes_lease", QUIET, "two processes append"),
    # Catching up has two safety nets: bytes behind the end, and the newest manifest.
    ("catches_up looks_behind_end looks_for_manifest", QUIET, "acknowledged {0}, recovered"),
    (
        "looks_for_manifest",
        Size(before=1, writes=1, flushes=1, failing_syncs=0, power_failures=0),
        "log 1 is gone under its writer",
    ),
    ("stops_at_head", QUIET, "a reader saw (0,), recovered"),
    ("head_after_sync", QUIET, "a reader saw (0,), recovered"),
    ("failed_sync_poisons", FAULTY, "a reader saw (0,), recovered"),
    ("poisoned_follows", FAULTY, "a read gives (), others saw (0,) before"),
    ("looks_behind_end", FAULTY, "a reader saw (0,), recovered"),
    ("persists_again", FAULTY, "a reader saw (0,), recovered"),
    ("persists_before_showing", FAULTY, "a reader saw (0,), recovered"),
    (
        "cuts",
        Size(writes=3, together=2, kills=0, failing_syncs=0),
        "a get gave (0,), an add goes by (0, 1)",
    ),
    (
        "failed_persisting_reloads failed_persisting_voids_head",
        FAULTY,
        "a reader saw (0,), recovered",
    ),
    ("loads_again_with_head", Size(writes=1, kills=0, failing_syncs=0), "a reader saw (0,)"),
    ("waits_to_settle", FAULTY, "a reader saw (0,), recovered"),
    ("settles_opening", FAULTY, "a get gave (), an add goes by (0,)"),
    ("settles_void", FAULTY, "a read gives (), others saw (0,) before"),
    # A flush on files that are others by now notices it; so MAINT is missed without that.
    (
        "takes_maintenance commits_if_related",
        Size(before=1, writes=1, flushes=2, kills=0, failing_syncs=0, power_failures=0),
        "recovering would find damage",
    ),
    (
        "removes_after_commit",
        Size(writes=1, flushes=1, failing_syncs=0, power_failures=0),
        "recovering would find damage",
    ),
    (
        "names_before_removal",
        Size(writes=1, flushes=1, failing_syncs=0, power_failures=0),
        "recovering would find damage",
    ),
]
CONTROLS_LARGE = [
    (
        "flush_looks_for_manifest",
        Size(before=1, writes=1, flushes=2, failing_syncs=0, power_failures=0),
        "recovering would find damage",
    ),
]
CONTROLS_OF_NORMAL = [
    ("failed_sync_voids_head", FAULTY, "(0, 1) was synced, recovered would be ()"),
    ("failed_persisting_voids_head", Size(1, power_failures=0), "(0, 1) was synced, recovered"),
    ("seals_synced", Size(flushes=1, kills=0), "ends before its committed end"),
]


DROPS = Size(power_failures=0)
CONTROLS_OF_DROPPING = [
    ("syncs_when_left", DROPS, "record 1 is answered for, and synced by nobody"),
    ("numbers_recoveries", DROPS, "finds damage: log 1 ends before its committed end"),
    ("reads_what_it_wrote", DROPS, "(0,) was synced, recovered would be ()"),
    ("looks_after_opening", Size(kills=0, power_failures=0), "(0,) was synced, recovered"),
    ("void_stays_void", DROPS, "a read gives (0, 1), recovered would be ()"),
]


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("without", "size", "expected", "rules"),
    [
        pytest.param(*control, Rules(), id=control[0])
        for control in CONTROLS + (CONTROLS_LARGE if CHOSEN is LARGE else [])
    ]
    + [pytest.param(*control, NORMAL, id=control[0]) for control in CONTROLS_OF_NORMAL]
    + [pytest.param(*control, DROPPING, id=control[0]) for control in CONTROLS_OF_DROPPING],
)
def test_each_rule_is_needed(without: str, size: Size, expected: str, rules: Rules) -> None:
    weaker = Rules(**{**asdict(rules), **dict.fromkeys(without.split(), False)})
    found = explore(Lease(weaker, size))
    print(f"without {without}: {found}")
    assert found.violation is not None, f"nobody misses {without}: {found}"
    assert expected in found.violation, str(found)


def test_every_rule_is_tried() -> None:
    controls = CONTROLS + CONTROLS_LARGE + CONTROLS_OF_NORMAL
    controls += CONTROLS_OF_DROPPING
    tried = {name for control in controls for name in control[0].split()}
    assert tried == set(asdict(Rules())) - {
        "normal",
        "mixed",
        "drops_pages",
        "settles_reading",
    }
