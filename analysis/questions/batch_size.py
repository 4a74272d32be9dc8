"""The best batch size: a parabola of the loss over the logarithm of the batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from analysis.comparison.compare import Source, read
from analysis.comparison.rules import check_rules
from analysis.errors import AnalysisError, require_between
from analysis.runs.frame import complete, is_foreign, named
from analysis.stats.linear import Array, clear_rounding, least_squares
from analysis.text import markdown_table, number
from harness.records import BASELINE

FEWEST_BATCHES = 3
ADVICE = (
    "a curve with an interval needs at least 3 batch sizes and 4 runs, e.g. python -m harness -m "
    "'+intervention=baseline,batch_size_half,batch_size_double' 'seed=range(2)'"
)


@dataclass(frozen=True, slots=True)
class BatchFit:
    """Loss against batch size (sequences per optimiser step), at one token budget."""

    best: float | None
    """Batch of the smallest loss; None: the fitted curve has no minimum."""
    ci_low: float
    """Fieller's interval; 0 or infinity where the runs do not bound it."""
    ci_high: float
    confidence: float
    coefficients: tuple[float, float, float]
    """Loss = c0 + c1 x + c2 x^2 with x = ln(batch / centre)."""
    centre: float
    sd: float
    """Residual sd, nats per token."""
    df: float
    lack_of_fit_p: float | None
    """Of a better curve than a parabola; None: no repeats at one batch, or only three batches."""
    points: pd.DataFrame
    """Columns batch_size, n, mean_loss, fitted."""
    metric: str = "Loss"
    higher_is_better: bool = False
    left_out: tuple[str, ...] = ()
    """Arms that change more than the batch size."""

    def to_markdown(self) -> str:
        """Return the fit for a person."""
        rows = [
            [
                f"{row['batch_size']:g}",
                str(int(row["n"])),
                number(row["mean_loss"], 4),
                number(row["fitted"], 4),
            ]
            for row in self.points.to_dict("records")
        ]
        table = markdown_table(["batch", "n", "mean", "fitted"], rows)
        return (
            "\n".join([f"## {self.metric} against batch size\n", table, "", *_sentences(self)])
            + "\n"
        )


def fit_batch_size(
    batch_size: ArrayLike,
    loss: ArrayLike,
    confidence: float = 0.95,
    *,
    higher_is_better: bool = False,
) -> BatchFit:
    """Fit ``loss = c0 + c1 x + c2 x^2`` over ``x = ln(batch)`` and return its lowest point.

    The interval is Fieller's (1954, J. R. Stat. Soc. B 16:175) for the ratio -c1 / (2 c2): exact
    for normal noise, and unbounded where the runs cannot exclude a flat curve.

    Parameters
    ----------
    batch_size
        (N,) sequences per optimiser step.
    loss
        (N,) nats per token, at one token budget.
    confidence
        Of the interval.
    higher_is_better
        `loss` is an accuracy: return the highest point.

    Raises
    ------
    AnalysisError
        Fewer than three batches, or no run left for the noise.

    Examples
    --------
    >>> fit = fit_batch_size([24, 24, 96, 96, 384, 384], [3.75, 3.76, 3.69, 3.70, 3.76, 3.77])
    >>> round(fit.best)
    91
    """
    B, y = np.asarray(batch_size, dtype=float), np.asarray(loss, dtype=float)
    n_batches = len(np.unique(B))
    if n_batches < FEWEST_BATCHES or len(B) < 4:
        raise AnalysisError(f"{len(B)} run(s) at {n_batches} batch size(s): {ADVICE}")
    if not (B > 0).all():
        raise AnalysisError("a batch size is not above 0")
    centre = float(np.exp(np.log(B).mean()))
    x = np.log(B / centre)
    X = np.stack([np.ones_like(x), x, x**2], axis=1)
    c, inverse, variance, df = least_squares(X, y)
    variance = clear_rounding(variance, float(np.abs(y).max()))
    down = -c if higher_is_better else c
    low, high = _fieller(down, np.asarray(inverse * variance), df, 1 - confidence)
    best = float(centre * np.exp(-c[1] / (2 * c[2]))) if down[2] > 0 else None
    frame = pd.DataFrame({"batch_size": B, "loss": y, "fitted": X @ c})
    points = frame.groupby("batch_size").agg(
        n=("loss", "size"), mean_loss=("loss", "mean"), fitted=("fitted", "mean")
    )
    return BatchFit(
        best,
        centre * _exp(low),
        centre * _exp(high),
        confidence,
        (float(c[0]), float(c[1]), float(c[2])),
        centre,
        variance**0.5,
        df,
        _lack_of_fit(frame),
        points.reset_index(),
        higher_is_better=higher_is_better,
    )


