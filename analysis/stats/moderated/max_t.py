"""Tail of the largest ``|t|`` of a family, for many thresholds and df at once.

Given the sd's estimate, ``max |t| > c`` is ``max |z| > c s`` with a known sd. The tail for a known
sd is a function of one variable and of the family alone: it is computed once, and then averaged
over s for every threshold. Two families: all arms with one baseline (Dunnett 1955), and all pairs
of arms (Tukey's studentised range).

Shapes: T arms, X nodes of the threshold, Z of the integral.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike
from scipy import special

from analysis.stats.dunnett import N_S, Array, distinct, legendre, sd_nodes, z_nodes

END = 8.0
"""With a known sd no family goes beyond it but with a probability below 1e-14 an arm."""
DEGREE = 48


@dataclass(frozen=True, slots=True)
class MaxT:
    """A family of tests of one estimated sd."""

    n_tests: int
    coefficients: Array
    """Of the logarithm of the tail for a known sd, on [0, `END`]."""

    def tail(self, threshold: ArrayLike, df: ArrayLike) -> Array:
        """Return P(max ``|t|`` > threshold), elementwise.

        Examples
        --------
        >>> against_baseline([0.5**0.5] * 3).tail([2.54035], [20]).round(5)
        array([0.05])
        """
        c, free = np.broadcast_arrays(np.asarray(threshold, dtype=float), np.asarray(df, float))
        distinct_df, row = np.unique(free, return_inverse=True)
        nodes = [sd_nodes(float(value)) for value in distinct_df]
        s = np.array([np.broadcast_to(s, N_S) for s, _ in nodes])
        weight = np.array([np.broadcast_to(w * len(w) / N_S, N_S) for _, w in nodes])
        tail = self._known(c[..., None] * s[row]) * weight[row]
        return np.asarray(np.clip(tail.sum(axis=-1), 0.0, 1.0))

    def _known(self, x: Array) -> Array:
        log_tail = chebyshev.chebval(2 * np.minimum(x, END) / END - 1, self.coefficients)
        return np.where(x < END, np.exp(np.minimum(log_tail, 0.0)), 0.0)


def against_baseline(loadings_T: ArrayLike) -> MaxT:
    """Return the family of T arms compared with one baseline.

    Parameters
    ----------
    loadings_T
        As in `analysis.stats.dunnett.tail_probability`.
    """
    loadings, counts = distinct(np.atleast_1d(np.asarray(loadings_T, dtype=float)))
    x = _nodes()
    spread = np.sqrt(1 - loadings**2)
    z, weight = z_nodes(int(np.clip(np.ceil(20 / spread.min()), 32, 400)))
    log_inside = np.zeros((len(x), len(z)))
    for loading, width, count in zip(loadings, spread, counts, strict=True):
        reach, shift = x[:, None], z * loading
        outside = special.ndtr((-reach - shift) / width) + special.ndtr((-reach + shift) / width)
        with np.errstate(divide="ignore"):
            log_inside += count * np.log1p(-np.minimum(outside, 1.0))
    return _fitted(int(counts.sum()), x, -np.expm1(log_inside) @ weight)


def all_pairs(n_arms: int) -> MaxT:
    """Return the family of all pairs of arms of equal n.

    Examples
    --------
    The studentised range of 3 means on 10 df exceeds 3.876777 with probability 0.05:

    >>> all_pairs(3).tail([3.876777 / 2**0.5], [10]).round(5)
    array([0.05])
    """
    x = _nodes()
    node, weight = legendre(200)
    z = 9 * node
    density = 9 * weight * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    below = special.ndtr(z)
    within = special.ndtr(z - 2**0.5 * x[:, None]) / below
    with np.errstate(divide="ignore"):
        left_out = -np.expm1((n_arms - 1) * np.log1p(-within))
    n_tests = n_arms * (n_arms - 1) // 2
    return _fitted(n_tests, x, n_arms * left_out @ (density * below ** (n_arms - 1)))


def _nodes() -> Array:
    return np.asarray(END / 2 * (1 + chebyshev.chebpts1(DEGREE + 1)), dtype=np.float64)


def _fitted(n_tests: int, x: Array, tail: Array) -> MaxT:
    log_tail = np.log(np.clip(tail, np.finfo(float).tiny, 1.0))
    return MaxT(n_tests, np.asarray(chebyshev.chebfit(2 * x / END - 1, log_tail, DEGREE)))
