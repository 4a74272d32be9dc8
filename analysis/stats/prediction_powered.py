"""Prediction-powered inference: many judged differences, corrected by the few that people labelled.

``theta = lambda * mean(judged, unlabelled) + mean(labelled - lambda * judged, labelled)``, with the
lambda of the smallest variance (Angelopoulos, Duchi and Zrnic 2023, PPI++, sect. 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.stats.linear import Array


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mean of labels, as far as judgements and labels tell."""

    mean: float
    variance: float
    df: float
    weight: float
    """Lambda: how much the judge is listened to, 0 to 1."""
    bias: float
    """Judge minus labels, on what was labelled."""
    n_labelled: int


def corrected_mean(judged_n: Array, labelled_n: Array, unlabelled_N: Array) -> Corrected:
    """Estimate the mean label; the first two arrays are of the same instructions.

    Raises
    ------
    ValueError
        Fewer than two labels.
    """
    n, n_more = len(labelled_n), len(unlabelled_N)
    if n < 2:
        raise ValueError(f"{n} labelled instructions: a correction needs at least 2")
    weight = _weight(judged_n, labelled_n, unlabelled_N)
    rest = labelled_n - weight * judged_n
    mean, variance = float(rest.mean()), float(rest.var(ddof=1)) / n
    if weight > 0:
        mean += weight * float(unlabelled_N.mean())
        variance += weight**2 * float(unlabelled_N.var(ddof=1)) / n_more
    bias = float((judged_n - labelled_n).mean())
    return Corrected(mean, variance, n - 1.0, weight, bias, n)


def _weight(judged_n: Array, labelled_n: Array, unlabelled_N: Array) -> float:
    if len(unlabelled_N) < 2:
        return 0.0
    spread = float(np.concatenate([judged_n, unlabelled_N]).var(ddof=1))
    if spread == 0:
        return 0.0
    shared = float(np.cov(judged_n, labelled_n)[0, 1])
    ratio = len(labelled_n) / len(unlabelled_N)
    return float(np.clip(shared / ((1 + ratio) * spread), 0.0, 1.0))
