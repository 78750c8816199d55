"""Results for people: tables on a terminal, a page (HTML) that needs no network, CSV files."""

from __future__ import annotations

import csv
import html
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from vexfs_chroma._load._result import Result

_COLUMNS = {
    "count": "operations",
    "per_second": "per second",
    "vectors_per_second": "vectors/s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "recall": "recall",
    "errors": "errors",
}


def number(value: float | None) -> str:
    """With three or four digits; "-" for what was not measured."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"


def _kinds(result: Result) -> list[str]:
    return [kind for kind in result.figures if kind != "run"]


def _rows(result: Result) -> Iterable[list[str]]:
    for kind in _kinds(result):
        found = result.figures[kind]
        yield [kind, *(number(found.get(name)) for name in _COLUMNS)]


def title_of(result: Result) -> str:
    """What was run."""
    about = result.scenario
    return f"{about['name']} on {result.target}: {about['rows']:,} x {about['dimension']}"


def show(result: Result, console: Console) -> None:
    """One result on a terminal."""
    figures = Table("", title=escape(title_of(result)), title_justify="left")
    for column in _COLUMNS.values():
        figures.add_column(column, justify="right")
    for row in _rows(result):
        figures.add_row(*row)
    console.print(figures)
    for stage in result.stages:
        console.print(
            f"  {int(stage['users'])} users: {number(stage['per_second'])} per second, "
            f"p99 {number(stage['p99_ms'])} ms"
        )
    for level in result.levels:
        mark, style = ("met   ", "green") if level["ok"] else ("MISSED", "bold red")
        console.print(f"  [{style}]{mark}[/] {escape(level['text'])}")
    for failure, example in result.examples.items():
        console.print(f"  first {failure}: {example}", markup=False)


def side_by_side(results: Sequence[Result]) -> Table | None:
    """The targets beside each other, with how many times better the first one is; None when there
    is only one.
    """
    targets = list(dict.fromkeys(result.target for result in results))
    if len(targets) < 2:
        return None
    table = Table("scenario", "figure", title="Side by side (medians)", title_justify="left")
    for target in targets:
        table.add_column(escape(target), justify="right")
    for target in targets[1:]:
        table.add_column(f"{targets[0]} v {target}", justify="right")
    for scenario in dict.fromkeys(result.scenario["name"] for result in results):
        for name, higher in (("per_second", True), ("p50_ms", False), ("p99_ms", False)):
            values = [_median(results, scenario, target, name) for target in targets]
            factors = [_factor(values[0], other, higher=higher) for other in values[1:]]
            table.add_row(scenario, _COLUMNS[name], *map(number, values), *factors)
    return table


def _median(results: Sequence[Result], scenario: str, target: str, name: str) -> float | None:
    import statistics

    found = [
        result.figures["all"][name]
        for result in results
        if (result.scenario["name"], result.target) == (scenario, target)
        and name in result.figures["all"]
    ]
    return statistics.median(found) if found else None


def _factor(ours: float | None, theirs: float | None, *, higher: bool) -> str:
    if not ours or not theirs:
        return "-"
    return f"{ours / theirs if higher else theirs / ours:.2f}x"


# ---- files ---------------------------------------------------------------------------------------


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """report.html, figures.csv, timeline.csv."""
    figures, timeline, page = (
        folder / name for name in ("figures.csv", "timeline.csv", "report.html")
    )
    with figures.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["scenario", "target", "kind", "figure", "value"])
        for result in results:
            for kind, found in result.figures.items():
                for name, value in found.items():
                    lines.writerow([result.scenario["name"], result.target, kind, name, value])
    with timeline.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        names = ["second", "answered", "failed", "p50_ms", "p99_ms"]
        lines.writerow(["scenario", "target", *names])
        for result in results:
            for line in result.timeline:
                values = [line.get(name, "") for name in names]
                lines.writerow([result.scenario["name"], result.target, *values])
    page.write_text(_page(results), "utf-8")
    return [page, figures, timeline]


_STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6775; --line: #d8dee6; --paper: #fff;
  --good: #17794a; --bad: #b3261e; --one: #2563c9; --two: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa7b6; --line: #333d4a;
  --paper: #14181e; --good: #5fcf96; --bad: #ff8a80; --one: #7fb0ff; --two: #ffa066; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 500; }
.ok { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
figure { flex: 1 1 22rem; margin: 0; } figcaption { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--soft); }
.axis { stroke: var(--line); } .one { stroke: var(--one); } .two { stroke: var(--two); }
path { fill: none; stroke-width: 1.5; }
section { margin-bottom: 3rem; }
"""


