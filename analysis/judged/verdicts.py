"""Judged differences with intervals and verdicts: arm minus baseline, in points of 0 to 100."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.judged.effects import length_effect
from analysis.judged.gold import Gold
from analysis.judged.scores import Scores, square
from analysis.questions.measures import Effect, Measure
from analysis.questions.paired import Decided, PairedRules, decide
from analysis.stats.judging.crossed import CrossedMean, Estimated, OverSeeds, crossed_mean
from analysis.stats.judging.prediction_powered import Corrected, corrected_mean


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
    decided: Decided


@dataclass(frozen=True, slots=True)
class Judged:
    """All arms, the best first."""

    scores: Scores
    rules: PairedRules
    baseline_mean: float
    differences: list[Difference]
    length: Estimated | None
    n_instructions: int
    """Shown; each difference knows how many of them it stands on."""
    gold: Gold | None
    """Hand labels that corrected the judge."""

    def measure(self) -> Measure:
        """Return the judged score as one of several measures."""
        effects = {
            d.arm: Effect.around(d.estimate, d.decided.half_width, str(d.decided.verdict))
            for d in self.differences
        }
        return Measure("judged score", "points", True, effects, 1)


def judged_differences(scores: Scores, rules: PairedRules, gold: Gold | None = None) -> Judged:
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
    decided = decide([basis.estimated for basis in bases], rules)
    found = [_difference(panel, *pair) for pair in zip(bases, decided, strict=True)]
    return Judged(
        scores=scores,
        rules=rules,
        baseline_mean=_mean_score(scores, rules.baseline),
        differences=sorted(found, key=lambda d: -d.estimate),
        length=length,
        n_instructions=scores.frame["instruction_id"].nunique(),
        gold=gold,
    )


@dataclass(frozen=True, slots=True)
class _Panel:
    """What all arms are compared by."""

    scores: Scores
    rules: PairedRules
    gold: Gold | None
    length: Estimated | None
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
    def estimated(self) -> OverSeeds:
        """The difference, by hand labels where there are any."""
        found, corrected = self.found, self.corrected
        if corrected is None:
            return found
        # the seeds' share, which labels of the same models do not take away
        seeds = 0.0 if np.isnan(found.var_seed) else found.var_seed / found.n_seeds
        se = float(np.sqrt(corrected.variance + seeds))
        return OverSeeds(corrected.mean, se, min(corrected.df, found.df), found.n_seeds)


def _basis(panel: _Panel, arm: str) -> _Basis:
    scores, baseline = panel.scores, panel.rules.baseline
    table = scores.differences(arm, baseline)
    if len(table) < 2:
        raise AnalysisError(
            f"{arm}: {len(table)} instructions have all scores, 2 are needed; ask once more where "
            "answers had none with python -m harness.judge ... --again"
        )
    found = crossed_mean(square(table))
    if panel.gold is None:
        return _Basis(arm, table, found, None)
    labels = panel.gold.differences(scores, arm, baseline)
    judged = table.mean(axis=1)
    both = judged.index.intersection(labels.index)
    if len(both) < 2:
        strangers = panel.gold.strangers(scores)
        raise AnalysisError(
            f"the hand labels in {panel.gold.file} have {arm} and {baseline} together on "
            f"{len(both)} judged instructions: label at least 2 of them, better "
            f"20{strangers and f'; {strangers}'}"
        )
    arrays = (judged[both], labels[both], judged.drop(both))
    return _Basis(arm, table, found, corrected_mean(*(a.to_numpy(dtype=float) for a in arrays)))


def _difference(panel: _Panel, basis: _Basis, decided: Decided) -> Difference:
    at_same_length, its_half = _at_same_length(panel, basis)
    return Difference(
        arm=basis.arm,
        mean=_mean_score(panel.scores, basis.arm),
        found=basis.found,
        same_length=at_same_length,
        same_length_half=its_half,
        corrected=basis.corrected,
        estimate=basis.estimated.estimate,
        decided=decided,
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
    return found.estimate, Estimated(found.estimate, se, found.df).half_width(panel.alpha)
