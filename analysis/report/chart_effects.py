"""The noise band and the effects: one row an arm, the baseline on top."""

from __future__ import annotations

from typing import Any

from analysis.comparison import Comparison
from analysis.report.cells import plain
from analysis.report.charts import (
    ROW_HEIGHT,
    Chart,
    Rows,
    Spec,
    arm_axis,
    data,
    layered,
    quantity,
    tip,
    verdict_colour,
    verdict_shape,
    zoom,
)
from analysis.report.palette import verdict_kind

FAR = 3.0
"""A second view near the band is offered where an arm is this many band widths away."""


def noise_band_chart(result: Comparison, arms: list[str]) -> Chart:
    """Return every run as a dot, with the noise band, the practical size and the intervals."""
    rows = _arm_rows(result)
    shown = [arm for arm in arms if any(row["arm"] == arm for row in rows)]
    bands = _bands(result)
    datasets = {"runs": _run_rows(result), "arms": rows, "bands": bands}
    variants = {"all runs": _noise_spec(result, shown, None)}
    near = _near(result, rows)
    if near is not None:
        variants = {"near the band": _noise_spec(result, shown, near), **variants}
    return Chart(
        "noise_band", "Noise band", _noise_summary(result), variants, datasets, _noise_key(result)
    )


def effects_chart(result: Comparison, arms: list[str]) -> Chart:
    """Return each arm's difference with its simultaneous interval and the practical size."""
    rows = [row for row in _arm_rows(result) if row["ci_low"] is not None]
    shown = [arm for arm in arms if any(row["arm"] == arm for row in rows)]
    rope = result.rope
    datasets: dict[str, Rows] = {
        "effects": rows,
        "zero": [{"x": 0.0}],
        "rope": [{"low": -rope, "high": rope}] if rope else [],
        "published": [row for row in rows if row["published"] is not None],
    }
    summary = "; ".join(
        f"{row['arm']} {row['delta']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}], "
        f"{row['verdict']}"
        for row in rows[:40]
    )
    variants = {"all arms": _effects_spec(result, shown, None)}
    near = _near(result, rows)
    if near is not None:
        middle = _baseline_mean(result)
        inner = (near[0] - middle, near[1] - middle)
        variants = {"near zero": _effects_spec(result, shown, inner), **variants}
    return Chart("effects", "Effects", summary, variants, datasets)


def _noise_spec(result: Comparison, arms: list[str], near: tuple[float, float] | None) -> Spec:
    scale = {"domain": list(near), "nice": False} if near else {}
    x = quantity("loss", _unit(result), scale=scale)
    row = arm_axis(arms)
    clip = {"clip": True}
    tooltip = tip(
        ("arm", "arm", ""), ("run", "run", ""), ("loss", "loss", ".5f"), ("seed", "init seed", "")
    )
    layers: list[Spec] = [
        _stripe("bands", "datum.kind != 'practical size'", ("$band", 0.16), x),
        _stripe("bands", "datum.kind == 'practical size'", ("$rope", 0.28), x),
        {
            "data": data("arms"),
            "transform": [{"filter": "datum.ci_low != null"}],
            "mark": {"type": "rule", "strokeWidth": 7, "opacity": 0.3, **clip},
            "encoding": {
                "y": row,
                "x": {**x, "field": "low"},
                "x2": {"field": "high"},
                "color": {**verdict_colour(), "legend": None},
            },
        },
        {
            "data": data("arms"),
            "mark": {"type": "tick", "color": "$ink", "thickness": 2, "size": 18, **clip},
            "encoding": {"y": row, "x": {**x, "field": "mean"}},
        },
        {
            "data": data("runs"),
            "params": zoom("x"),
            "mark": {
                "type": "point",
                "color": "$accent",
                "fill": "$card",
                "size": 46,
                "strokeWidth": 2,
                **clip,
            },
            "encoding": {"y": row, "x": x, "tooltip": tooltip},
        },
    ]
    if near:
        layers += _off_scale("arms", "mean", near, row)
    return layered(layers, height=ROW_HEIGHT * max(len(arms), 1))


def _effects_spec(result: Comparison, arms: list[str], near: tuple[float, float] | None) -> Spec:
    scale = {"domain": list(near), "nice": False} if near else {}
    x = quantity("delta", f"difference from {result.rules.baseline}, {_unit(result)}", scale=scale)
    row = arm_axis(arms)
    tooltip = tip(
        ("arm", "arm", ""),
        ("delta", "difference", "+.4f"),
        ("ci_low", "from", "+.4f"),
        ("ci_high", "to", "+.4f"),
        ("verdict", "verdict", ""),
        ("published", "published", "+.4f"),
    )
    layers: list[Spec] = [
        _stripe("rope", "true", ("$rope", 0.28), x),
        {
            "data": data("zero"),
            "mark": {"type": "rule", "color": "$ink", "strokeDash": [4, 3]},
            "encoding": {"x": {**x, "field": "x"}},
        },
        {
            "data": data("effects"),
            "mark": {"type": "rule", "strokeWidth": 2.5, "clip": True},
            "encoding": {
                "y": row,
                "x": {**x, "field": "ci_low"},
                "x2": {"field": "ci_high"},
                "color": verdict_colour(),
            },
        },
        {
            "data": data("published"),
            "mark": {"type": "tick", "color": "$muted", "thickness": 3, "size": 16, "clip": True},
            "encoding": {"y": row, "x": {**x, "field": "published"}},
        },
        {
            "data": data("effects"),
            "params": zoom("x"),
            "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1, "clip": True},
            "encoding": {
                "y": row,
                "x": x,
                "color": verdict_colour(),
                "shape": verdict_shape(),
                "tooltip": tooltip,
            },
        },
    ]
    if near:
        layers += _off_scale("effects", "delta", near, row)
    return layered(layers, height=ROW_HEIGHT * max(len(arms), 1))