def _page(results: Sequence[Result]) -> str:
    missed = sum(not level["ok"] for result in results for level in result.levels)
    verdict = "all service levels met" if not missed else f"{missed} service levels missed"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>Load test</title><style>{_STYLE}</style><h1>Load test: {verdict}</h1>",
    ]
    if results:
        about = results[0].machine
        facts = ", ".join(f"{name} {value}" for name, value in about.items())
        parts.append(f"<p>{html.escape(facts)}</p>")
    parts += [_section(result) for result in results]
    return "\n".join(parts)


def _section(result: Result) -> str:
    about = result.scenario
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *_COLUMNS.values()))
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in _rows(result)
    )
    levels = "".join(
        f"<li class='{'ok' if level['ok'] else 'missed'}'>"
        f"{'met' if level['ok'] else 'MISSED'}: {html.escape(level['text'])}</li>"
        for level in result.levels
    )
    examples = "".join(
        f"<li>first {html.escape(kind)}: {html.escape(text)}</li>"
        for kind, text in result.examples.items()
    )
    times = [line["second"] for line in result.timeline]
    charts = _chart(
        "answered per second",
        times,
        {"one": [line["answered"] for line in result.timeline]},
    ) + _chart(
        "p50 (blue) and p99 (orange), ms",
        times,
        {
            "one": [line.get("p50_ms") for line in result.timeline],
            "two": [line.get("p99_ms") for line in result.timeline],
        },
    )
    if result.memory:
        at, size = zip(*result.memory, strict=True)
        charts += _chart("resident memory, MB", list(at), {"one": [n / 1e6 for n in size]})
    if result.descriptors:
        at, count = zip(*result.descriptors, strict=True)
        charts += _chart("open descriptors", list(at), {"one": list(count)})
    events = "".join(
        f"<li>{event['at'] - result.started:.1f} s: server {html.escape(event['what'])} "
        f"{html.escape(event['why'])}</li>"
        for event in result.events
    )
    steps = "".join(
        f"<li>{int(step['users'])} users: {number(step['per_second'])} per second, "
        f"p99 {number(step['p99_ms'])} ms</li>"
        for step in result.stages
    )
    return (
        f"<section><h2>{html.escape(title_of(result))}</h2>"
        f"<p>{html.escape(about['title'])}. {result.seconds:.0f} s measured, seed {result.seed}, "
        f"scale {result.scale:g}.</p><div class='wide'><table><tr>{head}</tr>{rows}</table></div>"
        f"<ul>{levels}</ul><ul>{examples}{events}{steps}</ul>"
        f"<div class='charts'>{charts}</div></section>"
    )


def _chart(caption: str, at: Sequence[float], lines: dict[str, list[float | None]]) -> str:
    """Lines over time, as SVG; where a line has no value it is broken."""
    known = [value for line in lines.values() for value in line if value is not None]
    if len(at) < 2 or not known:
        return ""
    width, height, left, low = 520, 170, 52, 150
    most, first, span = max(known) or 1.0, at[0], (at[-1] - at[0]) or 1.0
    parts = [
        f"<line class='axis' x1='{left}' y1='{low}' x2='{width}' y2='{low}'/>",
        f"<line class='axis' x1='{left}' y1='10' x2='{width}' y2='10'/>",
        f"<text x='{left - 6}' y='14' text-anchor='end'>{number(most)}</text>",
        f"<text x='{left - 6}' y='{low + 4}' text-anchor='end'>0</text>",
        f"<text x='{left}' y='{height - 4}'>{number(first)} s</text>",
        f"<text x='{width}' y='{height - 4}' text-anchor='end'>{number(at[-1])} s</text>",
    ]
    for style, line in lines.items():
        steps, pen = [], "M"
        for time, value in zip(at, line, strict=True):
            if value is None:
                pen = "M"
                continue
            x = left + (width - left) * (time - first) / span
            steps.append(f"{pen}{x:.1f} {low - (low - 10) * value / most:.1f}")
            pen = "L"
        parts.append(f"<path class='{style}' d='{' '.join(steps)}'/>")
    picture = f"<svg viewBox='0 0 {width + 8} {height}' role='img'>{''.join(parts)}</svg>"
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{picture}</figure>"
