"""A difference's own variance: what its own runs say of its noise, whatever the other arms do.

The cluster-robust estimate over initialisation seeds, freed of bias under the model, with Bell and
McCaffrey's df (Pustejovsky and Tipton 2018, J. Bus. Econ. Stat. 36:672). On complete blocks it is
the variance of the paired differences, without shared seeds Welch's with Satterthwaite's df.

Shapes: N runs, A arms, S seeds, M contrasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.stats.linear import Array, Fit, sums_of_squares

ROUNDING = 1e-12
"""An own variance below this share of the model's is rounding: the runs show no spread."""


@dataclass(frozen=True, slots=True)
class OwnVariance:
    """M own variances in units of the model's, R = s2 / se^2, and their df."""

    ratio: Array
    """(..., M); leading dimensions are studies of one design."""
    df: Array
    """(M,) 0: the runs say nothing of it (an arm of one run, or no spread at all)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The runs by arm and seed, as far as a contrast's own variance needs them."""

    n: Array
    """(A,) runs."""
    share: Array
    """(A, S) share of the arm's runs that have the seed; rows sum to 1."""
    deviation: Array
    """(A, S) what the seed's runs add to the arm's mean beyond their share of it, nats/token."""
    design: Array
    """(A,) equal where arms have as many runs at every seed."""

    def of(self, weights: Array, fit: Fit) -> OwnVariance:
        """Return the own variances of contrasts with (M, A) coefficients."""
        L = np.atleast_2d(weights)
        found = np.empty((2, len(L)))
        expected: dict[tuple[bytes, bytes], tuple[float, float]] = {}
        for i, row in enumerate(L):
            arms = np.flatnonzero(row)
            alike = (row[arms].tobytes(), self.design[arms].tobytes())
            if alike not in expected:  # hundreds of arms are of few designs
                expected[alike] = self.expected(row, fit)
            found[:, i] = self._ratio(row, fit, *expected[alike])
        return OwnVariance(*found)

    def expected(self, weights: Array, fit: Fit) -> tuple[float, float]:
        """Return trace and sum of squares of the covariance of what each seed adds to a contrast.

        That covariance, under the model, is diag(e) + U K U' with U of a few columns, so nothing
        of size S x S is formed.
        """
        rows = np.flatnonzero(weights)
        share = self.share[rows][:, self.share[rows].any(axis=0)]
        n = self.n[rows]
        c = _enlarged(weights[rows], n)
        net = c @ share
        e = fit.var_resid * (c**2 / n) @ share + fit.var_init * net**2
        U = np.vstack([share, share * net]).T
        cross = -fit.var_init * np.diag(c)
        top = np.outer(c, c) * (share @ share.T) * fit.var_init - np.diag(fit.var_resid * c**2 / n)
        K = np.block([[top, cross], [cross, np.zeros_like(cross)]])
        KG = K @ (U.T @ U)
        square = (e**2).sum() + 2 * np.trace(K @ (U.T @ (e[:, None] * U))) + np.trace(KG @ KG)
        return float(e.sum() + np.trace(KG)), float(square)

    def _ratio(self, weights: Array, fit: Fit, trace: float, square: float) -> tuple[float, float]:
        rows = np.flatnonzero(weights)
        if (self.n[rows] < 2).any() or fit.var_resid == 0:
            return 1.0, 0.0
        if not trace > ROUNDING * fit.var_resid * float((weights[rows] ** 2 / self.n[rows]).sum()):
            return 1.0, 0.0
        found = _enlarged(weights[rows], self.n[rows]) @ self.deviation[rows]
        ratio = float(found @ found) / trace
        return (ratio, trace**2 / square) if ratio > ROUNDING else (1.0, 0.0)


def _enlarged(c: Array, n: Array) -> Array:
    return np.asarray(c * np.sqrt(n / np.maximum(n - 1, 1)))


def spread(loss: ArrayLike, arm: ArrayLike, seed: ArrayLike) -> Spread:
    """Gather what own variances need of N runs.

    Parameters
    ----------
    loss
        (N,) nats per token.
    arm, seed
        (N,) integers from 0; runs with one seed share an initialisation.
    """
    y, arms = np.asarray(loss, dtype=float), np.asarray(arm, dtype=np.intp)
    seeds = np.asarray(seed, dtype=np.intp)
    n, means, _ = sums_of_squares(y, arms, int(arms.max()) + 1)
    shape = (len(n), int(seeds.max()) + 1)
    share, deviation = np.zeros(shape), np.zeros(shape)
    np.add.at(share, (arms, seeds), 1 / n[arms])
    np.add.at(deviation, (arms, seeds), (y - means[arms]) / n[arms])
    designs: dict[tuple[float, bytes], int] = {}
    each = zip(n, map(bytes, share), strict=True)
    design = np.array([designs.setdefault(one, len(designs)) for one in each])
    return Spread(n, share, deviation, design)
