"""Dunnett's comparison of many arms with one baseline, by deterministic quadrature.

The t statistics of all arms share the baseline's mean and the estimate of the sd. Given both,
they are independent, so P(max |t_i| > c) is a double integral (Dunnett 1955, J. Am. Stat. Assoc.
50:1096) for every correlation of product form, rho_ij = l_i * l_j; unequal n included. SciPy's
`scipy.stats.dunnett` draws random numbers for the same figure.

Shapes: T arms, S nodes for the sd, Z nodes for the baseline's mean.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.stats.solvers import find_root

Array = NDArray[np.float64]

MAX_DISTINCT = 48
"""More distinct loadings than this are rounded down to a grid, which widens intervals slightly."""
N_S = 64
Z_END = 8.3
LOWEST = 1e-15
NEARLY_ONE = 0.9999
"""The adjusted p of an arm from which on the less extreme ones' tails are not computed."""
"""Probability left out at each end of the sd's distribution."""


def tail_probability(threshold: float, loadings_T: ArrayLike, df: float) -> float:
    """Return P(max over arms of ``|t|`` > `threshold`) when no arm differs from the baseline.

    Parameters
    ----------
    threshold
        A value of ``|t|``, 0 or more.
    loadings_T
        (T,) numbers in [0, 1): the correlation of arms i and j is ``l_i * l_j``.
        Equal n throughout: ``sqrt(0.5)``.
    df
        Degrees of freedom of the sd's estimate; ``inf`` for a known sd.

    Examples
    --------
    >>> round(tail_probability(2.54031, [0.5**0.5] * 3, 20), 5)
    0.05
    """
    loadings, counts = distinct(np.atleast_1d(np.asarray(loadings_T, dtype=float)))
    return _tail(float(threshold), loadings, counts, float(df))


def critical_value(loadings_T: ArrayLike, df: float, alpha: float = 0.05) -> float:
    """Return c with P(max ``|t|`` > c) = `alpha`: the half-width of simultaneous intervals in se.

    Parameters
    ----------
    loadings_T, df
        As in `tail_probability`.
    alpha
        Two-sided family error, in (0, 1).

    Examples
    --------
    >>> round(critical_value([0.5**0.5] * 3, 20), 3)
    2.54
    """
    loadings, counts = distinct(np.atleast_1d(np.asarray(loadings_T, dtype=float)))
    key = (tuple(loadings), tuple(counts), round(float(df), 6), float(alpha))
    return _critical(*key)


def step_down(t_T: ArrayLike, loadings_T: ArrayLike, df_T: ArrayLike) -> Array:
    """Return adjusted p values: each arm is compared with the arms no more extreme than itself.

    Dunnett and Tamhane (1991), Statistics in Medicine 10:939. Arms go by their single-step p, so
    that the adjusted one is never larger, whatever the df: an arm whose interval leaves out 0 is
    below alpha. Of family error alpha where the df are equal; nearly so where they differ.

    Parameters
    ----------
    t_T
        (T,) t statistics.
    loadings_T
        (T,) as in `tail_probability`.
    df_T
        (T,) or one number: degrees of freedom.

    Returns
    -------
    (T,) p values in the order of `t_T`.
    """
    t = np.abs(np.atleast_1d(np.asarray(t_T, dtype=float)))
    loadings = np.broadcast_to(np.asarray(loadings_T, dtype=float), t.shape)
    df = np.broadcast_to(np.asarray(df_T, dtype=float), t.shape)
    raw = extreme = two_sided_p(t, df)  # with equal df in the order of the single-step p
    if len(set(df.round(6))) > 1:
        extreme = np.array([tail_probability(*arm) for arm in zip(t, repeat(loadings), df)])
    order = np.lexsort((-t, extreme))
    adjusted = np.empty(len(t))
    floor = 0.0
    for rank, arm in enumerate(order):
        tail = raw[arm]
        if floor <= NEARLY_ONE:
            tail = tail_probability(t[arm], loadings[order[rank:]], df[arm])
        floor = max(floor, tail)
        adjusted[arm] = floor
    return adjusted


def two_sided_p(t: ArrayLike, df: ArrayLike) -> Array:
    """Return the unadjusted two-sided p value of a t statistic."""
    return np.asarray(2 * special.stdtr(df, -np.abs(np.asarray(t, dtype=float))))


