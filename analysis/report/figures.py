"""The page's charts as files: SVG for papers and READMEs, PNG for posts."""

from __future__ import annotations

from typing import Any

from analysis.report.chart_curves import MOST_LINES, curves_chart, cut_sentence
from analysis.report.charts import Chart, Rows
from analysis.report.curves import METRICS
from analysis.report.evidence import Evidence
from analysis.report.sections import sections
from analysis.report.theme import LIGHT

WIDTH = 760
PIXELS = 2.0
"""PNG pixels for each point of the drawing."""


def figure_files(evidence: Evidence) -> dict[str, str | bytes]:
    """Return file name -> content: each chart in its first view, light, on white.

    Only the curves are drawn over the logarithm of the loss: nobody can zoom in on a file.
    """
    import vl_convert

    files: dict[str, str | bytes] = {}
    for name, spec in figure_specs(evidence).items():
        svg = vl_convert.vegalite_to_svg(spec)
        files[f"{name}.svg"] = svg
        files[f"{name}.png"] = vl_convert.svg_to_png(svg, scale=PIXELS)
    return files


def figure_specs(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return name -> a whole specification, rows and colours included."""
    charts = [part.chart for part in sections(evidence) if part.chart]
    specs = {}
    for chart in charts:
        if chart.name == "curves":
            for metric in evidence.curves.by_metric:
                specs[f"curves_{metric}"] = _curves(evidence, metric)
        else:
            specs[chart.name] = finished(chart)
    return specs


def finished(chart: Chart) -> dict[str, Any]:
    """Return one chart's first view as a specification that stands alone."""
    spec = next(iter(chart.variants.values()))
    painted: dict[str, Any] = paint(spec)
    painted["layer"] = [part for part in painted["layer"] if part.get("name") != "hover"]
    return painted | {
        "title": {
            "text": chart.title,
            "subtitle": list(chart.key),
            "anchor": "start",
            "offset": 12,
        },
        "width": WIDTH,
        "autosize": {"type": "pad"},
        "background": LIGHT["card"],
        "padding": 12,
        "datasets": chart.datasets,
        "config": _config(),
    }


def paint(node: Any) -> Any:
    """Return a specification with the light theme's colours in place of their names."""
    if isinstance(node, str):
        return LIGHT.get(node[1:], node) if node.startswith("$") else node
    if isinstance(node, list):
        return [paint(item) for item in node]
    if isinstance(node, dict):
        return {key: paint(value) for key, value in node.items()}
    return node


def _curves(evidence: Evidence, metric: str) -> dict[str, Any]:
    found = {curve.arm: curve for curve in evidence.curves.by_metric[metric]}
    arms = [arm for arm in evidence.arms if arm in found][:MOST_LINES]
    rows: Rows = [
        {
            "arm": arm,
            "slot": slot,
            "n": found[arm].n,
            "tokens": tokens,
            "step": found[arm].step[i],
            "mean": found[arm].mean[i],
            "low": found[arm].low[i],
            "high": found[arm].high[i],
        }
        for slot, arm in enumerate(arms)
        for i, tokens in enumerate(found[arm].tokens)
    ]
    title = f"{METRICS[metric].capitalize()} along training"
    view = "log loss" if all(row["low"] > 0 for row in rows) else "linear"
    variants = {view: curves_chart(evidence, metric).variants[view]}
    key = "Line: the mean of an arm's seeds. Band: from the lowest seed to the highest."
    if len(arms) < len(found):
        key += f" The first {len(arms)} of {len(found)} arms."
    lines = tuple(line for line in (key, cut_sentence(evidence)) if line)
    return finished(Chart("curves", title, "", variants, {"curves": rows}, lines))


def _config() -> dict[str, Any]:
    text = {"labelColor": LIGHT["muted"], "titleColor": LIGHT["muted"]}
    return {
        "font": "Helvetica, Arial, sans-serif",
        "view": {"stroke": LIGHT["line"]},
        "axis": {**text, "gridColor": LIGHT["line"], "domainColor": LIGHT["line"],
                 "tickColor": LIGHT["line"], "labelFontSize": 12, "titleFontSize": 12,
                 "titleFontWeight": "normal"},
        "axisX": {"tickCount": 8},
        "legend": {"labelColor": LIGHT["ink"], "labelFontSize": 12, "labelLimit": 200},
        "title": {"color": LIGHT["ink"], "fontSize": 15, "subtitleColor": LIGHT["muted"],
                  "subtitleFontSize": 12, "subtitlePadding": 6},
    }  # fmt: skip
