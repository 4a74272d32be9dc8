"""How strongly runs of one seed move together: measured, never assumed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from analysis.stats.linear import Array, Index, sums, sums_of_squares
from analysis.stats.solvers import find_root

MOST_SEEDS = 1500
CONFIDENCE = 0.95
"""Of every interval here."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation of same-seed runs with its interval."""

    estimate: float
    ci_low: float
    ci_high: float
    F: float
    """Between seeds over residual."""
    p: float
    """Of F: that seeds do not matter."""
    n_seeds: int
    n_runs: int
    n_pairs: int
    """Runs of other arms whose seed the baseline has too."""

    @property
    def origin(self) -> str:
        """What it was measured from, in words."""
        return f"from {self.n_pairs} pairs" if self.n_pairs else "from reruns of a seed, no pairs"

    def __str__(self) -> str:
        return f"{self.estimate:.2f} ({self.origin})"


def pairing_df(arm: Index, seed: Index) -> int:
    """Return what is left of N runs beyond the arms and the seeds: N - rank[X Z].

    Without it, nothing tells the seeds' noise from the rest. The rank is the number of arms and
    seeds less that of the groups which shared seeds join. `arm` and `seed` are integers from 0
    without gaps.

    Examples
    --------
    Two arms of four seeds, one of them shared:

    >>> pairing_df(np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 1, 2, 3, 3, 4, 5, 6]))
    0
    """
    n_arms = int(arm.max()) + 1
    size = n_arms + int(seed.max()) + 1
    edges = coo_array((np.ones(len(arm)), (arm, n_arms + seed)), shape=(size, size))
    return len(arm) - size + int(connected_components(edges, directed=False)[0])


def paired_arms(arm: Index, seed: Index) -> NDArray[np.bool_]:
    """Return which arms may be paired with the baseline: at least half of their seeds are its own.

    Parameters
    ----------
    arm, seed
        (N,) integers from 0; arm 0 is the baseline, which counts as paired.

    Examples
    --------
    >>> paired_arms(np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 1, 2, 2, 3, 4]))
    array([ True,  True, False])
    """
    has = np.zeros((int(arm.max()) + 1, int(seed.max()) + 1), dtype=bool)
    has[arm, seed] = True
    return np.asarray(2 * (has & has[0]).sum(axis=1) >= has.sum(axis=1))


def pair_correlation(loss: ArrayLike, arm: ArrayLike, seed: ArrayLike) -> Correlation | None:
    """Return `seed_correlation` of the paired runs alone, with the number of pairs.

    Unpaired arms say nothing of pairing, but where they are noisier than the paired ones their
    spread would pass for the seeds'. Without a pair, runs of one arm and seed are measured.
    """
    y, arms = np.asarray(loss, dtype=float), np.asarray(arm, dtype=np.intp)
    seeds = np.asarray(seed, dtype=np.intp)
    joined = paired_arms(arms, seeds)[arms]
    in_pair = joined & np.isin(seeds, seeds[arms == 0])
    in_pair &= np.isin(seeds, seeds[in_pair & (arms > 0)])
    if not in_pair.any():
        seeds, in_pair = arms * (seeds.max() + 1) + seeds, np.ones(len(y), dtype=bool)
    arms, seeds = (np.unique(x[in_pair], return_inverse=True)[1] for x in (arms, seeds))
    return seed_correlation(y[in_pair], arms, seeds)


def seed_correlation(loss: ArrayLike, arm: ArrayLike, seed: ArrayLike) -> Correlation | None:
    """Return var_init / (var_init + var_resid) with its exact 95% interval.

    Harville and Fenech (1985), Biometrics 41:137: exact for unbalanced designs, and the usual F
    interval of the intraclass correlation for balanced ones. None where no seed has two runs,
    nothing is left for the residual, or seeds are too many. `arm` and `seed` are integers from 0.
    """
    y = np.asarray(loss, dtype=float)
    arms, seeds = np.asarray(arm, dtype=np.intp), np.asarray(seed, dtype=np.intp)
    n_arms, n_seeds = int(arms.max()) + 1, int(seeds.max()) + 1
    if n_seeds == len(y) or n_seeds > MOST_SEEDS:
        return None
    n, means, ss = sums_of_squares(y, arms, n_arms)
    counts = np.zeros((n_arms, n_seeds))
    np.add.at(counts, (arms, seeds), 1.0)
    C = np.diag(counts.sum(axis=0)) - counts.T @ (counts / n[:, None])
    size, vectors = np.linalg.eigh(C)
    kept = size > 1e-9 * size.max() if size.max() > 0 else size > 0
    size = size[kept]
    squares = (vectors.T[kept] @ sums(seeds, y - means[arms], n_seeds)) ** 2 / size
    df1, df2 = float(len(size)), float(len(y) - n_arms - len(size))
    residual = float(ss.sum() - squares.sum())
    if df1 < 1 or df2 < 1 or residual <= 1e-13 * float(ss.sum()):
        return None
    seeds_part = _Seeds(squares / (residual / df2), size)
    ends = special.fdtri(df1, df2, [1 - (1 - CONFIDENCE) / 2, (1 - CONFIDENCE) / 2])
    estimate, low, high = (seeds_part.correlation_where(F) for F in (1.0, *ends))
    F = seeds_part.F(0.0)
    p, n_pairs = float(special.fdtrc(df1, df2, F)), int(counts[1:, counts[0] > 0].sum())
    return Correlation(estimate, low, high, F, p, n_seeds, len(y), n_pairs)


@dataclass(frozen=True, slots=True)
class _Seeds:
    """The seeds' part of the losses, split into independent squares.

    A square's expectation is 1 + ratio * size, ratio being var_init / var_resid.
    """

    squares: Array
    """In units of the residual variance."""
    size: Array

    def F(self, ratio: float) -> float:  # noqa: N802 - the statistic's name
        """Return between over residual, were this the ratio of variances."""
        return float((self.squares / (1 + ratio * self.size)).mean())

    def correlation_where(self, target: float) -> float:
        """Return the correlation at which F is `target`."""
        low, high = (1e-9 - 1) / float(self.size.max()), 1.0
        if self.F(low) <= target:
            ratio = low
        else:
            while self.F(high) > target:
                high *= 4
            ratio = find_root(lambda ratio: self.F(ratio) - target, low, high)
        return max(ratio / (1 + ratio), -1.0)


def arm_correlations(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return each arm's correlation with the baseline over their shared initialisation seeds.

    Columns arm, n_shared, correlation, ci_low, ci_high; 95% intervals by Fisher's z, NaN below 4
    shared seeds.
    """
    columns = ["arm", "n_shared", "correlation", "ci_low", "ci_high"]
    if "init_seed" not in runs:
        return pd.DataFrame(columns=columns)
    means = runs.dropna(subset=["init_seed"]).pivot_table(
        index="init_seed", columns="arm", values="loss", aggfunc="mean"
    )
    rows = []
    for arm in means.columns:
        if arm == baseline or baseline not in means:
            continue
        both = means[[baseline, arm]].dropna()
        if len(both) >= 3:
            with np.errstate(divide="ignore", invalid="ignore"):  # equal losses: NaN
                r = float(np.corrcoef(both[baseline], both[arm])[0, 1])
            rows.append((arm, len(both), r, *_fisher(r, len(both))))
    return pd.DataFrame(rows, columns=columns)


def _fisher(r: float, n: int) -> tuple[float, float]:
    if n < 4 or not abs(r) < 1:
        return float("nan"), float("nan")
    half = -float(special.ndtri((1 - CONFIDENCE) / 2)) / np.sqrt(n - 3)
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))