def one_factor_loadings(correlation_TT: ArrayLike) -> Array:
    """Return the loadings whose products come nearest to a correlation matrix (least squares).

    Exact where the correlations have product form, as in every design whose arms' means are
    independent given the baseline; otherwise the best approximation off the diagonal.

    Returns
    -------
    (T,) numbers in [0, 0.9999].
    """
    R = np.array(correlation_TT, dtype=float)
    n = len(R)
    if n == 1:
        return np.zeros(1)
    np.fill_diagonal(R, 0.0)
    loadings = np.full(n, np.sqrt(np.clip(R.sum() / (n * (n - 1)), 1e-6, 0.99)))
    for _ in range(max(200, 20_000 // n)):
        before = loadings.copy()
        for i in range(n):
            others = loadings @ loadings - loadings[i] ** 2
            loadings[i] = np.clip(R[i] @ loadings / max(others, 1e-12), 0.0, 0.9999)
        if np.max(np.abs(loadings - before)) < 1e-12:
            break
    return loadings


def distinct(loadings: Array) -> tuple[Array, Array]:
    """Return the distinct loadings and how often each one comes."""
    values, counts = np.unique(np.round(loadings, 9), return_counts=True)
    if len(values) > MAX_DISTINCT:
        rounded = np.floor(loadings * MAX_DISTINCT) / MAX_DISTINCT
        values, counts = np.unique(rounded, return_counts=True)
    return values, counts.astype(float)


@lru_cache(maxsize=512)
def _critical(
    loadings: tuple[float, ...], counts: tuple[float, ...], df: float, alpha: float
) -> float:
    n_arms = sum(counts)
    low = float(special.stdtrit(df, 1 - alpha / 2)) if np.isfinite(df) else _normal(alpha / 2)
    if n_arms == 1:
        return low
    share = alpha / n_arms / 2
    high = -float(special.stdtrit(df, share)) if np.isfinite(df) else _normal(share)
    values, weights = np.array(loadings), np.array(counts)
    gap = np.log(alpha)
    return find_root(lambda c: np.log(_tail(c, values, weights, df)) - gap, low - 1e-3, high + 1e-3)


def _normal(upper: float) -> float:
    return -float(special.ndtri(upper))


def _tail(threshold: float, loadings: Array, counts: Array, df: float) -> float:
    if threshold <= 0:
        return 1.0
    s, s_weights = sd_nodes(df)
    spread = np.sqrt(1 - loadings**2)
    n_z = int(np.clip(np.ceil(20 / spread.min()), 32, 400))
    z, z_weights = z_nodes(n_z)
    reach = (threshold * s)[:, None, None]
    shift = z[:, None] * loadings
    outside = special.ndtr((-reach - shift) / spread) + special.ndtr((-reach + shift) / spread)
    with np.errstate(divide="ignore"):
        log_inside = np.log1p(-np.minimum(outside, 1.0)) @ counts
    return float(np.clip(s_weights @ -np.expm1(log_inside) @ z_weights, 0.0, 1.0))


@lru_cache(maxsize=1024)
def sd_nodes(df: float) -> tuple[Array, Array]:
    """Return nodes and weights for the ratio of an estimated sd to the true one.

    Gauss-Legendre on the logarithm of the ratio, between its extreme quantiles.

    Parameters
    ----------
    df
        Degrees of freedom of the estimate; ``inf``: the ratio is 1.
    """
    if df > 1e7:
        return np.ones(1), np.ones(1)
    half = df / 2
    low = 0.5 * np.log(max(special.gammaincinv(half, LOWEST), 1e-60) / half)
    high = 0.5 * np.log(special.gammainccinv(half, LOWEST) / half)
    x, weights = legendre(N_S)
    log_s = (low + high) / 2 + (high - low) / 2 * x
    log_density = (
        np.log(2)
        + half * np.log(half)
        - special.gammaln(half)
        + 2 * half * log_s
        - half * np.exp(2 * log_s)
    )
    return np.exp(log_s), weights * (high - low) / 2 * np.exp(log_density)


@lru_cache(maxsize=32)
def z_nodes(n: int) -> tuple[Array, Array]:
    """Return n nodes and weights for a standard normal, folded to its positive half."""
    # The integrand is even in z: half the range, twice the weight.
    x, weights = legendre(n)
    z = Z_END / 2 * (x + 1)
    density = np.exp(-(z**2) / 2) * np.sqrt(2 / np.pi)
    return z, weights * Z_END / 2 * density


@lru_cache(maxsize=64)
def legendre(n: int) -> tuple[Array, Array]:
    """Return the Gauss-Legendre nodes on [-1, 1] and their weights."""
    x, weights = np.polynomial.legendre.leggauss(n)
    return np.asarray(x), np.asarray(weights)
