"""The noise band and the effects: one row an arm, the baseline on top."""

from __future__ import annotations

import numpy as np

from analysis.comparison.noise_band import NoiseBand
from analysis.comparison.result import Comparison
from analysis.report.charts import (
    LINEAR,
    Chart,
    Rows,
    Spec,
    arm_axis,
    dot,
    height_of,
    layer,
    layered,
    mark,
    on,
    quantity,
    span,
    told,
    verdict_looks,
    zoom,
)
from analysis.report.theme import drawn_as
from analysis.runs.frame import named
from analysis.table import TOO_WIDE, interval
from analysis.text import plain

Near = tuple[float, float] | None
"""Ends of the axis; None: all of the data."""
FAR = 3.0
"""A second view near the band is offered where an arm is this many band widths away."""
WIDE = 5.0
"""And where an interval reaches so many times as far as the band and the other arms."""
PRACTICAL_SIZE = mark(
    "rect", color="$rope", fillOpacity=0.14, stroke="$rope", strokeDash=[5, 4], strokeWidth=1.2
)
"""Its dashed edge tells it from the noise band without colour."""


def noise_band_chart(result: Comparison) -> Chart:
    """Return every run as a dot, with the noise band, the practical size and the intervals."""
    rows = arm_rows(result)
    datasets = {
        "runs": _run_rows(result),
        "arms": rows,
        "intervals": [row for row in rows if row["low"] is not None],
        "bands": _bands(result.noise),
        "practical": _practical_size(result, _baseline_mean(result)),
    }
    variants = {"all runs": _noise_spec(result, datasets, None)}
    near = _near_the_band(result, rows)
    if near is not None:
        variants = {"near the band": _noise_spec(result, datasets, near), **variants}
    summary, key = _noise_summary(result), _noise_key(result, rows, near)
    return Chart("noise_band", "Noise band", summary, variants, datasets, key)


def effects_chart(result: Comparison) -> Chart:
    """Return each arm's difference with its simultaneous interval and the practical size."""
    rows = [row for row in arm_rows(result) if row["low"] is not None]
    datasets: dict[str, Rows] = {
        "effects": rows,
        "pairs": _pair_rows(result, {row["arm"]: row["at"] for row in rows}),
        "zero": [{"x": 0.0}],
        "practical": _practical_size(result, 0.0),
        "published": [row for row in rows if row["published"] is not None],
    }
    summary = "; ".join(
        f"{row['arm']} {row['delta']:+.4f} {row['interval']}, {row['verdict']}" for row in rows[:40]
    )
    variants = {"all arms": _effects_spec(result, datasets, None)}
    near = _near_the_band(result, rows)
    if near is not None:
        middle = _baseline_mean(result)
        zoomed = _effects_spec(result, datasets, (near[0] - middle, near[1] - middle))
        variants = {"near zero": zoomed, **variants}
    key = [f"Line: the simultaneous {100 * (1 - result.alpha):g}% interval.", *_rope_key(result)]
    if datasets["pairs"]:
        key.append("Small circle: one seed's run minus the baseline's of that seed.")
    if datasets["published"]:
        key.append("Grey tick: the published difference.")
    return Chart(
        "effects", "Effects", summary, variants, datasets, (" ".join(key), *_ends_key(rows, near))
    )


def arm_order(result: Comparison) -> list[str]:
    """Return all arms, the baseline first, the others as in the table."""
    base = result.rules.baseline
    return [base, *(name for name in result.table["arm"].astype(str) if name != base)]


def arm_rows(result: Comparison) -> Rows:
    """Return each arm's mean, difference, interval and verdict; ``at`` is its row's place.

    An interval without ends is drawn so long that a nearer view is shown first.
    """
    middle, place = _baseline_mean(result), arm_order(result)
    band = result.noise.half_width_arms if result.noise else 0.0
    drawn = result.table[["delta", "ci_low", "ci_high"]].abs().to_numpy()
    reach = 2 * WIDE * np.max(drawn, where=np.isfinite(drawn), initial=band)
    rows: Rows = []
    for row in result.table[result.table["mean_loss"].notna()].to_dict("records"):
        arm = str(row["arm"])
        low, high = (plain(np.clip(row[end], -reach, reach)) for end in ("ci_low", "ci_high"))
        rows.append(
            {
                "at": place.index(arm),
                "arm": arm,
                "mean": float(row["mean_loss"]),
                "delta": float(row["delta"]),
                "ci_low": low,
                "ci_high": high,
                "interval": interval(row["ci_low"], row["ci_high"], 4).text,
                "low": None if low is None else middle + low,
                "high": None if high is None else middle + high,
                "verdict": str(drawn_as(result.verdicts[arm].kind)),
                "published": plain(row["published_delta"]),
            }
        )
    return rows