def _stripe(dataset: str, keep: str, look: tuple[str, float], x: Spec) -> Spec:
    """Return upright stripes over all rows; `look` is colour and opacity."""
    return {
        "data": data(dataset),
        "transform": [{"filter": keep}],
        "mark": {"type": "rect", "color": look[0], "opacity": look[1], "clip": True},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
    }


def _off_scale(dataset: str, name: str, near: tuple[float, float], row: Spec) -> list[Spec]:
    """Return the figures of arms that lie outside the view, at the edge where they would be."""
    ends = (("left", near[0], "<", "'← ' + "), ("right", near[1], ">", "'→ ' + "))
    return [
        {
            "data": data(dataset),
            "transform": [
                {"filter": f"datum['{name}'] {sign} {edge}"},
                {"calculate": f"{arrow}format(datum['{name}'], '.3f')", "as": "away"},
            ],
            "mark": {"type": "text", "align": side, "dx": 6 if side == "left" else -6,
                     "color": "$ink", "fontWeight": "bold"},
            "encoding": {"y": row, "x": {"datum": edge}, "text": {"field": "away"}},
        }
        for side, edge, sign, arrow in ends
    ]  # fmt: skip


def _arm_rows(result: Comparison) -> Rows:
    middle = _baseline_mean(result)
    rows: Rows = []
    for row in result.table.to_dict("records"):
        if row["mean_loss"] != row["mean_loss"]:
            continue
        base = row["arm"] == result.rules.baseline
        low, high = (None, None) if base else (plain(row["ci_low"]), plain(row["ci_high"]))
        sides = (None, None) if low is None or high is None else (middle + low, middle + high)
        rows.append(
            {
                "arm": str(row["arm"]),
                "mean": float(row["mean_loss"]),
                "delta": float(row["delta"]),
                "ci_low": low,
                "ci_high": high,
                "low": sides[0],
                "high": sides[1],
                "verdict": verdict_kind(str(row["verdict"])) or "undecided",
                "published": plain(row["published_delta"]),
            }
        )
    return rows


def _run_rows(result: Comparison) -> Rows:
    done = result.runs[result.runs["status"] == "complete"]
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in r.items()} for r in done.to_dict("records")
    ]
    return [
        {
            "arm": str(row["arm"]),
            "run": str(row["run_id"]),
            "loss": float(row["loss"]),
            "seed": str(row.get("init_seed", "")),
        }
        for row in rows
    ]


def _bands(result: Comparison) -> Rows:
    middle, rows = _baseline_mean(result), []
    if result.noise is not None:
        for kind, half in (
            ("one more run", result.noise.half_width),
            ("all arms at once", result.noise.half_width_arms),
        ):
            low, high = result.noise.mean - half, result.noise.mean + half
            rows.append({"kind": kind, "low": low, "high": high})
    if result.rope:
        rows.append(
            {"kind": "practical size", "low": middle - result.rope, "high": middle + result.rope}
        )
    return rows


def _near(result: Comparison, rows: Rows) -> tuple[float, float] | None:
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


def _baseline_mean(result: Comparison) -> float:
    table = result.table
    return float(table.loc[table["arm"] == result.rules.baseline, "mean_loss"].iloc[0])


def _unit(result: Comparison) -> str:
    name = result.rules.metric
    return f"{name.replace('_', ' ')}, nats per token" if name.endswith("loss") else name


def _noise_summary(result: Comparison) -> str:
    band = result.noise
    if band is None:
        return "One dot a run; the baseline has too few runs for a noise band."
    return (
        f"One dot a run. One more baseline run would fall in {band.mean:.4f} ± "
        f"{band.half_width:.4f}; {band.n_arms} at once in ± {band.half_width_arms:.4f}."
    )


def _noise_key(result: Comparison) -> tuple[str, ...]:
    arms = 1 if result.noise is None else result.noise.n_arms
    return (
        "Dot: a run. Tick: an arm's mean. Bar: its simultaneous interval.",
        f"Grey: where one more baseline run falls, and (lighter) {arms} of them at once. "
        "Brown: the practical size.",
    )
