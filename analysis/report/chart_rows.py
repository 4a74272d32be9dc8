"""Rows of the noise band and of the effects, from a comparison."""

from __future__ import annotations

from typing import Any

from analysis.comparison.result import Comparison
from analysis.report.charts import Rows
from analysis.report.theme import drawn_as
from analysis.text import plain, unit

Near = tuple[float, float] | None
"""Ends of the axis; None: all of the data."""

FAR = 3.0
"""A second view near the band is offered where an arm is this many band widths away."""


def arm_order(result: Comparison) -> list[str]:
    """Return all arms, the baseline first, the others as in the table."""
    base = result.rules.baseline
    return [base, *(name for name in result.table["arm"].astype(str) if name != base)]


def arm_rows(result: Comparison, place: dict[str, int]) -> Rows:
    """Return each arm's mean, difference, interval and verdict; `place` is its row."""
    middle = baseline_mean(result)
    rows: Rows = []
    for row in result.table.to_dict("records"):
        if row["mean_loss"] != row["mean_loss"]:
            continue
        base = row["arm"] == result.rules.baseline
        low, high = (None, None) if base else (plain(row["ci_low"]), plain(row["ci_high"]))
        sides = (None, None) if low is None or high is None else (middle + low, middle + high)
        rows.append(
            {
                "at": place[str(row["arm"])],
                "arm": str(row["arm"]),
                "mean": float(row["mean_loss"]),
                "delta": float(row["delta"]),
                "ci_low": low,
                "ci_high": high,
                "low": sides[0],
                "high": sides[1],
                "verdict": str(drawn_as(result.verdicts[str(row["arm"])].kind)),
                "published": plain(row["published_delta"]),
            }
        )
    return rows


def run_rows(result: Comparison, place: dict[str, int]) -> Rows:
    """Return every complete run; `place` is its arm's row."""
    done = result.runs[result.runs["status"] == "complete"]
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in r.items()} for r in done.to_dict("records")
    ]
    return [
        {
            "at": place[str(row["arm"])],
            "arm": str(row["arm"]),
            "run": str(row["run_id"]),
            "loss": float(row["loss"]),
            "seed": str(row.get("init_seed", "")),
        }
        for row in rows
    ]


def bands(result: Comparison) -> Rows:
    """Return the noise bands and the practical size as stripes of loss."""
    middle, rows = baseline_mean(result), []
    if result.noise is not None:
        widths = {"one more run": result.noise.half_width}
        if result.noise.n_arms > 1:
            widths["all arms at once"] = result.noise.half_width_arms
        for kind, half in widths.items():
            low, high = result.noise.mean - half, result.noise.mean + half
            rows.append({"kind": kind, "low": low, "high": high})
    if result.rope:
        rows.append(
            {"kind": "practical size", "low": middle - result.rope, "high": middle + result.rope}
        )
    return rows


def near_the_band(result: Comparison, rows: Rows) -> tuple[float, float] | None:
    """Return the losses around the band to look at, where some arm lies far outside."""
    if result.noise is None or not result.noise.half_width > 0:
        return None
    middle, half = result.noise.mean, result.noise.half_width_arms
    deltas = [row["delta"] for row in rows]
    if not deltas or max(map(abs, deltas)) < FAR * half:
        return None
    inside = [row for row in rows if abs(row["delta"]) < FAR * half]
    ends = [row[k] for row in inside for k in ("delta", "ci_low", "ci_high") if row[k] is not None]
    reach = 1.05 * max([half, *map(abs, ends)])
    return middle - reach, middle + reach


def near_zero(result: Comparison, rows: Rows) -> tuple[float, float] | None:
    """Return the same as differences from the baseline."""
    near, middle = near_the_band(result, rows), baseline_mean(result)
    return None if near is None else (near[0] - middle, near[1] - middle)


def baseline_mean(result: Comparison) -> float:
    """Return the mean loss of the baseline."""
    table = result.table
    return float(table.loc[table["arm"] == result.rules.baseline, "mean_loss"].iloc[0])


def axis_title(result: Comparison) -> str:
    """Return the metric with its unit."""
    of_metric = unit(result.rules, ", ")
    name = result.rules.metric
    return f"{name.replace('_', ' ')}{of_metric}" if of_metric else name
