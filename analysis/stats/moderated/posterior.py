"""Are the differences equally noisy? What their own variances say, by deterministic quadrature.

R_t is a difference's own variance over the model's, on d_t degrees of freedom. Two answers, each of
prior probability one half:

- E, equally noisy: ``R_t = c chi2(d_t) / d_t``, flat in log c.
- U, unequally (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3): ``R_t = phi_t chi2(d_t) / d_t``,
  ``1 / phi_t ~ chi2(d0) / (d0 s0^2)``; flat in log s0^2, and the shrinkage weight
  ``B = d0 / (d0 + median d)`` uniform on (0, 1). At B = 1 it is E.

Given d0, the likelihood is log-concave in u = log s0^2 with slopes T d0 / 2 and -sum(d) / 2 far
from its mode: Gauss-Legendre to both sides of the mode, as far as it is not negligible. What is
left of each posterior is a Gauss rule of its own, so few nodes give all figures to four digits.

Shapes: any leading dimensions are studies of one design; T differences, M contrasts, J values of
d0, P and K nodes before and after reduction, Q = J K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.stats.dunnett import legendre
from analysis.stats.linear import Array
from analysis.stats.moderated.own_variance import OwnVariance

N_B, N_U = 24, 20
"""Gauss-Legendre nodes in B, and in u to each side of the mode."""
KEPT_B, KEPT_U = 12, 8
"""Nodes of the reduced rules."""
TAIL = 4.0
"""Distance from the mode, in u, from which on the reduced rule's nodes spread out."""
NEGLIGIBLE = 30.0
"""Log-likelihood below the largest from which on an answer is left out."""
SMALLEST = -600.0
"""Of u: its exponential is still a number."""
BLOCK = 64
"""Differences or contrasts at once: bounds the memory."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the own variances of all differences say of each one's noise."""

    equal: Array
    """(...) w = P(E | R)."""
    d0: Array
    """(..., Q) prior df of a difference's variance, under U."""
    s2: Array
    """(..., Q) prior variance, in units of the model's."""
    weight: Array
    """(..., Q) sums to 1."""

    def tail(self, threshold: Array, own: OwnVariance) -> Array:
        """Return P(|error| > `threshold`) under U: the moderated t's tail, averaged.

        Parameters
        ----------
        threshold
            (..., M) in units of the model's standard error, above 0.
        own
            Of the M contrasts; where its df are 0 the noise is the prior's.
        """
        blocks = [
            self._tail(threshold[..., part], own.ratio[..., part], own.df[part])
            for part in _blocks(len(own.df))
        ]
        return np.concatenate(blocks, axis=-1) if blocks else np.asarray(threshold)

    def _tail(self, threshold: Array, ratio: Array, df: Array) -> Array:
        variance, both = self.moderated(ratio, df)
        t = threshold[..., None] / np.sqrt(variance)
        return np.asarray((2 * special.stdtr(both, -t) * self.weight[..., None, :]).sum(axis=-1))

    def moderated(self, ratio: Array, df: Array) -> tuple[Array, Array]:
        """Return the moderated variances, in units of the model's, and their df: (..., M, Q)."""
        d0, d = self.d0[..., None, :], df[:, None]
        return (d * ratio[..., None] + d0 * self.s2[..., None, :]) / (d + d0), d + d0


def equally_noisy(shape: tuple[int, ...] = ()) -> Posterior:
    """Return the certainty that all differences are equally noisy: E alone."""
    one = np.ones((*shape, 1))
    return Posterior(np.ones(shape), one, one, one)


