"""Power of a comparison with the baseline, and the seeds it takes.

``scipy.stats.nct`` loses its digits at large noncentrality, so the noncentral t is integrated over
the distribution of the sd's estimate, with the nodes of `analysis.dunnett`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.dunnett import Array, critical_value, sd_nodes
from analysis.errors import AnalysisError
from analysis.search import find_root

MOST_SEEDS = 100_000


def power(noncentrality: ArrayLike, df: float, critical: float) -> Array:
    """Return P(t > `critical`) for a true difference: the chance to see it, with the right sign.

    Parameters
    ----------
    noncentrality
        (M,) true differences in units of their standard error, 0 or more.
    df
        Degrees of freedom of the standard error.
    critical
        The value that ``|t|`` has to exceed.

    Examples
    --------
    >>> power([2.86024], 1e9, 2.86024).round(3)
    array([0.5])
    """
    shift = np.atleast_1d(np.asarray(noncentrality, dtype=float))
    if not df > 0:
        return np.full(shift.shape, np.nan)
    s, weights = sd_nodes(float(df))
    return np.asarray(special.ndtr(shift[:, None] - critical * s) @ weights)


def design_power(
    delta: float,
    sd: float,
    rho: float | None,
    n: float,
    n_arms: int,
    n_baseline: float | None = None,
    alpha: float = 0.05,
) -> float:
    """Return the power of a whole design to find `delta` in one given arm.

    Parameters
    ----------
    delta
        True difference from the baseline, nats per token.
    sd
        Sd of one run around its arm's mean, nats per token.
    rho
        Correlation of runs of one initialisation seed, where arms share their seeds; None or 0
        where they do not.
    n
        Seeds of each arm; fractions are allowed.
    n_arms
        Arms compared with the baseline (their single-step Dunnett value is used).
    n_baseline
        Runs of the baseline; None: `n`. Unpaired designs only.
    alpha
        Two-sided family error.

    Examples
    --------
    >>> round(design_power(0.025, 0.015, 0.4, 4, 8), 3)
    0.578
    """
    K = n if n_baseline is None or rho else n_baseline
    if rho:
        se, df, loading = sd * math.sqrt(2 * (1 - rho) / n), n_arms * (n - 1), math.sqrt(0.5)
    else:
        se = sd * math.sqrt(1 / n + 1 / K)
        df, loading = n_arms * (n - 1) + K - 1, math.sqrt(n / (n + K))
    if df <= 0:
        return 0.0
    critical = critical_value([loading] * n_arms, df, alpha)
    return float(power([abs(delta) / se], df, critical)[0])


def seeds_needed(
    delta: float,
    sd: float,
    rho: float | None,
    n_arms: int,
    n_baseline: int | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Return the smallest number of seeds per arm that reaches a power.

    Blocked (``rho`` given): variance ``2 sd^2 (1 - rho) / n``, df ``T (n - 1)``. Unpaired:
    ``sd^2 (1/n + 1/K)``, df ``T (n - 1) + K - 1``.

    Parameters
    ----------
    delta, sd, rho, n_arms, n_baseline, alpha
        As in `design_power`.
    power
        In (0, 1).

    Raises
    ------
    AnalysisError
        No number of seeds up to 100,000 reaches the power, or a figure is out of range.

    Examples
    --------
    >>> seeds_needed(0.025, 0.015, 0.4, 8)
    6
    """
    _check(delta, sd, rho, power)

    def reached(n: int) -> bool:
        return design_power(delta, sd, rho, n, n_arms, n_baseline, alpha) >= power

    high = 2
    while not reached(high):
        high *= 2
        if high > MOST_SEEDS:
            raise AnalysisError(
                f"no number of seeds up to {MOST_SEEDS:,} finds {delta:g} nats/token with power "
                f"{power:g} at sd {sd:g}: ask for a larger difference"
                + (", or run more baseline seeds" if n_baseline else "")
            )
    low = max(high // 2, 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def exact_seeds(
    delta: float,
    sd: float,
    rho: float | None,
    n_arms: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Return the fractional number of seeds at which the power is reached exactly.

    Examples
    --------
    >>> round(exact_seeds(0.014, 0.015, None), 3)
    19.03
    """
    top = seeds_needed(delta, sd, rho, n_arms, None, alpha, power)

    def gap(n: float) -> float:
        return design_power(delta, sd, rho, n, n_arms, None, alpha) - power

    return find_root(gap, 1.01, float(top))


def detectable(
    sd: float,
    rho: float | None,
    n: int,
    n_arms: int,
    n_baseline: int | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Return the smallest difference, nats per token, that a design finds with a power.

    Examples
    --------
    >>> round(detectable(0.015, 0.4, 4, 8), 4)
    0.0307
    """
    if n < 2:
        return math.inf

    def gap(delta: float) -> float:
        return design_power(delta, sd, rho, n, n_arms, n_baseline, alpha) - power

    high = sd
    while gap(high) < 0:
        high *= 2
    return find_root(gap, 0.0, high)


def upper_sd(sd: float, df: float, confidence: float = 0.8) -> float:
    """Return the one-sided upper confidence limit of an sd estimated on `df` degrees of freedom.

    Planning with the estimate itself is too hopeful half of the time (Browne 1995, Statistics in
    Medicine 14:1933, recommends 80%).

    Examples
    --------
    >>> round(upper_sd(0.015, 7), 4)
    0.0203
    """
    return sd * math.sqrt(df / float(special.chdtri(df, confidence)))


def _check(delta: float, sd: float, rho: float | None, power: float) -> None:
    if not (delta != 0 and math.isfinite(delta)):
        raise AnalysisError(f"the difference to find is {delta}: it must be a number other than 0")
    if not (sd > 0 and math.isfinite(sd)):
        raise AnalysisError(f"the noise sd is {sd}: it must be above 0 nats per token")
    if rho is not None and not 0 <= rho < 1:
        raise AnalysisError(f"the seeds' correlation rho is {rho}: allowed are 0 up to below 1")
    if not 0 < power < 1:
        raise AnalysisError(f"the power is {power}: allowed is between 0 and 1, e.g. 0.8")
