"""Losses and figures along training, one line an arm with the range of its seeds."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.report.cells import Cell
from analysis.report.charts import (
    LINEAR,
    LOG,
    MOST_LINES,
    Chart,
    Rows,
    Spec,
    layer,
    layered,
    line_looks,
    mark,
    on,
    quantity,
    told,
    zoom,
)
from analysis.runs.cell.files import found_in, read_metrics
from analysis.runs.frame import named
from harness.records import Status

METRICS = {"val_loss": "validation loss", "train_loss": "training loss"}
FIGURE_NAMES = {
    "lr": "learning rate",
    "grad_norm": "gradient norm, before clipping",
    "clipped_frac": "share of steps whose gradient was clipped",
    "extra_loss": "what interventions add to the loss",
}
"""The loop's own figures; those of interventions have a slash in their names."""
POINTS_A_FIGURE = 50
MOST_CHARTS = 24
"""Of figures, each `CHART_HEIGHT` pixels high."""
CHART_HEIGHT = 150
MOST_POINTS = 30_000
"""Of one metric over all arms; beyond it, and beyond 200 an arm, points are left out evenly."""
MOST_POINTS_AN_ARM = 200
POINT = ("tokens", "step", "mean", "low", "high")
"""What a curve knows of each of its points."""
ByArm = dict[str, list[list[dict[str, Any]]]]
"""Arm -> the logged lines of each of its runs."""


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
        known = {"arm": self.arm, "slot": slot, "n": self.n}
        points = zip(*(getattr(self, name) for name in POINT), strict=True)
        return [known | dict(zip(POINT, point, strict=True)) for point in points]

    def thinned(self, limit: int) -> Curve:
        """Return at most `limit` of the points, evenly, the first and the last among them."""
        kept = thin(range(len(self.step)), limit)
        points = {name: [getattr(self, name)[i] for i in kept] for name in POINT}
        return Curve(self.arm, self.n, **points)


@dataclass(frozen=True, slots=True)
class Curves:
    """All arms' curves."""

    by_metric: dict[str, list[Curve]]
    note: str = ""
    """What was thinned; empty where every logged point is shown."""
    diverged: frozenset[str] = frozenset()
    """Arms with a run that diverged."""
    figures: dict[str, list[Curve]] = field(default_factory=dict)
    """All else that was logged along training, by its name in the metrics."""

    def top(self, metric: str) -> float | None:
        """Return where the loss axis ends, so that diverged arms do not stretch it, if they do."""
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
        return {curve.arm: max(curve.high) for curve in self.by_metric.get(metric, [])}


