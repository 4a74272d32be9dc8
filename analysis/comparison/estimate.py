"""Which estimator the runs allow, chosen from their seeds alone, and why."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import SEEDS_IN_ARMS, SHARED_ENOUGH, arms_with_seeds, named
from analysis.stats.linear import FEWEST_DF, Fit, Index, fit_pooled
from analysis.stats.mixed import fit_mixed, seed_index
from analysis.stats.moderated.model import Model, moderate
from analysis.stats.seed_correlation import (
    Correlation,
    pair_correlation,
    paired_arms,
    pairing_df,
)

MODERATED, POOLED = "moderated", "pooled"
VARIANCES = (MODERATED, POOLED)
MOST_ALIKE = 0.999
"""Correlation of same-seed runs to plan with, at most."""


class Obstacle(StrEnum):
    """Why no verdict may be given."""

    NO_REPEATS = "no repeats"
    LOOP_ONLY = "loop-only band"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fit of the complete runs, or why there is none."""

    arms: tuple[str, ...]
    """Baseline first, the others by name."""
    model: Model | None
    """None: one run of each arm, so the noise cannot be estimated."""
    n_shared: tuple[int, ...]
    """Initialisation seeds that each arm shares with the baseline."""
    method: str
    why: str
    obstacle: Obstacle | None = None
    """Why no verdict may be given."""
    correlation: Correlation | None = None
    """Of same-seed runs, measured from the pairs alone, where the fit uses it and it can be."""
    pairing_lost: bool = False
    """Arms share seeds, but too few to estimate how alike same-seed runs are."""

    @property
    def fit(self) -> Fit | None:
        """Means of the arms with their covariance, as if all arms were equally noisy."""
        return self.model.fit if self.model else None

    @property
    def judging(self) -> Model | None:
        """The model, where it may judge an arm beside the baseline."""
        return self.model if self.obstacle is None and len(self.arms) > 1 else None

    @property
    def noiseless(self) -> bool:
        """Whether the fit leaves no residual noise to judge differences by."""
        return self.fit is not None and not self.fit.var_resid > 0

    @property
    def equal_noise(self) -> float:
        """Probability that all arms are equally noisy; 1 where that is taken for granted."""
        return float(self.model.posterior.equal) if self.model else 1.0

    @property
    def rho(self) -> float | None:
        """Correlation of same-seed runs to plan with; None: the fit does not use it."""
        fit = self.fit
        if fit is None or fit.method != "mixed" or self.noiseless:
            return None
        found = self.correlation.estimate if self.correlation else fit.rho
        return min(max(found, 0.0), MOST_ALIKE)


def estimate(runs: pd.DataFrame, baseline: str, variance: str = MODERATED) -> Estimate:
    """Fit the complete runs by the method that their seeds allow.

    Parameters
    ----------
    runs
        Complete runs with columns ``arm``, ``loss`` (nats per token) and, where known,
        ``init_seed`` and ``init_shared``.
    baseline
        The arm that the others are compared with.
    variance
        ``moderated``: equally and unequally noisy arms, averaged by how likely each is;
        ``pooled``: equally noisy arms.

    Raises
    ------
    AnalysisError
        No complete baseline run, or an unknown `variance`.
    """
    if variance not in VARIANCES:
        raise AnalysisError(f"unknown variance {variance!r}: allowed are {', '.join(VARIANCES)}")
    arms = _order(runs, baseline)
    codes = runs["arm"].map({arm: i for i, arm in enumerate(arms)})
    index = np.asarray(codes, dtype=np.intp)
    loss = runs["loss"].to_numpy(dtype=float)
    n = np.bincount(index, minlength=len(arms))
    inits = [frozenset(_inits(runs, index == i)) for i in range(len(arms))]
    shared = (len(inits[0]), *(len(mine & inits[0]) for mine in inits[1:]))
    if (n == 1).all():
        return Estimate(
            arms,
            None,
            shared,
            "no inference",
            "every arm has one run: only the break-even sd can be given",
            Obstacle.NO_REPEATS,
        )
    if max(_distinct_inits(runs, index, i) for i in range(len(arms))) == 1:
        return _loop_only(arms, loss, index, shared)
    return _fitted(runs, _Losses(arms, index, loss, shared, pooled=variance == POOLED))