def fit_posterior(own: OwnVariance) -> Posterior:
    """Return the posterior from the own variances of the differences to the baseline.

    Without a single own variance nothing speaks of unequal noise: E alone.
    """
    known = own.df > 0
    if not known.any():
        return equally_noisy(own.ratio.shape[:-1])
    R, d = own.ratio[..., known], own.df[known]
    middle = float(np.median(d))

    def log_likelihood(B: Array) -> Array:
        return _Prior(middle * B / (1 - B), R, d).log_evidence()

    B, log_weight = _where_it_matters(log_likelihood, R.shape[:-1])
    log_unequal = special.logsumexp(log_weight, axis=-1)
    equal = special.expit(_log_equal(R, d) - log_unequal)
    B, weight = gauss_rule(B, np.exp(log_weight - log_unequal[..., None]), KEPT_B)
    d0 = middle * B / (1 - B)
    u, given_d0 = _Prior(d0, R, d).rule()
    flat = (*R.shape[:-1], -1)
    return Posterior(
        np.asarray(equal),
        np.broadcast_to(d0[..., None], u.shape).reshape(flat),
        np.exp(np.maximum(u, SMALLEST)).reshape(flat),
        (weight[..., None] * given_d0).reshape(flat),
    )


def _log_equal(R: Array, d: Array) -> Array:
    """Return log P(R | E), times the product of all R as in `_Prior`."""
    S = (d * R).sum(axis=-1, keepdims=True)
    terms = d / 2 * np.log(d * R / S) - special.gammaln(d / 2)
    return np.asarray(terms.sum(axis=-1) + special.gammaln(d.sum() / 2))


