"""The chart of the loss curves, whose arms are chosen on the page."""

from __future__ import annotations

from typing import Any

from analysis.report.charts import Chart, line_chart
from analysis.report.evidence import Evidence

MOST_LINES = 8
"""Arms drawn at once: as many as there are colours and dash patterns."""


def curve_variants(y_title: str) -> dict[str, Any]:
    """Return the curve chart for as many arms as can be told apart."""
    return {
        "linear": line_chart(MOST_LINES, y_title, log_x=False, log_y=False),
        "log loss": line_chart(MOST_LINES, y_title, log_x=False, log_y=True),
        "log tokens": line_chart(MOST_LINES, y_title, log_x=True, log_y=False),
        "log both": line_chart(MOST_LINES, y_title, log_x=True, log_y=True),
    }


def curves_chart(evidence: Evidence) -> Chart:
    """Return the chart of the curves; its rows are chosen on the page."""
    found = evidence.curves.by_metric
    ends = [
        f"{curve.arm} ends at {curve.mean[-1]:.4f}" for curve in next(iter(found.values()), [])[:40]
    ]
    return Chart("curves", "Curves", "; ".join(ends), curve_variants("loss, nats per token"), {})
