"""Figures: what a study shows, for people. Each function returns a matplotlib figure.

They draw what the report's charts draw: the rows of `analysis.report.chart_rows` and the curves of
`analysis.report.curves`. Legible in greyscale: what differs, differs in shape or hatching too.
Save one with ``figure.savefig("noise.png")``. pyplot is not used, so nothing has to be closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import Kind
from analysis.errors import AnalysisError
from analysis.report.cells import current, read_cells
from analysis.report.chart_rows import (
    arm_order,
    arm_rows,
    axis_title,
    bands,
    near_the_band,
    near_zero,
    run_rows,
)
from analysis.report.curves import METRICS, read_curves
from analysis.text import unit
from harness.records.files import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.questions.noise import NoiseReport
    from analysis.questions.plan import Plan

INK, GREY, LIGHT = "black", "0.45", "0.85"
MARKERS = {Kind.BETTER: "D", Kind.WORSE: "P", Kind.SAME: "s", Kind.UNDECIDED: "o"}
"""The shapes of the report's charts; none points up or down, which would depend on the metric."""
STYLES = ("-", "--", "-.", ":")
LINE = 22
"""Characters of an arm's name on one line."""


def noise_band_figure(result: Comparison) -> Figure:
    """One dot a run, the baseline left, over the band where one more baseline run would fall.

    Parameters
    ----------
    result
        From `analysis.compare`.

    Examples
    --------
    >>> import analysis, pandas as pd
    >>> frame = pd.DataFrame({"arm": ["baseline"] * 4 + ["a"] * 2,
    ...                       "test_loss": [3.69, 3.70, 3.68, 3.71, 3.60, 3.62]})
    >>> figure = noise_band_figure(analysis.compare(frame))
    """
    place = {arm: i for i, arm in enumerate(arm_order(result))}
    rows = sorted(arm_rows(result, place), key=lambda row: row["at"])
    runs = run_rows(result, place)
    figure, axes = _figure(max(6.4, 3.6 + _long(len(rows), 0.75, 12)), 4.2)
    _stripes(axes, result)
    rng = np.random.default_rng(0)
    for x, row in enumerate(rows):
        losses = np.array([run["loss"] for run in runs if run["at"] == row["at"]])
        jitter = rng.uniform(-0.12, 0.12, len(losses)) if len(losses) > 1 else np.zeros(len(losses))
        face = "white" if x else INK
        axes.scatter(x + jitter, losses, s=26, facecolor=face, edgecolor=INK, zorder=3, lw=0.9)
        axes.hlines(row["mean"], x - 0.25, x + 0.25, color=INK, lw=1.6, zorder=4)
    sides = [(x + 0.34, r["low"], r["high"]) for x, r in enumerate(rows) if r["low"] is not None]
    if sides:
        label = f"{_percent(result)} simultaneous interval"
        axes.vlines(*zip(*sides, strict=True), color=GREY, lw=1.4, label=label)
    near = near_the_band(result, rows)
    if near is not None:
        axes.set_ylim(near)
        for x, row in enumerate(rows):
            _off_scale(axes, row["mean"], near, x, across=False)
    axes.set_xticks(range(len(rows)), [_name(row["arm"]) for row in rows], rotation=35, ha="right")
    axes.set_ylabel(_text(axis_title(result)))
    axes.set_title("Every run, and where noise alone would put it", loc="left", fontsize=10)
    _legend(axes)
    return figure