def read_curves(cells: Sequence[Cell]) -> Curves:
    """Read the metrics of all cells and average them over the seeds of each arm.

    A point is shown where all seeds that have come so far were logged; its band is the lowest and
    the highest seed. Diverged runs are shown only of an arm that has no others: like its mean in
    the table, its curve is that of the runs that survived.
    """
    by_arm: ByArm = defaultdict(list)
    survived = {cell.record.arm for cell in cells if cell.status != Status.DIVERGED}
    diverged = {cell.record.arm for cell in cells if cell.status == Status.DIVERGED}
    for cell in cells:
        if cell.status == Status.DIVERGED and cell.record.arm in survived:
            continue
        rows = found_in(read_metrics, cell.folder)
        if rows:
            by_arm[cell.record.arm].append(rows)
    limit = max(20, min(MOST_POINTS_AN_ARM, MOST_POINTS // max(len(by_arm), 1)))
    whole = _averaged(by_arm, METRICS)
    losses = _thinned(whole, limit)
    note = f"Curves are thinned to at most {limit} points an arm." if losses != whole else ""
    figures = _thinned(_averaged(by_arm, _figure_names(by_arm)), POINTS_A_FIGURE)
    return Curves(losses, note, frozenset(diverged), figures)


def _figure_names(by_arm: ByArm) -> list[str]:
    """Return what is logged and no loss: the loop's own figures, then the interventions'."""
    logged = {name for runs in by_arm.values() for rows in runs for row in rows for name in row}
    return [*FIGURE_NAMES, *sorted((name for name in logged if "/" in name), key=_naturally)]


def _thinned(curves: dict[str, list[Curve]], limit: int) -> dict[str, list[Curve]]:
    return {name: [curve.thinned(limit) for curve in found] for name, found in curves.items()}


def _naturally(name: str) -> list[tuple[int, int | str]]:
    """Sort layer 10 after layer 9."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def _averaged(by_arm: ByArm, names: Iterable[str]) -> dict[str, list[Curve]]:
    """Return the curves of what was logged under these names, arm by arm, over all seeds."""
    found: defaultdict[str, list[Curve]] = defaultdict(list)
    for name in names:
        for arm, runs in by_arm.items():
            tokens: dict[int, int] = {}
            values: defaultdict[int, list[float]] = defaultdict(list)
            for row in (row for rows in runs for row in rows if row.get(name) is not None):
                tokens[row["step"]] = row["tokens"]
                values[row["step"]].append(row[name])
            if values:
                found[name].append(_curve(arm, len(runs), tokens, values))
    return dict(found)


def _curve(arm: str, n: int, tokens: dict[int, int], values: dict[int, list[float]]) -> Curve:
    """Return the curve of one arm from its tokens and its seeds' values, each by step."""
    steps = sorted(values)
    return Curve(
        arm=arm,
        n=n,
        tokens=[tokens[step] for step in steps],
        step=steps,
        mean=[_short(sum(values[step]) / len(values[step])) for step in steps],
        low=[_short(min(values[step])) for step in steps],
        high=[_short(max(values[step])) for step in steps],
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
        "linear": lines(LINEAR, quantity("mean", title, LINEAR | end)),
        "log loss": lines(LINEAR, quantity("mean", title, LOG | end)),
        "log tokens": lines(LOG, quantity("mean", title, LINEAR | end)),
        "log both": lines(LOG, quantity("mean", title, LOG | end)),
    }
    return Chart("curves", "Curves", "; ".join(ends), variants)


def lines(x_scale: Spec, y: Spec, height: int = 340) -> Spec:
    """Return curves over tokens with a band from the lowest to the highest seed."""
    axis = {"format": "~s", "labelFlush": True}
    x = quantity("tokens", "training tokens", x_scale, axis=axis)
    looks = line_looks()
    tooltip = [
        told("arm"),
        told("tokens", form=",d"),
        told("step", form=",d"),
        told("mean", form=".4~g"),
        told("low", "lowest seed", ".4~g"),
        told("high", "highest seed", ".4~g"),
        told("n", "seeds", "d"),
    ]
    # Not "color": its domain would differ from the dash's, and make a second legend.
    fill = {**looks["color"], "legend": None}
    band = {"x": x, "y": on(y, "low"), "y2": {"field": "high"}, "fill": fill}
    line, point = mark("line", strokeWidth=2), mark("point", size=60, opacity=0)
    return layered(
        {},
        # The line comes first: a first layer without a legend would take away everybody's.
        zoom(layer("curves", line, x=x, y=y, **looks), "x", "y"),
        layer("curves", mark("area", opacity=0.18), **band),
        {"name": "hover", **layer("curves", point, x=x, y=y, tooltip=tooltip, **looks)},
        height=height,
    )


def figure_charts(curves: Curves, arms: Sequence[str]) -> list[Chart]:
    """Return a chart for each figure, a line an arm; of one with series, a chart for each arm.

    ``INTERVENTION/figure`` is a figure, ``INTERVENTION/figure/series`` one of its series. Names are
    data: they stand in titles and rows, never in a specification.
    """
    groups = list(_grouped(curves, arms).items())[:MOST_CHARTS]
    return [_chart(at, title, found) for at, (title, found) in enumerate(groups)]


def left_out(curves: Curves) -> str:
    """Return how many figures have no chart, in a sentence; empty where all have one."""
    more = len(_grouped(curves, ())) - MOST_CHARTS
    return f"{more} more figures are in the cells' metrics.jsonl." if more > 0 else ""


def _grouped(curves: Curves, arms: Sequence[str]) -> dict[str, list[Curve]]:
    """Return a chart's title -> its lines, arms in the order given."""
    place = {arm: at for at, arm in enumerate(arms)}
    groups: dict[str, list[Curve]] = {}
    for name, found in curves.figures.items():
        figure, series = _parts(name)
        title = FIGURE_NAMES.get(figure, figure)
        for curve in sorted(found, key=lambda curve: place.get(curve.arm, len(place))):
            line = replace(curve, arm=series) if series else curve
            groups.setdefault(f"{title}, {curve.arm}" if series else title, []).append(line)
    return groups


def _parts(name: str) -> tuple[str, str]:
    """Return a figure and its series, which may be none."""
    intervention, _, rest = name.partition("/")
    figure, _, series = rest.partition("/")
    return (f"{intervention}/{figure}" if rest else intervention), series


def _chart(at: int, title: str, found: list[Curve]) -> Chart:
    shown, y = found[:MOST_LINES], quantity("mean", None, axis={"format": ".3~g"})
    ends = "; ".join(f"{curve.arm} ends at {curve.mean[-1]:.4g}" for curve in shown)
    key = f"The first {MOST_LINES} of {len(found)} lines." if len(found) > MOST_LINES else ""
    return Chart(
        name=f"figure_{at:02}_{re.sub('[^A-Za-z0-9]+', '_', title)[:60].strip('_').lower()}",
        title=title[:1].upper() + title[1:],
        summary=" ".join(part for part in (ends, key) if part),
        variants={"linear": lines(LINEAR, y, CHART_HEIGHT)},
        datasets={"curves": [row for slot, curve in enumerate(shown) for row in curve.rows(slot)]},
        key=(key,) if key else (),
    )
