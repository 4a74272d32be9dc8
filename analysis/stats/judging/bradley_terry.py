"""Strengths from wins (Bradley and Terry 1952): maximum likelihood by Newton's method.

Half a win and half a loss against every other entry are added: the entry that never loses has a
finite strength, and an entry that never played is in the middle.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from analysis.stats.linear import Array

PRIOR = 0.5
LONGEST_STEP = 2.0
"""Log odds, so that a step from far away does not overshoot."""
MOST_ROUNDS = 100


def bradley_terry(wins: Array, prior: float = PRIOR) -> Array:
    """Return each entry's strength as log odds, mean 0.

    Parameters
    ----------
    wins
        (..., K, K), row's wins over column; a tie is half a win to both.
    prior
        Wins added both ways to each pair.

    Examples
    --------
    >>> strength = bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]]), prior=0.0)
    >>> round(float(np.exp(strength[0] - strength[1])), 3)
    3.0
    """
    n = wins.shape[-1]
    wins = wins + prior  # games of an entry against itself cancel
    games = wins + wins.swapaxes(-1, -2)
    strength: Array = np.zeros(wins.shape[:-1])
    for _ in range(MOST_ROUNDS):
        expected = games * special.expit(strength[..., :, None] - strength[..., None, :])
        gradient = (wins - expected).sum(axis=-1)
        curvature = expected * (1 - special.expit(strength[..., :, None] - strength[..., None, :]))
        # the ones fix the mean, which the wins say nothing about
        hessian = curvature.sum(axis=-1)[..., None] * np.eye(n) - curvature + 1.0
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        longest = np.abs(step).max(axis=-1, keepdims=True)
        strength = strength + step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))
        if longest.max() < 1e-10:
            break
    return np.asarray(strength, dtype=np.float64)


def ranks(strength: Array) -> Array:
    """Return ranks along the last axis from 1, the strongest first."""
    order = np.argsort(-strength, axis=-1, kind="stable")
    return np.asarray(1.0 + np.argsort(order, axis=-1, kind="stable"), dtype=np.float64)
