"""Charts of the noise's sources, of the plan and of the cost."""

from __future__ import annotations

from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules
from analysis.questions.noise import NoiseReport
from analysis.questions.plan import Plan
from analysis.report.charts import (
    LINE_LEGEND,
    Chart,
    Rows,
    Spec,
    arm_axis,
    data,
    height_of,
    layered,
    quantity,
    tip,
    verdict_colour,
    verdict_shape,
)
from analysis.report.theme import drawn_as
from analysis.text import plain, unit

POINT: Spec = {"type": "point", "filled": True, "size": 100, "opacity": 1}
ABOUT_EQUAL = 1.05
"""Costs within this ratio are no ground to choose by."""
LETTER, LINE, LONGEST = 0.011, 0.06, 24
"""In the cost chart: a letter as a part of its width, a line of its height; letters of a name."""


def components_chart(report: NoiseReport, rules: Rules) -> Chart | None:
    """Return each source's sd with its interval; None where nothing could be split."""
    if report.components is None:
        return None
    rows: Rows = [
        {
            "at": i,
            "arm": str(row["source"]),
            **{k: plain(row[k]) for k in ("sd", "ci_low", "ci_high")},
        }
        for i, row in enumerate(report.components.table.to_dict("records"))
    ]
    x = quantity("sd", f"sd of one run{unit(rules, ', ')}", scale={"zero": True})
    order = arm_axis()
    ends = (("ci_low", "from", ".5f"), ("ci_high", "to", ".5f"))
    fields = tip(("arm", "source", ""), ("sd", "sd", ".5f"), *ends)
    layers = [
        {
            "data": data("sources"),
            "mark": {"type": "rule", "strokeWidth": 2.5, "color": "$accent", "clip": True},
            "encoding": {"y": order, "x": {**x, "field": "ci_low"}, "x2": {"field": "ci_high"}},
        },
        {
            "data": data("sources"),
            "mark": {**POINT, "color": "$accent"},
            "encoding": {"y": order, "x": x, "tooltip": fields},
        },
    ]
    summary = "; ".join(
        f"{row['arm']}: sd {row['sd']:.5f}" for row in rows if row["sd"] is not None
    )
    spec = layered(layers, height=height_of(len(rows)))
    key = (f"Line: the 95% interval. From the runs of {report.of}.",)
    return Chart("components", "Sources of noise", summary, {"sd": spec}, {"sources": rows}, key)


def power_chart(result: Plan, rules: Rules) -> Chart:
    """Return the power to find the planned difference against the seeds of each arm."""
    rows: Rows = []
    for row in result.curve.to_dict("records"):
        for name, label in (("power", "sd as estimated"), ("power_cautious", "80% upper sd")):
            rows.append({"seeds": int(row["seeds"]), "power": float(row[name]), "noise": label})
    summary = (
        f"{result.seeds} seeds per arm find {result.delta:.4g}{unit(rules)} with power "
        f"{result.power:g}; {result.seeds_cautious} at the noise's 80% upper limit."
    )
    datasets: dict[str, Rows] = {"power": rows, "goal": [{"goal": result.power}]}
    spec = layered(_power_layers(), height=240)
    title = "What more seeds would buy"
    return Chart("plan", title, summary, {"power": spec}, datasets, (summary,))


def cost_chart(result: Comparison) -> Chart | None:
    """Return the difference against the cost of a run; None where costs are unknown or alike."""
    table = result.table
    name, title = (
        ("usd", "dollars a run") if table["usd"].notna().any() else ("hours", "hours a run")
    )
    known = table[table[name].notna() & table["delta"].notna()]
    if len(known) < 2 or known[name].max() <= ABOUT_EQUAL * known[name].min():
        return None
    rows: Rows = [
        {
            "arm": str(row["arm"]),
            "cost": float(row[name]),
            "delta": float(row["delta"]),
            "verdict": str(drawn_as(result.verdicts[str(row["arm"])].kind)),
            "base": row["arm"] == result.rules.baseline,
        }
        for row in known.to_dict("records")
    ]
    _label_apart(rows)
    spec = layered(_cost_layers(title, unit(result.rules, ", ")), height=280)
    summary = "; ".join(
        f"{row['arm']}: {row['cost']:.4g}, {row['delta']:+.4f}" for row in rows[:40]
    )
    unnamed = sum(not row["label"] for row in rows)
    key = (f"Names left out for want of room: {unnamed}.",) if unnamed else ()
    return Chart("cost", "Difference against cost", summary, {"cost": spec}, {"costs": rows}, key)


