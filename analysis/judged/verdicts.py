"""Judged differences with intervals and verdicts: arm minus baseline, in points of 0 to 100."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.verdict import Kind, Size, Verdict
from analysis.errors import AnalysisError
from analysis.judged.effects import Slope, length_effect
from analysis.judged.gold import Gold
from analysis.judged.scores import Scores, square
from analysis.stats.holm import holm
from analysis.stats.judging.crossed import CrossedMean, crossed_mean, t_tail
from analysis.stats.judging.prediction_powered import Corrected, corrected_mean
from analysis.stats.linear import FEWEST_DF
from harness.records import BASELINE


@dataclass(frozen=True)
class JudgedRules:
    """How judged arms are compared."""

    baseline: str = BASELINE
    alpha: float = 0.05
    practical_size: float | None = None
    """Practically relevant difference in points; None: declared by nobody."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One arm against the baseline."""

    arm: str
    mean: float
    """The arm's own mean score."""
    found: CrossedMean
    """The difference, instructions and seeds random."""
    same_length: float
    """The difference at equal log length; NaN where lengths do not vary."""
    same_length_half: float
    """Half-width of its interval, simultaneous like the others."""
    corrected: Corrected | None
    """By hand labels, where there are any."""
    estimate: float
    """What the verdict is on: corrected where there are labels."""
    half_width: float
    """Of its simultaneous interval."""
    p_adj: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """All arms, the best first."""

    scores: Scores
    rules: JudgedRules
    baseline_mean: float
    differences: list[Difference]
    length: Slope | None
    n_instructions: int
    """Shown; each difference knows how many of them it stands on."""
    by_hand: bool
    """Whether hand labels corrected the judge."""


def judged_differences(scores: Scores, rules: JudgedRules, gold: Gold | None = None) -> Judged:
    """Compare every arm with the baseline.

    `AnalysisError` where there is no baseline, nothing to compare, or too few scores.
    """
    others = [arm for arm in scores.arms if arm != rules.baseline]
    if len(others) == len(scores.arms) or not others:
        raise AnalysisError(
            f"the arms are {', '.join(scores.arms)}: there must be a baseline "
            f"({rules.baseline}; name another with --baseline) and one more"
        )
    length = length_effect(scores.models[scores.models["score"].notna()])
    panel = _Panel(scores, rules, gold, length, n_arms=len(others))
    bases = [_basis(panel, arm) for arm in others]
    p_adj = holm(np.array([basis.p for basis in bases]))
    found = [_difference(panel, basis, float(p)) for basis, p in zip(bases, p_adj, strict=True)]
    return Judged(
        scores=scores,
        rules=rules,
        baseline_mean=_mean_score(scores, rules.baseline),
        differences=sorted(found, key=lambda d: -d.estimate),
        length=length,
        n_instructions=scores.frame["instruction_id"].nunique(),
        by_hand=gold is not None,
    )


@dataclass(frozen=True, slots=True)
class _Panel:
    """What all arms are compared by."""

    scores: Scores
    rules: JudgedRules
    gold: Gold | None
    length: Slope | None
    n_arms: int

    @property
    def alpha(self) -> float:
        """One arm's share of the family error, for its interval."""
        return self.rules.alpha / self.n_arms


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a verdict stands on."""

    arm: str
    table: pd.DataFrame
    found: CrossedMean
    corrected: Corrected | None

    @property
    def estimate(self) -> float:
        return self.corrected.mean if self.corrected else self.found.mean

    @property
    def se(self) -> float:
        if self.corrected is None:
            return self.found.se
        return float(np.sqrt(self.corrected.variance + self.seed_variance))

    @property
    def seed_variance(self) -> float:
        """The seeds' share, which labels of the same models do not take away."""
        return 0.0 if np.isnan(self.found.var_seed) else self.found.var_seed / self.found.n_seeds

    @property
    def df(self) -> float:
        return min(self.corrected.df, self.found.df) if self.corrected else self.found.df

    @property
    def p(self) -> float:
        return t_tail(self.estimate, self.se, self.df)

    def half_width(self, alpha: float) -> float:
        return float(special.stdtrit(self.df, 1 - alpha / 2)) * self.se


def _basis(panel: _Panel, arm: str) -> _Basis:
    scores, baseline = panel.scores, panel.rules.baseline
    table = scores.differences(arm, baseline)
    if len(table) < 2:
        raise AnalysisError(f"{arm}: {len(table)} instructions have all scores, 2 are needed")
    found = crossed_mean(square(table))
    if panel.gold is None:
        return _Basis(arm, table, found, None)
    labels = panel.gold.differences(scores, arm, baseline)
    judged = table.mean(axis=1)
    both = judged.index.intersection(labels.index)
    if len(both) < 2:
        raise AnalysisError(
            f"--gold labels {arm} and {baseline} together on {len(both)} judged instructions: "
            "label at least 2 of them, better 20"
        )
    arrays = (judged[both], labels[both], judged.drop(both))
    return _Basis(arm, table, found, corrected_mean(*(a.to_numpy(dtype=float) for a in arrays)))


def _difference(panel: _Panel, basis: _Basis, p_adj: float) -> Difference:
    half = basis.half_width(panel.alpha)
    at_same_length, its_half = _at_same_length(panel, basis)
    return Difference(
        arm=basis.arm,
        mean=_mean_score(panel.scores, basis.arm),
        found=basis.found,
        same_length=at_same_length,
        same_length_half=its_half,
        corrected=basis.corrected,
        estimate=basis.estimate,
        half_width=half,
        p_adj=p_adj,
        verdict=_verdict(basis, half, p_adj, panel.rules),
    )


def _mean_score(scores: Scores, arm: str) -> float:
    return float(np.nanmean(square(scores.table(arm))))


def _at_same_length(panel: _Panel, basis: _Basis) -> tuple[float, float]:
    """Return the difference at equal log length, and the half-width of its interval."""
    if panel.length is None:
        return float("nan"), float("nan")
    longer = panel.scores.differences(basis.arm, panel.rules.baseline, "log_length")
    longer = longer.reindex(index=basis.table.index, columns=basis.table.columns)
    found = crossed_mean(square(basis.table - panel.length.estimate * longer))
    slope_se = float(np.nanmean(square(longer))) * panel.length.se
    se = float(np.sqrt(found.variance + slope_se**2))
    return found.mean, float(special.stdtrit(found.df, 1 - panel.alpha / 2)) * se


def _verdict(basis: _Basis, half: float, p_adj: float, rules: JudgedRules) -> Verdict:
    n = basis.found.n_seeds
    if n < 2 or basis.df < FEWEST_DF or not basis.se > 0:
        return Verdict(Kind.UNDECIDED, n=n)
    low, high = basis.estimate - half, basis.estimate + half
    practical = math.inf if rules.practical_size is None else rules.practical_size
    inside = max(-low, high) < practical < math.inf
    if p_adj < rules.alpha:
        kind = Kind.BETTER if basis.estimate > 0 else Kind.WORSE
        beyond = low > practical or high < -practical
        size = Size.BEYOND if beyond else Size.BELOW if inside else Size.UNQUALIFIED
        return Verdict(kind, size, n=n)
    return Verdict(Kind.SAME if inside else Kind.UNDECIDED, n=n)
