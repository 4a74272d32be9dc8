"""The fitted means of all arms, with what is needed to judge any contrast between them.

Two fits share one result: one-way pooled variance, and (in `analysis.stats.mixed`) the mixed model
with a random intercept for each initialisation seed.

Shapes: N runs, A arms (the baseline first), T = A - 1 arms to judge, K variance components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.records import FEWEST_DF as FEWEST_DF

Array = NDArray[np.float64]
Index = NDArray[np.intp]

NO_NOISE = 1e-12
"""An sd below this share of the losses' size is rounding, not noise."""
ENOUGH_DF = FEWEST_DF - 1e-6
"""Degrees of freedom from which on a verdict is given, rounding aside."""


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Estimates of linear combinations of the arms' means, one a row.

    ``estimate`` (M,), ``se`` (M,), ``df`` (M,) and ``correlation`` (M, M); nats per token.
    """

    estimate: Array
    se: Array
    df: Array
    correlation: Array


@dataclass(frozen=True, slots=True)
class Fit:
    """Means of A arms with their covariance.

    A contrast's df is Satterthwaite's, 2 v^2 / (g' W g): v its variance under `cov_model`, g the
    derivatives of v by the variance components, W the covariance of these components' estimates.
    For one contrast of a mixed model this is also Kenward and Roger's.
    """

    method: str
    """``pooled`` or ``mixed``."""
    n: Array
    """(A,) runs of each arm."""
    means: Array
    """(A,) estimated means, nats per token."""
    cov: Array
    """(A, A) covariance of `means` for standard errors."""
    cov_model: Array
    """(A, A) the same before small-sample adjustment."""
    gradients: tuple[Array, ...]
    """K derivatives of `cov_model` by the components: (A, A), or (A,) where diagonal."""
    W: Array
    """(K, K) covariance of the variance components."""
    var_init: float
    """Variance that runs of one initialisation seed share; 0 in one-way fits."""
    var_resid: float
    df_resid: float
    """N - A: runs left over for the variance."""

    @property
    def sd_total(self) -> float:
        """Sd of one run around its arm's mean, nats per token."""
        return float(np.sqrt(self.var_init + self.var_resid))

    @property
    def rho(self) -> float:
        """Correlation of two arms' runs of one initialisation seed."""
        total = self.var_init + self.var_resid
        return self.var_init / total if total > 0 else 0.0

    def contrast(self, weights: ArrayLike) -> Contrasts:
        """Judge any combinations of the means.

        Parameters
        ----------
        weights
            (M, A) or (A,) coefficients of the means.
        """
        L = np.atleast_2d(np.asarray(weights, dtype=float))
        cov = L @ self.cov @ L.T
        return self._judge(L @ self.means, cov, _quadratic(L, self.cov_model), self._slopes(L))

    def against_baseline(self) -> Contrasts:
        """Judge every arm minus the first one: (T,) contrasts."""
        return self.contrast(baseline_weights(len(self.means)))

    def _slopes(self, L: Array) -> Array:
        return np.array([_quadratic(L, gradient) for gradient in self.gradients])

    def _judge(self, estimate: Array, cov: Array, variance: Array, slopes: Array) -> Contrasts:
        se = np.sqrt(np.maximum(np.diag(cov), 0.0))
        spread = np.einsum("km,kl,lm->m", slopes, self.W, slopes)
        with np.errstate(divide="ignore", invalid="ignore"):
            df = np.where(spread > 0, 2 * variance**2 / spread, 0.0)
            correlation = np.clip(cov / np.outer(se, se), -1.0, 1.0)
        return Contrasts(estimate, se, df, np.nan_to_num(correlation, nan=0.5))


def baseline_weights(n_arms: int) -> Array:
    """Return the (T, A) coefficients of each arm minus the first one."""
    return np.hstack([-np.ones((n_arms - 1, 1)), np.eye(n_arms - 1)])


def sums_of_squares(loss: Array, arm: Index, n_arms: int) -> tuple[Array, Array, Array]:
    """Return n, mean and the sum of squares around the mean, each (A,)."""
    n = np.bincount(arm, minlength=n_arms).astype(float)
    centre = float(loss.mean())
    means = sums(arm, loss - centre, n_arms) / n
    ss = sums(arm, (loss - centre - means[arm]) ** 2, n_arms)
    return n, means + centre, ss


def sums(index: Index, values: Array, length: int) -> Array:
    """Return the sum of the values at each index, (length,)."""
    return np.asarray(np.bincount(index, values, minlength=length), dtype=np.float64)


def clear_rounding(variance: float, size: float) -> float:
    """Return the variance, or 0 where it is nothing but the rounding of numbers of this size."""
    return variance if variance > (NO_NOISE * abs(size)) ** 2 else 0.0


def least_squares(X: Array, y: Array) -> tuple[Array, Array, float, float]:
    """Return coefficients (p,), inverse of X'X (p, p), residual variance and its df, of N rows."""
    inverse: Array = np.asarray(np.linalg.inv(X.T @ X), dtype=np.float64)
    c = inverse @ X.T @ y
    df = float(len(y) - X.shape[1])
    return c, inverse, float(((y - X @ c) ** 2).sum() / df), df


def fit_pooled(loss: ArrayLike, arm: ArrayLike) -> Fit:
    """Fit one-way means with one variance; runs are independent.

    Parameters
    ----------
    loss
        (N,) nats per token.
    arm
        (N,) integers 0 … A-1, each present; 0 is the baseline.

    Examples
    --------
    >>> fit_pooled([1.0, 2.0, 3.0, 5.0], [0, 0, 1, 1]).var_resid
    1.25
    """
    y, index = np.asarray(loss, dtype=float), np.asarray(arm, dtype=np.intp)
    n_arms = int(index.max()) + 1
    n, means, ss = sums_of_squares(y, index, n_arms)
    df = float(len(y) - n_arms)
    variance = float(ss.sum() / df) if df > 0 else 0.0
    variance = clear_rounding(variance, float(np.abs(means).max()))
    cov = np.diag(variance / n)
    W = np.array([[2 * variance**2 / df if df > 0 else 0.0]])
    return Fit("pooled", n, means, cov, cov, (1 / n,), W, 0.0, variance, df)


def _quadratic(L: Array, matrix: Array) -> Array:
    if matrix.ndim == 1:
        return np.asarray((L**2) @ matrix)
    return np.asarray(np.einsum("ma,ma->m", L @ matrix, L))
