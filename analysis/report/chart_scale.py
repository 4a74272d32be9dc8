"""Every arm's difference along the sizes, its line, and where it would lie at the target."""

from __future__ import annotations

from math import log10

import numpy as np

from analysis.questions.scale import Scale, Trend
from analysis.report.charts import LOG, Chart, Rows, layer, layered, mark, on, quantity, told
from analysis.report.curves import MOST_LINES, by_slot
from analysis.report.theme import DASHES

N_POINTS = 30
"""Along a line."""


def scale_chart(found: Scale) -> Chart:
    """Return the first arms' differences over the FLOPs of a run."""
    trends = found.trends[:MOST_LINES]
    datasets: dict[str, Rows] = {
        "lines": [row for slot, trend in enumerate(trends) for row in _line(found, trend, slot)],
        "studies": [row for slot, t in enumerate(trends) for row in _points(t, slot)],
        "target": [row for slot, trend in enumerate(trends) for row in _target(found, trend, slot)],
        "zero": [{"delta": 0.0}],
    }
    x = quantity("flops", "FLOPs of a run", LOG, axis={"format": ".1e", "labelFlush": True})
    y = quantity("delta", "difference from the baseline, nats per token")
    colour = by_slot([f"$series{i}" for i in range(MOST_LINES)])
    fill = {**colour, "legend": None}
    ends = {"y": on(y, "low"), "y2": {"field": "high"}}
    tooltip = [told("arm"), told("flops", form=".3g"), told("delta", form="+.4f")]
    spec = layered(
        datasets,
        layer("lines", mark("line", strokeWidth=2), x=x, y=y, color=colour,
              strokeDash=by_slot(list(DASHES))),
        layer("zero", mark("rule", color="$ink", strokeDash=[4, 3]), y=on(y, "delta")),
        layer("studies", mark("bar", size=2, opacity=0.6), x=x, fill=fill, **ends),
        layer("target", mark("bar", size=7, opacity=0.22), x=x, fill=fill, **ends),
        layer("studies", mark("point", size=60, opacity=1, strokeWidth=0), x=x, y=y, fill=fill,
              tooltip=tooltip),
        height=340,
    )  # fmt: skip
    key = (
        "Dot: a study, with its 95% interval. Line: the trend. "
        "Broad bar: where one more study at the target would lie.",
    )
    said = "; ".join(f"{t.arm} {t.y[-1]:+.4f} at the largest size" for t in found.trends[:40])
    return Chart("scale", "Effect against scale", said, {"log": spec}, datasets, key)


def _line(found: Scale, trend: Trend, slot: int) -> Rows:
    last = max(log10(found.target), trend.x[-1])
    places = np.linspace(trend.x[0], last, N_POINTS) if trend.line else trend.x
    heights = [trend.line.at(x) for x in places] if trend.line else trend.y
    return [
        {"arm": trend.arm, "slot": slot, "flops": 10**x, "delta": float(height)}
        for x, height in zip(places, heights, strict=True)
    ]


def _points(trend: Trend, slot: int) -> Rows:
    return [
        {"arm": trend.arm, "slot": slot, "flops": 10**x, "delta": y,
         "low": y - 1.96 * se, "high": y + 1.96 * se}
        for x, y, se in zip(trend.x, trend.y, trend.se, strict=True)
    ]  # fmt: skip


def _target(found: Scale, trend: Trend, slot: int) -> Rows:
    if trend.line is None:
        return []
    x = log10(found.target)
    middle, half = trend.line.at(x), trend.line.half_width(x, found.confidence, new=True)
    reach = max(abs(v) + 2 * se for t in found.trends for v, se in zip(t.y, t.se, strict=True))
    low, high = (max(-2 * reach, middle - half), min(2 * reach, middle + half))
    return [{"arm": trend.arm, "slot": slot, "flops": found.target, "low": low, "high": high}]
