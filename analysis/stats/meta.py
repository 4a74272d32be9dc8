"""Random-effects meta-regression: a line through estimates of different precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import minimize_scalar

from analysis.stats.linear import Array
from analysis.stats.seed_correlation import CONFIDENCE

FEWEST = 3
"""Estimates that a line with a residual needs."""


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + slope (x - centre), with what is left between the estimates."""

    intercept: float
    slope: float
    centre: float
    covariance: Array
    """(2, 2) of intercept and slope, after Knapp and Hartung."""
    tau2: float
    """Variance of the true values around the line."""
    df: int

    @property
    def slope_se(self) -> float:
        """Standard error of the slope."""
        return float(np.sqrt(self.covariance[1, 1]))

    def at(self, x: float) -> float:
        """Return the line's height."""
        return self.intercept + self.slope * (x - self.centre)

    def half_width(self, x: float, *, new: bool = False) -> float:
        """Return half of the line's interval at `x`, or of a new true value's there."""
        row = np.array([1.0, x - self.centre])
        variance = float(row @ self.covariance @ row) + new * self.tau2
        return self.quantile * float(np.sqrt(variance))

    @property
    def quantile(self) -> float:
        """Two-sided t quantile."""
        return float(special.stdtrit(self.df, 0.5 + CONFIDENCE / 2))


def fit_line(x: Array, y: Array, variance: Array) -> Line:
    """Fit by REML; standard errors and df after Knapp and Hartung (2003, Stat. Med. 22:2693).

    `x`, `y` and the estimates' `variance` are (k,) with k at least 3 and two different x.
    """
    centre = float(x.mean())
    X = np.stack([np.ones_like(x), x - centre], axis=1)
    tau2 = _tau2(X, y, variance)
    beta, precision, residual = _weighted(X, y, variance + tau2)
    df = len(y) - 2
    scale = float((residual**2 / (variance + tau2)).sum()) / df
    covariance = np.asarray(scale * np.linalg.inv(precision), dtype=np.float64)
    return Line(float(beta[0]), float(beta[1]), centre, covariance, tau2, df)


def _weighted(X: Array, y: Array, variance: Array) -> tuple[Array, Array, Array]:
    """Return the coefficients, their precision matrix and the residuals."""
    precision = np.asarray(X.T @ (X / variance[:, None]), dtype=np.float64)
    beta = np.asarray(np.linalg.solve(precision, X.T @ (y / variance)), dtype=np.float64)
    return beta, precision, y - X @ beta


def _tau2(X: Array, y: Array, variance: Array) -> float:
    """Return the restricted maximum likelihood estimate, 0 where that is the most likely."""

    def deviance(tau2: float) -> float:
        total = variance + tau2
        _, precision, residual = _weighted(X, y, total)
        return float(
            np.log(total).sum() + np.linalg.slogdet(precision)[1] + (residual**2 / total).sum()
        )

    most = 10 * float(np.var(y)) + float(variance.max())
    found = minimize_scalar(
        deviance, bounds=(0.0, most), method="bounded", options={"xatol": 1e-12 * most}
    )
    return float(found.x) if deviance(float(found.x)) < deviance(0.0) else 0.0