def _label_apart(rows: Rows) -> None:
    """Name each point, the baseline first, unless its name would lie over one that is there."""
    width, height = (
        (max(r[k] for r in rows) - min(r[k] for r in rows)) or 1.0 for k in ("cost", "delta")
    )
    named: Rows = []
    for row in sorted(rows, key=lambda row: not row["base"]):
        free = True
        for other in named:
            left = min(row, other, key=lambda r: r["cost"])
            room = LETTER * (min(len(left["arm"]), LONGEST) + 3)
            beside = abs(row["cost"] - other["cost"]) > room * width
            free &= beside or abs(row["delta"] - other["delta"]) > LINE * height
        row["label"] = row["arm"] if free else ""
        named += [row] if free else []


def _cost_layers(title: str, of_metric: str) -> list[Spec]:
    x = quantity("cost", title, scale={"padding": 20}, axis={"format": "~g"})
    y = quantity("delta", f"difference{of_metric}")
    fields = tip(("arm", "arm", ""), ("cost", title, ".4g"), ("delta", "difference", "+.4f"))
    return [
        {
            "data": data("costs"),
            "transform": [{"filter": "datum.base"}],
            "mark": {
                "type": "point",
                "shape": "stroke",
                "size": 300,
                "color": "$ink",
                "strokeWidth": 2.5,
            },
            "encoding": {"x": x, "y": y, "tooltip": fields},
        },
        {
            "data": data("costs"),
            "transform": [{"filter": "!datum.base"}],
            "mark": POINT,
            "encoding": {
                "x": x,
                "y": y,
                "color": verdict_colour(),
                "shape": verdict_shape(),
                "tooltip": fields,
            },
        },
        _labels("labels", "!datum.base", {"align": "left", "dx": 8}, (x, y)),
        _labels("base label", "datum.base", {"align": "left", "dx": -12, "dy": -10}, (x, y)),
    ]


def _labels(name: str, keep: str, place: Spec, where: tuple[Spec, Spec]) -> Spec:
    return {
        "name": name,
        "data": data("costs"),
        "transform": [{"filter": keep}],
        "mark": {"type": "text", "color": "$ink", "limit": 160, **place},
        "encoding": {"x": where[0], "y": where[1], "text": {"field": "label"}},
    }


def _power_layers() -> list[Spec]:
    x = quantity("seeds", "seeds per arm", axis={"tickMinStep": 1})
    y = quantity("power", "power", scale={"domain": [0, 1]})
    kinds = ["sd as estimated", "80% upper sd"]
    legend = {"title": None, "orient": "top", **LINE_LEGEND}
    colour = {
        "field": "noise",
        "type": "nominal",
        "scale": {"domain": kinds, "range": ["$series1", "$series2"]},
        "legend": legend,
    }
    dash = {**colour, "scale": {"domain": kinds, "range": [[1, 0], [6, 3]]}}
    fields = tip(("noise", "noise", ""), ("seeds", "seeds", "d"), ("power", "power", ".2f"))
    return [
        {
            "data": data("goal"),
            "mark": {"type": "rule", "color": "$ink", "strokeDash": [4, 3]},
            "encoding": {"y": {**y, "field": "goal"}},
        },
        {
            "data": data("power"),
            "mark": {"type": "line", "point": {"size": 50}, "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash, "tooltip": fields},
        },
    ]
