"""Which of several arms is best: all pairs compared, and the ranks that this leaves open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.stats.linear import Array
from analysis.stats.moderated.max_t import all_pairs
from analysis.stats.moderated.model import Averaged, Model

Ranks = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class RankIntervals:
    """Ranks of the first m of k arms, 1 the best; all hold together with probability 1 - alpha."""

    best: Ranks
    """(m,) the lowest rank that the pairs leave open."""
    worst: Ranks
    """(m,) the highest."""
    p: Array
    """(m, k) adjusted p that two arms are equal; 1 on the diagonal."""


def rank_intervals(
    model: Model,
    arms: list[int],
    alpha: float,
    *,
    higher_is_better: bool = False,
    first: int | None = None,
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
    first
        Of so many arms the ranks are wanted; the adjustment is for all pairs of all arms.
    """
    k, wanted = len(arms), len(arms) if first is None else min(first, len(arms))
    p, ahead = np.ones((wanted, k)), np.zeros((wanted, k), dtype=bool)
    for i in range(wanted if k > 1 else 0):
        others = np.delete(np.arange(k), i)
        L = np.zeros((k - 1, len(model.fit.means)))
        L[np.arange(k - 1), np.array(arms)[others]], L[:, arms[i]] = -1.0, 1.0
        found = model.contrast(L)
        z = np.abs(found.found.estimate) / found.found.se
        both = Averaged(found.found.df, found.own, found.posterior)
        p[i, others] = both.any(z, all_pairs(k))
        ahead[i, others] = (found.found.estimate > 0) == higher_is_better
    sure = p < alpha
    return RankIntervals(1 + (sure & ~ahead).sum(axis=1), k - (sure & ahead).sum(axis=1), p)