def effects_figure(result: Comparison) -> Figure:
    """Each arm's difference from the baseline with its simultaneous interval, over +-ROPE."""
    place = {arm: i for i, arm in enumerate(arm_order(result))}
    rows = [row for row in arm_rows(result, place) if row["ci_low"] is not None]
    if not rows:
        raise AnalysisError("no arm has an interval: run more seeds before plotting effects")
    figure, axes = _figure(8.0, 1.4 + _long(len(rows), 0.42, 8))
    if result.rope:
        axes.axvspan(-result.rope, result.rope, color=LIGHT, lw=0, label=_size(result))
    axes.axvline(0, color=INK, lw=0.8)
    near = near_zero(result, rows)
    for y, row in enumerate(rows):
        look = _effect_look(row["verdict"])
        axes.hlines(y, row["ci_low"], row["ci_high"], color=INK, lw=1.4)
        axes.plot(row["delta"], y, ms=7, zorder=3, **look)
        if row["published"] is not None:
            axes.plot(row["published"], y, "x", color=GREY, ms=7, mew=1.6, zorder=2)
        if near is not None:
            axes.set_xlim(near)
            _off_scale(axes, row["delta"], near, y, across=True)
    axes.set_yticks(range(len(rows)), [_name(row["arm"]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    title = f"difference from {_name(result.rules.baseline)}, {_text(axis_title(result))}"
    axes.set_xlabel(f"{title}\n{_percent(result)} simultaneous intervals")
    _legend(axes, _effect_handles(rows))
    return figure


def components_figure(report: NoiseReport, rules: Rules) -> Figure:
    """Sd of each source of noise with its interval; the total is hatched."""
    if report.components is None:
        raise AnalysisError("; ".join(report.notes))
    rows = report.components.table.iloc[::-1].to_dict("records")
    figure, axes = _figure(6.0, 1.2 + 0.45 * len(rows))
    for y, row in enumerate(rows):
        total = row["source"] == "total"
        axes.barh(
            y,
            row["sd"],
            height=0.55,
            color="white" if total else LIGHT,
            edgecolor=INK,
            hatch="///" if total else None,
            lw=0.9,
        )
        axes.hlines(y, row["ci_low"], row["ci_high"], color=INK, lw=1.4)
        axes.vlines([row["ci_low"], row["ci_high"]], y - 0.12, y + 0.12, color=INK, lw=1.4)
    axes.set_yticks(range(len(rows)), [f"{row['source']} (df {row['df']:.3g})" for row in rows])
    axes.set_xlabel(f"sd of one run{unit(rules, ', ')}, with 95% interval")
    axes.set_xlim(left=0)
    return figure


def power_figure(plan: Plan) -> Figure:
    """Power against seeds per arm, at the sd and at its cautious limit."""
    figure, axes = _figure(6.0, 3.8)
    curve = plan.curve
    axes.plot(
        curve["seeds"], curve["power"], "o-", color=INK, ms=4, label=f"sd {plan.pilot.sd:.3g}"
    )
    if not np.allclose(curve["power"], curve["power_cautious"]):
        axes.plot(
            curve["seeds"],
            curve["power_cautious"],
            "s--",
            color=GREY,
            ms=4,
            label="sd at its 80% upper limit",
        )
    axes.axhline(plan.power, color=INK, lw=0.8, ls=":")
    axes.axvline(plan.seeds, color=INK, lw=0.8, ls=":")
    axes.annotate(
        f"{plan.seeds} seeds",
        (plan.seeds, 0.02),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
    )
    power = f"power to find {plan.delta:g}{plan.pilot.unit}"
    axes.set(xlabel="seeds per arm", ylabel=power, ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def loss_curves_figure(
    runs: pd.DataFrame, arms: Sequence[str] | None = None, metric: str = "train_loss"
) -> Figure:
    """Mean loss along training, with a band from the lowest to the highest seed.

    Parameters
    ----------
    runs
        Runs with columns ``arm``, ``status`` and ``folder``, which holds ``metrics.jsonl``.
    arms
        Which ones, at most four to stay legible; None: the first four.
    metric
        ``train_loss`` or ``val_loss``.
    """
    found = {c.arm: c for c in read_curves(current(read_cells(runs))).by_metric.get(metric, [])}
    chosen = [arm for arm in arms or found if arm in found][: len(STYLES)]
    if not chosen:
        raise AnalysisError(
            f"no run has a metrics.jsonl with {metric!r} (known: {', '.join(METRICS)})"
        )
    figure, axes = _figure(6.4, 4.0)
    for arm, style in zip(chosen, STYLES, strict=False):
        curve = found[arm]
        axes.fill_between(curve.tokens, curve.low, curve.high, color=GREY, alpha=0.25, lw=0)
        label = f" {_name(arm)} (n = {curve.n})"  # matplotlib hides a label that begins with "_"
        axes.plot(curve.tokens, curve.mean, style, color=INK, lw=1.3, label=label)
    axes.set(
        xlabel="training tokens", ylabel=f"{METRICS[metric]}{unit(Rules(metric=metric), ', ')}"
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(
        frameon=False, fontsize=8, title="mean; band: lowest to highest seed", title_fontsize=8
    )
    return figure


def _stripes(axes: Axes, result: Comparison) -> None:
    """Draw the noise band, the widest first, and the ends of the practical size."""
    looks: dict[str, tuple[str, str]] = {}
    if result.noise is not None:
        known = f"{_percent(result)}, K = {result.noise.K}"
        looks["one more run"] = ("0.80", f"one more baseline run ({known})")
        looks["all arms at once"] = ("0.92", f"{result.noise.n_arms} such runs at once")
    for band in reversed(bands(result)):
        if band["kind"] in looks:
            shade, label = looks[band["kind"]]
            axes.axhspan(band["low"], band["high"], color=shade, lw=0, label=label)
        else:
            axes.axhline(band["low"], color=INK, lw=0.8, ls="--", label=_size(result))
            axes.axhline(band["high"], color=INK, lw=0.8, ls="--")


def _size(result: Comparison) -> str:
    return f"practical size ±{result.rope:.3g}"


def _off_scale(axes: Axes, value: float, near: tuple[float, float], row: int, across: bool) -> None:
    """Write a figure that lies outside the view at the edge where it would be."""
    if near[0] <= value <= near[1]:
        return
    above = value > near[1]
    edge, back = near[above], -4 if above else 4
    text = f"{('←→' if across else '↓↑')[above]} {value:.3f}"
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
    if across:
        axes.annotate(text, (edge, row), (back, 5), ha="right" if above else "left", **look)
    else:
        axes.annotate(
            text, (row, edge), (0, back), ha="center", va="top" if above else "bottom", **look
        )


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _long(n_rows: int, row: float, most: float) -> float:
    """Return the inches of all rows: many are drawn closer, down to 0.3."""
    return n_rows * max(0.3, min(row, most / n_rows))


def _percent(result: Comparison) -> str:
    return f"{100 * (1 - result.alpha):g}%"


def _text(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return printable(text).replace("$", r"\$")


def _name(arm: str) -> str:
    """Return an arm's name on at most two lines; of a longer one the middle is left out."""
    if len(arm) <= LINE:
        return _text(arm)
    at = max(arm.rfind("+", 0, LINE), arm.rfind("_", 0, LINE)) + 1 or LINE
    rest = arm[at:] if len(arm) - at <= LINE else f"…{arm[1 - LINE :]}"
    return f"{_text(arm[:at])}\n{_text(rest)}"


def _effect_look(verdict: str) -> dict[str, Any]:
    face = INK if Kind(verdict).real else "white"
    return {"marker": MARKERS[Kind(verdict)], "color": INK, "mfc": face, "ls": ""}


def _effect_handles(rows: list[dict[str, Any]]) -> list[Any]:
    from matplotlib.lines import Line2D

    shown = {row["verdict"] for row in rows}
    handles = [Line2D([], [], ms=6, label=w, **_effect_look(w)) for w in MARKERS if w in shown]
    if any(row["published"] is not None for row in rows):
        handles.append(Line2D([], [], color=GREY, marker="x", ls="", ms=6, label="published"))
    return handles


def _legend(axes: Axes, handles: Sequence[Any] = ()) -> None:
    """Draw a legend right of the axes, of the handles and of what was drawn with a label."""
    handles = [*handles, *axes.get_legend_handles_labels()[0]]
    if handles:
        axes.legend(
            handles=handles, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0)
        )
