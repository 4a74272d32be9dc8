"""Is the baseline noisier than its arms? Its noise is in every difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.stats.linear import Array, Index, clear_rounding, sums, sums_of_squares
from analysis.stats.seed_correlation import pairing_df


@dataclass(frozen=True, slots=True)
class BaselineNoise:
    """One-sided F test that the baseline's variance exceeds the arms'."""

    F: float
    df: float
    """Of the baseline's variance."""
    df_arms: float
    p: float


def baseline_noise(loss: ArrayLike, arm: ArrayLike, seed: ArrayLike) -> BaselineNoise | None:
    """Compare the variance that the baseline's runs add to the residual with the arms' own.

    With shared seeds both are freed of the seeds' effects; without, they are plain variances. An
    exact F test where all runs are equally noisy.

    Parameters
    ----------
    loss
        (N,) nats per token.
    arm, seed
        (N,) integers from 0; arm 0 is the baseline, runs with one seed share an initialisation.

    Returns
    -------
    None where the baseline or the arms have no residual degree of freedom, or no noise.

    Examples
    --------
    >>> found = baseline_noise([1, 5, 3, 2, 2.1, 1.9], [0, 0, 0, 1, 1, 1], range(6))
    >>> round(found.F), found.df, found.df_arms
    (400, 2.0, 2.0)
    """
    y, arms = np.asarray(loss, dtype=float), np.asarray(arm, dtype=np.intp)
    seeds = np.asarray(seed, dtype=np.intp)
    others = arms > 0
    if not others.any():
        return None
    ss_all, df_all = residual(y, arms, seeds)
    ss_arms, df_arms = residual(y[others], arms[others] - 1, seeds[others])
    ss, df = ss_all - ss_arms, df_all - df_arms
    if df < 1 or df_arms < 1 or not clear_rounding(ss_arms / df_arms, float(np.abs(y).max())):
        return None
    F = max(ss, 0.0) / df / (ss_arms / df_arms)
    return BaselineNoise(F, df, df_arms, float(special.fdtrc(df, df_arms, F)))


def residual(loss: Array, arm: Index, seed: Index) -> tuple[float, float]:
    """Return the sum of squares beyond arms and seeds, both as fixed effects, and its df.

    Where no two runs share a seed, beyond arms alone.
    """
    _, label, size = np.unique(seed, return_inverse=True, return_counts=True)
    if size.max() == 1:
        label, size = np.zeros_like(label), np.array([len(label)])
    n, means, _ = sums_of_squares(loss, arm, int(arm.max()) + 1)
    y = loss - means[arm]
    y = y - (sums(label, y, len(size)) / size)[label]
    counts = np.zeros((len(n), len(size)))
    np.add.at(counts, (arm, label), 1.0)
    information = np.diag(n) - (counts / size) @ counts.T
    moment = sums(arm, y, len(n))
    explained = moment @ np.linalg.pinv(information, hermitian=True) @ moment
    return max(float(y @ y - explained), 0.0), float(pairing_df(arm, label))
