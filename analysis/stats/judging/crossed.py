"""A mean over items and seeds that are both draws from many: crossed random effects.

``y_is = mean + item_i + seed_s + rest_is`` on a complete table, so that the analysis of
variance is REML wherever its estimates are positive (Searle, Casella and McCulloch 1992, ch. 4).

Shapes: I items (a judge's instructions, a benchmark's questions), S seeds, G groups of items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.linear import Array, Index


@dataclass(frozen=True, slots=True)
class Estimated:
    """A figure that is judged by Student's t."""

    estimate: float
    se: float
    df: float

    @property
    def p(self) -> float:
        """Two-sided p value of 0; 1 where nothing varies, since that shows no noise."""
        if self.se > 0:
            return float(2 * special.stdtr(self.df, -abs(self.estimate) / self.se))
        return 1.0

    def half_width(self, alpha: float) -> float:
        """Return half of the width of the interval at level 1 - alpha."""
        return float(special.stdtrit(self.df, 1 - alpha / 2)) * self.se


@dataclass(frozen=True, slots=True)
class OverSeeds(Estimated):
    """A figure of several seeds."""

    n_seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossedMean(OverSeeds):
    """A mean over items and seeds; Satterthwaite's df."""

    variance: float
    """Of the mean."""
    var_seed: float
    """Of one seed around the mean over seeds; NaN where there is one seed."""
    n_items: int
    """Or groups of them."""


def crossed_mean(y_IS: Array) -> CrossedMean:
    """Estimate the mean over items and seeds.

    With one seed only the items are random, and `var_seed` is NaN. Where the seeds differ
    less than the rest explains, their variance is taken as 0, and the df stay those of the
    items.

    Examples
    --------
    >>> found = crossed_mean(np.array([[1.0, 3.0], [2.0, 4.0], [6.0, 5.0]]))
    >>> round(found.estimate, 3), found.n_items, found.n_seeds
    (3.5, 3, 2)
    """
    n_i, n_s = y_IS.shape
    if n_i < 2:
        raise ValueError(f"{n_i} items: a mean over them needs at least 2")
    mean = float(y_IS.mean())
    rows, columns = y_IS.mean(axis=1) - mean, y_IS.mean(axis=0) - mean
    ms_i = n_s * float(rows @ rows) / (n_i - 1)
    variance, df, var_seed = ms_i / n_i, n_i - 1.0, float("nan")
    if n_s > 1:
        rest = y_IS - mean - rows[:, None] - columns[None, :]
        ms_s = n_i * float(columns @ columns) / (n_s - 1)
        ms_e = float((rest**2).sum()) / ((n_i - 1) * (n_s - 1))
        var_seed = max(0.0, (ms_s - ms_e) / n_i)
        variance = ms_i / (n_i * n_s) + var_seed / n_s
        parts = [(ms_i, n_i - 1)]
        if var_seed > 0:
            parts += [(ms_s, n_s - 1), (ms_e, (n_i - 1) * (n_s - 1))]
        spread = sum(ms**2 / df for ms, df in parts)
        df = (variance * n_i * n_s) ** 2 / spread if spread > 0 else float(n_i - 1)
        df = max(df, min(n_i, n_s) - 1.0)  # the difference of mean squares may bring it below both
    return CrossedMean(
        estimate=mean,
        se=float(np.sqrt(variance)),
        df=df,
        n_seeds=n_s,
        variance=variance,
        var_seed=var_seed,
        n_items=n_i,
    )


def by_group(y_IS: Array, group_I: Index) -> Array:
    """Return a row for each group of items, whose mean is the items' and whose scatter the groups'.

    `crossed_mean` of it is clustered by group: the variance is that of a ratio of the groups' sums
    to their sizes (Cochran 1977, sect. 2.11; Miller 2024, "Adding error bars to evals").

    Examples
    --------
    >>> y = np.array([[1.0], [3.0], [8.0], [8.0]])
    >>> by_group(y, np.array([0, 0, 1, 1]))[:, 0].tolist(), float(y.mean())
    ([2.0, 8.0], 5.0)
    """
    n_items, n_groups = len(y_IS), int(group_I.max()) + 1
    mean = y_IS.mean()
    sums_GS = np.zeros((n_groups, y_IS.shape[1]))
    np.add.at(sums_GS, group_I, y_IS - mean)
    return np.asarray(mean + sums_GS * (n_groups / n_items))
