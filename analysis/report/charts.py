"""What charts are made of: Vega-Lite specifications, shared by the page and the figure files.

A colour is written ``$name`` and becomes a theme's colour when it is drawn; rows are kept apart
from the specification, so that nothing in them is taken for a colour. The builders here keep the
grammar's own words (mark, encoding, scale); altair, tried on one chart, took about as many lines
and would make a report about half as slow again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from analysis.comparison.verdict import JUDGED
from analysis.report.theme import DASHES, SHAPES, css_class

Spec = dict[str, Any]
Rows = list[dict[str, Any]]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the grammar's version; nothing is fetched from it."""
ROW_HEIGHT, LOWEST_ROW, TALL = 26, 15, 1200
"""Pixels of a row, of the lowest row, and of a chart whose rows are lowered to fit."""
LINEAR: Spec = {"zero": False}
"""An axis that need not start at zero."""
LOG: Spec = {"type": "log", "nice": False}
STROKES: Spec = {"symbolType": "stroke", "symbolOpacity": 1, "symbolSize": 500}
"""In the legend of lines: long enough to show their dashes."""
MOST_LINES = 8
"""Arms drawn at once as lines: as many as there are colours and dash patterns."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart, perhaps in several variants, e.g. with a linear and with a log axis."""

    name: str
    title: str
    summary: str
    """What it shows, for those who do not see it."""
    variants: dict[str, Spec]
    """Label -> specification; the first is shown at first."""
    datasets: dict[str, Rows] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    """What the marks mean, in lines under the title of a figure's file."""


def layered(datasets: dict[str, Rows], *layers: Spec, height: int) -> Spec:
    """Return a chart as wide as its place; an empty dataset has no layer, for it has no extent."""
    drawn = [part for part in layers if datasets.get(part["data"]["name"], True)]
    return {"$schema": SCHEMA, "width": "container", "height": height, "layer": drawn}


def height_of(rows: Rows) -> int:
    """Return the height of a chart with one row an arm."""
    n = max(len(rows), 1)
    return n * max(LOWEST_ROW, min(ROW_HEIGHT, TALL // n))


def layer(rows: str, marks: Spec, **encoding: Any) -> Spec:
    """Return marks for the rows of a dataset."""
    return {"data": {"name": rows}, "mark": marks, "encoding": encoding}


def mark(kind: str, **look: Any) -> Spec:
    """Return marks of a kind, cut off at the edges of the view."""
    return {"type": kind, "clip": True, **look}


def dot(**look: Any) -> Spec:
    """Return filled points."""
    return mark("point", filled=True, **{"size": 100, "opacity": 1, **look})


def quantity(column: str, title: str | None, scale: Spec = LINEAR, **more: Any) -> Spec:
    """Return the encoding of a number."""
    return {"field": column, "type": "quantitative", "title": title, "scale": scale, **more}


def on(axis: Spec, column: str) -> Spec:
    """Return another column on the same axis."""
    return {**axis, "field": column}


def span(axis: Spec, low: str, high: str) -> dict[str, Spec]:
    """Return marks from one column to another along the x axis."""
    return {"x": on(axis, low), "x2": {"field": high}}


def arm_axis() -> Spec:
    """Return a row for each arm, in the order of the rows' ``at``.

    No name stands in a specification: what it holds is taken for a colour, or for JavaScript's own.
    """
    return {
        "field": "arm",
        "type": "nominal",
        "sort": {"field": "at", "op": "min"},
        "title": None,
        "axis": {"grid": True, "gridDash": [1, 3], "ticks": False, "labelLimit": 340},
    }


def category(column: str, domain: list[str], values: list[Any], **legend: Any) -> Spec:
    """Return a look for each word of `domain`; looks with equal legends share one."""
    return {
        "field": column,
        "type": "nominal",
        "scale": {"domain": domain, "range": values},
        "legend": {"title": None, "orient": "top", **legend},
    }


def line_looks() -> dict[str, Spec]:
    """Return colour and dashes of each arm's line, by the rows' ``slot``, in one legend."""
    colours = [f"$series{i}" for i in range(MOST_LINES)]
    return {"color": _by_slot(colours), "strokeDash": _by_slot(list(DASHES))}


def _by_slot(looks: list[Any]) -> Spec:
    return {
        "field": "arm",
        "type": "nominal",
        "sort": {"field": "slot", "op": "min"},
        "scale": {"range": looks},
        "legend": {"title": None, "orient": "top", "columns": 3, **STROKES},
    }


def verdict_looks(rows: Rows) -> dict[str, Spec]:
    """Return colour and shape by the rows' ``verdict``, in one legend of those that are there."""
    there = {row["verdict"] for row in rows}
    kinds = [kind for kind in JUDGED if str(kind) in there]
    names, shapes = [str(kind) for kind in kinds], [SHAPES[kind] for kind in kinds]
    colours = [f"${css_class(kind)}" for kind in kinds]
    return {
        "color": category("verdict", names, colours, columns=2),
        "shape": category("verdict", names, shapes, columns=2),
    }


def told(column: str, title: str = "", form: str = "") -> Spec:
    """Return a line of a tooltip."""
    formatted = {"format": form} if form else {}
    return {"field": column, "title": title or column, **formatted}


def zoom(spec: Spec, *channels: str) -> Spec:
    """Return a layer with drag to move, shift and wheel to zoom: the wheel alone still scrolls."""
    select = {
        "type": "interval",
        "encodings": list(channels),
        "translate": "[pointerdown, window:pointerup] > window:pointermove!",
        "zoom": "wheel![event.shiftKey]",
    }
    return {**spec, "params": [{"name": "zoom", "select": select, "bind": "scales"}]}