def batch_size(
    runs: Source,
    *,
    metric: str = "test_loss",
    confidence: float = 0.95,
    baseline: str = BASELINE,
    higher_is_better: bool = False,
) -> BatchFit:
    """Fit the runs of a study that differ in nothing but the batch size.

    Records say which those are. Of a table, the baseline if it ran at three batches or more; else
    the baseline and the arms that alone have one batch size of their own.

    Parameters
    ----------
    runs
        As for `analysis.compare`, with a column ``batch_size``; record files have it already.
    metric
        Column to fit.
    confidence
        Of the best batch's interval.
    baseline
        Arm that the others change.
    higher_is_better
        The metric is an accuracy, not a loss.

    Raises
    ------
    AnalysisError
        No batch sizes, or too few.
    """
    require_between("the confidence", confidence, 0, 1, example=0.95)
    rules = check_rules(None, {"metric": metric, "allow_reruns": True})
    done = complete(read(runs, rules).frame)
    if "batch_size" not in done:
        raise AnalysisError("no column 'batch_size': name it with --column batch_size=NAME")
    known = done.dropna(subset=["batch_size"])
    if not len(known):
        raise AnalysisError(
            f"none of the {len(done)} complete runs has a known batch size: no arm changes it and "
            f"nothing else; {ADVICE}"
        )
    kept = _one_recipe(known, baseline)
    left_out = sorted(set(done["arm"]) - set(kept["arm"]))
    try:
        fit = fit_batch_size(
            kept["batch_size"], kept["loss"], confidence, higher_is_better=higher_is_better
        )
    except AnalysisError as error:
        raise AnalysisError(f"{error}{_left_out(left_out)}") from error
    return replace(fit, metric=metric, left_out=tuple(left_out))


def _one_recipe(known: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return the runs of arms that differ in the batch size alone, as far as a table shows it."""
    sizes = {str(arm): set(group) for arm, group in known.groupby("arm")["batch_size"]}
    own = sizes.get(baseline, set())
    if not is_foreign(known) or len(sizes) == 1:
        return known
    if len(own) >= FEWEST_BATCHES:
        return known[known["arm"] == baseline]
    counts = Counter(size for found in sizes.values() for size in found)
    alone = {
        arm for arm, found in sizes.items() if len(found) == 1 and counts[next(iter(found))] == 1
    }
    return known[known["arm"].isin([baseline, *alone])]


def _left_out(arms: Sequence[str]) -> str:
    if not arms:
        return ""
    return (
        f" (left out: {named(arms)}; only the baseline and arms that change nothing but the batch "
        "size are fitted)"
    )


def _fieller(c: Array, cov: Array, df: float, alpha: float) -> tuple[float, float]:
    """Return where the slope c1 + 2 c2 x may be zero, as x; infinite where nothing bounds it."""
    t2 = float(special.stdtrit(df, 1 - alpha / 2)) ** 2
    # (c1 + 2 c2 x)^2 <= t2 (v11 + 4 x v12 + 4 x^2 v22)
    a = 4 * (c[2] ** 2 - t2 * cov[2, 2])
    b = 4 * (c[1] * c[2] - t2 * cov[1, 2])
    d = c[1] ** 2 - t2 * cov[1, 1]
    inside = b**2 - 4 * a * d
    if a <= 0 or c[2] <= 0 or inside < 0:
        return -math.inf, math.inf
    half = math.sqrt(inside)
    return float((-b - half) / (2 * a)), float((-b + half) / (2 * a))


def _lack_of_fit(frame: pd.DataFrame) -> float | None:
    groups = frame.groupby("batch_size")
    pure_df, lack_df = len(frame) - groups.ngroups, groups.ngroups - 3
    if pure_df < 1 or lack_df < 1:
        return None
    pure = float(((frame["loss"] - groups["loss"].transform("mean")) ** 2).sum())
    total = float(((frame["loss"] - frame["fitted"]) ** 2).sum())
    if pure <= 0:
        return None
    F = max(total - pure, 0.0) / lack_df / (pure / pure_df)
    return float(special.fdtrc(lack_df, pure_df, F))


def _exp(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)


def _sentences(fit: BatchFit) -> list[str]:
    percent = f"{100 * fit.confidence:g}%"
    tried = fit.points["batch_size"]
    if fit.best is None:
        end = "maximum" if fit.higher_is_better else "minimum"
        lines = [f"The fitted curve has no {end}: try batches further apart."]
    elif math.isinf(fit.ci_high):
        lines = [
            f"Best batch about {fit.best:.0f} sequences, but the runs do not bound it "
            f"({percent} interval: any batch): repeat with more seeds or further batches."
        ]
    else:
        lines = [
            f"Best batch: **{fit.best:.0f}** sequences, {percent} interval "
            f"[{fit.ci_low:.0f}, {fit.ci_high:.0f}] (Fieller)."
        ]
    if fit.best is not None and not tried.min() <= fit.best <= tried.max():
        lines.append("It lies outside the batches that were run: an extrapolation.")
    lines.append(f"Parabola over ln(batch), residual sd {fit.sd:.4f} on {fit.df:g} df.")
    if fit.lack_of_fit_p is not None and fit.lack_of_fit_p < 0.05:
        lines.append(f"A parabola does not fit well (lack of fit p = {fit.lack_of_fit_p:.3f}).")
    if fit.left_out:
        lines.append(_left_out(fit.left_out).strip(" ()").capitalize() + ".")
    return lines
