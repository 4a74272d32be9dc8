"""The default judgement of differences: equally and unequally noisy arms, averaged.

``p = w p_E + (1 - w) p_U``. E takes the model's standard error and df: step-down Dunnett. U takes
each difference's own variance, moderated by all others' (Smyth 2004): its tail is averaged over the
posterior of the prior variance and df, then adjusted by Holm. w is the probability of E, given the
own variances (`posterior`). Every contrast of a fit uses the one posterior of its differences to
the baseline, so no figure depends on what else is asked.

Shapes: M contrasts, T of them the arms against the baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.stats.dunnett import one_factor_loadings, step_down, two_sided_p
from analysis.stats.holm import holm
from analysis.stats.linear import Array, Contrasts, Fit, baseline_weights
from analysis.stats.moderated.max_t import MaxT, against_baseline
from analysis.stats.moderated.own_variance import OwnVariance, Spread, spread
from analysis.stats.moderated.posterior import Posterior, equally_noisy, fit_posterior
from analysis.stats.planning.power import power
from analysis.stats.solvers import find_roots

WIDEST = 1e12
"""Standard errors: an interval wider than this has no end."""


@dataclass(frozen=True, slots=True)
class Averaged:
    """The tail of M contrasts under both answers, averaged; leading dimensions are studies."""

    df: Array
    """(..., M) of the model's standard errors."""
    own: OwnVariance
    posterior: Posterior

    def each(self, z: Array) -> Array:
        """Return P(|error| > z standard errors) of each contrast alone."""
        return self._average(two_sided_p(z, self.df), self._unequal(z))

    def any(self, z: Array, family: MaxT) -> Array:
        """Return a bound of P(any of the family's errors > z of its standard errors)."""
        unequal = np.minimum(family.n_tests * self._unequal(z), 1.0)
        return self._average(family.tail(z, self.df), unequal)

    def threshold(self, alpha: ArrayLike, family: MaxT | None = None) -> Array:
        """Return where the tail comes to alpha; infinite where it hardly ever does."""

        def tail(z: Array) -> Array:
            return self.each(z) if family is None else self.any(z, family)

        return _threshold(tail, np.broadcast_to(np.asarray(alpha, dtype=float), self.df.shape))

    def _unequal(self, z: Array) -> Array:
        return z * 0 if (self.posterior.equal == 1).all() else self.posterior.tail(z, self.own)

    def _average(self, equal: ArrayLike, unequal: Array) -> Array:
        w = self.posterior.equal[..., None]
        return np.asarray(w * np.asarray(equal) + (1 - w) * unequal)


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Which differences are shown to lie within the practical size."""

    p_adj: Array
    """(M,) of the two one-sided tests, adjusted by Holm."""
    half_width: Array
    """(M,) of the intervals at each one's step of Holm: within the practical size where p_adj is
    below alpha."""


@dataclass(frozen=True, slots=True)
class Differences:
    """M contrasts and all that is said of them; standard errors and df must be above 0."""

    found: Contrasts
    """As the model judges them."""
    own: OwnVariance
    posterior: Posterior
    largest: Array | float = np.inf
    """(M,) what a contrast could come to at most, of means no larger than these."""

    @property
    def equal(self) -> float:
        """The probability that all differences are equally noisy."""
        return float(self.posterior.equal)

    @property
    def p_raw(self) -> Array:
        """(M,) p of each contrast alone."""
        return self._averaged.each(self._z)

    @property
    def se_own(self) -> Array:
        """(M,) standard errors by the own variance alone; NaN where it is unknown."""
        return np.where(self.own.df > 0, self.found.se * np.sqrt(self.own.ratio), np.nan)

    @property
    def p_own(self) -> Array:
        """(M,) p by the own variance alone: paired t or Welch's; NaN where it is unknown."""
        known = self.own.df > 0
        p = two_sided_p(self._z / np.sqrt(self.own.ratio), np.where(known, self.own.df, 1.0))
        return np.where(known, p, np.nan)

    @property
    def p_adj(self) -> Array:
        """(T,) p of arms against one baseline, adjusted: step-down Dunnett and Holm, averaged."""
        p = self.equal * step_down(self._z, self._loadings, self.found.df)
        if self.equal < 1:
            p = p + (1 - self.equal) * holm(self.posterior.tail(self._z, self.own))
        return np.asarray(p)

    def half_width(self, alpha: float) -> Array:
        """Return the half-widths of intervals of T arms that hold together, (T,)."""
        family = against_baseline(self._loadings)
        return self._ended(self.found.se * self._averaged.threshold(alpha, family))

    def half_width_each(self, alpha: ArrayLike) -> Array:
        """Return the half-widths of intervals that each hold alone, (M,)."""
        return self._ended(self.found.se * self._averaged.threshold(alpha))

    def equivalence(self, rope: float, alpha: float) -> Equivalence:
        """Test that each difference lies within ±`rope`: two one-sided tests, Holm over all."""
        gap = rope - np.abs(self.found.estimate)
        one_sided = self._averaged.each(np.abs(gap) / self.found.se) / 2
        p = np.where(gap > 0, one_sided, 1 - one_sided)
        steps = np.empty(len(p))
        steps[np.argsort(p, kind="stable")] = np.arange(len(p), 0, -1)
        return Equivalence(holm(p), self.half_width_each(2 * alpha / steps))

    def power(self, delta: float, half_width: Array) -> Array:
        """Return the chance that another study like this one finds a true difference, (M,).

        Parameters
        ----------
        delta
            Of each contrast, nats per token.
        half_width
            (M,) what the estimate has to exceed now; in another study it moves with its noise.
        """
        size, se = abs(delta), self.found.se
        p = self.equal * power(size / se, self.found.df, half_width / se)
        if self.equal < 1:
            variance, df = self.posterior.moderated(self.own.ratio, self.own.df)
            scale = se[:, None] * np.sqrt(variance)
            seen = power(size / scale, df, half_width[:, None] / scale)
            p = p + (1 - self.equal) * (seen @ self.posterior.weight)
        return np.asarray(p)

    def _ended(self, half_width: Array) -> Array:
        """Return the half-widths, infinite where the prior alone puts the end beyond any value.

        Without a variance of its own a contrast has the prior's heavy tail, whose far quantiles say
        nothing of the noise.
        """
        endless = (self.own.df == 0) & (half_width > self.largest)
        return np.where(endless, np.inf, half_width)

    @property
    def _z(self) -> Array:
        return np.asarray(np.abs(self.found.estimate) / self.found.se)

    @property
    def _loadings(self) -> Array:
        return one_factor_loadings(self.found.correlation)

    @property
    def _averaged(self) -> Averaged:
        return Averaged(self.found.df, self.own, self.posterior)


