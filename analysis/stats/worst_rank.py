"""Comparison of two arms some of whose runs diverged: a diverged run ranks below all others.

An arm that loses runs and is better in those that it keeps need not be better. Lachin (1999,
Control. Clin. Trials 20:408): the rank-sum test with the lost runs tied at the worst rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.stats.linear import Array, Index

MOST_EXACT = 120
"""Runs of both arms together; beyond, the rank sum is as good as normal."""


@dataclass(frozen=True, slots=True)
class WorstRank:
    """The arm's runs against the baseline's, diverged ones included."""

    lead: float
    """Chance that a run of the arm is better than one of the baseline, ties counted half."""
    p: float
    """Two-sided, of the exact permutation distribution given the ties."""


def worst_rank(
    arm: ArrayLike,
    baseline: ArrayLike,
    diverged: tuple[int, int],
    *,
    higher_is_better: bool = False,
) -> WorstRank:
    """Compare two samples of losses with some runs lost.

    Parameters
    ----------
    arm, baseline
        Losses of the complete runs.
    diverged
        Runs of the arm and of the baseline that diverged.
    higher_is_better
        The values are accuracies.

    Examples
    --------
    Three better runs of five against five: the two lost ones outweigh them.

    >>> found = worst_rank([3.5, 3.6, 3.6], [3.7, 3.7, 3.8, 3.9, 3.7], (2, 0))
    >>> round(found.lead, 2), round(found.p, 2)
    (0.6, 0.67)
    """
    sign = -1.0 if higher_is_better else 1.0
    kept = [sign * np.asarray(x, dtype=float) for x in (arm, baseline)]
    samples = [np.append(x, np.full(k, np.inf)) for x, k in zip(kept, diverged, strict=True)]
    n, m = (len(x) for x in samples)
    if n == 0 or m == 0:
        raise ValueError(f"{n} runs against {m}: both arms need one at least, diverged or not")
    _, label, size = np.unique(np.concatenate(samples), return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(size) - size + 1)[label]  # twice the mean ranks: integers
    rank_sum = int(ranks[:n].sum())
    lead = 1 - (rank_sum / 2 - n * (n + 1) / 2) / (n * m)
    exact = n + m <= MOST_EXACT
    return WorstRank(lead, _exact(ranks, n, rank_sum) if exact else _normal(ranks, n, rank_sum))


def _exact(ranks: Index, n: int, rank_sum: int) -> float:
    """Return P(a random n of the ranks lie as far from their mean sum), by counting all choices."""
    ways = np.zeros((n + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1.0
    for rank in ranks:
        with_it: Array = ways[:-1, : ways.shape[1] - rank].copy()
        ways[1:, rank:] += with_it
    sums = np.arange(ways.shape[1])
    centre = n * int(ranks.sum())
    far = np.abs(sums * len(ranks) - centre) >= abs(rank_sum * len(ranks) - centre)
    return float(ways[n, far].sum() / ways[n].sum())


def _normal(ranks: Index, n: int, rank_sum: int) -> float:
    N = len(ranks)
    spread = n * (N - n) / N * float(ranks.var(ddof=1))
    if spread == 0:
        return 1.0
    return float(2 * special.ndtr(-abs(rank_sum - n * float(ranks.mean())) / math.sqrt(spread)))
