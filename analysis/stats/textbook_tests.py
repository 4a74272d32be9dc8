"""Textbook tests of two or more samples, and Holm's adjustment for many p values.

They are here to be compared with (Welch and Holm are what people use) and for the check of equal
variances; the results table does not rest on them. ``scipy.stats`` has most of them and takes a
second to import.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.stats.dunnett import Array, two_sided_p


def welch(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Return t, df and two-sided p of Welch's test that two means are equal.

    Examples
    --------
    >>> [round(v, 3) for v in welch([1.0, 2.0, 3.0], [2.0, 4.0, 7.0])]
    [-1.492, 2.616, 0.245]
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    v_a, v_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    total = v_a + v_b
    if total == 0:
        return float("nan"), float("nan"), float("nan")
    t = (a.mean() - b.mean()) / np.sqrt(total)
    df = total**2 / (v_a**2 / (len(a) - 1) + v_b**2 / (len(b) - 1))
    return float(t), float(df), float(two_sided_p(t, df))


def paired(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Return t, df and two-sided p of the paired t test of x - y.

    Examples
    --------
    >>> [round(v, 3) for v in paired([1.0, 2.0, 3.0], [2.0, 4.0, 7.0])]
    [-2.646, 2.0, 0.118]
    """
    d = np.asarray(x, dtype=float) - np.asarray(y, dtype=float)
    t = d.mean() / (d.std(ddof=1) / np.sqrt(len(d)))
    return float(t), float(len(d) - 1), float(two_sided_p(t, len(d) - 1))


def holm(p: ArrayLike) -> Array:
    """Return Holm's adjusted p values (family error).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def brown_forsythe(samples: Sequence[ArrayLike]) -> tuple[float, float]:
    """Return F and p of Brown and Forsythe's test that all variances are equal.

    Analysis of variance of the distances from each sample's median, for samples of 3 or more
    values; J. Am. Stat. Assoc. 69:364.
    """
    distances = [
        np.abs(values - np.median(values))
        for values in (np.asarray(x, dtype=float) for x in samples)
    ]
    n = np.array([len(d) for d in distances], dtype=float)
    means = np.array([d.mean() for d in distances])
    grand = float(np.concatenate(distances).mean())
    between = float(n @ (means - grand) ** 2) / (len(n) - 1)
    within_df = float(n.sum() - len(n))
    within = sum(float(((d - d.mean()) ** 2).sum()) for d in distances) / within_df
    if within == 0:
        return float("inf"), 0.0
    F = between / within
    return F, float(special.fdtrc(len(n) - 1, within_df, F))
