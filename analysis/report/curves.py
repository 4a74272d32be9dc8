"""Loss along training, one line an arm with the range of its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.report.cells import Cell, read_lines
from harness.records import METRICS_FILE, Status

METRICS = {"val_loss": "validation loss", "train_loss": "training loss"}
MOST_POINTS = 30_000
"""Of one metric over all arms; beyond it, and beyond 200 an arm, points are left out evenly."""
MOST_POINTS_AN_ARM = 200


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


@dataclass(frozen=True, slots=True)
class Curves:
    """All arms' curves."""

    by_metric: dict[str, list[Curve]]
    note: str
    """What was thinned; empty where every logged point is shown."""


def read_curves(cells: Sequence[Cell]) -> Curves:
    """Read the metrics of all cells and average them over the seeds of each arm.

    A point is shown where all seeds that have come so far were logged; its band is the lowest and
    the highest seed. Diverged runs are shown only of an arm that has no others: like its mean in
    the table, its curve is that of the runs that survived.
    """
    by_arm: defaultdict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    survived = {cell.record.arm for cell in cells if cell.status != Status.DIVERGED}
    for cell in cells:
        if cell.status == Status.DIVERGED and cell.record.arm in survived:
            continue
        rows = read_lines(cell.folder / METRICS_FILE)
        if rows:
            by_arm[cell.record.arm].append(rows)
    limit = max(20, min(MOST_POINTS_AN_ARM, MOST_POINTS // max(len(by_arm), 1)))
    found: dict[str, list[Curve]] = {}
    thinned = 0
    for metric in METRICS:
        found[metric] = []
        for arm, runs in by_arm.items():
            curve, left_out = _curve(arm, runs, metric, limit)
            thinned = max(thinned, left_out)
            if curve.mean:
                found[metric].append(curve)
    note = f"Curves are thinned to at most {limit} points an arm." if thinned else ""
    return Curves({name: curves for name, curves in found.items() if curves}, note)


def _curve(
    arm: str, runs: list[list[dict[str, Any]]], metric: str, limit: int
) -> tuple[Curve, int]:
    values: defaultdict[int, list[float]] = defaultdict(list)
    tokens: dict[int, int] = {}
    for rows in runs:
        for row in rows:
            if row.get(metric) is not None:
                values[row["step"]].append(row[metric])
                tokens[row["step"]] = row["tokens"]
    steps = sorted(values)
    kept = thin(steps, limit)
    curve = Curve(arm, len(runs))
    for step in kept:
        seen = values[step]
        curve.tokens.append(tokens[step])
        curve.step.append(step)
        curve.mean.append(short(sum(seen) / len(seen)))
        curve.low.append(short(min(seen)))
        curve.high.append(short(max(seen)))
    return curve, len(steps) - len(kept)


def thin(steps: Sequence[int], limit: int) -> list[int]:
    """Return at most `limit` of the steps, evenly, the first and the last among them.

    Examples
    --------
    >>> thin(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(steps) <= limit:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (limit - 1))] for i in range(limit)]


def short(value: float) -> float:
    """Return a number with six significant digits, which is what a chart can show."""
    return float(f"{value:.6g}")