def _where_it_matters(
    log_f: Callable[[Array], Array], shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return nodes on (0, 1) where f is not negligible, and log f times their weight."""
    low, high = np.zeros((*shape, 1)), np.ones((*shape, 1))
    x, log_weight = _on(low, high, log_f)
    kept = log_weight > log_weight.max(axis=-1, keepdims=True) - NEGLIGIBLE
    edges = np.concatenate([low, x, high], axis=-1)
    first, end = kept.argmax(axis=-1), N_B + 1 - kept[..., ::-1].argmax(axis=-1)
    low = np.take_along_axis(edges, first[..., None], axis=-1)
    high = np.take_along_axis(edges, end[..., None], axis=-1)
    return _on(low, high, log_f)


def _on(low: Array, high: Array, log_f: Callable[[Array], Array]) -> tuple[Array, Array]:
    x, w = legendre(N_B)
    nodes = low + (high - low) * (x + 1) / 2
    return nodes, log_f(nodes) + np.log((high - low) * w / 2)


class _Prior:
    """The likelihood of u = log s0^2 at J values of d0.

    With ``v = u - log(d R / d0)`` each R_t has, but for constants, the log-likelihood
    ``(d0 v - (d + d0) log(1 + exp(v))) / 2``: slope d0/2 far below its mode, -d/2 far above it.
    """

    def __init__(self, d0: Array, R: Array, d: Array) -> None:
        self.d0, self.d = d0, d
        sizes = [d[part] * R[..., None, part] / d0[..., None] for part in _blocks(len(d))]
        self.centres = [(size, np.log(size)) for size in sizes]
        lowest, highest = (np.log(f(R, axis=-1))[..., None] for f in (np.min, np.max))
        mode = _bisect(lambda u: self._slope(u) > 0, lowest + 0 * d0, highest + 0 * d0)
        floor = self._log_kernel(mode) - NEGLIGIBLE
        # Beyond these points every slope is at least half of what it comes to.
        far_left = lowest + np.log(d.min() / (2 * d.min() + d0))
        far_right = highest + np.log((d.max() + 2 * d0) / d0)
        left = np.minimum(far_left, mode) - 4 * NEGLIGIBLE / (len(d) * d0)
        right = np.maximum(far_right, mode) + 4 * NEGLIGIBLE / d.sum()
        self.ends = (
            _bisect(lambda u: self._log_kernel(u) < floor, left, mode, steps=8, keep="low"),
            mode,
            _bisect(lambda u: self._log_kernel(u) > floor, mode, right, steps=8, keep="high"),
        )

    def log_evidence(self) -> Array:
        """Return the log-likelihood of each d0, u integrated out: (..., J)."""
        return np.asarray(special.logsumexp(self._weights()[1], axis=-1) + self._constant())

    def rule(self) -> tuple[Array, Array]:
        """Return the posterior of u given d0 as nodes and weights: (..., J, K)."""
        u, log_weight = self._weights()
        log_weight -= special.logsumexp(log_weight, axis=-1, keepdims=True)
        # With a small d0 the posterior has a long tail to the left.
        mode = self.ends[1][..., None]
        y, weight = gauss_rule(np.arcsinh((u - mode) / TAIL), np.exp(log_weight), KEPT_U)
        return mode + TAIL * np.sinh(y), weight

    def _weights(self) -> tuple[Array, Array]:
        """Return nodes of u, denser near the mode, and log likelihood times weight: (..., J, P)."""
        x, w = legendre(N_U)
        x, w = (x + 1) / 2, w / 2
        left, mode, right = (end[..., None] for end in self.ends)
        sides = [(end - mode) for end in (left, right)]
        u = mode + np.concatenate([side * x**2 for side in sides], axis=-1)
        width = np.concatenate([np.abs(side) * 2 * x * w for side in sides], axis=-1)
        return u, self._log_kernel(u) + np.log(width)

    def _constant(self) -> Array:
        total = np.zeros(self.d0.shape)
        for value, count in zip(*np.unique(self.d, return_counts=True), strict=True):
            total -= count * special.betaln(value / 2, self.d0 / 2)
        return total

    def _log_kernel(self, u: Array) -> Array:
        """Return the sum over differences; `u` is (..., J) or (..., J, P)."""
        total = np.zeros(u.shape)
        for odds, d, d0, centre in self._parts(u):
            total += (d0 * (u[..., None] - centre) - (d + d0) * np.log1p(odds)).sum(axis=-1) / 2
        return total

    def _slope(self, u: Array) -> Array:
        total = np.zeros(u.shape)
        for odds, d, d0, _ in self._parts(u):
            total += (d0 - (d + d0) * odds / (1 + odds)).sum(axis=-1) / 2
        return total

    def _parts(self, u: Array) -> Iterator[tuple[Array, Array, Array, Array]]:
        extra = (None,) * (u.ndim - self.d0.ndim)
        d0, s2 = self.d0[(..., *extra, None)], np.exp(u)[..., None]
        for part, (size, centre) in zip(_blocks(len(self.d)), self.centres, strict=True):
            at = (..., *extra, slice(None))
            yield s2 / size[at], self.d[part], d0, centre[at]


def _bisect(
    below: Callable[[Array], NDArray[np.bool_]],
    low: Array,
    high: Array,
    *,
    steps: int = 14,
    keep: str = "low",
) -> Array:
    """Return where `below` turns from true to false, the same end of each interval."""
    for _ in range(steps):
        middle = (low + high) / 2
        left = below(middle)
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return np.asarray(low if keep == "low" else high)


def gauss_rule(x: Array, weight: Array, n: int) -> tuple[Array, Array]:
    """Return the n-point Gauss rule of a discrete measure.

    Stieltjes' procedure for the recurrence, Golub and Welsch (1969, Math. Comput. 23:221) for the
    nodes.

    Parameters
    ----------
    x, weight
        (..., P); weights sum to 1.

    Examples
    --------
    >>> nodes, weights = gauss_rule(np.linspace(-1, 1, 1001), np.full(1001, 1 / 1001), 2)
    >>> nodes.round(2), weights.round(2)
    (array([-0.58,  0.58]), array([0.5, 0.5]))
    """
    jacobi = np.zeros((*x.shape[:-1], n, n))
    before, now = np.zeros_like(x), np.ones_like(x)
    beta = np.zeros((*x.shape[:-1], 1))
    for i in range(n):
        alpha = (weight * x * now**2).sum(axis=-1, keepdims=True)
        jacobi[..., i, i] = alpha[..., 0]
        before, now = now, (x - alpha) * now - beta * before
        beta = np.sqrt((weight * now**2).sum(axis=-1, keepdims=True))
        now = now / np.maximum(beta, 1e-300)
        if i + 1 < n:
            jacobi[..., i, i + 1] = jacobi[..., i + 1, i] = beta[..., 0]
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, vectors[..., 0, :] ** 2


def _blocks(length: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, length, BLOCK))
