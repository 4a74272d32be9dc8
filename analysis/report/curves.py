"""Loss along training, one line an arm with the range of its seeds: read, thinned and drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.report.cells import Cell, read_lines
from analysis.report.charts import (
    LINEAR,
    LOG,
    STROKES,
    Chart,
    Rows,
    Spec,
    layer,
    layered,
    mark,
    on,
    quantity,
    told,
    zoom,
)
from analysis.report.theme import DASHES
from analysis.runs.frame import named
from harness.records import METRICS_FILE, Status

METRICS = {"val_loss": "validation loss", "train_loss": "training loss"}
MOST_LINES = 8
"""Arms drawn at once: as many as there are colours and dash patterns."""
MOST_POINTS = 30_000
"""Of one metric over all arms; beyond it, and beyond 200 an arm, points are left out evenly."""
MOST_POINTS_AN_ARM = 200
FIGURES = ("tokens", "step", "mean", "low", "high")


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one arm along training; lists of equal length."""

    arm: str
    n: int
    """Seeds."""
    tokens: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def rows(self, slot: int) -> Rows:
        """Return one row a point; `slot` is the place of the arm's colour and dashes."""
        lists = {name: getattr(self, name) for name in FIGURES}
        known = {"arm": self.arm, "slot": slot, "n": self.n}
        return [
            known | {name: values[i] for name, values in lists.items()}
            for i in range(len(self.tokens))
        ]


@dataclass(frozen=True, slots=True)
class Curves:
    """All arms' curves."""

    by_metric: dict[str, list[Curve]]
    note: str = ""
    """What was thinned; empty where every logged point is shown."""
    diverged: frozenset[str] = frozenset()
    """Arms with a run that diverged."""

    def top(self, metric: str) -> float | None:
        """Return where the loss axis ends, lest diverged arms stretch it; None: anywhere."""
        highest = self._highest(metric)
        calm = [high for arm, high in highest.items() if arm not in self.diverged]
        top = max(calm, default=math.inf)
        return top if any(high > top for high in highest.values()) else None

    def cut_sentence(self) -> str:
        """Return which diverged arms leave the chart, where some do."""
        beyond = {
            arm
            for metric in self.by_metric
            if (top := self.top(metric)) is not None
            for arm, high in self._highest(metric).items()
            if high > top
        }
        if not beyond:
            return ""
        return (
            "The loss axis ends at the highest loss of the arms that did not diverge: "
            f"{named(sorted(beyond))} went beyond it."
        )

    def _highest(self, metric: str) -> dict[str, float]:
        return {
            curve.arm: max(filter(math.isfinite, curve.high), default=-math.inf)
            for curve in self.by_metric.get(metric, [])
        }


