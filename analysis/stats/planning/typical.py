"""Studies that a design typically leads to, as the nodes of a quadrature.

Where seeds are shared in complete blocks, the model's residual variance is the blocks' own, or that
of all runs around their arms' means where it is smaller: REML then finds no noise of the seeds. The
latter has more degrees of freedom than the analysis counts on, and the smaller one is picked.

Shapes: S typical studies, L residuals, T arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.dunnett import Array, legendre

NODES = (3, 4, 2)
"""Of the quadrature: the baseline's residuals, the arm's, and where the others' quantiles lie."""
RESIDUAL_NODES = (4, 8)
"""Where the residual is that of all runs, and where it is the blocks' own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Runs of a study of T arms: n seeds each, K baseline runs, the first seeds shared or none."""

    n_arms: int
    n: float
    K: float
    paired: bool


@dataclass(frozen=True, slots=True)
class Residuals:
    """What the model may find the residual variance to be."""

    over_own: Array
    """(L,) over the blocks' own residual."""
    scale: Array
    """(L,) its sd over that of a variance with `df`."""
    df: float
    weight: Array
    """(L,)"""


def residuals(layout: Layout, rho: float, df: float) -> Residuals:
    """Return the residuals of complete blocks; of other layouts the one with the model's df.

    F = (seeds over residual) / its expectation says all: given F, the sum of both has a chi-square
    with the df of all runs.
    """
    n, T = layout.n, layout.n_arms
    if not (layout.paired and n == layout.K):
        return Residuals(np.ones(1), np.ones(1), df, np.ones(1))
    within, between = T * (n - 1), n - 1
    raised = 1 + (T + 1) * rho / (1 - rho)
    none_seen = special.fdtr(between, within, 1 / raised)
    (low, w_low), (high, w_high) = [((x + 1) / 2, w / 2) for x, w in map(legendre, RESIDUAL_NODES)]
    quantile = np.concatenate([none_seen * low, none_seen + (1 - none_seen) * high])
    ss_seed = special.fdtri(between, within, quantile) * between / within
    over_own = np.minimum(1, (1 + raised * ss_seed) * within / (within + between))
    scale = np.sqrt(over_own * (within + between) / within / (1 + ss_seed))
    weight = np.concatenate([none_seen * w_low, (1 - none_seen) * w_high])
    return Residuals(over_own, scale, within + between, weight)


def typical_unpaired(layout: Layout) -> tuple[Array, Array]:
    """Return (S, T) own variances of unpaired differences over the pooled one, and weights (S,)."""
    n, K = layout.n, layout.K
    base, arms, weight = _quadrature(layout.n_arms)
    ss_base = special.chdtri(K - 1, 1 - base)[:, None]
    ss = special.chdtri(n - 1, 1 - arms)
    own = (ss / (n - 1) / n + ss_base / (K - 1) / K) / (1 / n + 1 / K)
    pooled = (ss.sum(axis=1) + ss_base[:, 0]) / (layout.n_arms * (n - 1) + K - 1)
    return own / pooled[:, None], weight


def typical_paired(layout: Layout, rho: float) -> tuple[Array, Array]:
    """Return the same of paired differences.

    At each shared seed a difference holds the arm's own noise and what it shares with the other
    arms' differences, which has the square `shared`: given the latter its sum of squares is a
    noncentral chi-square. Seeds of the baseline or the arm alone add noise that is taken at its
    mean, and so is the model's residual in complete blocks, given the former.
    """
    n, K, T = layout.n, layout.K, layout.n_arms
    free = min(n, K) - 1
    a, b = (math.sqrt(size / (size - 1)) / size for size in (n, K))
    common, own = rho * (a - b) ** 2 + (1 - rho) * b**2, (1 - rho) * a**2
    share = common / (common + own)
    base, arms, weight = _quadrature(T)
    shared = special.chdtri(free, 1 - base)[:, None] * share / (1 - share)
    squares = special.chndtrix(arms, free, shared)
    ratio = (1 - share) * squares / free
    if n == K:
        total = squares.sum(axis=1, keepdims=True)
        # By Cauchy and Schwarz no runs leave a smaller residual than the second.
        residual = np.maximum(total - (T - 1) * shared, total / T) / (T + 1) / free
        return np.asarray(ratio / residual), weight
    alone = max(n - K, 0) * a**2 + max(K - n, 0) * b**2
    alone /= alone + min(n, K) * (common + own)
    return np.asarray((1 - alone) * ratio + alone), weight


def _quadrature(n_arms: int) -> tuple[Array, Array, Array]:
    """Return probabilities of the baseline's residuals (S,), the arms' (S, T), and weights."""
    rules = [legendre(n) for n in NODES]
    grid = np.meshgrid(*[(x + 1) / 2 for x, _ in rules], indexing="ij")
    base, first, shift = (axis.ravel() for axis in grid)
    others = (np.arange(n_arms - 1) + shift[:, None]) / max(n_arms - 1, 1)
    weight = np.einsum("i,j,k->ijk", *[w / 2 for _, w in rules]).ravel()
    return base, np.hstack([first[:, None], others]), weight
