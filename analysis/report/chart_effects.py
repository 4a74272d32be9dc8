"""The noise band and the effects: one row an arm, the baseline on top."""

from __future__ import annotations

from analysis.comparison.result import Comparison
from analysis.report.chart_rows import (
    Near,
    arm_rows,
    axis_title,
    bands,
    near_the_band,
    near_zero,
    run_rows,
)
from analysis.report.charts import (
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
    zoom,
)

ROPE = {"color": "$rope", "fillOpacity": 0.28, "stroke": "$rope", "strokeDash": [5, 4]}
"""Look of the practical size: its edge tells it from the noise band without colour."""


def noise_band_chart(result: Comparison, arms: list[str]) -> Chart:
    """Return every run as a dot, with the noise band, the practical size and the intervals."""
    place = {arm: i for i, arm in enumerate(arms)}
    rows = arm_rows(result, place)
    stripes = bands(result)
    datasets = {"runs": run_rows(result, place), "arms": rows, "bands": stripes}
    variants = {"all runs": _noise_spec(result, len(rows), None)}
    near = near_the_band(result, rows)
    if near is not None:
        variants = {"near the band": _noise_spec(result, len(rows), near), **variants}
    return Chart(
        "noise_band", "Noise band", _noise_summary(result), variants, datasets, _noise_key(result)
    )


def effects_chart(result: Comparison, arms: list[str]) -> Chart:
    """Return each arm's difference with its simultaneous interval and the practical size."""
    place = {arm: i for i, arm in enumerate(arms)}
    rows = [row for row in arm_rows(result, place) if row["ci_low"] is not None]
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
    variants = {"all arms": _effects_spec(result, len(rows), None)}
    near = near_zero(result, rows)
    if near is not None:
        variants = {"near zero": _effects_spec(result, len(rows), near), **variants}
    return Chart("effects", "Effects", summary, variants, datasets, _effects_key(result))


def _noise_spec(result: Comparison, n_rows: int, near: Near) -> Spec:
    x = quantity("loss", axis_title(result), scale=_scale(near))
    row = arm_axis()
    layers = [
        _stripe("bands", "datum.kind != 'practical size'", {"color": "$band", "opacity": 0.16}, x),
        _stripe("bands", "datum.kind == 'practical size'", ROPE, x),
        *([] if result.judged is None else [_interval_bars(x, row)]),
        {
            "data": data("arms"),
            "mark": {"type": "tick", "color": "$ink", "thickness": 2, "size": 18, "clip": True},
            "encoding": {"y": row, "x": {**x, "field": "mean"}},
        },
        _run_dots(x, row),
    ]
    if near:
        layers += _off_scale("arms", "mean", near, row)
    return layered(layers, height=height_of(n_rows))


def _interval_bars(x: Spec, row: Spec) -> Spec:
    return {
        "data": data("arms"),
        "transform": [{"filter": "datum.ci_low != null"}],
        "mark": {"type": "rule", "strokeWidth": 7, "opacity": 0.3, "clip": True},
        "encoding": {
            "y": row,
            "x": {**x, "field": "low"},
            "x2": {"field": "high"},
            "color": {**verdict_colour(), "legend": None},
        },
    }


def _run_dots(x: Spec, row: Spec) -> Spec:
    look = {"color": "$accent", "fill": "$card", "size": 46, "strokeWidth": 2, "clip": True}
    tooltip = tip(
        ("arm", "arm", ""), ("run", "run", ""), ("loss", "loss", ".5f"), ("seed", "init seed", "")
    )
    return {
        "data": data("runs"),
        "params": zoom("x"),
        "mark": {"type": "point", **look},
        "encoding": {"y": row, "x": x, "tooltip": tooltip},
    }


def _effects_spec(result: Comparison, n_rows: int, near: Near) -> Spec:
    title = f"difference from {result.rules.baseline}, {axis_title(result)}"
    x = quantity("delta", title, scale=_scale(near))
    row = arm_axis()
    layers = [
        _stripe("rope", "true", ROPE, x),
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
        _effect_points(x, row),
    ]
    if near:
        layers += _off_scale("effects", "delta", near, row)
    if result.table["published_delta"].notna().any():
        look = {"color": "$muted", "thickness": 3, "size": 16, "clip": True}
        tick = {
            "mark": {"type": "tick", **look},
            "encoding": {"y": row, "x": {**x, "field": "published"}},
        }
        layers.insert(3, {"data": data("published"), **tick})
    return layered(layers, height=height_of(n_rows))


def _effect_points(x: Spec, row: Spec) -> Spec:
    tooltip = tip(
        ("arm", "arm", ""),
        ("delta", "difference", "+.4f"),
        ("ci_low", "from", "+.4f"),
        ("ci_high", "to", "+.4f"),
        ("verdict", "verdict", ""),
        ("published", "published", "+.4f"),
    )
    return {
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
    }


def _scale(near: Near) -> Spec:
    return {"domain": list(near), "nice": False} if near else {}


def _stripe(dataset: str, keep: str, look: Spec, x: Spec) -> Spec:
    """Return upright stripes over all rows."""
    return {
        "data": data(dataset),
        "transform": [{"filter": keep}],
        "mark": {"type": "rect", "clip": True, **look},
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


def _noise_summary(result: Comparison) -> str:
    band = result.noise
    if band is None:
        return "One dot a run; the baseline has too few runs for a noise band."
    text = f"One more baseline run would fall in {band.mean:.4f} ± {band.half_width:.4f}"
    several = f"; {band.n_arms} at once in ± {band.half_width_arms:.4f}" if band.n_arms > 1 else ""
    return f"One dot a run. {text}{several}."


def _noise_key(result: Comparison) -> tuple[str, ...]:
    """Return what the marks of the noise band mean, as far as they are drawn."""
    text = []
    if result.noise is not None:
        n_arms = result.noise.n_arms
        several = f", and (lighter) {n_arms} of them at once" if n_arms > 1 else ""
        text.append(f"Grey: where one more baseline run falls{several}.")
    text += _rope_key(result)
    dots = "Dot: a run. Tick: an arm's mean."
    if result.judged is not None:
        dots += " Bar: its simultaneous interval."
    return (dots, " ".join(text))


def _effects_key(result: Comparison) -> tuple[str, ...]:
    text = [f"Line: the simultaneous {100 * (1 - result.alpha):g}% interval.", *_rope_key(result)]
    if result.table["published_delta"].notna().any():
        text.append("Grey tick: the published difference.")
    return (" ".join(text),)


def _rope_key(result: Comparison) -> list[str]:
    if not result.rope:
        return []
    return [f"Dashed edge: the practical size, ±{result.rope:.3g}."]
