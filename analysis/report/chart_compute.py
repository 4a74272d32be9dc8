"""What a difference is worth: curves with their crossings, and effects along the sizes."""

from __future__ import annotations

from math import log10
from typing import Any

import numpy as np

from analysis.questions.scale import Scale, Trend
from analysis.questions.speed import Speed
from analysis.report.charts import (
    LOG,
    MOST_LINES,
    Chart,
    Rows,
    layer,
    layered,
    line_looks,
    mark,
    on,
    quantity,
    told,
    zoom,
)
from analysis.runs.curves import TOKENS

NEAR = 3
"""Points before the first crossing that are drawn: the start of training would flatten the rest."""
N_POINTS = 30
"""Along a line."""


def speed_chart(found: Speed) -> Chart:
    """Return the curves of the first arms that come to the target, over the log of the tokens."""
    arms = [arm for arm in found.runs if found.n_reached(arm)][:MOST_LINES]
    datasets: dict[str, Rows] = {
        "runs": _lines(found, arms),
        "target": [{"loss": found.target}],
        "crossings": _crossings(found, arms),
    }
    title = "training tokens" if found.in_tokens else "training steps"
    x = quantity("tokens", title, LOG, axis={"format": "~s", "labelFlush": True})
    y = quantity("loss", "validation loss, nats per token")
    looks = line_looks()
    line, fill = {**looks, "detail": {"field": "run"}}, {**looks["color"], "legend": None}
    tooltip = [told("arm"), told("run"), told("tokens", form=",d"), told("loss", form=".4f")]
    dots = mark("point", size=70, opacity=1, strokeWidth=0)
    spec = layered(
        datasets,
        zoom(layer("runs", mark("line", strokeWidth=1.5), x=x, y=y, **line), "x", "y"),
        layer("target", mark("rule", color="$ink", strokeDash=[4, 3]), y=on(y, "loss")),
        layer("crossings", dots, x=x, y=y, fill=fill, tooltip=tooltip),
        height=300,
    )
    said = [f"{arm} {found.sentence(arm)}" for arm in list(found.runs)[1:40]]
    key = ("Line: a run. Dashed: the target. Dot: where a run first reaches it.",)
    return Chart("speed", "Tokens to the target", "; ".join(said), {"log": spec}, datasets, key)


def _lines(found: Speed, arms: list[str]) -> Rows:
    runs = (run for arm in arms for run in found.runs[arm])
    before = (int((run.curve.loss > found.target).sum()) - NEAR for run in runs)
    first = max(0, min(before, default=0))
    return [
        _point(run.curve.run, slot, tokens, loss)
        for slot, arm in enumerate(arms)
        for run in found.runs[arm]
        for tokens, loss in list(zip(run.curve.costs[TOKENS], run.curve.loss, strict=True))[first:]
    ]


def _crossings(found: Speed, arms: list[str]) -> Rows:
    return [
        _point(run.curve.run, slot, tokens, found.target)
        for slot, arm in enumerate(arms)
        for run in found.runs[arm]
        if (tokens := run.cost(TOKENS)) is not None and found.credit is None
    ]


def _point(run: dict[str, Any], slot: int, tokens: float, loss: float) -> dict[str, Any]:
    return {"arm": run["arm"], "slot": slot, "run": str(run["run_id"]),
            "tokens": float(tokens), "loss": float(loss)}  # fmt: skip


def scale_chart(found: Scale) -> Chart:
    """Return the first arms' differences over the FLOPs of a run."""
    trends = found.trends[:MOST_LINES]
    datasets: dict[str, Rows] = {
        "lines": [row for slot, t in enumerate(trends) for row in _trend_line(found, t, slot)],
        "studies": [row for slot, t in enumerate(trends) for row in _sizes(t, slot)],
        "target": [row for slot, t in enumerate(trends) for row in _target(found, t, slot)],
        "zero": [{"delta": 0.0}],
    }
    x = quantity("flops", "FLOPs of a run", LOG, axis={"format": ".1e", "labelFlush": True})
    y = quantity("delta", f"difference from the baseline{found.rules.unit(', ')}")
    looks = line_looks()
    fill = {**looks["color"], "legend": None}
    ends = {"y": on(y, "low"), "y2": {"field": "high"}}
    tooltip = [told("arm"), told("flops", form=".3g"), told("delta", form="+.4f")]
    spec = layered(
        datasets,
        layer("lines", mark("line", strokeWidth=2), x=x, y=y, **looks),
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


def _trend_line(found: Scale, trend: Trend, slot: int) -> Rows:
    last = max(log10(found.target), trend.x[-1])
    places = np.linspace(trend.x[0], last, N_POINTS) if trend.line else trend.x
    heights = [trend.line.at(x) for x in places] if trend.line else trend.y
    return [
        {"arm": trend.arm, "slot": slot, "flops": 10**x, "delta": float(height)}
        for x, height in zip(places, heights, strict=True)
    ]


def _sizes(trend: Trend, slot: int) -> Rows:
    return [
        {"arm": trend.arm, "slot": slot, "flops": 10**x, "delta": y,
         "low": y - 1.96 * se, "high": y + 1.96 * se}
        for x, y, se in zip(trend.x, trend.y, trend.se, strict=True)
    ]  # fmt: skip


def _target(found: Scale, trend: Trend, slot: int) -> Rows:
    if trend.line is None:
        return []
    x = log10(found.target)
    middle, half = trend.line.at(x), trend.line.half_width(x, new=True)
    reach = max(abs(v) + 2 * se for t in found.trends for v, se in zip(t.y, t.se, strict=True))
    low, high = (max(-2 * reach, middle - half), min(2 * reach, middle + half))
    return [{"arm": trend.arm, "slot": slot, "flops": found.target, "low": low, "high": high}]
