"""The best batch size: a parabola of the loss over the logarithm of the batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.compare import Source, read
from analysis.comparison.rules import Rules, check_rules
from analysis.errors import AnalysisError, require_below
from analysis.runs.frame import how_to_get, is_foreign, named
from analysis.stats.linear import FEWEST_DF, Array, clear_rounding, least_squares
from analysis.table import Item, Table, columns, count, document, figure

FEWEST_BATCHES = 3
FEWEST_RUNS = 4


@dataclass(frozen=True, slots=True)
class BatchFit:
    """Loss against batch size (sequences per optimiser step), at one token budget."""

    best: float | None
    """Batch of the smallest loss; None: the fitted curve has no minimum."""
    ci_low: float
    """Fieller's interval; 0 or infinity where the runs do not bound it."""
    ci_high: float
    confidence: float
    sd: float
    """Residual sd, nats per token."""
    df: float
    n_blocks: int
    """Seeds with a level of their own; 0: every run counts for itself."""
    lack_of_fit_p: float | None
    """Of a better curve than a parabola; None: no repeats at one batch, or only three batches."""
    points: pd.DataFrame
    """Columns batch_size, n, mean_loss, fitted."""
    rules: Rules
    left_out: tuple[str, ...]
    """Arms that change more than the batch size."""

    def tables(self) -> list[Table]:
        """Return each batch's mean and what the curve has there."""
        rows = [
            [
                Item(f"{row['batch_size']:g}", row["batch_size"]),
                count(row["n"]),
                figure(row["mean_loss"], 4),
                figure(row["fitted"], 4),
            ]
            for row in self.points.to_dict("records")
        ]
        heads = columns("batch", "n", "mean", "fitted", text=())
        return [Table("batch_size", self._title(), heads, rows, tuple(self._notes()))]

    def to_markdown(self) -> str:
        """Return the fit for a person."""
        return document(self._title(), *self.tables())

    def _title(self) -> str:
        return f"{self.rules.metric} against batch size"

    def _notes(self) -> list[str]:
        tried = self.points["batch_size"]
        notes = [self._answer()]
        if self.best is not None and not tried.min() <= self.best <= tried.max():
            notes.append("It lies outside the batches that were run: an extrapolation.")
        blocks = f", {self.n_blocks} seeds as blocks" if self.n_blocks else ""
        notes.append(
            f"Parabola over ln(batch){blocks}, residual sd {self.sd:.4f} on {self.df:g} df."
        )
        p = self.lack_of_fit_p
        if p is not None and p < 0.05:
            notes.append(f"A parabola does not fit well (lack of fit p = {p:.3f}).")
        if self.left_out:
            notes.append(f"Left out: {_left_out(self.left_out)}.")
        return notes

    def _answer(self) -> str:
        percent = f"{100 * self.confidence:g}%"
        if self.best is None:
            end = "maximum" if self.rules.higher_is_better else "minimum"
            return f"The fitted curve has no {end}: try batches further apart."
        if math.isinf(self.ci_high):
            return (
                f"Best batch about {self.best:.0f} sequences, but the runs do not bound it "
                f"({percent} interval: any batch): repeat with more seeds or further batches."
            )
        return (
            f"Best batch: **{self.best:.0f}** sequences, {percent} interval "
            f"[{self.ci_low:.0f}, {self.ci_high:.0f}] (Fieller)."
        )


def batch_size(
    runs: Source, rules: Rules | None = None, *, confidence: float = 0.95, **changes: Any
) -> BatchFit:
    """Fit ``loss = c1 x + c2 x^2 + seed`` over ``x = ln(batch)`` and return its lowest point.

    Runs that differ in nothing but the batch size are fitted. Records say which those are. Of a
    table, the baseline if it ran at three batches or more; else the baseline and the arms that
    alone have one batch size of their own. Seeds are blocks where enough runs share them, and
    repeats of an arm, an initialisation seed and a batch count once, by their mean.

    The interval is Fieller's (1954, J. R. Stat. Soc. B 16:175) for the ratio -c1 / (2 c2): exact
    for normal noise, and unbounded where the runs cannot exclude a flat curve.

    Parameters
    ----------
    runs
        As for `analysis.compare`, with a column ``batch_size``; record files have it already.
    rules
        Metric, its direction (of an accuracy, the highest point) and the baseline, which the other
        arms change.
    confidence
        Of the best batch's interval.
    **changes
        Single fields of `analysis.Rules`.

    Raises
    ------
    AnalysisError
        No batch sizes, fewer than three, or all repeats at one initialisation seed.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": "baseline", "batch_size": [24, 24, 96, 96, 384, 384],
    ...                       "test_loss": [3.75, 3.76, 3.69, 3.70, 3.76, 3.77]})
    >>> round(batch_size(frame).best)
    91
    """
    require_below("the confidence", confidence, 1, example=0.95)
    rules = check_rules(rules, {**changes, "allow_reruns": True})
    frame = read(runs, rules).frame
    done = frame[frame["status"] == "complete"]
    if "batch_size" not in done:
        raise AnalysisError("no column 'batch_size': name it with --column batch_size=NAME")
    known = done.dropna(subset=["batch_size"])
    if not len(known):
        raise AnalysisError(
            f"none of the {len(done)} complete runs has a known batch size: no arm changes it and "
            f"nothing else; {_advice(done)}"
        )
    if not (known["batch_size"] > 0).all():
        raise AnalysisError("a batch size is not above 0")
    kept = _one_recipe(known, rules.baseline)
    left_out = tuple(sorted(set(done["arm"]) - set(kept["arm"])))
    points = _once(kept)
    n_batches = points["batch_size"].nunique()
    if n_batches < FEWEST_BATCHES or len(points) < FEWEST_RUNS:
        why = f" (left out: {_left_out(left_out)})" if left_out else ""
        raise AnalysisError(
            f"{len(points)} run(s) at {n_batches} batch size(s): {_advice(done)}{why}"
        )
    return _fit(points, rules, confidence, left_out)