def _run_rows(result: Comparison) -> Rows:
    place = arm_order(result)
    done = result.runs[result.runs["status"] == "complete"]
    rows = [{str(name): value for name, value in row.items()} for row in done.to_dict("records")]
    return [
        {
            "at": place.index(str(row["arm"])),
            "arm": str(row["arm"]),
            "run": str(row["run_id"]),
            "loss": float(row["loss"]),
            "seed": str(row.get("init_seed", "")),
        }
        for row in rows
    ]


def _pair_rows(result: Comparison, places: dict[str, int]) -> Rows:
    """Return each run's difference from the baseline of its seed: an arm's own spread."""
    done = result.done
    if "init_seed" not in done:
        return []
    loss = done.dropna(subset=["init_seed"]).groupby(["arm", "init_seed"])["loss"].mean()
    table = loss.unstack("arm")
    base = result.rules.baseline
    return [
        {"arm": arm, "at": places[arm], "seed": str(seed), "difference": float(difference)}
        for arm in places
        for seed, difference in (table[arm] - table[base]).dropna().items()
    ]


def _bands(band: NoiseBand | None) -> Rows:
    """Return where one more baseline run falls, and as many at once as there are arms."""
    if band is None:
        return []
    halves = {"one more run": band.half_width}
    if band.n_arms > 1:
        halves["all arms at once"] = band.half_width_arms
    return [
        {"kind": kind, "low": band.mean - half, "high": band.mean + half}
        for kind, half in halves.items()
    ]


def _practical_size(result: Comparison, middle: float) -> Rows:
    return [{"low": middle - result.rope, "high": middle + result.rope}] if result.rope else []


def _near_the_band(result: Comparison, rows: Rows) -> Near:
    """Return the ends of a closer view of the band, where some arm or interval reaches far."""
    if result.noise is None or not result.noise.half_width > 0:
        return None
    middle, half = result.noise.mean, result.noise.half_width_arms
    deltas = [row["delta"] for row in rows]
    if not deltas:
        return None
    inside = [row for row in rows if abs(row["delta"]) < FAR * half]
    ends = [abs(row[k]) for row in inside for k in ("ci_low", "ci_high") if row[k] is not None]
    nearest = max([half, *(abs(row["delta"]) for row in inside)])
    shown = [end for end in ends if end < WIDE * nearest]
    if len(inside) == len(rows) and len(shown) == len(ends):
        return None
    reach = 1.05 * max([nearest, *shown])
    return middle - reach, middle + reach


def _baseline_mean(result: Comparison) -> float:
    table = result.table
    return float(table.loc[table["arm"] == result.rules.baseline, "mean_loss"].iloc[0])


def axis_title(result: Comparison) -> str:
    """Return the metric with its unit."""
    of_metric = result.rules.unit(", ")
    name = result.rules.metric
    return f"{name.replace('_', ' ')}{of_metric}" if of_metric else name


def _noise_spec(result: Comparison, datasets: dict[str, Rows], near: Near) -> Spec:
    x, y = quantity("loss", axis_title(result), _ends(near)), arm_axis()
    colour = {**verdict_looks(datasets["arms"])["color"], "legend": None}
    band = mark("rect", color="$band", opacity=0.16)
    bar = mark("rule", strokeWidth=7, opacity=0.3)
    mean = mark("tick", color="$ink", thickness=2, size=18)
    run = mark("point", color="$accent", fill="$card", size=46, strokeWidth=2, opacity=1)
    metric = result.rules.metric.replace("_", " ")
    tooltip = [told("arm"), told("run"), told("loss", metric, ".5f"), told("seed", "init seed")]
    return layered(
        datasets,
        layer("bands", band, **span(x, "low", "high")),
        layer("practical", PRACTICAL_SIZE, **span(x, "low", "high")),
        _interval(layer("intervals", bar, y=y, color=colour), x, ("low", "high"), near),
        layer("arms", mean, y=y, x=on(x, "mean")),
        zoom(layer("runs", run, y=y, x=x, tooltip=tooltip), "x"),
        *_off_scale("arms", "mean", near),
        height=height_of(datasets["arms"]),
    )


