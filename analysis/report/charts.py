"""Charts as Vega-Lite specifications, shared by the page and the figure files.

A colour is written ``$name`` and becomes a theme's colour when it is drawn; rows are kept apart
from the specification, so that nothing in them is taken for a colour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from analysis.report.bundle import SCHEMA
from analysis.report.theme import DASHES, NAMES, SHAPES

Spec = dict[str, Any]
Rows = list[dict[str, Any]]
ROW_HEIGHT, LOWEST_ROW, TALL = 26, 15, 1200
"""Pixels of a row, of the lowest row, and of a chart whose rows are lowered to fit."""
LOG: Spec = {"type": "log", "nice": False}
LINE_LEGEND = {"symbolType": "stroke", "symbolOpacity": 1, "symbolSize": 500}


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


def layered(layers: list[Spec], **more: Any) -> Spec:
    """Return a chart of several layers over named datasets, as wide as its place."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "layer": layers,
        **more,
    }


def height_of(n_rows: int) -> int:
    """Return the height of a chart with one row an arm."""
    row = max(LOWEST_ROW, min(ROW_HEIGHT, TALL // max(n_rows, 1)))
    return row * max(n_rows, 1)


def data(name: str) -> Spec:
    """Return a reference to a dataset."""
    return {"name": name}


def quantity(name: str, title: str | None, *, scale: Spec | None = None, **more: Any) -> Spec:
    """Return the encoding of a number, with an axis that need not start at zero."""
    scale = scale or {}
    return {
        "field": name,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, **scale} if scale is not LOG else scale,
        **more,
    }


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


def verdict_colour() -> Spec:
    """Return colour by verdict."""
    kinds = list(NAMES)
    return {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": kinds, "range": [f"${NAMES[kind]}" for kind in kinds]},
        "legend": {"title": None, "orient": "top", "columns": 2},
    }


def verdict_shape() -> Spec:
    """Return shape by verdict, in one legend with the colour."""
    kinds = list(SHAPES)
    encoding = verdict_colour()
    encoding["scale"] = {"domain": kinds, "range": [SHAPES[kind] for kind in kinds]}
    return encoding


def tip(*fields: tuple[str, str, str]) -> list[Spec]:
    """Return a tooltip of (field, title, format)."""
    return [
        {"field": name, "title": title, **({"format": form} if form else {})}
        for name, title, form in fields
    ]


POINT_TIP = tip(
    ("arm", "arm", ""),
    ("tokens", "tokens", ",d"),
    ("step", "step", ",d"),
    ("mean", "mean", ".4f"),
    ("low", "lowest seed", ".4f"),
    ("high", "highest seed", ".4f"),
    ("n", "seeds", "d"),
)


def zoom(*encodings: str) -> list[Spec]:
    """Return drag to move, shift and wheel to zoom: the wheel alone still scrolls the page."""
    moved = "[pointerdown, window:pointerup] > window:pointermove!"
    select = {
        "type": "interval",
        "encodings": list(encodings),
        "translate": moved,
        "zoom": "wheel![event.shiftKey]",
    }
    return [{"name": "zoom", "select": select, "bind": "scales"}]


def line_chart(n_arms: int, y_title: str, *, log_x: bool, log_y: bool) -> Spec:
    """Return loss curves over tokens with a band from the lowest to the highest seed."""
    colour, dash = _line_looks(n_arms)
    x = quantity(
        "tokens",
        "training tokens",
        scale=LOG if log_x else {},
        axis={"format": "~s", "labelFlush": True},
    )
    y = quantity("mean", y_title, scale=LOG if log_y else {})
    band = {
        "data": data("curves"),
        "mark": {"type": "area", "opacity": 0.18, "clip": True},
        "encoding": {
            "x": x,
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            # not "color": its domain would differ from the dash's, and make a second legend
            "fill": {**colour, "legend": None},
        },
    }
    line = {
        "data": data("curves"),
        "params": zoom("x", "y"),
        "mark": {"type": "line", "strokeWidth": 2, "clip": True},
        "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash},
    }
    points = {
        "name": "hover",
        "data": data("curves"),
        "mark": {"type": "point", "size": 60, "opacity": 0, "clip": True},
        "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash, "tooltip": POINT_TIP},
    }
    # The line comes first: a first layer without a legend would take away everybody's.
    return layered([line, band, points], height=340)


def _line_looks(n_arms: int) -> tuple[Spec, Spec]:
    """Return colour and dash by arm, in one legend, in the order of the rows' ``slot``."""
    colour = {
        "field": "arm",
        "type": "nominal",
        "sort": {"field": "slot", "op": "min"},
        "scale": {"range": [f"$series{i}" for i in range(n_arms)]},
        "legend": {"title": None, "orient": "top", "columns": 3, **LINE_LEGEND},
    }
    dash = {
        "field": "arm",
        "type": "nominal",
        "sort": colour["sort"],
        "scale": {"range": [list(d) for d in DASHES[:n_arms]]},
        "legend": colour["legend"],
    }
    return colour, dash
