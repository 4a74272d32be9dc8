"""The mixed model ``loss ~ arm + (1 | init seed)``: REML with Kenward and Roger's inference.

V = var_resid * (I + ratio * Z Z'), with Z the indicators of the seeds. All that is needed of V is
a number for each seed, so nothing of size N x N is ever formed: 10,000 runs in 400 arms cost
matrices of 400 x 400. Source of the formulas: Kenward and Roger (1997), Biometrics 53:983; for a
covariance linear in its parameters their R_ij vanish.

Shapes: N runs, A arms, G seeds with two runs or more; a seed of one run is kept as a count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.stats.linear import Array, Fit, Index, clear_rounding, sums, sums_of_squares
from analysis.stats.solvers import minimise

LARGEST_RATIO = 1e9
"""Seeds' variance over the residual, at most; near it there is no residual but rounding."""

Weight = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sufficient statistics of the runs by arm and seed.

    The losses are taken around their arm's mean: what is left is noise, so that no digits are lost
    between large sums of squares.
    """

    n: Array
    """(A,) runs."""
    counts: Array
    """(A, G) runs of each arm at each seed of several runs."""
    size: Array
    """(G,) runs of the seed."""
    alone: Array
    """(A,) runs whose seed no other run has."""
    means: Array
    """(A,) plain means, nats per token."""
    seed_sum: Array
    """(G,)"""
    alone_sum: Array
    """(A,)"""
    alone_square: float
    total_square: float

    @property
    def n_runs(self) -> float:
        """N."""
        return float(self.n.sum())

    @property
    def size_of_loss(self) -> float:
        """Largest mean loss without its sign: what rounding is measured against."""
        return float(np.abs(self.means).max())

    def gram(self, weight: Weight) -> Array:
        """Return X' Z diag(weight) Z' X, (A, A); `weight` maps seeds' sizes to numbers."""
        one = weight(np.ones(1))[0]
        shared = (self.counts * weight(self.size)) @ self.counts.T
        return np.asarray(shared + np.diag(self.alone * one))

    def project(self, weight: Weight) -> Array:
        """Return X' Z diag(weight) Z' y, (A,)."""
        one = weight(np.ones(1))[0]
        return np.asarray(self.counts @ (weight(self.size) * self.seed_sum) + one * self.alone_sum)

    def square(self, weight: Weight) -> float:
        """Return y' Z diag(weight) Z' y."""
        one = weight(np.ones(1))[0]
        return float(weight(self.size) @ self.seed_sum**2 + one * self.alone_square)

    def total(self, term: Weight) -> float:
        """Return the sum of `term` over all seeds."""
        return float(term(self.size).sum() + self.alone.sum() * term(np.ones(1))[0])


def gather(loss: ArrayLike, arm: ArrayLike, seed: ArrayLike) -> Blocks:
    """Reduce N runs to what the model needs; `arm` and `seed` are integers from 0 without gaps."""
    y = np.asarray(loss, dtype=float)
    arms, seeds = np.asarray(arm, dtype=np.intp), np.asarray(seed, dtype=np.intp)
    n, means, _ = sums_of_squares(y, arms, int(arms.max()) + 1)
    y = y - means[arms]
    n_arms = len(n)
    size = np.bincount(seeds)
    lone = size[seeds] == 1
    label = np.cumsum(size > 1) - 1
    n_shared = int((size > 1).sum())
    counts = np.zeros((n_arms, n_shared))
    np.add.at(counts, (arms[~lone], label[seeds[~lone]]), 1.0)
    seed_sum = sums(label[seeds[~lone]], y[~lone], n_shared)
    return Blocks(
        n=n,
        counts=counts,
        size=size[size > 1].astype(float),
        alone=np.bincount(arms[lone], minlength=n_arms).astype(float),
        means=means,
        seed_sum=seed_sum,
        alone_sum=sums(arms[lone], y[lone], n_arms),
        alone_square=float((y[lone] ** 2).sum()),
        total_square=float((y**2).sum()),
    )


