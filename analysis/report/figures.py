"""Small charts of all that was logged along training beside the losses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from analysis.report.charts import LINEAR, Chart, quantity
from analysis.report.curves import FIGURE_NAMES, MOST_LINES, Curve, Curves, lines

MOST_CHARTS = 24
HEIGHT = 150


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
        variants={"linear": lines(LINEAR, y, HEIGHT)},
        datasets={"curves": [row for slot, curve in enumerate(shown) for row in curve.rows(slot)]},
        key=(key,) if key else (),
    )
