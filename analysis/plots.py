"""Figures: what a study shows, for people. Each function returns a matplotlib figure.

Legible in greyscale: what differs, differs in shape or hatching too. Units stand on the axes.
Save one with ``figure.savefig("noise.png")``. pyplot is not used, so nothing has to be closed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from harness.records import METRICS_FILE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.comparison import Comparison
    from analysis.components import Components
    from analysis.planning import Plan

UNIT = "nats/token"
INK, GREY, LIGHT = "black", "0.45", "0.85"
MARKERS = {"better": "v", "worse": "^", "no practical difference": "s", "undecided": "o"}
STYLES = ("-", "--", "-.", ":")


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
    baseline = result.rules.baseline
    done = result.runs[result.runs["status"] == "complete"]
    arms = [baseline, *(a for a in result.table["arm"] if a != baseline and a in set(done["arm"]))]
    figure, axes = _figure(max(5.0, 1.6 + 0.75 * len(arms)), 4.2)
    band = result.noise
    if band is not None:
        for half, color, label in (
            (band.half_width_arms, "0.92", f"{band.n_arms} more runs"),
            (band.half_width, "0.80", "one more baseline run"),
        ):
            axes.axhspan(band.mean - half, band.mean + half, color=color, lw=0, label=label)
    rng = np.random.default_rng(0)
    for x, arm in enumerate(arms):
        losses = done.loc[done["arm"] == arm, "loss"].to_numpy(dtype=float)
        jitter = rng.uniform(-0.12, 0.12, len(losses)) if len(losses) > 1 else np.zeros(1)
        face = INK if arm == baseline else "white"
        axes.scatter(x + jitter, losses, s=26, facecolor=face, edgecolor=INK, zorder=3, lw=0.9)
        axes.hlines(losses.mean(), x - 0.25, x + 0.25, color=INK, lw=1.6, zorder=4)
    _intervals(axes, result, arms)
    axes.set_xticks(range(len(arms)), [_wrap(arm) for arm in arms], rotation=35, ha="right")
    axes.set_ylabel(_label(result))
    if band is not None:
        axes.legend(
            loc="best",
            frameon=True,
            framealpha=0.9,
            fontsize=8,
            title=f"{_percent(result)} band, K = {band.K}",
            title_fontsize=8,
        )
    axes.set_title("Every run, and where noise alone would put it", loc="left", fontsize=10)
    return figure


def effects_figure(result: Comparison) -> Figure:
    """Each arm's difference from the baseline with its simultaneous interval, over +-ROPE."""
    rows = result.table[result.table["ci_low"].notna()].iloc[::-1]
    if not len(rows):
        raise AnalysisError("no arm has an interval: run more seeds before plotting effects")
    figure, axes = _figure(6.4, 1.4 + 0.42 * len(rows))
    if result.rope:
        axes.axvspan(
            -result.rope, result.rope, color=LIGHT, lw=0, label=f"practical size ±{result.rope:.3g}"
        )
    axes.axvline(0, color=INK, lw=0.8)
    for y, row in enumerate(rows.to_dict("records")):
        word = next((w for w in MARKERS if str(row["verdict"]).startswith(w)), "undecided")
        filled = word in ("better", "worse")
        axes.hlines(y, row["ci_low"], row["ci_high"], color=INK, lw=1.4)
        axes.plot(
            row["delta"],
            y,
            MARKERS[word],
            color=INK,
            ms=7,
            mfc=INK if filled else "white",
            zorder=3,
        )
        if np.isfinite(row["published_delta"]):
            axes.plot(row["published_delta"], y, "x", color=GREY, ms=7, mew=1.6, zorder=2)
    axes.set_yticks(range(len(rows)), [_wrap(arm) for arm in rows["arm"]])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(
        f"{_label(result)} minus {result.rules.baseline}'s; {_percent(result)} "
        "simultaneous intervals"
    )
    _effect_legend(axes, rows)
    return figure


