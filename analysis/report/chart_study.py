"""Charts of the noise's sources and of what more seeds would buy."""

from __future__ import annotations

from analysis.comparison.rules import Rules
from analysis.questions.noise import NoiseReport
from analysis.questions.plan import Plan
from analysis.report.charts import (
    STROKES,
    Chart,
    Rows,
    arm_axis,
    category,
    dot,
    height_of,
    layer,
    layered,
    mark,
    on,
    quantity,
    span,
    told,
)
from analysis.text import plain

SDS = {"power": "sd as estimated", "power_cautious": "80% upper sd"}
"""Column of a plan's curve -> at which sd of one run."""


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
    x, y = quantity("sd", f"sd of each source{rules.unit(', ')}", {"zero": True}), arm_axis()
    line, point = mark("rule", strokeWidth=2.5, color="$accent"), dot(color="$accent")
    tooltip = [
        told("arm", "source"),
        told("sd", form=".5f"),
        told("ci_low", "from", ".5f"),
        told("ci_high", "to", ".5f"),
    ]
    datasets = {"sources": rows}
    spec = layered(
        datasets,
        layer("sources", line, y=y, **span(x, "ci_low", "ci_high")),
        layer("sources", point, y=y, x=x, tooltip=tooltip),
        height=height_of(rows),
    )
    summary = "; ".join(
        f"{row['arm']}: sd {row['sd']:.5f}" for row in rows if row["sd"] is not None
    )
    key = (f"Line: the 95% interval. From the runs of {report.of}.",)
    return Chart("components", "Sources of noise", summary, {"sd": spec}, datasets, key)


def power_chart(result: Plan, rules: Rules) -> Chart:
    """Return the power to find the planned difference against the seeds of each arm."""
    rows: Rows = [
        {"seeds": int(row["seeds"]), "power": float(row[name]), "noise": label}
        for row in result.curve.to_dict("records")
        for name, label in SDS.items()
    ]
    x = quantity("seeds", "seeds per arm", axis={"tickMinStep": 1})
    y = quantity("power", "power", {"domain": [0, 1]})
    sds = list(SDS.values())
    looks = {
        "color": category("noise", sds, ["$series1", "$series2"], **STROKES),
        "strokeDash": category("noise", sds, [[1, 0], [6, 3]], **STROKES),
    }
    goal = mark("rule", color="$ink", strokeDash=[4, 3])
    line = mark("line", point={"size": 50}, strokeWidth=2, clip=False)
    tooltip = [told("noise"), told("seeds", form="d"), told("power", form=".2f")]
    datasets: dict[str, Rows] = {"power": rows, "goal": [{"goal": result.power}]}
    spec = layered(
        datasets,
        layer("goal", goal, y=on(y, "goal")),
        layer("power", line, x=x, y=y, tooltip=tooltip, **looks),
        height=240,
    )
    summary = (
        f"{result.seeds} seeds per arm find {result.delta:.4g}{rules.unit()} with power "
        f"{result.power:g}; {result.seeds_cautious} at the noise's 80% upper limit."
    )
    return Chart(
        "plan", "What more seeds would buy", summary, {"power": spec}, datasets, (summary,)
    )