def _effects_spec(result: Comparison, datasets: dict[str, Rows], near: Near) -> Spec:
    title = f"difference from {result.rules.baseline}, {axis_title(result)}"
    looks = verdict_looks(datasets["effects"])
    x, y = quantity("delta", title, _ends(near)), arm_axis()
    zero = mark("rule", color="$ink", strokeDash=[4, 3])
    line = mark("rule", strokeWidth=2.5)
    published = mark("tick", color="$muted", thickness=3, size=16)
    pair = mark("point", color="$muted", size=26, strokeWidth=1.2, opacity=1)
    tooltip = [
        told("arm"),
        told("delta", "difference", "+.4f"),
        told("interval"),
        told("verdict"),
        told("published", form="+.4f"),
    ]
    return layered(
        datasets,
        layer("practical", PRACTICAL_SIZE, **span(x, "low", "high")),
        layer("zero", zero, x=on(x, "x")),
        layer("pairs", pair, y=y, x=on(x, "difference"), tooltip=[told("arm"), told("seed")]),
        _interval(
            layer("effects", line, y=y, color=looks["color"]), x, ("ci_low", "ci_high"), near
        ),
        layer("published", published, y=y, x=on(x, "published")),
        zoom(layer("effects", dot(size=110), y=y, x=x, tooltip=tooltip, **looks), "x"),
        *_off_scale("effects", "delta", near),
        height=height_of(datasets["effects"]),
    )


def _interval(lines: Spec, x: Spec, columns: tuple[str, str], near: Near) -> Spec:
    """Return the layer from one column to the other, as far as the view: beyond, none is drawn."""
    if near is None:
        return {**lines, "encoding": {**lines["encoding"], **span(x, *columns)}}
    cut = [
        {"calculate": f"clamp(datum['{column}'], {near[0]}, {near[1]})", "as": end}
        for column, end in zip(columns, ("from", "to"), strict=True)
    ]
    return {**lines, "transform": cut, "encoding": {**lines["encoding"], **span(x, "from", "to")}}


def _ends(near: Near) -> Spec:
    return {"domain": list(near), "nice": False} if near else LINEAR


def _off_scale(rows: str, column: str, near: Near) -> list[Spec]:
    """Return the figures of arms that lie outside the view, at the edge where they would be."""
    if near is None:
        return []
    layers = []
    for side, edge, sign, arrow in (("left", near[0], "<", "←"), ("right", near[1], ">", "→")):
        text = mark("text", align=side, dx=6 if side == "left" else -6, color="$ink",
                    fontWeight="bold", clip=False)  # fmt: skip
        away = layer(rows, text, y=arm_axis(), x={"datum": edge}, text={"field": "away"})
        figure = f"'{arrow} ' + format(datum['{column}'], '.3f')"
        outside = {"filter": f"datum['{column}'] {sign} {edge}"}
        layers.append({**away, "transform": [outside, {"calculate": figure, "as": "away"}]})
    return layers


def _noise_summary(result: Comparison) -> str:
    band = result.noise
    if band is None:
        return "One dot a run; the baseline has too few runs for a noise band."
    text = f"One more baseline run would fall in {band.mean:.4f} ± {band.half_width:.4f}"
    several = f"; {band.n_arms} at once in ± {band.half_width_arms:.4f}" if band.n_arms > 1 else ""
    return f"One dot a run. {text}{several}."


def _noise_key(result: Comparison, rows: Rows, near: Near) -> tuple[str, ...]:
    """Return what the marks of the noise band mean, as far as they are drawn."""
    text = []
    if result.noise is not None:
        n_arms = result.noise.n_arms
        several = f", and (lighter) {n_arms} of them at once" if n_arms > 1 else ""
        text.append(f"Grey: where one more baseline run falls{several}.")
    dots = "Dot: a run. Tick: an arm's mean."
    if result.judged is not None:
        dots += " Bar: its simultaneous interval."
    return (dots, " ".join([*text, *_rope_key(result)]), *_ends_key(rows, near))


def _ends_key(rows: Rows, near: Near) -> list[str]:
    """Name the arms whose interval has no ends, or ends outside of the nearer view."""
    endless = [row["arm"] for row in rows if row["interval"] == TOO_WIDE]
    low, high = near or (-np.inf, np.inf)
    cut = [
        row["arm"]
        for row in rows
        if row["low"] is not None
        and row["arm"] not in endless
        and low < row["mean"] < high
        and (row["low"] < low or row["high"] > high)
    ]
    key = [f"{named(cut)}: the interval goes on beyond the nearer view."] if cut else []
    if endless:
        key.append(f"{named(endless)}: the interval is too wide to be drawn to its ends.")
    return key


def _rope_key(result: Comparison) -> list[str]:
    return [f"Dashed edge: the practical size, ±{result.rope:.3g}."] if result.rope else []