def read_curves(cells: Sequence[Cell]) -> Curves:
    """Read the metrics of all cells and average them over the seeds of each arm.

    A point is shown where all seeds that have come so far were logged; its band is the lowest and
    the highest seed. Diverged runs are shown only of an arm that has no others: like its mean in
    the table, its curve is that of the runs that survived.
    """
    by_arm: defaultdict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    survived = {cell.record.arm for cell in cells if cell.status != Status.DIVERGED}
    diverged = {cell.record.arm for cell in cells if cell.status == Status.DIVERGED}
    for cell in cells:
        if cell.status == Status.DIVERGED and cell.record.arm in survived:
            continue
        rows = read_lines(cell.folder / METRICS_FILE)
        if rows:
            by_arm[cell.record.arm].append(rows)
    limit = max(20, min(MOST_POINTS_AN_ARM, MOST_POINTS // max(len(by_arm), 1)))
    found: dict[str, list[Curve]] = {}
    thinned = False
    for metric in METRICS:
        for arm, runs in by_arm.items():
            steps = _by_step(runs, metric)
            if steps:
                found.setdefault(metric, []).append(_curve(arm, len(runs), steps, limit))
                thinned |= len(steps) > limit
    note = f"Curves are thinned to at most {limit} points an arm." if thinned else ""
    return Curves(found, note, frozenset(diverged))


@dataclass(slots=True)
class _Step:
    tokens: int = 0
    values: list[float] = field(default_factory=list)


def _by_step(runs: list[list[dict[str, Any]]], metric: str) -> dict[int, _Step]:
    steps: defaultdict[int, _Step] = defaultdict(_Step)
    for row in (row for rows in runs for row in rows if row.get(metric) is not None):
        steps[row["step"]].tokens = row["tokens"]
        steps[row["step"]].values.append(row[metric])
    return steps


def _curve(arm: str, n: int, steps: dict[int, _Step], limit: int) -> Curve:
    kept = thin(sorted(steps), limit)
    points = [steps[step] for step in kept]
    return Curve(
        arm=arm,
        n=n,
        tokens=[point.tokens for point in points],
        step=kept,
        mean=[_short(sum(point.values) / len(point.values)) for point in points],
        low=[_short(min(point.values)) for point in points],
        high=[_short(max(point.values)) for point in points],
    )


def thin(steps: Sequence[int], limit: int) -> list[int]:
    """Return at most `limit` of the steps, evenly, the first and the last among them.

    >>> thin(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(steps) <= limit:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (limit - 1))] for i in range(limit)]


def _short(value: float) -> float:
    """Return a number with six significant digits, which is what a chart can show."""
    return float(f"{value:.6g}")


def curves_chart(curves: Curves, metric: str = "") -> Chart:
    """Return the chart of the curves; its rows, and then `metric`, are chosen on the page."""
    first = next(iter(curves.by_metric.values()), [])
    ends = [f"{curve.arm} ends at {curve.mean[-1]:.4f}" for curve in first[:40]]
    title, top = f"{METRICS.get(metric, 'loss')}, nats per token", curves.top(metric)
    end = {} if top is None else {"domainMax": top}
    variants = {
        "linear": _lines(LINEAR, quantity("mean", title, LINEAR | end)),
        "log loss": _lines(LINEAR, quantity("mean", title, LOG | end)),
        "log tokens": _lines(LOG, quantity("mean", title, LINEAR | end)),
        "log both": _lines(LOG, quantity("mean", title, LOG | end)),
    }
    return Chart("curves", "Curves", "; ".join(ends), variants)


def _lines(x_scale: Spec, y: Spec) -> Spec:
    """Return loss curves over tokens with a band from the lowest to the highest seed."""
    axis = {"format": "~s", "labelFlush": True}
    x = quantity("tokens", "training tokens", x_scale, axis=axis)
    colour = by_slot([f"$series{i}" for i in range(MOST_LINES)])
    looks = {"color": colour, "strokeDash": by_slot(list(DASHES))}
    tooltip = [
        told("arm"),
        told("tokens", form=",d"),
        told("step", form=",d"),
        told("mean", form=".4f"),
        told("low", "lowest seed", ".4f"),
        told("high", "highest seed", ".4f"),
        told("n", "seeds", "d"),
    ]
    # Not "color": its domain would differ from the dash's, and make a second legend.
    band = {"x": x, "y": on(y, "low"), "y2": {"field": "high"}, "fill": {**colour, "legend": None}}
    line, point = mark("line", strokeWidth=2), mark("point", size=60, opacity=0)
    return layered(
        {},
        # The line comes first: a first layer without a legend would take away everybody's.
        zoom(layer("curves", line, x=x, y=y, **looks), "x", "y"),
        layer("curves", mark("area", opacity=0.18), **band),
        {"name": "hover", **layer("curves", point, x=x, y=y, tooltip=tooltip, **looks)},
        height=340,
    )


def by_slot(looks: list[Any]) -> Spec:
    """Return a look for each arm, in the order of the rows' ``slot``."""
    return {
        "field": "arm",
        "type": "nominal",
        "sort": {"field": "slot", "op": "min"},
        "scale": {"range": looks},
        "legend": {"title": None, "orient": "top", "columns": 3, **STROKES},
    }