@dataclass(frozen=True, slots=True)
class Model:
    """A fit with what its runs say of unequal noise: it judges any contrast of the means."""

    fit: Fit
    spread: Spread
    posterior: Posterior

    def contrast(self, weights: ArrayLike) -> Differences:
        """Judge combinations of the means with (M, A) or (A,) coefficients."""
        L = np.atleast_2d(np.asarray(weights, dtype=float))
        largest = np.abs(L).sum(axis=1) * np.abs(self.fit.means).max()
        own = self.spread.of(L, self.fit)
        return Differences(self.fit.contrast(L), own, self.posterior, largest)

    def against_baseline(self) -> Differences:
        """Judge every arm minus the first one."""
        return self.contrast(baseline_weights(len(self.fit.means)))


def moderate(
    fit: Fit, loss: ArrayLike, arm: ArrayLike, seed: ArrayLike, *, pooled: bool = False
) -> Model:
    """Return the fit with the posterior of its differences to the baseline.

    Parameters
    ----------
    fit
        Pooled or mixed fit of these runs.
    loss
        (N,) nats per token.
    arm, seed
        (N,) integers from 0; runs with one seed share an initialisation.
    pooled
        All arms are equally noisy (E alone), whatever their own variances say.

    Examples
    --------
    >>> from analysis.stats.linear import fit_pooled
    >>> y, arm = [1.0, 1.1, 0.9, 1.2, 2.0, 5.0, 2.0, 6.0, 3.0, 3.1, 3.3, 3.0], [0, 1, 2]
    >>> runs = y, np.repeat(arm, 4), np.arange(12)
    >>> found = moderate(fit_pooled(*runs[:2]), *runs).against_baseline()
    >>> round(found.equal, 2), found.p_adj.round(3)
    (0.0, array([0.027, 0.   ]))
    """
    runs = spread(loss, arm, seed)
    own = None if pooled else runs.of(baseline_weights(len(fit.means)), fit)
    return Model(fit, runs, equally_noisy() if own is None else fit_posterior(own))


def _threshold(tail: Callable[[Array], Array], alpha: Array) -> Array:
    low, high = np.full(alpha.shape, 2.0), np.full(alpha.shape, 4.0)
    while (short := tail(low) < alpha).any():
        low = np.where(short, low / 4, low)
    while (short := (tail(high) > alpha) & (high < WIDEST)).any():
        high = np.where(short, high * 4, high)
    endless, log_alpha = high >= WIDEST, np.log(alpha)

    def excess(log_z: Array) -> Array:
        return np.where(endless, 0.0, np.log(tail(np.exp(log_z))) - log_alpha)

    found = np.exp(find_roots(excess, np.log(low), np.log(high)))
    return np.where(endless, np.inf, found)