@dataclass(frozen=True, slots=True)
class _Losses:
    arms: tuple[str, ...]
    index: Index
    """(N,) each run's arm."""
    loss: np.ndarray
    n_shared: tuple[int, ...]
    pooled: bool
    """All arms are taken to be equally noisy."""

    def estimate(self, fit: Fit, seed: Index, method: str, why: str) -> Estimate:
        """Return the fit with what the runs say of unequal noise."""
        pooled = self.pooled or bool((fit.n[1:] == 1).all())
        model = moderate(fit, self.loss, self.index, seed, pooled=pooled)
        if not pooled:
            method += ", moderated by each difference's own variance"
            method += f" (probability of equal noise: {float(model.posterior.equal):.2f})"
        mixed = fit.method == "mixed"
        correlation = pair_correlation(self.loss, self.index, seed) if mixed else None
        return Estimate(self.arms, model, self.n_shared, method, why, correlation=correlation)


def _fitted(runs: pd.DataFrame, given: _Losses) -> Estimate:
    arms, index, loss = given.arms, given.index, given.loss
    n = np.bincount(index)
    singles = bool((n[1:] == 1).all()) and len(arms) > 1
    labels = block_labels(runs, arms[0], pair=not singles)
    seed = seed_index(labels)
    lacking = _lacking(index, seed)
    if lacking or seed.max() + 1 == len(runs):
        fit, seed = fit_pooled(loss, index), np.arange(len(runs))
        if singles:
            method = f"t prediction interval of one run from K = {n[0]} baselines, df {n[0] - 1}"
            return given.estimate(fit, seed, method, "every other arm has a single run")
        method = f"one-way means, pooled variance, df {fit.df_resid:g}"
        why = lacking or _why_pooled(runs)
        found = given.estimate(fit, seed, method, why)
        return dataclasses.replace(found, pairing_lost=bool(lacking))
    method = "mixed model loss ~ arm + (1 | init_seed), REML, Kenward-Roger se and df"
    why = "runs share initialisation seeds" + (" within the baseline only" if singles else "")
    return given.estimate(fit_mixed(loss, index, seed), seed, method, why)


def _lacking(arm: Index, seed: Index) -> str:
    """Return why the pairing of these runs cannot be estimated; empty: it can, or there is none.

    Then REML often runs to a correlation of 1 with hardly a degree of freedom, while one-way means
    are only cautious: shared seeds make differences quieter. Reruns of an arm's seed are not, and
    stay with the mixed model; so do complete blocks, which are analysis of variance.
    """
    cells = set(zip(arm, seed, strict=True))
    size = np.bincount(seed)
    complete = len(cells) == len(size) * (arm.max() + 1)
    left = pairing_df(arm, seed)
    if len(cells) < len(arm) or complete or left >= FEWEST_DF or size.max() == 1:
        return ""
    return (
        f"{(size > 1).sum()} initialisation seed(s) shared between arms leave {left} degree(s) of "
        f"freedom to estimate the pairing ({FEWEST_DF:g} are needed), so it is not used: more "
        "seeds that all arms complete restore it"
    )


def _why_pooled(runs: pd.DataFrame) -> str:
    if "init_seed" not in runs or runs["init_seed"].isna().all():
        return "no init_seed is given, so every run counts as a seed of its own"
    if runs["init_seed"].dropna().duplicated().any():
        return "no arm shares at least half of its initialisation seeds with the baseline"
    return "no two runs share an initialisation seed"


