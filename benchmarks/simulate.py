"""Simulated studies with known truth, and the methods that are held against each other.

Many studies at once. A run's loss is its arm's mean, its seed's share (the same in all arms) and
its own part, normal. On complete blocks the mixed model is analysis of variance, so all studies of
a cell are judged together; `judge_one` judges any study by the package's own road.

Shapes: S studies, T arms, A = T + 1 with the baseline, n seeds, N runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.linear import Array
from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.max_t import against_baseline
from analysis.stats.moderated.model import Averaged, Differences, moderate
from analysis.stats.moderated.own_variance import OwnVariance
from analysis.stats.moderated.posterior import fit_posterior
from analysis.stats.planning.design import Design

SD, DELTA, ALPHA = 0.015, 0.05, 0.05
POWER = 0.8
"""Of the pooled rule for the true effects, were all arms equally noisy."""
FOURFOLD, WIDE = 4.0, 67.0
"""Variance of the odd arms or the baseline over the others'; range of sd where they vary."""
OURS, POOLED, WELCH = "moderated", "pooled", "Welch+Holm"
BATCH = 250
"""Studies at once: bounds the memory."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of study; the first half of its arms truly differ from the baseline."""

    n_arms: int
    n: int
    rho: float
    """Correlation of same-seed runs, of the arms that are not odd."""
    noise: str = "equal"
    """``equal``; ``two arms``: the last real and the last null one have fourfold variance of their
    own part; ``baseline``: it has; ``wide``: the sds of the differences lie log-uniform over a
    range of 67, other ones in each study."""
    n_baseline: int | None = None
    """Baseline seeds; None: as many as the arms'."""

    @property
    def K(self) -> int:  # noqa: N802
        """Baseline runs."""
        return self.n_baseline or self.n


@dataclass(frozen=True, slots=True)
class Studies:
    """S simulated studies of one layout; arm 0 is the baseline."""

    loss: Array
    """(S, N)."""
    arm: np.ndarray
    seed: np.ndarray
    truth: Array
    """(S, T) true differences."""


