"""Power of a comparison with the baseline, and the seeds it takes.

``scipy.stats.nct`` loses its digits at large noncentrality, so the noncentral t is integrated over
the distribution of the sd's estimate, with the nodes of `analysis.stats.dunnett`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.errors import AnalysisError, require_between
from analysis.stats.dunnett import Array, critical_value, sd_nodes
from analysis.stats.own import expected_df
from analysis.stats.solvers import find_root

MOST_SEEDS = 100_000


def power(noncentrality: ArrayLike, df: ArrayLike, critical: ArrayLike) -> Array:
    """Return P(t > `critical`) for a true difference: the chance to see it, with the right sign.

    Elementwise; NaN where the df are not above 0.

    Parameters
    ----------
    noncentrality
        True differences in units of their standard error, 0 or more.
    df
        Degrees of freedom of the standard error.
    critical
        The value that ``|t|`` has to exceed.

    Examples
    --------
    >>> power([2.86024], 1e9, 2.86024).round(3)
    array([0.5])
    """
    given = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (noncentrality, df, critical))
    shift, free, limit = np.broadcast_arrays(*given)
    found = np.full(shift.shape, np.nan)
    for value in np.unique(free[free > 0]):
        s, weights = sd_nodes(float(value))
        at = free == value
        found[at] = special.ndtr(shift[at][:, None] - limit[at][:, None] * s) @ weights
    return found


@dataclass(frozen=True, slots=True)
class Design:
    """A study of T arms against a baseline, as far as its power is concerned.

    Blocked (`rho` given): variance of a difference ``2 sd^2 (1 - rho) / n``, df ``T (n - 1)``.
    Unpaired: ``sd^2 (1/n + 1/K)``, df ``T (n - 1) + K - 1``. Verdicts by single-step Dunnett.
    `guarded` lowers the df to those that the default rule may expect where all variances are equal
    (`analysis.stats.own`): with few seeds and a high rho much of the power is its price.

    Examples
    --------
    >>> design = Design(sd=0.015, rho=0.4, n_arms=8)
    >>> round(design.power(0.025, n=4), 3), design.seeds_needed(0.025)
    (0.578, 6)
    """

    sd: float
    """Of one run around its arm's mean, nats per token."""
    rho: float | None
    """Correlation of same-seed runs, where arms share seeds; None or 0 where they do not."""
    n_arms: int
    """T, without the baseline."""
    n_baseline: float | None = None
    """K, runs of the baseline in an unpaired design; None: as many as each arm has."""
    alpha: float = 0.05
    """Two-sided family error."""
    guarded: bool = False
    """Each difference answers for its own variance too, as by default in a comparison."""

    def power(self, delta: float, n: float) -> float:
        """Return the chance to find `delta` (nats per token) in one given arm at n seeds.

        Fractions of a seed are allowed.
        """
        K = n if self.n_baseline is None or self.rho else self.n_baseline
        if self.rho:
            se, loading = self.sd * math.sqrt(2 * (1 - self.rho) / n), math.sqrt(0.5)
            df = self.n_arms * (n - 1)
        else:
            se, loading = self.sd * math.sqrt(1 / n + 1 / K), math.sqrt(n / (n + K))
            df = self.n_arms * (n - 1) + K - 1
        if df <= 0:
            return 0.0
        if self.guarded and n > 1:
            df = self._guarded_df(n, K, df, loading)
        critical = critical_value([loading] * self.n_arms, df, self.alpha)
        return float(power([abs(delta) / se], df, critical)[0])

    def _guarded_df(self, n: float, K: float, df: float, loading: float) -> float:
        own = n - 1
        if not self.rho and K > 1:  # Welch's
            own = (1 / n + 1 / K) ** 2 / (1 / (n**2 * (n - 1)) + 1 / (K**2 * (K - 1)))
        square = (1 + (self.n_arms - 1) * loading**4) / self.n_arms
        return expected_df(own, df, 1 - (self.rho or 0.0), square)

    def seeds_needed(self, delta: float, power: float = 0.8) -> int:
        """Return the smallest number of seeds per arm that finds `delta` with a power.

        Raises
        ------
        AnalysisError
            No number of seeds up to 100,000 does, or a figure is out of range.
        """
        _check(delta, self.sd, self.rho, power, self.alpha)
        high = 2
        while self.power(delta, high) < power:
            high *= 2
            if high > MOST_SEEDS:
                raise AnalysisError(
                    f"no number of seeds up to {MOST_SEEDS:,} finds {delta:g} with "
                    f"power {power:g} at sd {self.sd:g}: ask for a larger difference"
                    + (", or run more baseline seeds" if self.n_baseline else "")
                )
        low = max(high // 2, 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(delta, middle) >= power else (middle, high)
        return high

    def detectable(self, n: int, power: float = 0.8) -> float:
        """Return the smallest difference, nats per token, that n seeds find with a power."""
        if n < 2:
            return math.inf
        high = self.sd
        while self.power(high, n) < power:
            high *= 2
        return find_root(lambda delta: self.power(delta, n) - power, 0.0, high)


def seeds_needed(
    delta: float,
    sd: float,
    rho: float | None,
    n_arms: int,
    n_baseline: int | None = None,
    **rule: float,
) -> int:
    """Return the smallest number of seeds per arm that reaches a power; see `Design`.

    Of the model alone (``--variance pooled``); `analysis.plan` asks for the default rule, which
    takes one or two seeds more.

    Parameters
    ----------
    delta
        True difference from the baseline to find, nats per token.
    sd, rho, n_arms, n_baseline
        As in `Design`.
    **rule
        ``alpha`` (family error, default 0.05) and ``power`` (default 0.8).

    Raises
    ------
    AnalysisError
        No number of seeds up to 100,000 reaches the power, or a figure is out of range.

    Examples
    --------
    >>> seeds_needed(0.025, 0.015, 0.4, 8)
    6
    >>> seeds_needed(0.014, 0.015, None, 1, power=0.9)
    26
    """
    unknown = sorted(set(rule) - {"alpha", "power"})
    if unknown:
        raise AnalysisError(f"unknown rule {unknown[0]!r}: allowed are alpha, power")
    design = Design(sd, rho, n_arms, n_baseline, rule.get("alpha", 0.05))
    return design.seeds_needed(delta, rule.get("power", 0.8))


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


def _check(delta: float, sd: float, rho: float | None, power: float, alpha: float) -> None:
    if not (delta != 0 and math.isfinite(delta)):
        raise AnalysisError(f"the difference to find is {delta}: it must be a number other than 0")
    if not (sd > 0 and math.isfinite(sd)):
        raise AnalysisError(f"the noise sd is {sd}: it must be above 0")
    if rho is not None and not 0 <= rho < 1:
        raise AnalysisError(f"the seeds' correlation rho is {rho}: allowed are 0 up to below 1")
    require_between("the power", power, 0, 1, example=0.8)
    require_between("alpha", alpha, 0, 0.5, example=0.05)
