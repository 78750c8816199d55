"""Reports as pictures: PNG files by matplotlib, and one page of HTML, with plots by plotly, that
needs nothing else to be looked at.
"""

from __future__ import annotations

import html
import importlib.util
import re
from typing import TYPE_CHECKING, Any

from vexfs_chroma._bench._results import Check, Report, recall_of
from vexfs_chroma._bench._show import head, number

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NEEDED = ("matplotlib", "plotly")
_LEAST_RECALL = 0.8  # what is below is of no interest
_DPI = 130
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 2rem }
td, th { border-bottom: 1px solid #ddd; padding: .2rem .7rem; text-align: right }
td:first-child, th:first-child { text-align: left }
.ours { font-weight: 600 } .met { color: #1a7f37 } .not-met { color: #b42318 }
"""


def check_libraries() -> None:
    """Raise ImportError when the plots cannot be made here."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"--plots needs {' and '.join(missing)}: pip install 'vexfs-chroma[bench]'"
        )


def write(report: Report, folder: Path, ours: str) -> list[Path]:
    """Write all pictures, and the page; returns their paths."""
    check_libraries()
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        _curves_png(report, group, folder / f"{report.command}-{_slug(group)}-recall.png", ours)
        for group in _groups_of_curves(report)
    ]
    written += [
        _factors_png(report, group, folder / f"{report.command}-{_slug(group)}.png", ours)
        for group in report.groups()
        if _factors(report, group, ours)
    ]
    page = folder / f"{report.command}.html"
    page.write_text(_page(report, ours), "utf-8")
    return [*written, page]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _groups_of_curves(report: Report) -> list[str]:
    return list(dict.fromkeys(curve.group for curve in report.curves))


def _lines(report: Report, group: str) -> dict[str, list[tuple[float, float]]]:
    """Recall and rate of each library, of its last run, from the recall that is of interest on."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for curve in report.curves:
        if curve.group == group:
            points = [(point["recall"], point["rate"]) for point in curve.points]
            lines[curve.library] = [point for point in points if point[0] >= _LEAST_RECALL]
            inner = [
                (point["recall"], 1e6 / point["engine us"])
                for point in curve.points
                if point.get("engine us") and point["recall"] >= _LEAST_RECALL
            ]
            lines[f"{curve.library} (C)"] = inner
    return {library: points for library, points in lines.items() if points}


def _factors(report: Report, group: str, ours: str) -> list[tuple[str, str, float]]:
    """Figure, library, and how many times better ours is, for the figures that tell."""
    found = []
    for figure in report.figures:
        for library in figure.values if figure.group == group else ():
            factor = None if library.startswith(ours) else figure.factor(ours, library)
            if factor is not None and not recall_of(figure.name):
                found.append((figure.name, library, factor))
    return found


# ---- PNG -----------------------------------------------------------------------------------------


def _curves_png(report: Report, group: str, path: Path, ours: str) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for library, points in _lines(report, group).items():
        width = 2.8 if library == ours else 1.2
        recalls, rates = zip(*points, strict=True)
        axes.plot(recalls, rates, marker="o", markersize=3, linewidth=width, label=library)
    axes.set(xlabel="recall@10", ylabel="queries per second, one thread", yscale="log", title=group)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=_DPI)
    return path


def _factors_png(report: Report, group: str, path: Path, ours: str) -> Path:
    from matplotlib.figure import Figure

    found = _factors(report, group, ours)
    names = list(dict.fromkeys(name for name, _, _ in found))
    libraries = list(dict.fromkeys(library for _, library, _ in found))
    figure = Figure(
        figsize=(9, 1.5 + 0.3 * len(names) * max(1, len(libraries) / 3)), layout="constrained"
    )
    axes = figure.subplots()
    height = 0.8 / len(libraries)
    for number_, library in enumerate(libraries):
        bars = {name: factor for name, of, factor in found if of == library}
        places = [names.index(name) + number_ * height for name in bars]
        widths = [factor - 1 for factor in bars.values()]
        axes.barh(places, widths, left=1, height=height, label=library)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names, fontsize="small")
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel=f"times better {ours} is than ...", title=group)
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=_DPI)
    return path


# ---- HTML ----------------------------------------------------------------------------------------


def _page(report: Report, ours: str) -> str:
    title = f"vexctl bench {report.command}"
    parts = [f"<h1>{title}</h1>", *(f"<p>{html.escape(line)}</p>" for line in head(report))]
    charts = [_curves_chart(report, group, ours) for group in _groups_of_curves(report)]
    for number_, chart in enumerate(charts):
        parts.append(chart.to_html(full_html=False, include_plotlyjs=number_ == 0))
    if report.checks:
        parts += ["<h2>Targets</h2>", _checks_table(report.checks)]
    for group in report.groups():
        parts += [f"<h2>{html.escape(group)}</h2>", _figures_table(report, group, ours)]
    skipped = [f"{who}: {reason}" for who, reason in report.skipped.items()]
    failed = [f"{who}: FAILED: {reason}" for who, reason in report.failed.items()]
    parts += ["<h2>Not measured</h2>", _list(skipped + failed)] if skipped or failed else []
    parts += [
        "<h2>What the figures mean</h2>",
        f"<pre>{html.escape(chr(10).join(report.notes))}</pre>",
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _curves_chart(report: Report, group: str, ours: str) -> Any:
    import plotly.graph_objects as go

    chart = go.Figure()
    for library, points in _lines(report, group).items():
        recalls, rates = zip(*points, strict=True)
        line = {"width": 4 if library == ours else 1.5}
        chart.add_scatter(x=recalls, y=rates, mode="lines+markers", name=library, line=line)
    chart.update_layout(title=group, template="plotly_white", height=560)
    chart.update_xaxes(title="recall@10")
    chart.update_yaxes(title="queries per second, one thread", type="log")
    return chart


def _table(heads: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """`rows`: the class of each row, and its cells."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in heads) + "</tr>"]
    for style, cells in rows:
        inside = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr class="{style}">{inside}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _figures_table(report: Report, group: str, ours: str) -> str:
    figures = [figure for figure in report.figures if figure.group == group and figure.values]
    libraries = report.libraries(group)
    if len(libraries) <= 4:
        rows = (
            ("", (figure.name, *(number(figure.median(library)) for library in libraries)))
            for figure in figures
        )
        return _table(("", *libraries), rows)
    told = [figure for figure in figures if figure.better]
    lines = (
        (
            "ours" if library == ours else "",
            (library, *(number(figure.median(library)) for figure in told)),
        )
        for library in libraries
    )
    return _table(("", *(figure.name for figure in told)), lines)


def _checks_table(checks: Iterable[Check]) -> str:
    rows = (
        (
            check.verdict.replace(" ", "-"),
            (check.group, check.name, number(check.measured), check.target, check.verdict),
        )
        for check in checks
    )
    return _table(("", "figure", "measured", "target", "verdict"), rows)


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