@dataclass(frozen=True, slots=True)
class _Solution:
    ratio: float
    Phi: Array
    """(A, A) inverse of X' V^-1 X at var_resid = 1."""
    shift: Array
    """(A,) generalised least-squares means minus the plain ones."""
    rss: float
    log_det: float
    """log |V| + log |X' V^-1 X| at var_resid = 1."""


def fit_mixed(loss: ArrayLike, arm: ArrayLike, seed: ArrayLike) -> Fit:
    """Fit the mixed model by REML; standard errors and df after Kenward and Roger.

    On complete blocks with a positive variance of the seeds this is blocked ANOVA with
    T(n-1) degrees of freedom.

    Parameters
    ----------
    loss
        (N,) nats per token.
    arm
        (N,) integers 0 … A-1; 0 is the baseline.
    seed
        (N,) integers from 0: runs with one number share an initialisation.

    Raises
    ------
    ValueError
        Not more runs than arms.

    Examples
    --------
    >>> fit = fit_mixed([1.0, 2.0, 4.0, 1.5, 2.6, 4.4], [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    >>> float(fit.against_baseline().df[0].round(6))
    2.0
    """
    blocks = gather(loss, arm, seed)
    if blocks.n_runs <= len(blocks.n):
        raise ValueError(f"{blocks.n_runs:.0f} runs in {len(blocks.n)} arms leave no residual")
    solution = _solve(blocks, _best_ratio(blocks))
    var_resid = solution.rss / (blocks.n_runs - len(blocks.n))
    if solution.ratio > LARGEST_RATIO / 10 or clear_rounding(var_resid, blocks.size_of_loss) == 0:
        return _without_residual(blocks, solution)
    return _kenward_roger(blocks, solution, var_resid)


def fit_of_design(arm: ArrayLike, seed: ArrayLike, var_init: float, var_resid: float) -> Fit:
    """Return what `fit_mixed` gives, all means 0, where the runs estimate these variances exactly.

    For planning: standard errors and df of a design before its runs.
    """
    blocks = gather(np.zeros(len(np.asarray(arm))), arm, seed)
    return _kenward_roger(blocks, _solve(blocks, var_init / var_resid), var_resid)


def reml_log_likelihood(blocks: Blocks, var_init: float, var_resid: float) -> float:
    """Return the restricted log-likelihood, as lme4 defines it."""
    solution = _solve(blocks, var_init / var_resid)
    df = blocks.n_runs - len(blocks.n)
    return -0.5 * float(
        df * np.log(2 * np.pi * var_resid) + solution.log_det + solution.rss / var_resid
    )


def _solve(blocks: Blocks, ratio: float) -> _Solution:
    def inside(size: Array) -> Array:
        return ratio / (1 + ratio * size)

    information = np.diag(blocks.n) - blocks.gram(inside)
    root = np.linalg.cholesky(information)
    inverse_root = np.linalg.inv(root)
    Phi = inverse_root.T @ inverse_root
    moment = -blocks.project(inside)
    shift = Phi @ moment
    rss = blocks.total_square - blocks.square(inside) - float(moment @ shift)
    log_det = blocks.total(lambda size: np.log1p(ratio * size))
    log_det += 2 * float(np.log(np.diag(root)).sum())
    return _Solution(ratio, Phi, shift, max(rss, 0.0), log_det)


def _best_ratio(blocks: Blocks) -> float:
    if (blocks.counts == 1).all() and not blocks.alone.any():
        return _complete_ratio(blocks)
    df = blocks.n_runs - len(blocks.n)
    floor = np.finfo(float).tiny + 1e-30 * blocks.total_square

    def deviance(share: float) -> float:
        solution = _solve(blocks, share / (1 - share))
        return df * float(np.log(max(solution.rss, floor))) + solution.log_det

    share = minimise(deviance, 0.0, 1 - 1 / LARGEST_RATIO)
    return share / (1 - share)