def components_figure(components: Components) -> Figure:
    """Sd of each source of noise with its interval; the total is hatched."""
    rows = components.table.iloc[::-1].to_dict("records")
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
    axes.set_xlabel(f"sd of the loss, {UNIT}, with 95% interval")
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
    axes.set(xlabel="seeds per arm", ylabel=f"power to find {plan.delta:g} {UNIT}", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def loss_curves_figure(
    runs: pd.DataFrame, arms: Sequence[str] | None = None, metric: str = "train_loss"
) -> Figure:
    """Mean loss along training, with a band from the lowest to the highest seed.

    Parameters
    ----------
    runs
        Runs with columns ``arm`` and ``folder``; each folder holds ``metrics.jsonl``.
    arms
        Which ones, at most four to stay legible; None: the first four.
    metric
        Key of ``metrics.jsonl`` in nats per token, e.g. ``val_loss``.
    """
    chosen = list(arms or dict.fromkeys(runs["arm"]))[: len(STYLES)]
    figure, axes = _figure(6.4, 4.0)
    drawn = 0
    for arm, style in zip(chosen, STYLES, strict=False):
        folders = runs.loc[runs["arm"] == arm, "folder"] if "folder" in runs else []
        curves = [curve for curve in (_curve(Path(f), metric) for f in folders) if len(curve)]
        if not curves:
            continue
        table = pd.concat(curves, axis=1).interpolate(limit_area="inside")
        tokens = table.index.to_numpy(dtype=float)
        axes.fill_between(
            tokens, table.min(axis=1), table.max(axis=1), color=GREY, alpha=0.25, lw=0
        )
        axes.plot(
            tokens, table.mean(axis=1), style, color=INK, lw=1.3, label=f"{arm} (n = {len(curves)})"
        )
        drawn += 1
    if not drawn:
        raise AnalysisError(f"no metrics.jsonl with {metric!r} among the runs of {chosen}")
    axes.set(xlabel="training tokens", ylabel=f"{metric.replace('_', ' ')}, {UNIT}")
    axes.legend(
        frameon=False, fontsize=8, title="mean; band: lowest to highest seed", title_fontsize=8
    )
    return figure


def _intervals(axes: Axes, result: Comparison, arms: list[str]) -> None:
    """Draw simultaneous intervals beside the dots, and the practical size around the baseline."""
    rows = {row["arm"]: row for row in result.table.to_dict("records")}
    centre = float(rows[arms[0]]["mean_loss"])
    for x, arm in enumerate(arms[1:], start=1):
        low, high = float(rows[arm]["ci_low"]), float(rows[arm]["ci_high"])
        if np.isfinite(low):
            axes.vlines(x + 0.34, centre + low, centre + high, color=GREY, lw=1.4)
    if result.rope:
        label = f"practical size ±{result.rope:.3g}"
        axes.axhline(centre - result.rope, color=INK, lw=0.8, ls="--", label=label)
        axes.axhline(centre + result.rope, color=INK, lw=0.8, ls="--")


def _curve(folder: Path, metric: str) -> pd.Series:
    file = folder / METRICS_FILE
    points: dict[int, float] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that is being written
        if row.get(metric) is not None:
            points[int(row["tokens"])] = float(row[metric])
    return pd.Series(points, dtype=float)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _label(result: Comparison) -> str:
    name = result.rules.metric
    return f"{name.replace('_', ' ')}, {UNIT}" if name.endswith("loss") else name


def _percent(result: Comparison) -> str:
    return f"{100 * (1 - result.alpha):g}%"


def _wrap(arm: str) -> str:
    return arm if len(arm) < 22 else arm.replace("+", "+\n")


def _effect_legend(axes: Axes, rows: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    shown = [w for w in MARKERS if rows["verdict"].str.startswith(w).any()]
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=INK,
            marker=MARKERS[w],
            ls="",
            ms=6,
            mfc=INK if w in ("better", "worse") else "white",
            label=w,
        )
        for w in shown
    ]
    if rows["published_delta"].notna().any():
        handles.append(Line2D([], [], color=GREY, marker="x", ls="", ms=6, label="published"))
    handles += axes.get_legend_handles_labels()[0]
    axes.legend(
        handles=handles, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )
