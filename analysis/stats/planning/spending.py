"""How much of alpha each look at a growing study may spend, and when going on is futile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import special

from analysis.errors import AnalysisError
from analysis.stats.dunnett import critical_value
from harness.records import StudyPlan


def spending(looks: Sequence[int], alpha: float = 0.05) -> tuple[float, ...]:
    """Return the part of alpha that each look may spend.

    Parameters
    ----------
    looks
        Seeds per arm at each look, increasing; the last one is the largest number.
    alpha
        Family error of the whole study.

    Raises
    ------
    AnalysisError
        The looks do not increase from 2 or more.

    Examples
    --------
    >>> [round(a, 6) for a in spending([2, 3, 4])]
    [0.005575, 0.018051, 0.026375]
    """
    counts = list(looks)
    if not counts or counts[0] < 2 or any(a >= b for a, b in pairwise(counts)):
        raise AnalysisError(
            f"looks {counts} are not allowed: increasing numbers of seeds from 2 on, e.g. 2 3 4 6 8"
        )
    z = -float(special.ndtri(alpha / 2))
    spent = [2 * float(special.ndtr(-z / math.sqrt(n / counts[-1]))) for n in counts]
    return tuple(float(a) for a in np.diff([0.0, *spent]))


def conditional_power(t_now: float, t_size: float, n: int, plan: StudyPlan, n_arms: int) -> float:
    """Return the chance to cross the last look's bound if the true difference is the practical one.

    Brownian approximation (Lan and Wittes 1988, Biometrics 44:579); the better of both directions.

    Parameters
    ----------
    t_now, t_size
        Estimated difference now, and the practical size, in standard errors of now.
    n
        Seeds of the arm now.
    plan
        Looks and alpha.
    n_arms
        Arms compared with the baseline.

    Examples
    --------
    >>> plan = StudyPlan(study="s", looks=[2, 3, 4])
    >>> conditional_power(0.0, 0.1, 3, plan, 4) < 0.001
    True
    """
    done = min(n / plan.looks[-1], 1.0)
    last = spending(plan.looks, plan.alpha)[-1]
    critical = critical_value([0.5**0.5] * n_arms, n_arms * (plan.looks[-1] - 1), last)
    score = t_now * math.sqrt(done)
    if done >= 1:
        return float(abs(score) > critical)
    drift_left = t_size / math.sqrt(done) * (1 - done)
    chances = [
        float(special.ndtr((sign * score + drift_left - critical) / math.sqrt(1 - done)))
        for sign in (1, -1)
    ]
    return max(chances)