def _complete_ratio(blocks: Blocks) -> float:
    # Complete blocks: REML is analysis of variance wherever that is not negative.
    n_arms, n_seeds = blocks.counts.shape
    ms_seed = (blocks.seed_sum**2).sum() / n_arms / (n_seeds - 1)
    df_resid = (n_arms - 1) * (n_seeds - 1)
    ms_resid = (blocks.total_square - (n_seeds - 1) * ms_seed) / df_resid
    if ms_resid <= 1e-14 * ms_seed:
        return LARGEST_RATIO
    return float(max((ms_seed / ms_resid - 1) / n_arms, 0.0))


def _kenward_roger(blocks: Blocks, solution: _Solution, var_resid: float) -> Fit:
    """Adjust the covariance of the means; index b is the seeds' variance, e is the residual."""
    ratio, scale = solution.ratio, var_resid

    def shrink(power: int) -> Weight:
        return lambda size: (1 + ratio * size) ** -power

    def lost(power: int) -> Weight:
        return lambda size: (1 - (1 + ratio * size) ** -power) / size

    Phi = solution.Phi * scale
    P_b = -blocks.gram(shrink(2)) / scale**2
    P_e = -(np.diag(blocks.n) - blocks.gram(lost(2))) / scale**2
    Q_bb = blocks.gram(lambda size: size * (1 + ratio * size) ** -3.0) / scale**3
    Q_be = blocks.gram(shrink(3)) / scale**3
    Q_ee = (np.diag(blocks.n) - blocks.gram(lost(3))) / scale**3
    D_b, D_e = -Phi @ P_b @ Phi, -Phi @ P_e @ Phi
    parts = (Phi, P_b, P_e, Q_bb, Q_be, Q_ee)
    W = np.asarray(2 * np.linalg.pinv(_information(blocks, shrink, scale, parts)), dtype=np.float64)
    inner = W[0, 0] * (Q_bb - P_b @ Phi @ P_b) + W[1, 1] * (Q_ee - P_e @ Phi @ P_e)
    cross = Q_be - P_b @ Phi @ P_e
    inner += W[0, 1] * (cross + cross.T)
    cov = Phi + 2 * Phi @ inner @ Phi
    return Fit(
        "mixed",
        blocks.n,
        blocks.means + solution.shift,
        cov,
        Phi,
        (D_b, D_e),
        W,
        ratio * var_resid,
        var_resid,
        blocks.n_runs - len(blocks.n),
    )


def _without_residual(blocks: Blocks, solution: _Solution) -> Fit:
    df = blocks.n_runs - len(blocks.n)
    nothing = np.zeros_like(solution.Phi)
    return Fit(
        "mixed",
        blocks.n,
        blocks.means + solution.shift,
        nothing,
        nothing,
        (nothing,),
        np.zeros((1, 1)),
        clear_rounding(blocks.total_square / df, blocks.size_of_loss),
        0.0,
        df,
    )


def _information(
    blocks: Blocks, shrink: Callable[[int], Weight], scale: float, parts: tuple[Array, ...]
) -> Array:
    """Return tr(P G_i P G_j) for i, j in (seeds, residual): twice the expected information."""
    Phi, P_b, P_e, Q_bb, Q_be, Q_ee = parts
    w2 = shrink(2)
    bb = blocks.total(lambda size: size**2 * w2(size)) / scale**2
    be = blocks.total(lambda size: size * w2(size)) / scale**2
    ee = (blocks.n_runs + blocks.total(lambda size: w2(size) - 1)) / scale**2

    def trace(a: Array, b: Array) -> float:
        return float(np.einsum("ij,ji->", a, b))

    F_b, F_e = Phi @ P_b, Phi @ P_e
    bb += trace(F_b, F_b) - 2 * trace(Phi, Q_bb)
    be += trace(F_b, F_e) - 2 * trace(Phi, Q_be)
    ee += trace(F_e, F_e) - 2 * trace(Phi, Q_ee)
    return np.array([[bb, be], [be, ee]])


def seed_index(labels: list[object]) -> Index:
    """Return an integer for each distinct label, in order of appearance."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)
