"""The chart of the loss curves, whose arms are chosen on the page."""

from __future__ import annotations

import math
from typing import Any

from analysis.report.charts import Chart, line_chart
from analysis.report.evidence import Evidence
from analysis.runs.frame import named

MOST_LINES = 8
"""Arms drawn at once: as many as there are colours and dash patterns."""


def curve_variants(y_title: str, top: float | None = None) -> dict[str, Any]:
    """Return the curve chart for as many arms as can be told apart; `top` ends its loss axis."""
    variants = {
        "linear": line_chart(MOST_LINES, y_title, log_x=False, log_y=False),
        "log loss": line_chart(MOST_LINES, y_title, log_x=False, log_y=True),
        "log tokens": line_chart(MOST_LINES, y_title, log_x=True, log_y=False),
        "log both": line_chart(MOST_LINES, y_title, log_x=True, log_y=True),
    }
    for layer in [layer for spec in variants.values() for layer in spec["layer"]]:
        if top is not None:
            encoding = layer["encoding"]["y"]
            encoding["scale"] = {**encoding["scale"], "domainMax": top}
    return variants


def curves_chart(evidence: Evidence, metric: str = "") -> Chart:
    """Return the chart of the curves; its rows, and then `metric`, are chosen on the page."""
    found = evidence.curves.by_metric
    ends = [
        f"{curve.arm} ends at {curve.mean[-1]:.4f}" for curve in next(iter(found.values()), [])[:40]
    ]
    variants = curve_variants("loss, nats per token", _cut(evidence, metric)[0])
    return Chart("curves", "Curves", "; ".join(ends), variants, {})


def tops(evidence: Evidence) -> dict[str, float | None]:
    """Return where each metric's axis ends, lest diverged arms stretch it; None: anywhere."""
    return {metric: _cut(evidence, metric)[0] for metric in evidence.curves.by_metric}


def cut_sentence(evidence: Evidence) -> str:
    """Return which diverged arms leave the chart, where some do."""
    beyond = {arm for metric in evidence.curves.by_metric for arm in _cut(evidence, metric)[1]}
    if not beyond:
        return ""
    return (
        "The loss axis ends at the highest loss of the arms that did not diverge: "
        f"{named(sorted(beyond))} went beyond it."
    )


def _cut(evidence: Evidence, metric: str) -> tuple[float | None, list[str]]:
    """Return where a metric's axis ends, and the diverged arms that go beyond it."""
    lost = {cell.record.arm for cell in evidence.cells if cell.status == "diverged"}
    highest = {
        curve.arm: max((value for value in curve.high if math.isfinite(value)), default=-math.inf)
        for curve in evidence.curves.by_metric.get(metric, [])
    }
    top = max((high for arm, high in highest.items() if arm not in lost), default=math.inf)
    beyond = sorted(arm for arm, high in highest.items() if arm in lost and high > top)
    return (top, beyond) if beyond else (None, [])
