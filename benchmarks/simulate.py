"""Simulated studies with known truth, and the methods that are held against each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from analysis.stats.dunnett import critical_value, one_factor_loadings
from analysis.stats.linear import Array, Fit, fit_pooled, fit_squeezed
from analysis.stats.mixed import fit_mixed
from analysis.stats.own import guard
from analysis.stats.textbook_tests import holm, paired, welch

SD, DELTA, ALPHA = 0.015, 0.05, 0.05
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of study."""

    n_arms: int
    n: int
    rho: float
    """Correlation of same-seed runs."""
    ratio: float = 1.0
    """Variance of the odd ones over the others'."""
    n_baseline: int | None = None
    """Baseline seeds; None: as many as the arms'."""
    odd: str = "2 arms"
    """Who has `ratio`: ``2 arms`` (the last null and the last real one) or ``baseline``."""

    @property
    def K(self) -> int:  # noqa: N802
        """Baseline runs."""
        return self.n_baseline or self.n


@dataclass(frozen=True, slots=True)
class Study:
    """Simulated runs; arm 0 is the baseline."""

    loss: Array
    arm: np.ndarray
    seed: np.ndarray
    truth: Array
    """(T,) true differences."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method says of one study; arrays are (T,)."""

    rejected: np.ndarray
    covered: np.ndarray
    covered_together: bool | None


Method = Callable[[Study], Answer]


def simulate(cell: Cell, rng: np.random.Generator, *, null: bool = False) -> Study:
    """Draw one study: normal seed effects shared by all arms, normal residuals."""
    truth = np.zeros(cell.n_arms)
    if not null:
        truth[: cell.n_arms // 2] = -DELTA
    scale = np.ones(cell.n_arms + 1)
    odd = [0] if cell.odd == "baseline" else [cell.n_arms // 2, cell.n_arms]
    scale[odd] = math.sqrt(cell.ratio)
    counts = [cell.K, *[cell.n] * cell.n_arms]
    arm = np.repeat(np.arange(cell.n_arms + 1), counts)
    seed = np.concatenate([np.arange(count) for count in counts])
    effect = rng.normal(0, SD * math.sqrt(cell.rho), max(counts))
    resid = rng.normal(0, SD * math.sqrt(1 - cell.rho), len(arm))
    loss = 3.69 + np.append(0.0, truth)[arm] + scale[arm] * (effect[seed] + resid)
    return Study(loss, arm, seed, truth)


def methods(cell: Cell) -> dict[str, Method]:
    """Return the methods that a cell allows, ours first."""
    if cell.n == 1:
        return {OURS: lambda study: _fitted(study, fit_pooled(study.loss, study.arm))}
    found: dict[str, Method] = {
        OURS: _guarded,
        "mixed": lambda study: _fitted(study, fit_mixed(study.loss, study.arm, study.seed)),
        "pooled": lambda study: _fitted(study, fit_pooled(study.loss, study.arm)),
        "Welch+Holm": lambda study: _pairwise(study, welch),
    }
    if cell.ratio != 1:
        found["squeezed"] = lambda study: _fitted(study, fit_squeezed(study.loss, study.arm))
    if cell.n == cell.K:
        found["paired t+Holm"] = lambda study: _pairwise(study, paired)
    return found


def _guarded(study: Study) -> Answer:
    runs = (study.loss, study.arm, study.seed)
    return _fitted(study, guard(fit_mixed(*runs), *runs))


def _fitted(study: Study, fit: Fit) -> Answer:
    """Judge as the package does, with critical values interpolated at the arms' mean loading."""
    found = fit.against_baseline()
    df = np.full_like(found.df, found.df.min()) if fit.method == "squeezed" else found.df
    loadings = one_factor_loadings(found.correlation)
    t = np.abs(found.estimate) / found.se
    miss = np.abs(found.estimate - study.truth) / found.se
    pointwise = miss <= special.stdtrit(df, 1 - ALPHA / 2)
    bounds = step_down_bounds(len(t), round(float(loadings.mean()), 2), df)
    order = np.argsort(-t / bounds[0])
    rejected = np.empty(len(t), dtype=bool)
    rejected[order] = np.logical_and.accumulate(t[order] > bounds[np.arange(len(t)), order])
    return Answer(rejected, pointwise, bool((miss <= bounds[0]).all()))


def step_down_bounds(n_arms: int, loading: float, df_T: Array) -> Array:
    """Return the (T, T) critical values of step-down Dunnett: by rank of an arm, at each df."""
    nodes, values = _bounds(n_arms, loading)
    return np.array([np.interp(1 / df_T, nodes, row) for row in values])


@lru_cache(maxsize=64)
def _bounds(n_arms: int, loading: float) -> tuple[Array, Array]:
    nodes = np.linspace(1e-4, 1.0, 80)
    arms = range(n_arms, 0, -1)
    return nodes, np.array(
        [[critical_value([loading] * k, 1 / x, ALPHA) for x in nodes] for k in arms]
    )


def _pairwise(study: Study, test: Callable[[Array, Array], tuple[float, float, float]]) -> Answer:
    base = study.loss[study.arm == 0]
    p, covered = [], []
    for t, truth in enumerate(study.truth):
        mine = study.loss[study.arm == t + 1]
        p.append(test(mine, base)[2])
        covered.append(test(mine - truth, base)[2] >= ALPHA)
    return Answer(holm(p) < ALPHA, np.array(covered), None)
