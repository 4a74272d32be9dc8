"""Which of several arms is best: all pairs compared, and the ranks that this leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.stats.linear import Array
from analysis.stats.moderated.max_t import all_pairs
from analysis.stats.moderated.model import Averaged, Model

Ranks = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class RankIntervals:
    """Ranks of k arms, 1 the best; all intervals hold together with probability 1 - alpha."""

    best: Ranks
    """(k,) the lowest rank that the pairs leave open."""
    worst: Ranks
    """(k,) the highest."""
    p: Array
    """(k, k) adjusted p that two arms are equal; 1 on the diagonal."""


def rank_intervals(
    model: Model, arms: list[int], alpha: float, *, higher_is_better: bool = False
) -> RankIntervals:
    """Compare all pairs of the arms and count, for each, those shown to be better and worse.

    Under E the family's tail is Tukey's studentised range, under U the moderated tail times the
    number of pairs. Intervals from simultaneous pairs: Al Mohamad et al. (2022, Biometrics
    78:238).

    Parameters
    ----------
    model
        Of the comparison; its standard errors must be above 0.
    arms
        k indices of means, e.g. those of the arms found better than the baseline.
    alpha
        Family error.
    higher_is_better
        The means are accuracies.
    """
    pairs = list(combinations(range(len(arms)), 2))
    p, ahead = np.ones((len(arms), len(arms))), np.zeros((len(arms), len(arms)), dtype=bool)
    if pairs:
        first, second = np.array(pairs).T
        L = np.zeros((len(pairs), len(model.fit.means)))
        rows = np.arange(len(pairs))
        L[rows, np.array(arms)[first]], L[rows, np.array(arms)[second]] = 1.0, -1.0
        found = model.contrast(L)
        z = np.abs(found.found.estimate) / found.found.se
        both = Averaged(found.found.df, found.own, found.posterior)
        p[first, second] = p[second, first] = both.any(z, all_pairs(len(arms)))
        better = (found.found.estimate > 0) == higher_is_better
        ahead[first, second], ahead[second, first] = better, ~better
    sure = (p < alpha) & ahead
    return RankIntervals(1 + sure.sum(axis=0), len(arms) - sure.sum(axis=1), p)
