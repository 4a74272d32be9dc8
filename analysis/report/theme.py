"""Colours of the page and its charts, in light and dark; every pair is held to WCAG AA by a test.

Colour never speaks alone: a verdict also has a word, a symbol and a shape; a line also has a dash
pattern and a label.
"""

from __future__ import annotations

from typing import Any

from analysis.comparison.verdict import JUDGED, Kind

LIGHT = {
    "page": "#f4f6f8",
    "card": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d3d9e0",
    "accent": "#0b5cad",
    "on_accent": "#ffffff",
    "better": "#136c34",
    "worse": "#b3123d",
    "same": "#0b5cad",
    "undecided": "#57606a",
    "converged": "#57606a",
    "band": "#8a94a3",
    "rope": "#8a5a00",
    "series0": "#30363d",
    "series1": "#0b62c4",
    "series2": "#b3450b",
    "series3": "#136c34",
    "series4": "#7d35e0",
    "series5": "#b3123d",
    "series6": "#006b73",
    "series7": "#755800",
}
DARK = {
    "page": "#0f1216",
    "card": "#181c22",
    "ink": "#e8ebef",
    "muted": "#a9b2be",
    "line": "#363d47",
    "accent": "#7ab8ff",
    "on_accent": "#0f1216",
    "better": "#5fd38d",
    "worse": "#ff8fa8",
    "same": "#7ab8ff",
    "undecided": "#a9b2be",
    "converged": "#a9b2be",
    "band": "#7d8896",
    "rope": "#e0b64d",
    "series0": "#e8ebef",
    "series1": "#6cb1ff",
    "series2": "#ff9d5c",
    "series3": "#5fd38d",
    "series4": "#c4a1ff",
    "series5": "#ff8fa8",
    "series6": "#45d0d8",
    "series7": "#e0c04d",
}
THEMES = {"light": LIGHT, "dark": DARK}
SYMBOLS = {
    Kind.BETTER: "✓",
    Kind.WORSE: "✗",
    Kind.CONVERGED: "~",
    Kind.SAME: "=",
    Kind.UNDECIDED: "?",
}
SHAPES = {
    Kind.BETTER: "diamond",
    Kind.WORSE: "cross",
    Kind.CONVERGED: "triangle",
    Kind.SAME: "square",
    Kind.UNDECIDED: "circle",
}
STATUS_SYMBOLS = {
    "complete": "✓",
    "running": "…",
    "stopped": "‖",
    "failed": "✗",
    "diverged": "↗",
    "superseded": "↷",
    "waiting": "·",
}
DASHES = ([1, 0], [8, 3], [2, 2], [6, 2, 2, 2], [12, 3], [4, 4], [1, 3], [10, 2, 2, 2])
"""Dash patterns of the lines, the baseline's first."""
FIGURE_CONFIG: dict[str, Any] = {
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": "$line"},
    "axis": {
        "labelColor": "$muted",
        "titleColor": "$muted",
        "gridColor": "$line",
        "domainColor": "$line",
        "tickColor": "$line",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "axisX": {"tickCount": 8},
    "legend": {"labelColor": "$ink", "labelFontSize": 12, "labelLimit": 200},
    "title": {
        "color": "$ink",
        "fontSize": 15,
        "subtitleColor": "$muted",
        "subtitleFontSize": 12,
        "subtitlePadding": 6,
    },
}
"""How a figure's file looks around its marks; the page has its own, which knows its width."""


def css_class(kind: Kind) -> str:
    """Return the name of a verdict's colour, which is also the class of its cells on the page."""
    return kind.name.lower()


def drawn_as(kind: Kind) -> Kind:
    """Return the kind whose mark an arm gets: what was not judged looks undecided."""
    return kind if kind in JUDGED else Kind.UNDECIDED
