"""What each arm cost: its table, and the difference against the cost of a run."""

from __future__ import annotations

from typing import Any

from analysis.comparison.result import Comparison
from analysis.report.charts import (
    LINEAR,
    Chart,
    Rows,
    Spec,
    dot,
    layer,
    layered,
    mark,
    quantity,
    told,
    verdict_looks,
)
from analysis.report.theme import drawn_as
from analysis.table import Column, Item, Table, columns, count, figure, words
from analysis.text import DASH, digits, time_unit

ABOUT_EQUAL = 1.05
"""Costs within this ratio are no ground to choose by."""
LETTER, LINE, LONGEST = 0.011, 0.06, 24
"""In the cost chart: a letter as a part of its width, a line of its height; letters of a name."""


def cost_table(result: Comparison) -> Table:
    """Return hours, dollars and nats per dollar of each arm."""
    time = time_unit(result.table["hours"].max())
    labels = ("arm", "runs", "tokens a run", f"{time.name} a run", f"{time.name} in all")
    gain = f"{'nats' if result.rules.unit() else 'gain'} per dollar"
    heads = [
        *columns(*labels, "dollars a run", "delta", text=("arm",)),
        Column(gain, help="improvement over the price of one run"),
    ]
    decimals, dear = digits(result.sd), result.table["usd"].max() >= 1
    rows = []
    for row in result.table[result.table["n"] > 0].to_dict("records"):
        base = row["arm"] == result.rules.baseline
        rows.append(
            [
                words(row["arm"]),
                count(row["n"]),
                count(row["tokens"]),
                figure(row["hours"] * time.per_hour, 1),
                figure(row["hours"] * row["n"] * time.per_hour, 1),
                figure(row["usd"], 2 if dear else 4),
                Item(DASH, 0.0) if base else figure(row["delta"], decimals, sign=True),
                figure(row["nats_per_usd"], 4, sign=True),
            ]
        )
    return Table("cost", "What it cost", heads, rows)


def cost_chart(result: Comparison) -> Chart | None:
    """Return the difference against the cost of a run; None where costs are unknown or alike."""
    table = result.table
    name = "usd" if table["usd"].notna().any() else "hours"
    known = table[table[name].notna() & table["delta"].notna()]
    if len(known) < 2 or known[name].max() <= ABOUT_EQUAL * known[name].min():
        return None
    time = time_unit(known["hours"].max())
    cost, factor = ("dollars", 1.0) if name == "usd" else (time.name, time.per_hour)
    rows: Rows = [
        {
            "arm": str(row["arm"]),
            "cost": float(row[name]) * factor,
            "delta": float(row["delta"]),
            "verdict": str(drawn_as(result.verdicts[str(row["arm"])].kind)),
        }
        for row in known.to_dict("records")
    ]
    base = result.rules.baseline
    datasets = {
        "baseline": [row for row in rows if row["arm"] == base],
        "arms": [row for row in rows if row["arm"] != base],
    }
    unnamed = len(rows) - _name_apart([*datasets["baseline"], *datasets["arms"]])
    spec = _cost_spec(datasets, f"{cost} a run", f"difference{result.rules.unit(', ')}")
    summary = "; ".join(
        f"{row['arm']}: {row['cost']:.4g}, {row['delta']:+.4f}" for row in rows[:40]
    )
    key = (f"Names left out for want of room: {unnamed}.",) if unnamed else ()
    return Chart("cost", "Difference against cost", summary, {"cost": spec}, datasets, key)


def _cost_spec(datasets: dict[str, Rows], cost: str, difference: str) -> Spec:
    where = {
        "x": quantity("cost", cost, LINEAR | {"padding": 20}, axis={"format": "~g"}),
        "y": quantity("delta", difference),
    }
    base = mark("point", shape="stroke", size=300, color="$ink", strokeWidth=2.5, opacity=1)
    name = mark("text", color="$ink", limit=160, align="left", clip=False)
    label = {"field": "label"}
    tooltip = [told("arm"), told("cost", cost, ".4g"), told("delta", "difference", "+.4f")]
    return layered(
        datasets,
        layer("baseline", base, tooltip=tooltip, **where),
        layer("arms", dot(), tooltip=tooltip, **where, **verdict_looks(datasets["arms"])),
        {"name": "labels", **layer("arms", {**name, "dx": 8}, text=label, **where)},
        layer("baseline", {**name, "dx": -12, "dy": -10}, text=label, **where),
        height=280,
    )


def _name_apart(rows: Rows) -> int:
    """Name each point unless its name would lie over an earlier one's; return how many are."""
    width, height = (
        (max(r[k] for r in rows) - min(r[k] for r in rows)) or 1.0 for k in ("cost", "delta")
    )

    def apart(row: dict[str, Any], other: dict[str, Any]) -> bool:
        left = min(row, other, key=lambda r: r["cost"])
        room = LETTER * (min(len(left["arm"]), LONGEST) + 3)
        beside = abs(row["cost"] - other["cost"]) > room * width
        return bool(beside or abs(row["delta"] - other["delta"]) > LINE * height)

    named: Rows = []
    for row in rows:
        free = all(apart(row, other) for other in named)
        row["label"] = row["arm"] if free else ""
        named += [row] if free else []
    return len(named)