@dataclass(frozen=True, slots=True)
class Study:
    """One of them."""

    loss: Array
    arm: np.ndarray
    seed: np.ndarray
    truth: Array


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method says of S studies: arrays are (S, T)."""

    rejected: np.ndarray
    covered: np.ndarray
    """The simultaneous interval, or the pointwise one where a method has no other."""


def draw(cell: Cell, rng: np.random.Generator, count: int, effect: float | None = None) -> Studies:
    """Draw studies; `effect` is each real arm's, else in proportion to its difference's noise."""
    scale = _scales(cell, rng, count)
    truth = np.zeros((count, cell.n_arms))
    real = slice(cell.n_arms // 2)
    if effect is None:
        found = Design(SD, cell.rho, cell.n_arms, cell.n_baseline, ALPHA, pooled=True)
        noise = np.sqrt((scale[:, 1:] ** 2 + scale[:, :1] ** 2) / 2)
        truth[:, real] = -found.detectable(cell.n, POWER) * noise[:, real]
    else:
        truth[:, real] = -effect
    counts = [cell.K, *[cell.n] * cell.n_arms]
    arm = np.repeat(np.arange(cell.n_arms + 1), counts)
    seed = np.concatenate([np.arange(size) for size in counts])
    shared = rng.normal(0, SD * math.sqrt(cell.rho), (count, max(counts)))
    own = rng.normal(0, SD * math.sqrt(1 - cell.rho), (count, len(arm)))
    mean = np.hstack([np.zeros((count, 1)), truth])[:, arm]
    return Studies(3.69 + mean + shared[:, seed] + scale[:, arm] * own, arm, seed, truth)


def simulate(cell: Cell, rng: np.random.Generator, *, null: bool = False) -> Study:
    """Draw one study whose real arms differ by 0.05 nats per token."""
    studies = draw(cell, rng, 1, 0.0 if null else DELTA)
    return Study(studies.loss[0], studies.arm, studies.seed, studies.truth[0])


def _scales(cell: Cell, rng: np.random.Generator, count: int) -> Array:
    """Return the sd of each arm's own part over that of an ordinary one, (count, A)."""
    scale = np.ones((count, cell.n_arms + 1))
    if cell.noise == "two arms":
        scale[:, [cell.n_arms // 2, cell.n_arms]] = math.sqrt(FOURFOLD)
    elif cell.noise == "baseline":
        scale[:, 0] = math.sqrt(FOURFOLD)
    elif cell.noise == "wide":
        # Differences of any size of noise need a baseline whose runs add none of their own.
        reach = math.log(WIDE) / 2
        scale[:, 1:] = math.sqrt(2) * np.exp(rng.uniform(-reach, reach, (count, cell.n_arms)))
        scale[:, 0] = 0.0
    return scale


def judge_blocks(cell: Cell, studies: Studies) -> dict[str, Answer]:
    """Judge studies of complete blocks by all methods."""
    loss = studies.loss.reshape(len(studies.loss), cell.n_arms + 1, cell.n)
    T, n, df = cell.n_arms, cell.n, cell.n_arms * (cell.n - 1)
    means = loss.mean(axis=2)
    variance = residual_variance(loss - means[:, :, None])
    estimate = means[:, 1:] - means[:, :1]
    se = np.sqrt(2 * variance / n)[:, None]
    own = (loss[:, 1:] - loss[:, :1]).var(axis=2, ddof=1) / (2 * variance[:, None])
    ratio = OwnVariance(own, np.full(T, n - 1.0))
    judged = Averaged(np.full(estimate.shape, df), ratio, fit_posterior(ratio))
    z, miss = np.abs(estimate) / se, np.abs(estimate - studies.truth) / se
    families = [against_baseline([math.sqrt(0.5)] * k) for k in range(1, T + 1)]
    equal, unequal = _step_down(z, df, families), _holm(judged.posterior.tail(z, ratio))
    w = judged.posterior.equal[:, None]
    return {
        OURS: Answer(
            w * equal + (1 - w) * unequal < ALPHA, judged.any(miss, families[-1]) >= ALPHA
        ),
        POOLED: Answer(equal < ALPHA, families[-1].tail(miss, df) >= ALPHA),
        WELCH: _welch(loss, studies.truth),
    }


def judge_one(loss: Array, arm: np.ndarray, seed: np.ndarray, *, pooled: bool) -> Differences:
    """Return what the package says of one study, whatever its layout."""
    return moderate(fit_mixed(loss, arm, seed), loss, arm, seed, pooled=pooled).against_baseline()


def judge_each(studies: Studies) -> dict[str, Answer]:
    """Judge studies of any layout, one by one."""
    answers = {}
    for name, pooled in ((OURS, False), (POOLED, True)):
        rejected, covered = [], []
        for loss, truth in zip(studies.loss, studies.truth, strict=True):
            found = judge_one(loss, studies.arm, studies.seed, pooled=pooled)
            rejected.append(found.p_adj < ALPHA)
            miss = np.abs(found.found.estimate - truth)
            covered.append(miss <= found.half_width(ALPHA))
        answers[name] = Answer(np.array(rejected), np.array(covered))
    return answers


def judge(cell: Cell, studies: Studies) -> dict[str, Answer]:
    """Judge studies by all methods that their layout allows, a batch at a time."""
    if cell.n != cell.K:
        return judge_each(studies)
    parts = [
        judge_blocks(
            cell, Studies(studies.loss[part], studies.arm, studies.seed, studies.truth[part])
        )
        for start in range(0, len(studies.loss), BATCH)
        for part in [slice(start, start + BATCH)]
    ]
    return {
        name: Answer(
            np.concatenate([part[name].rejected for part in parts]),
            np.concatenate([part[name].covered for part in parts]),
        )
        for name in parts[0]
    }


def residual_variance(deviation: Array) -> Array:
    """Return REML's residual variance of (S, A, n) deviations from the arms' means, (S,)."""
    _, A, n = deviation.shape
    seed = deviation.mean(axis=1)
    between = A * (seed**2).sum(axis=1) / (n - 1)
    total = (deviation**2).sum(axis=(1, 2))
    within = (total - between * (n - 1)) / ((A - 1) * (n - 1))
    return np.where(between > within, within, total / (A * (n - 1)))


def _step_down(z: Array, df: float, families: list) -> Array:
    order = np.argsort(-z, axis=1)
    ranked = np.take_along_axis(z, order, axis=1)
    single = [family.tail(ranked[:, -k], df) for k, family in enumerate(families, start=1)]
    return _in_place(np.maximum.accumulate(np.stack(single[::-1], axis=1), axis=1), order)


def _holm(p: Array) -> Array:
    order = np.argsort(p, axis=1)
    scaled = np.take_along_axis(p, order, axis=1) * np.arange(p.shape[1], 0, -1)
    return _in_place(np.minimum(np.maximum.accumulate(scaled, axis=1), 1.0), order)


def _in_place(ranked: Array, order: np.ndarray) -> Array:
    found = np.empty_like(ranked)
    np.put_along_axis(found, order, ranked, axis=1)
    return found


def _welch(loss: Array, truth: Array) -> Answer:
    n = loss.shape[2]
    variance = loss.var(axis=2, ddof=1) / n
    both = variance[:, 1:] + variance[:, :1]
    df = both**2 / ((variance[:, 1:] ** 2 + variance[:, :1] ** 2) / (n - 1))
    estimate = loss.mean(axis=2)[:, 1:] - loss.mean(axis=2)[:, :1]

    def p(difference: Array) -> Array:
        return 2 * special.stdtr(df, -np.abs(difference) / np.sqrt(both))

    return Answer(_holm(p(estimate)) < ALPHA, p(estimate - truth) >= ALPHA / truth.shape[1])