def _advice(runs: pd.DataFrame) -> str:
    arms = "baseline,batch_size_half,batch_size_double"
    how = how_to_get(
        runs,
        f"e.g. python -m harness -m '+intervention={arms}' 'seed=range(2)'",
        "add rows with other values in batch_size",
    )
    return f"a curve with an interval needs at least 3 batch sizes and 4 runs: {how}"


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
    return (
        f"{named(arms)}; only the baseline and arms that change nothing but the batch size are "
        "fitted"
    )


def _once(runs: pd.DataFrame) -> pd.DataFrame:
    """Return columns batch_size, seed and loss, one row for each arm, initialisation and batch.

    A run without a known seed is one of its own.
    """
    own = [f"run {i}" for i in range(len(runs))]
    seeds = runs["init_seed"] if "init_seed" in runs else pd.Series(None, runs.index, dtype=object)
    seeded = runs.assign(seed=seeds.where(seeds.notna(), own))
    by_batch = seeded.groupby("batch_size")["seed"]
    if by_batch.size().max() > 1 and by_batch.nunique().max() == 1:
        raise AnalysisError(
            "all repeats share one initialisation seed, so the noise of the initial weights is not "
            "in their spread: run the batch sizes at 2 seeds or more, e.g. 'seed=range(2)'"
        )
    return seeded.groupby(["arm", "seed", "batch_size"], as_index=False).agg(loss=("loss", "mean"))


def _fit(
    points: pd.DataFrame, rules: Rules, confidence: float, left_out: tuple[str, ...]
) -> BatchFit:
    y = points["loss"].to_numpy(dtype=float)
    log_batch = np.log(points["batch_size"].to_numpy(dtype=float))
    centre = log_batch.mean()
    x = log_batch - centre
    levels, n_blocks = _levels(points, x)
    X = np.column_stack([x, x**2, levels])
    c, inverse, variance, df = least_squares(X, y)
    variance = clear_rounding(variance, float(np.abs(y).max()))
    down = -c if rules.higher_is_better else c
    ends = _fieller(down[:2], inverse[:2, :2] * variance, df, 1 - confidence)
    with np.errstate(over="ignore"):
        low, high = np.exp(centre + np.array(ends))
    fitted = points.assign(fitted=X @ c).groupby("batch_size", as_index=False)
    return BatchFit(
        best=math.exp(centre - c[0] / (2 * c[1])) if down[1] > 0 else None,
        ci_low=float(low),
        ci_high=float(high),
        confidence=confidence,
        sd=variance**0.5,
        df=df,
        n_blocks=n_blocks,
        lack_of_fit_p=_lack_of_fit(points, X, levels),
        points=fitted.agg(
            n=("loss", "size"), mean_loss=("loss", "mean"), fitted=("fitted", "mean")
        ),
        rules=rules,
        left_out=left_out,
    )


def _levels(points: pd.DataFrame, x: Array) -> tuple[Array, int]:
    """Return a column for each seed and their number; one column where too few runs share seeds.

    Independent runs are then the more cautious assumption: shared seeds make curves quieter.
    """
    blocks = pd.get_dummies(points["seed"], dtype=float).to_numpy()
    n_blocks = blocks.shape[1]
    rank = np.linalg.matrix_rank(np.column_stack([x, x**2, blocks]))
    whole = len(points) == n_blocks * points["batch_size"].nunique()
    left = len(points) - rank
    if n_blocks > 1 and rank == n_blocks + 2 and left >= (1 if whole else FEWEST_DF):
        return blocks, n_blocks
    return np.ones((len(points), 1)), 0


def _fieller(c: Array, cov: Array, df: float, alpha: float) -> tuple[float, float]:
    """Return where the slope c0 + 2 c1 x may be zero, as x; infinite where nothing bounds it."""
    t2 = float(special.stdtrit(df, 1 - alpha / 2)) ** 2
    # (c0 + 2 c1 x)^2 <= t2 (v00 + 4 x v01 + 4 x^2 v11)
    a = 4 * (c[1] ** 2 - t2 * cov[1, 1])
    b = 4 * (c[0] * c[1] - t2 * cov[0, 1])
    d = c[0] ** 2 - t2 * cov[0, 0]
    inside = b**2 - 4 * a * d
    if a <= 0 or c[1] <= 0 or inside < 0:
        return -math.inf, math.inf
    half = math.sqrt(inside)
    return float((-b - half) / (2 * a)), float((-b + half) / (2 * a))


def _lack_of_fit(points: pd.DataFrame, X: Array, levels: Array) -> float | None:
    """Return the p of F: a mean for each batch against the parabola."""
    y = points["loss"].to_numpy(dtype=float)
    batches = pd.get_dummies(points["batch_size"], dtype=float).to_numpy()
    free = np.column_stack([batches, levels])
    rank = int(np.linalg.matrix_rank(free))
    pure_df, lack_df = len(y) - rank, rank - X.shape[1]
    if pure_df < 1 or lack_df < 1:
        return None
    rss, pure = (
        float(((y - M @ np.linalg.lstsq(M, y, rcond=None)[0]) ** 2).sum()) for M in (X, free)
    )
    pure = pure_df * clear_rounding(pure / pure_df, float(np.abs(y).max()))
    if pure <= 0:
        return None
    return float(special.fdtrc(lack_df, pure_df, (rss - pure) / lack_df / (pure / pure_df)))
