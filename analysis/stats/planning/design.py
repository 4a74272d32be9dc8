"""Power of the default judgement, and the seeds it takes, without simulation.

The moderated rule's critical value depends on the own variances that the runs will show. It is
computed for a few typical studies in which all arms are equally noisy: the baseline's and the
arm's residuals at the nodes of a quadrature, the other arms' at their quantiles. Given these, power
is the noncentral t's, since own variances over the pooled one are independent of the latter.

Shapes: S typical studies, T arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from analysis.errors import AnalysisError, require_alpha, require_below
from analysis.stats.dunnett import Array, critical_value
from analysis.stats.linear import ENOUGH_DF, baseline_weights
from analysis.stats.mixed import fit_of_design
from analysis.stats.moderated.max_t import against_baseline
from analysis.stats.moderated.model import Averaged
from analysis.stats.moderated.own_variance import OwnVariance, spread
from analysis.stats.moderated.posterior import fit_posterior
from analysis.stats.planning.power import power
from analysis.stats.planning.typical import (
    Layout,
    Residuals,
    residuals,
    typical_paired,
    typical_unpaired,
)
from analysis.stats.solvers import find_root

MOST_SEEDS = 100_000
ALIKE = 64
"""From so many runs of each arm on, own variances are known and both answers ask for the same."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Of the difference of one arm from the baseline, in units of a run's sd."""

    se: float
    df: float
    loading: float
    """Its square is the correlation of two differences."""
    df_own: float
    """Of the difference's own variance."""


@dataclass(frozen=True, slots=True)
class Design:
    """A study of T arms against a baseline, as far as its power is concerned.

    Blocked (`rho` given): variance of a difference ``2 sd^2 (1 - rho) / n``, df ``T (n - 1)``, and
    an estimate of it that REML may take from all runs (`residuals`); with more or fewer baseline
    runs the mixed model's. Unpaired: ``sd^2 (1/n + 1/K)``, df ``T (n - 1) + K - 1``.

    Examples
    --------
    >>> [Design(0.015, 0.4, 8, pooled=pooled).seeds_needed(0.025) for pooled in (False, True)]
    [7, 6]
    """

    sd: float
    """Of one run around its arm's mean, nats per token."""
    rho: float | None
    """Correlation of same-seed runs, where arms share seeds; None where they do not."""
    n_arms: int
    """T, without the baseline."""
    n_baseline: int | None = None
    """K, runs of the baseline; None: as many as each arm has."""
    alpha: float = 0.05
    """Two-sided family error."""
    pooled: bool = False
    """Differences are judged as equally noisy, whatever the runs will show."""

    def power(self, delta: float, n: float) -> float:
        """Return the chance to find `delta` (nats per token) in one given arm at n seeds."""
        noise = self._noise(n)
        if noise.df < ENOUGH_DF:  # every verdict is undecided
            return 0.0
        found = residuals(self._layout(n), self.rho or 0.0, noise.df)
        critical, weight = self._critical(n, noise, found)
        shift = abs(delta) / (self.sd * noise.se)
        seen = power(shift, found.df, critical * found.scale[:, None])
        return float(found.weight @ seen @ weight)

    def seeds_needed(self, delta: float, power: float = 0.8) -> int:
        """Return the smallest number of seeds per arm that finds `delta` with a power.

        Raises
        ------
        AnalysisError
            No number of seeds up to 100,000 does, or a figure is out of range.
        """
        return self._smallest(lambda design, n: design, delta, power)

    def fewest_seeds(self, delta: float, power: float = 0.8) -> int:
        """Return the same where the baseline gets the runs that it deserves (`allocated`)."""
        return self._smallest(Design.allocated, delta, power)

    def allocated(self, n: int) -> Design:
        """Return the design with the baseline's runs for n seeds of every arm.

        Where seeds are shared as many as an arm's, else about ``n * sqrt(T)``; at least those that
        there are.
        """
        wanted = allocate_baseline(n, self.n_arms) if self.rho is None else n
        return replace(self, n_baseline=max(wanted, self.n_baseline or 0))

    def _smallest(self, at: Callable[[Design, int], Design], delta: float, power: float) -> int:
        """Look first where equally noisy differences would be found, which is quickly known."""
        _check(delta, self.sd, self.rho, power, self.alpha)
        start = 1
        for design in dict.fromkeys((replace(self, pooled=True), self)):

            def enough(n: int, design: Design = design) -> bool:
                return at(design, n).power(delta, n) >= power

            start = _first(enough, start)
            if start > MOST_SEEDS:
                raise AnalysisError(
                    f"no number of seeds up to {MOST_SEEDS:,} finds {delta:g} with "
                    f"power {power:g} at sd {self.sd:g}: ask for a larger difference"
                    + (", or run more baseline seeds" if self.n_baseline else "")
                )
        return start

    def detectable(self, n: int, power: float = 0.8) -> float:
        """Return the smallest difference, nats per token, that n seeds find with a power."""
        if n < 2 or self._noise(n).df < ENOUGH_DF:
            return math.inf
        high = self.sd
        while self.power(high, n) < power:
            high *= 2
        return find_root(lambda delta: self.power(delta, n) - power, 0.0, high, tolerance=1e-7)

    def _noise(self, n: float) -> Noise:
        return _noise(self._layout(n), self.rho or 0.0)

    def _layout(self, n: float) -> Layout:
        return Layout(self.n_arms, n, self.n_baseline or n, self.rho is not None)

    def _critical(self, n: float, noise: Noise, found: Residuals) -> tuple[Array, Array]:
        """Return critical values of typical studies, (L or 1, S), and their weights (S,)."""
        K = self.n_baseline or n
        if self.pooled or min(n, K) < 2 or min(n, K) > ALIKE:
            critical = critical_value([noise.loading] * self.n_arms, noise.df, self.alpha)
            return np.array([[critical]]), np.ones(1)
        own = found.over_own
        ends = tuple(dict.fromkeys((own.min(), own.max())))
        given = self._layout(n), self.rho or 0.0, noise, ends, self.alpha
        typical, weight = _moderated_critical(*given)
        share = (own - own.min()) / ((own.max() - own.min()) or 1)
        return typical[0] + share[:, None] * (typical[-1] - typical[0]), weight


