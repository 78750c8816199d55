"""Load tests beside an earlier run: what became better or worse, by the rules of _bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vexfs_chroma._bench._report import machine
from vexfs_chroma._bench._results import HIGHER, LOWER, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vexfs_chroma._load._result import Result

COMMAND = "load-test"
_FIGURES = {"p50_ms": LOWER, "p95_ms": LOWER, "per_second": HIGHER, "vectors_per_second": HIGHER}
_PACED = frozenset({"per_second", "vectors_per_second"})  # a scenario with a rate decides these


def as_report(results: Sequence[Result]) -> Report:
    """The figures that can be compared, with one value for each run.

    p99 is not among them: of one run it says more about the machine than about the program.
    """
    report = Report(COMMAND, machine=machine())
    for result in results:
        about = result.scenario
        report.conditions[about["name"]] = {"seconds": result.seconds, "scale": result.scale}
        group = f"{about['name']} ({about['rows']:,} x {about['dimension']})"
        for kind, figures in result.figures.items():
            if kind in ("run", "all"):
                continue
            for name, better in _FIGURES.items():
                if name in figures and not (name in _PACED and about["rate"]):
                    report.add(group, f"{kind} {name}", "", better, result.target, figures[name])
            if "recall" in figures:
                name = f"{kind}, recall@{about['k']}"
                report.add(group, name, "", HIGHER, result.target, figures["recall"])
        if not result.ok:
            report.failed[f"{about['name']} on {result.target}"] = "a service level was missed"
    return report
