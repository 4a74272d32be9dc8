"""Verdicts on paired differences whose standard errors come each from its own items and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.comparison.verdict import Kind, Size, Verdict
from analysis.stats.holm import holm
from analysis.stats.judging.crossed import OverSeeds
from analysis.stats.linear import FEWEST_DF
from harness.records import BASELINE

POWER = 0.8
"""Probability that a difference of the smallest detectable size is found."""


@dataclass(frozen=True)
class PairedRules:
    """How arms are compared by what they answered to the same items."""

    baseline: str = BASELINE
    alpha: float = 0.05
    practical_size: float | None = None
    """Practically relevant difference in the items' unit; None: declared by nobody."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What is said of one difference beside the others of its family."""

    half_width: float
    """Of its simultaneous interval (Bonferroni)."""
    p_adj: float
    """Holm."""
    verdict: Verdict
    detectable: float
    """Smallest true difference that is found with probability `POWER`; NaN without a verdict."""


def decide(family: Sequence[OverSeeds], rules: PairedRules) -> list[Decided]:
    """Judge all differences to the baseline together; more is better."""
    p_adj, alpha = holm(np.array([found.p for found in family])), rules.alpha / max(len(family), 1)
    decided = []
    for found, p in zip(family, p_adj.tolist(), strict=True):
        half = found.half_width(alpha)
        verdict = _verdict(found, half, p, rules)
        known = found.n_seeds > 1 and found.se > 0
        more = float(special.stdtrit(found.df, POWER)) * found.se
        decided.append(Decided(half, p, verdict, half + more if known else float("nan")))
    return decided


def _verdict(found: OverSeeds, half: float, p_adj: float, rules: PairedRules) -> Verdict:
    n, rope = found.n_seeds, rules.practical_size
    if n < 2 or found.df < FEWEST_DF or not found.se > 0:
        return Verdict(Kind.UNDECIDED, n=n)
    low, high = found.estimate - half, found.estimate + half
    inside = rope is not None and max(-low, high) < rope
    if p_adj < rules.alpha:
        kind = Kind.BETTER if found.estimate > 0 else Kind.WORSE
        beyond = rope is not None and (low > rope or high < -rope)
        size = Size.BEYOND if beyond else Size.BELOW if inside else Size.UNQUALIFIED
        return Verdict(kind, size, n=n)
    return Verdict(Kind.SAME if inside else Kind.UNDECIDED, n=n)