def _first(enough: Callable[[int], bool], start: int) -> int:
    """Return the smallest n that is enough, near `start` if it can; else one too many.

    One seed is asked for only where the search starts there: from 2 on it is known to be too few.
    """
    low, high, step = start - 1, max(start, 2), 1
    while low > 1 and enough(low):
        low, high, step = max(low - step, 1), low, 2 * step
    while high <= MOST_SEEDS and not enough(high):
        low, high, step = high, min(high + step, MOST_SEEDS + 1), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def allocate_baseline(n: int, n_arms: int) -> int:
    """Return the baseline runs that T unpaired arms of n runs deserve: about ``n * sqrt(T)``.

    Dunnett (1955): the variances of all differences share the baseline's mean.

    Examples
    --------
    >>> allocate_baseline(3, 8)
    8
    """
    return max(n, round(n * math.sqrt(n_arms)))


def seeds_needed(
    delta: float,
    sd: float,
    rho: float | None,
    n_arms: int,
    n_baseline: int | None = None,
    **rule: float,
) -> int:
    """Return the smallest number of seeds per arm that reaches a power; see `Design`.

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
    7
    >>> seeds_needed(0.014, 0.015, None, 1, power=0.9)
    26
    """
    unknown = sorted(set(rule) - {"alpha", "power"})
    if unknown:
        raise AnalysisError(f"unknown rule {unknown[0]!r}: allowed are alpha, power")
    design = Design(sd, rho, n_arms, n_baseline, rule.get("alpha", 0.05))
    return design.seeds_needed(delta, rule.get("power", 0.8))


@lru_cache(maxsize=1024)
def _noise(layout: Layout, rho: float) -> Noise:
    n, K, T = layout.n, layout.K, layout.n_arms
    if not layout.paired:
        own = 0.0
        if min(n, K) > 1:
            own = (1 / n + 1 / K) ** 2 / (1 / (n**2 * (n - 1)) + 1 / (K**2 * (K - 1)))
        df = T * (n - 1) + K - 1
        return Noise(math.sqrt(1 / n + 1 / K), df, math.sqrt(n / (n + K)), own)
    if n == K:
        return Noise(math.sqrt(2 * (1 - rho) / n), T * (n - 1), math.sqrt(0.5), n - 1)
    runs = [int(K), *[int(n)] * T]
    arm, seed = np.repeat(np.arange(T + 1), runs), np.concatenate([np.arange(k) for k in runs])
    fit = fit_of_design(arm, seed, rho, 1 - rho)
    found = fit.against_baseline()
    c = baseline_weights(T + 1)[0]
    # The adjustment corrects two shortfalls, one of which is the expected standard error's own.
    variance = float(c @ (fit.cov + fit.cov_model) @ c) / 2
    trace, square = spread(np.zeros(len(arm)), arm, seed).expected(c, fit)
    loading = math.sqrt(max(float(found.correlation[0, -1]), 0.0)) if T > 1 else math.sqrt(0.5)
    own = trace**2 / square if min(n, K) > 1 else 0.0
    # one seed an arm leaves no degrees of freedom, and an adjusted variance that means nothing
    return Noise(math.sqrt(max(variance, 0.0)), float(found.df[0]), loading, own)


@lru_cache(maxsize=1024)
def _moderated_critical(
    layout: Layout, rho: float, noise: Noise, residual: tuple[float, ...], alpha: float
) -> tuple[Array, Array]:
    """Return (L, S) critical values at each residual over the blocks' own, and weights (S,)."""
    ratio, weight = typical_paired(layout, rho) if layout.paired else typical_unpaired(layout)
    ratio = (ratio / np.array(residual)[:, None, None]).reshape(-1, layout.n_arms)
    own = OwnVariance(ratio, np.full(layout.n_arms, noise.df_own))
    first = OwnVariance(ratio[:, :1], own.df[:1])
    averaged = Averaged(np.full((len(ratio), 1), noise.df), first, fit_posterior(own))
    family = against_baseline([noise.loading] * layout.n_arms)
    return averaged.threshold(alpha, family).reshape(len(residual), -1), weight


def _check(delta: float, sd: float, rho: float | None, power: float, alpha: float) -> None:
    if not (delta != 0 and math.isfinite(delta)):
        raise AnalysisError(f"the difference to find is {delta}: it must be a number other than 0")
    if not (sd > 0 and math.isfinite(sd)):
        raise AnalysisError(f"the noise sd is {sd}: it must be above 0")
    if rho is not None and not 0 <= rho < 1:
        raise AnalysisError(f"the seeds' correlation rho is {rho}: allowed are 0 up to below 1")
    require_below("the power", power, 1, example=0.8)
    require_alpha(alpha)