def _loop_only(
    arms: tuple[str, ...], loss: np.ndarray, index: np.ndarray, shared: tuple[int, ...]
) -> Estimate:
    return Estimate(
        arms,
        moderate(fit_pooled(loss, index), loss, index, np.arange(len(loss)), pooled=True),
        shared,
        "no inference",
        "the repeats of each arm share one initialisation seed: their spread leaves out the noise "
        "of the initial weights",
        Obstacle.LOOP_ONLY,
    )


def _order(runs: pd.DataFrame, baseline: str) -> tuple[str, ...]:
    present = sorted(set(runs["arm"]))
    if baseline not in present:
        have = ", ".join(map(repr, present)) or "none"
        example = f", e.g. --baseline {shlex.quote(present[0])}" if present else " with --baseline"
        seeds = arms_with_seeds(runs)
        advice = f"{named(seeds)} {SEEDS_IN_ARMS}" if seeds else f"run it, or name another{example}"
        raise AnalysisError(
            f"no complete run of the baseline {baseline!r} (complete arms: {have}): {advice}"
        )
    return (baseline, *(arm for arm in present if arm != baseline))


def _inits(runs: pd.DataFrame, mask: np.ndarray) -> list[object]:
    """Return the seeds that a block could be made of: known, and of the same initialisation."""
    if "init_seed" not in runs:
        return []
    seeds = runs["init_seed"][mask & _paired(runs)]
    return list(seeds.dropna())


def _paired(runs: pd.DataFrame) -> np.ndarray:
    if "init_shared" not in runs:
        return np.ones(len(runs), dtype=bool)
    share = pd.to_numeric(runs["init_shared"]).to_numpy(dtype=float)
    return np.asarray(np.isnan(share) | (share >= SHARED_ENOUGH))


def _distinct_inits(runs: pd.DataFrame, index: np.ndarray, arm: int) -> int:
    if "init_seed" not in runs:
        return int((index == arm).sum())
    seeds = runs["init_seed"][index == arm]
    return int(seeds.nunique() + seeds.isna().sum())


def block_labels(runs: pd.DataFrame, baseline: str, *, pair: bool = True) -> list[object]:
    """Return each run's block: its seed, or a label of its own where nothing is shared.

    An arm is paired with the baseline where that has at least half of its seeds.
    """
    labels, arms = _seed_labels(runs), list(runs["arm"])
    paired = {baseline, *(_paired_with(labels, arms, baseline) if pair else ())}
    return [
        label if arm in paired else (arm, label) for arm, label in zip(arms, labels, strict=True)
    ]


def hardly_paired(runs: pd.DataFrame, baseline: str) -> list[str]:
    """Return the arms that share seeds with the baseline, but fewer than half of their own."""
    labels, arms = _seed_labels(runs), list(runs["arm"])
    pairs = list(zip(labels, arms, strict=True))
    base = {label for label, arm in pairs if arm == baseline}
    sharing = {arm for label, arm in pairs if label in base}
    return sorted(sharing - _paired_with(labels, arms, baseline))


def _seed_labels(runs: pd.DataFrame) -> list[object]:
    """Return each run's seed; where it is not known, or draws other weights, its own label."""
    if "init_seed" not in runs:
        return list(range(len(runs)))
    rows = zip(
        runs["arm"], runs["init_seed"], runs["init_seed"].notna(), _paired(runs), strict=True
    )
    return [
        ("run", i) if not known else ("seed", str(seed)) if shared else (arm, str(seed))
        for i, (arm, seed, known, shared) in enumerate(rows)
    ]


def _paired_with(labels: list[object], arms: list[str], baseline: str) -> set[str]:
    codes = {arm: i for i, arm in enumerate([baseline, *sorted(set(arms) - {baseline})])}
    paired = paired_arms(np.array([codes[arm] for arm in arms]), seed_index(labels))
    return {arm for arm, code in codes.items() if paired[code]}
